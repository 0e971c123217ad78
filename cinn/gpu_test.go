package cinn_test

import (
	"context"
	"errors"
	"image"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"netfusion/bench/tiny"
	"netfusion/cinn"
	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
	"netfusion/tensor/ptx"
)

// onGPU opens a pack on the interpreter, or on a GPU where the tests are built for one.
func onGPU(t *testing.T, path string, p cinn.Precision) *cinn.Model {
	t.Helper()
	long(t)
	return openOn(t, path, p, shared())
}

// long leaves a test out of short runs.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("the interpreter takes its time")
	}
}

// kept is a device that tests share, on which each text is loaded once: that takes the longest.
type kept struct {
	tensor.Driver
	loaded map[string][]tensor.Function
}

var shared = sync.OnceValue(func() tensor.Driver {
	return &kept{kerneltest.Open("cinn"), map[string][]tensor.Function{}}
})

func (k *kept) Load(name, src string, entries []tensor.Entry) ([]tensor.Function, error) {
	if functions := k.loaded[src]; functions != nil {
		return functions, nil
	}
	functions, err := k.Driver.Load(name, src, entries)
	k.loaded[src] = functions
	return functions, err
}

// Close is for the tests to come.
func (k *kept) Close() error { return nil }

func openOn(t *testing.T, path string, p cinn.Precision, d tensor.Driver) *cinn.Model {
	t.Helper()
	m, err := cinn.OpenOn(path, cinn.Options{Precision: p, Workers: 1}, func() (*tensor.GPU, error) { return tensor.OpenGPU(d, tensor.GPUOptions{}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func session(t *testing.T, m *cinn.Model) *cinn.Session {
	t.Helper()
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// requests differ in all that a request has.
var requests = []cinn.Request{
	{Prompt: "red heart", Seed: 1},
	{Prompt: "red heart", Seed: 1, Sample: 3, Temperature: 0.5, Guidance: 2.5},
	{Prompt: "w1 w2 w3", Seed: 1 << 40, Snap: true},
	{Prompt: strings.Repeat("hearts ", 20), Seed: 5, Guidance: 1.5},
	{Vector: constant(tiny.Width, 0.3), Seed: 6},
	{Prompt: "red heart", Seed: 7},
}

func constant(n int, v float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}

// A whole request, text to picture, through capture and replay of one graph, gives the processor's picture to a level of grey in
// float32. In the other precisions it is as near to that as the processor's: roundings fall otherwise, by which single pixels of
// these experts change a lot.
func TestPTXARequestGivesTheProcessorsPicture(t *testing.T) {
	path := tiny.Pack(t)
	_, exact := openAs(t, path, cinn.F32)
	for _, p := range []cinn.Precision{cinn.F32, cinn.BF16, cinn.Int8} {
		t.Run(p.String(), func(t *testing.T) {
			_, reference := openAs(t, path, p)
			s := session(t, onGPU(t, path, p))
			draw := func(s *cinn.Session, r cinn.Request) *image.NRGBA {
				picture := image.NewNRGBA(image.Rect(2, 3, 18, 19))
				if err := s.Generate(context.Background(), picture, r); err != nil {
					t.Fatal(err)
				}
				return picture
			}
			var spread, allowed float64
			for _, r := range requests[:map[cinn.Precision]int{cinn.F32: len(requests), cinn.BF16: 3, cinn.Int8: 3}[p]] {
				want, got := draw(exact, r), draw(s, r)
				if p == cinn.F32 {
					near(t, got, want, 1)
				}
				spread += distance(got, want)
				allowed += distance(draw(reference, r), want)
			}
			if p != cinn.F32 && !(spread <= 1.25*allowed) {
				t.Errorf("%v levels away from float32, the processor %v", spread, allowed)
			}
			text := "w5 heart"
			want, got := make([]float32, tiny.Width), make([]float32, tiny.Width)
			if err := errors.Join(reference.Embed(context.Background(), want, text), s.Embed(context.Background(), got, text)); err != nil {
				t.Fatal(err)
			}
			for i, v := range want {
				if math.Abs(float64(v-got[i])) > []float64{1e-5, 0.05, 0.05}[p] {
					t.Fatalf("embedding %v, want %v", got, want)
				}
			}
		})
	}
}

// distance is the mean of |a - b|.
func distance(a, b *image.NRGBA) (sum float64) {
	for i, v := range a.Pix {
		sum += math.Abs(float64(v)-float64(b.Pix[i])) / float64(len(a.Pix))
	}
	return sum
}

// near reports a byte of got that is further from want than some levels.
func near(t *testing.T, got, want *image.NRGBA, levels int) {
	t.Helper()
	for i, v := range want.Pix {
		if d := int(v) - int(got.Pix[i]); d < -levels || d > levels {
			t.Fatalf("byte %d is %d, want %d", i, got.Pix[i], v)
		}
	}
}

func openAs(t *testing.T, path string, p cinn.Precision) (*cinn.Model, *cinn.Session) {
	t.Helper()
	m, err := cinn.Open(path, cinn.Options{Precision: p, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, session(t, m)
}

// Many samples of a request are those of so many requests, however many a GPU draws at a time.
func TestPTXGenerateAll(t *testing.T) {
	path := tiny.Pack(t)
	_, reference := openAs(t, path, cinn.F32)
	const n = 3 // 2 and 1
	r := cinn.Request{Prompt: "w5 heart", Seed: 2, Sample: 10}
	want := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for _, s := range []*cinn.Session{reference, session(t, onGPU(t, path, cinn.F32))} {
		var all []*image.NRGBA
		for range n {
			all = append(all, image.NewNRGBA(want.Rect))
		}
		if err := s.GenerateAll(context.Background(), all, r); err != nil {
			t.Fatal(err)
		}
		for i, got := range all {
			one := r
			one.Sample += uint64(i)
			if err := reference.Generate(context.Background(), want, one); err != nil {
				t.Fatal(err)
			}
			near(t, got, want, 1)
		}
		if err := s.GenerateAll(context.Background(), nil, r); err != nil {
			t.Error(err)
		}
		if err := s.GenerateAll(context.Background(), []*image.NRGBA{want, nil}, r); err == nil {
			t.Error("no image, and no error")
		}
	}
}

// A flow that knows no classes leaves it to the Session to snap.
func TestPTXSnapWithoutAClassHead(t *testing.T) {
	parts := tiny.Experts(t)
	parts.Flow = tiny.RandomFlow(t, tiny.Width, 4, 0, 0)
	path := filepath.Join(t.TempDir(), "pack")
	if err := cinn.WritePack(path, tiny.About(), parts); err != nil {
		t.Fatal(err)
	}
	_, reference := openAs(t, path, cinn.F32)
	s := session(t, onGPU(t, path, cinn.F32))
	want, got := image.NewNRGBA(image.Rect(0, 0, 16, 16)), image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for _, snap := range []bool{false, true} {
		for seed := range 2 {
			r := cinn.Request{Prompt: "heart", Seed: uint64(seed), Snap: snap}
			if err := errors.Join(reference.Generate(context.Background(), want, r), s.Generate(context.Background(), got, r)); err != nil {
				t.Fatal(err)
			}
			near(t, got, want, 1)
		}
	}
}

// Sources that are no text encoders run on the processor, and give the GPU their vectors.
func TestPTXSourcesOfOtherKinds(t *testing.T) {
	for kind, source := range sources(t) {
		if kind == cinn.Layer {
			continue // an expert of its own, and for the GPU a vector like the others
		}
		path := tiny.PackOf(t, cinn.Part{Meta: map[string]string{"config": source.config}}, source.width, source.side)
		_, reference := openAs(t, path, cinn.F32)
		s := session(t, onGPU(t, path, cinn.F32))
		want, got := image.NewNRGBA(image.Rect(0, 0, 16, 16)), image.NewNRGBA(image.Rect(0, 0, 16, 16))
		for _, r := range []cinn.Request{source.one, source.another, source.one} {
			if err := errors.Join(reference.Generate(context.Background(), want, r), s.Generate(context.Background(), got, r)); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			near(t, got, want, 1)
		}
		if err := s.Generate(context.Background(), got, source.refused); err == nil {
			t.Errorf("%s: no error", kind)
		}
	}
}

// A prompt is encoded once, and the same request gives the same bytes, whatever came between.
func TestPTXTheSameRequestGivesTheSameBytes(t *testing.T) {
	s := session(t, onGPU(t, tiny.Pack(t), cinn.F32))
	draw := func(r cinn.Request) (*image.NRGBA, cinn.Timings) {
		p := image.NewNRGBA(image.Rect(0, 0, 16, 16))
		if err := s.Generate(context.Background(), p, r); err != nil {
			t.Fatal(err)
		}
		return p, s.Timings()
	}
	r := cinn.Request{Prompt: "red heart", Seed: 1}
	first, took := draw(r)
	again, tookAgain := draw(r)
	draw(cinn.Request{Vector: constant(tiny.Width, 1)})
	last, _ := draw(r)
	for i, v := range first.Pix {
		if again.Pix[i] != v || last.Pix[i] != v {
			t.Fatalf("byte %d: %d, %d and %d", i, v, again.Pix[i], last.Pix[i])
		}
	}
	if took.Encode == 0 || took.Flow == 0 || took.Decode == 0 || tookAgain.Encode != 0 || tookAgain.Flow == 0 {
		t.Errorf("%+v, and then %+v", took, tookAgain)
	}
}

// Sessions of one Model draw side by side.
func TestPTXSessionsSideBySide(t *testing.T) {
	m := openOn(t, tiny.Pack(t), cinn.F32, shared()) // in short runs, too, which look for races
	var pictures [2]*image.NRGBA
	var wait sync.WaitGroup
	for i := range pictures {
		s := session(t, m)
		pictures[i] = image.NewNRGBA(m.Bounds())
		wait.Go(func() {
			for seed := range 2 {
				if err := s.Generate(context.Background(), pictures[i], cinn.Request{Prompt: "heart", Seed: uint64(seed)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	for i, p := range pictures {
		if string(p.Pix) != string(pictures[0].Pix) {
			t.Errorf("session %d drew something else", i)
		}
	}
}

// Operations run, too: the flow on the GPU, what has no form for it on the processor.
func TestPTXOperationsAreThoseOfTheProcessor(t *testing.T) {
	path, ctx := tiny.Pack(t), context.Background()
	_, reference := openAs(t, path, cinn.F32)
	s := session(t, onGPU(t, path, cinn.F32))
	from, heart := cinn.Subject{Draw: &cinn.Request{Prompt: "red heart", Seed: 1}}, cinn.Condition{Prompt: "heart"}
	var scores [2]cinn.Score
	var latents [2][4]float32
	var edited [2]*image.NRGBA
	for i, s := range []*cinn.Session{reference, s} {
		var err error
		if scores[i], err = s.Score(ctx, from, heart); err != nil {
			t.Fatal(err)
		}
		edited[i] = image.NewNRGBA(image.Rect(0, 0, 16, 16))
		err = errors.Join(s.Latent(ctx, latents[i][:], from, cinn.Condition{}), s.Edit(ctx, edited[i], cinn.Edit{Subject: from, To: heart}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if d := scores[0].LogProb() - scores[1].LogProb(); !(math.Abs(d) < 1e-3) {
		t.Errorf("scores %v", scores)
	}
	for k, v := range latents[0] {
		if !(math.Abs(float64(v-latents[1][k])) < 1e-4) {
			t.Errorf("latents %v", latents)
		}
	}
	near(t, edited[1], edited[0], 1)
}

func TestPTXACancelledRequestLeavesThePicture(t *testing.T) {
	s := session(t, onGPU(t, tiny.Pack(t), cinn.F32))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	if err := s.Generate(ctx, p, requests[0]); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if p.Pix[3] != 0 {
		t.Error("it has changed")
	}
	if err := s.Generate(context.Background(), p, requests[0]); err != nil || p.Pix[3] != 255 {
		t.Errorf("after that: %v", err)
	}
}

// counting is a driver that knows how much is allocated.
type counting struct {
	tensor.Driver
	mu      sync.Mutex
	sizes   map[tensor.DevicePtr]int
	bytes   int
	streams int
	graphs  int
}

func (c *counting) Alloc(bytes int) (tensor.DevicePtr, error) {
	p, err := c.Driver.Alloc(bytes)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sizes[p] = bytes
		c.bytes += bytes
	}
	return p, err
}

func (c *counting) Free(p tensor.DevicePtr) error {
	c.mu.Lock()
	c.bytes -= c.sizes[p]
	delete(c.sizes, p)
	c.mu.Unlock()
	return c.Driver.Free(p)
}

func (c *counting) OpenStream(staging int) (tensor.Stream, []byte, error) {
	c.streams++
	return c.Driver.OpenStream(staging)
}

func (c *counting) CloseStream(s tensor.Stream) error {
	c.streams--
	return c.Driver.CloseStream(s)
}

func (c *counting) Capture(s tensor.Stream, record func() error) (tensor.Graph, error) {
	c.graphs++
	return c.Driver.Capture(s, record)
}

// Requests of shapes that were there before take nothing, and a Session that is closed leaves nothing.
func TestPTXRequestsDoNotGrow(t *testing.T) {
	long(t)
	d := &counting{Driver: shared(), sizes: map[tensor.DevicePtr]int{}}
	m := openOn(t, tiny.Pack(t), cinn.F32, d)
	before, streams := d.bytes, d.streams
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	graphs := d.graphs
	p := image.NewNRGBA(m.Bounds())
	draw := func(prompt string, seed int) {
		if err := s.Generate(context.Background(), p, cinn.Request{Prompt: prompt, Seed: uint64(seed)}); err != nil {
			t.Fatal(err)
		}
	}
	draw("red heart", 0)
	if d.graphs != graphs {
		t.Errorf("%d graphs, and %d after a usual prompt", graphs, d.graphs)
	}
	long := strings.Repeat("w1 ", 18)
	draw(long, 0)
	if d.graphs != graphs+1 {
		t.Errorf("%d graphs, and %d after a long prompt", graphs, d.graphs)
	}
	held := d.bytes
	for i := range 3 {
		draw([]string{"heart", long, "red heart"}[i%3], i)
	}
	if d.bytes != held || d.graphs != graphs+1 {
		t.Errorf("%d bytes in %d graphs became %d in %d", held, graphs+1, d.bytes, d.graphs)
	}
	if err := s.Close(); err != nil || d.bytes != before || d.streams != streams {
		t.Errorf("%d bytes and %d streams became %d and %d, %v", before, streams, d.bytes, d.streams, err)
	}
	if err := s.Generate(context.Background(), p, requests[0]); !errors.Is(err, cinn.ErrClosed) {
		t.Error(err)
	}
}

// What cannot be opened says why.
func TestOpenOnAGPUThatCannotBeUsed(t *testing.T) {
	long(t)
	path := tiny.Pack(t)
	for _, c := range []struct {
		options ptx.Options
		is      error
		says    string
	}{
		{ptx.Options{Capability: 75}, tensor.ErrRefused, "compute capability 7.5"},
		{ptx.Options{Fail: failOnce("Load", tensor.ErrRefused)}, tensor.ErrRefused, "Load"},
		{ptx.Options{Fail: failOnce("Alloc", tensor.ErrOutOfMemory)}, tensor.ErrOutOfMemory, "out of device memory"},
		{ptx.Options{Fail: failOnce("Upload", tensor.ErrLost)}, tensor.ErrLost, "the device is lost"},
	} {
		_, err := cinn.OpenOn(path, cinn.Options{Workers: 1}, func() (*tensor.GPU, error) { return tensor.OpenGPU(ptx.Open(c.options), tensor.GPUOptions{}) })
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v", err)
		}
	}
	no := errors.New("no GPU")
	if _, err := cinn.OpenOn(path, cinn.Options{}, func() (*tensor.GPU, error) { return nil, no }); !errors.Is(err, no) {
		t.Error(err)
	}
}

// failOnce fails the first call of that name.
func failOnce(call string, err error) func(string) error {
	return func(c string) error {
		if c != call {
			return nil
		}
		call = ""
		return err
	}
}

// A Session whose GPU failed it says so from then on. Other Sessions, new ones and the Model go on, unless the device is lost.
func TestASessionThatIsDeadSaysSo(t *testing.T) {
	long(t)
	var call string
	var failure error
	d := ptx.Open(ptx.Options{Fail: func(c string) error {
		if c == call {
			return failure
		}
		return nil
	}})
	m := openOn(t, tiny.Pack(t), cinn.F32, d)
	p := image.NewNRGBA(m.Bounds())
	long := cinn.Request{Prompt: strings.Repeat("w1 ", 18)} // has no graph yet
	for _, c := range []struct {
		call    string
		failure error
		request cinn.Request
	}{
		{"Capture", errors.New("no graph"), long}, {"Launch", errors.New("no launch"), long}, {"Launch", tensor.ErrRefused, long},
		{"Replay", errors.New("no replay"), requests[0]}, {"Kernel", errors.New("no kernel"), requests[0]},
		{"Synchronize", tensor.ErrOutOfMemory, requests[0]}, {"Elapsed", errors.New("no time"), requests[0]},
		{"Kernel", tensor.ErrLost, requests[0]},
	} {
		s, other := session(t, m), session(t, m)
		call, failure = c.call, c.failure
		err := s.Generate(context.Background(), p, c.request)
		call = ""
		if !errors.Is(err, cinn.ErrDead) || !errors.Is(err, c.failure) {
			t.Errorf("%s: %v", c.call, err)
			continue
		}
		vector := make([]float32, tiny.Width)
		for name, again := range map[string]error{
			"Generate": s.Generate(context.Background(), p, requests[0]),
			"Embed":    s.Embed(context.Background(), vector, "heart"),
			"Encode":   s.Encode(make([]float32, 2), make([]float32, 2), p),
			"Latent":   s.Latent(context.Background(), make([]float32, 4), cinn.Subject{Draw: &requests[0]}, cinn.Condition{}),
		} {
			if !errors.Is(again, cinn.ErrDead) || !errors.Is(again, c.failure) {
				t.Errorf("%s: %s afterwards: %v", c.call, name, again)
			}
		}
		if err := other.Generate(context.Background(), p, requests[0]); (err != nil) != errors.Is(c.failure, tensor.ErrLost) {
			t.Errorf("%s: another Session: %v", c.call, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: closing: %v", c.call, err)
		}
	}
	if _, err := m.NewSession(); !errors.Is(err, tensor.ErrLost) {
		t.Errorf("a Session on a lost device: %v", err)
	}
}

// So does one that was failed in an operation.
func TestASessionIsDeadAfterAnOperation(t *testing.T) {
	long(t)
	broken := errors.New("broken")
	failing := false
	d := ptx.Open(ptx.Options{Fail: func(c string) error {
		if failing && c == "Kernel" {
			return broken
		}
		return nil
	}})
	m := openOn(t, tiny.Pack(t), cinn.F32, d)
	s := session(t, m)
	subject, heart := cinn.Subject{Draw: &requests[0]}, cinn.Condition{Prompt: "heart"}
	if _, err := s.Score(context.Background(), subject, heart); err != nil {
		t.Fatal(err)
	}
	failing = true
	if _, err := s.Score(context.Background(), subject, heart); !errors.Is(err, cinn.ErrDead) || !errors.Is(err, broken) {
		t.Error(err)
	}
	failing = false
	p := image.NewNRGBA(m.Bounds())
	if err := s.Generate(context.Background(), p, requests[0]); !errors.Is(err, cinn.ErrDead) {
		t.Errorf("afterwards: %v", err)
	}
	if err := session(t, m).Generate(context.Background(), p, requests[0]); err != nil {
		t.Errorf("another Session: %v", err)
	}
}

// A Session that does not fit is an error, and leaves room for one that does.
func TestASessionThatDoesNotFit(t *testing.T) {
	long(t)
	allocations, fail := 0, -1
	d := ptx.Open(ptx.Options{Fail: func(c string) error {
		if c == "Alloc" {
			if allocations++; allocations == fail {
				return tensor.ErrOutOfMemory
			}
		}
		return nil
	}})
	m := openOn(t, tiny.Pack(t), cinn.F32, d)
	opened := allocations
	s := session(t, m)
	each := allocations - opened
	if each < 2 {
		t.Fatalf("%d allocations of a Session", each)
	}
	for i := range each {
		fail = allocations + i + 1
		if _, err := m.NewSession(); !errors.Is(err, tensor.ErrOutOfMemory) {
			t.Errorf("allocation %d: %v", i, err)
		}
	}
	fail = -1
	p := image.NewNRGBA(m.Bounds())
	for _, s := range []*cinn.Session{s, session(t, m)} {
		if err := s.Generate(context.Background(), p, requests[0]); err != nil {
			t.Error(err)
		}
	}
}

// nothing is a driver that does nothing, and takes nothing for it.
type nothing struct {
	tensor.Driver // which is not there
	next          tensor.DevicePtr
}

func (*nothing) Attributes() tensor.Attributes {
	return tensor.Attributes{Capability: 80, Multiprocessors: 108, SharedPerBlock: 100 << 10, SharedPerMulti: 100 << 10, L2: 40 << 20}
}
func (*nothing) Load(_, _ string, entries []tensor.Entry) ([]tensor.Function, error) {
	return make([]tensor.Function, len(entries)), nil
}
func (n *nothing) Alloc(bytes int) (tensor.DevicePtr, error) {
	n.next += tensor.DevicePtr(bytes+255) / 256 * 256
	return 1<<32 + n.next, nil
}
func (*nothing) Free(tensor.DevicePtr) error { return nil }
func (*nothing) OpenStream(staging int) (tensor.Stream, []byte, error) {
	return 1, make([]byte, staging), nil
}
func (*nothing) CloseStream(tensor.Stream) error                            { return nil }
func (*nothing) Upload(tensor.Stream, tensor.DevicePtr, []byte) error       { return nil }
func (*nothing) Download(tensor.Stream, []byte, tensor.DevicePtr) error     { return nil }
func (*nothing) Launch(tensor.Stream, tensor.Function, tensor.Launch) error { return nil }
func (*nothing) Synchronize(tensor.Stream) error                            { return nil }
func (*nothing) Mark(tensor.Stream, int) error                              { return nil }
func (*nothing) Elapsed(tensor.Stream, int, int) (time.Duration, error)     { return 1, nil }
func (*nothing) Capture(_ tensor.Stream, record func() error) (tensor.Graph, error) {
	return 1, record()
}
func (*nothing) Replay(tensor.Stream, tensor.Graph) error { return nil }
func (*nothing) Close() error                             { return nil }

// Between the request and the graph nothing is allocated, once there is one for its shape.
func TestGenerateOnAGPUAllocatesNothing(t *testing.T) {
	m := openOn(t, tiny.Pack(t), cinn.F32, new(nothing))
	s := session(t, m)
	p, seed, prompts := image.NewNRGBA(m.Bounds()), uint64(0), []string{"red heart", "w1", "red hearts w2"}
	draw := func() {
		seed++
		if err := s.Generate(context.Background(), p, cinn.Request{Prompt: prompts[seed%3], Seed: seed}); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(30, draw); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
