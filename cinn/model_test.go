package cinn_test

import (
	"context"
	"errors"
	"image"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// open opens a model and a session of it for as long as the test runs.
func open(t testing.TB, path string, workers int) (*cinn.Model, *cinn.Session) {
	t.Helper()
	return openIn(t, path, cinn.Options{Workers: workers})
}

func openIn(t testing.TB, path string, o cinn.Options) (*cinn.Model, *cinn.Session) {
	t.Helper()
	m, err := cinn.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		m.Close()
	})
	return m, s
}

func draw(t testing.TB, s *cinn.Session, bounds image.Rectangle, r cinn.Request) []uint8 {
	t.Helper()
	dst := image.NewNRGBA(bounds)
	if err := s.Generate(t.Context(), dst, r); err != nil {
		t.Fatal(err)
	}
	return dst.Pix
}

func TestTheSameRequestDrawsTheSameBytesForAnyNumberOfWorkers(t *testing.T) {
	path := tiny.Pack(t)
	requests := []cinn.Request{
		{Prompt: "red heart", Seed: 1},
		{Prompt: "red heart", Seed: 1, Sample: 3},
		{Prompt: "w1 hearts", Seed: 1 << 63, Temperature: 0.5, Guidance: 3},
		{Prompt: "red heart", Seed: 2, Snap: true},
	}
	for _, precision := range precisions {
		var want [][]uint8
		for _, workers := range []int{1, 2, 7} {
			m, s := openIn(t, path, cinn.Options{Workers: workers, Precision: precision})
			for i, r := range requests {
				got := draw(t, s, m.Bounds(), r)
				if workers == 1 {
					want = append(want, got)
					if i > 0 && slices.Equal(got, want[0]) {
						t.Errorf("%+v draws what %+v draws", r, requests[0])
					}
				} else if !slices.Equal(got, want[i]) {
					t.Errorf("%v, %+v: other bytes with %d workers", precision, r, workers)
				}
			}
			// What was drawn before does not matter.
			if !slices.Equal(draw(t, s, m.Bounds(), requests[0]), want[0]) {
				t.Errorf("%v, %d workers: other bytes the second time", precision, workers)
			}
		}
	}
}

func TestGenerateAllocatesNothingAndStartsNoGoroutine(t *testing.T) {
	path := tiny.Pack(t)
	for _, precision := range precisions {
		m, s := openIn(t, path, cinn.Options{Workers: 2, Precision: precision})
		dst := image.NewNRGBA(m.Bounds())
		generate := func(r cinn.Request) {
			if err := s.Generate(t.Context(), dst, r); err != nil {
				t.Fatal(err)
			}
		}
		r := cinn.Request{Prompt: "red heart"}
		generate(r)  // t.Context() starts what it needs,
		runtime.GC() // and so does the collector
		started := goroutines()
		if n := testing.AllocsPerRun(20, func() { r.Sample++; generate(r) }); n != 0 {
			t.Errorf("%v, the prompt of before: %v allocations", precision, n)
		}
		prompts := []string{"w1 w2 w3", "red hearts"}
		if n := testing.AllocsPerRun(20, func() { r.Sample++; r.Prompt = prompts[r.Sample%2]; generate(r) }); n != 0 {
			t.Errorf("%v, another prompt each time: %v allocations", precision, n)
		}
		if n := goroutines() - started; n != 0 {
			t.Errorf("%v: 42 calls started %d goroutines", precision, n)
		}
	}
}

// goroutines is how many were ever started.
func goroutines() uint64 {
	s := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

var precisions = []cinn.Precision{cinn.F32, cinn.BF16, cinn.Int8}

func TestTimingsAreThoseOfTheLastCall(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	if got := s.Timings(); got != (cinn.Timings{}) {
		t.Errorf("%+v before any call", got)
	}
	draw(t, s, m.Bounds(), cinn.Request{Prompt: "red"})
	if got := s.Timings(); got.Encode <= 0 || got.Flow <= 0 || got.Decode <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestEightSessionsOfOneModelRunSideBySide(t *testing.T) {
	path := tiny.Pack(t)
	for _, precision := range precisions {
		m, s := openIn(t, path, cinn.Options{Workers: 2, Precision: precision})
		prompts := []string{"red heart", "w1 w2"}
		var want [2][]uint8
		for i, p := range prompts {
			want[i] = draw(t, s, m.Bounds(), cinn.Request{Prompt: p})
		}
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				s, err := m.NewSession()
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				dst := image.NewNRGBA(m.Bounds())
				for k := range 10 {
					which := (i + k/4) % 2 // several calls of one prompt, then another
					clear(dst.Pix)
					err := s.Generate(context.Background(), dst, cinn.Request{Prompt: prompts[which]})
					if err != nil || !slices.Equal(dst.Pix, want[which]) {
						t.Errorf("%v, %s: %v, or another picture than alone", precision, prompts[which], err)
						return
					}
				}
			})
		}
		group.Wait()
	}
}

func TestPartOfALargerImageIsDrawnInto(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	want := draw(t, s, m.Bounds(), cinn.Request{Prompt: "red"})
	n := m.Bounds().Dx()
	sheet := image.NewNRGBA(image.Rect(0, 0, 3*n, 3*n))
	at := image.Rect(n, n, 2*n, 2*n)
	if err := s.Generate(t.Context(), sheet.SubImage(at).(*image.NRGBA), cinn.Request{Prompt: "red"}); err != nil {
		t.Fatal(err)
	}
	for y := range 3 * n {
		for x := range 3 * n {
			var pixel []uint8
			if (image.Point{X: x, Y: y}).In(at) {
				pixel = want[4*((y-n)*n+x-n):][:4]
			} else {
				pixel = make([]uint8, 4)
			}
			if got := sheet.Pix[sheet.PixOffset(x, y):][:4]; !slices.Equal(got, pixel) {
				t.Fatalf("pixel (%d, %d) is %v, want %v", x, y, got, pixel)
			}
		}
	}
}

func TestARefusedRequestLeavesTheImageAsItWas(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 2)
	good := cinn.Request{Prompt: "red heart", Seed: 5}
	want := draw(t, s, m.Bounds(), good)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	n := m.Bounds().Dx()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, test := range []struct {
		name   string
		ctx    context.Context
		bounds image.Rectangle
		r      cinn.Request
		is     error
		says   string
	}{
		{"too wide", t.Context(), image.Rect(0, 0, n+1, n), good, nil, "pixels"},
		{"too small", t.Context(), image.Rect(0, 0, n-1, n-1), good, nil, "pixels"},
		{"empty", t.Context(), image.Rectangle{}, good, nil, "pixels"},
		{"no prompt", t.Context(), m.Bounds(), cinn.Request{}, cinn.ErrPrompt, ""},
		{"spaces", t.Context(), m.Bounds(), cinn.Request{Prompt: " \t\n"}, cinn.ErrPrompt, ""},
		{"invalid UTF-8", t.Context(), m.Bounds(), cinn.Request{Prompt: "red \xff\xfe"}, cinn.ErrEncoding, ""},
		{"temperature NaN", t.Context(), m.Bounds(), cinn.Request{Prompt: "red", Temperature: nan}, nil, "temperature NaN"},
		{"temperature below 0", t.Context(), m.Bounds(), cinn.Request{Prompt: "red", Temperature: -1}, nil, "temperature -1"},
		{"temperature Inf", t.Context(), m.Bounds(), cinn.Request{Prompt: "red", Temperature: inf}, nil, "temperature +Inf"},
		{"guidance NaN", t.Context(), m.Bounds(), cinn.Request{Prompt: "red", Guidance: nan}, nil, "guidance NaN"},
		{"guidance too strong", t.Context(), m.Bounds(), cinn.Request{Prompt: "red", Guidance: 21}, nil, "guidance 21"},
		{"cancelled, same prompt", stopped, m.Bounds(), good, context.Canceled, ""},
		{"cancelled, new prompt", stopped, m.Bounds(), cinn.Request{Prompt: "w1"}, context.Canceled, ""},
	} {
		dst := image.NewNRGBA(test.bounds)
		for i := range dst.Pix {
			dst.Pix[i] = 77
		}
		err := s.Generate(test.ctx, dst, test.r)
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
		if slices.ContainsFunc(dst.Pix, func(v uint8) bool { return v != 77 }) {
			t.Errorf("%s: the image was drawn into", test.name)
		}
		if !slices.Equal(draw(t, s, m.Bounds(), good), want) {
			t.Errorf("%s: the next picture is another", test.name)
		}
	}
	if err := s.Generate(t.Context(), nil, good); err == nil {
		t.Error("no image: no error")
	}
	if err := s.Embed(t.Context(), make([]float32, 3), "red"); err == nil {
		t.Error("an embedding of 3 dimensions: no error")
	}
}

func TestAClosedSessionSaysSo(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 2)
	dst := image.NewNRGBA(m.Bounds())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Close":    s.Close(),
		"Generate": s.Generate(t.Context(), dst, cinn.Request{Prompt: "red"}),
		"Embed":    s.Embed(t.Context(), make([]float32, m.Info().Condition), "red"),
	} {
		if !errors.Is(err, cinn.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("closing a model twice: %v", err)
	}
}

func TestInfoIsThatOfThePack(t *testing.T) {
	m, _ := open(t, tiny.Pack(t), 1)
	about := tiny.About()
	want := cinn.Info{
		Name: about.Name, Source: about.Source, Target: about.Target, Kind: cinn.Text, Classes: about.Classes, Licences: about.Licences,
		Condition: tiny.Width, Latent: 4, Z: 2, Encoder: true, Bounds: image.Rect(0, 0, 16, 16), Temperature: 1, Guidance: 1,
	}
	if got := m.Info(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := cinn.Open(filepath.Join(t.TempDir(), "none"), cinn.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := cinn.Open(tiny.Pack(t), cinn.Options{Precision: cinn.Int8 + 1}); err == nil {
		t.Error("a precision that there is not was accepted")
	}
	if _, err := cinn.Open(tiny.Pack(t), cinn.Options{Backend: cinn.CUDA}); !errors.Is(err, cinn.ErrBackend) {
		t.Errorf("a GPU: %v", err)
	}
	if _, err := cinn.Open(tiny.Pack(t), cinn.Options{Backend: cinn.CUDA + 1}); err == nil || errors.Is(err, cinn.ErrBackend) {
		t.Errorf("a backend that there is not: %v", err)
	}
	if _, err := cinn.Open(tiny.Pack(t), cinn.Options{Workers: -1}); err == nil {
		t.Error("-1 workers: no error")
	}
}

func TestAPackFromMemoryDrawsTheSameAtAnyAlignment(t *testing.T) {
	path := tiny.Pack(t)
	m, s := open(t, path, 1)
	want := draw(t, s, m.Bounds(), cinn.Request{Prompt: "red heart"})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, shift := range []int{0, 1, 2, 31, 63} {
		m, err := cinn.Parse("memory", append(make([]byte, shift), data...)[shift:], cinn.Options{Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(draw(t, s, m.Bounds(), cinn.Request{Prompt: "red heart"}), want) {
			t.Errorf("shifted by %d bytes: another picture", shift)
		}
		s.Close()
		m.Close()
	}
}

func TestPartsAreReadAsTheyWereWritten(t *testing.T) {
	parts := tiny.Experts(t)
	path := filepath.Join(t.TempDir(), "pack")
	about := tiny.About()
	about.Temperature, about.Guidance, about.Truncation = 0.7, 2, 0.5
	if err := cinn.WritePack(path, about, parts); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Verify(); err != nil {
		t.Error(err)
	}
	if got, err := cinn.ReadFusion(f); err != nil || !reflect.DeepEqual(got, about) {
		t.Errorf("%v: %+v, want %+v", err, got, about)
	}
	for name, want := range map[string]cinn.Part{"source": parts.Source, "flow": parts.Flow, "target": parts.Target, "encoder": parts.Encoder} {
		got, err := cinn.ReadPart(f, name)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range want.Meta {
			if key != "format" && key != "sha256" && got.Meta[key] != value {
				t.Errorf("%s: %s is %q, want %q", name, key, got.Meta[key], value)
			}
		}
		if !slices.EqualFunc(got.Tensors, want.Tensors, func(a, b safetensors.Tensor) bool {
			return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Shape, b.Shape) && string(a.Data) == string(b.Data)
		}) {
			t.Errorf("%s: other tensors", name)
		}
	}
	if _, err := cinn.ReadPart(f, "middle"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestABadPackIsRefusedByName(t *testing.T) {
	parts := tiny.Experts(t)
	config := func(p cinn.Part, old, new string) cinn.Part {
		if !strings.Contains(p.Meta["config"], old) {
			t.Fatalf("no %s in %s", old, p.Meta["config"])
		}
		p.Meta = map[string]string{"config": strings.Replace(p.Meta["config"], old, new, 1)}
		return p
	}
	for _, test := range []struct {
		name   string
		change func(p *cinn.Parts, about *cinn.Fusion)
		want   string
	}{
		{"no source", func(p *cinn.Parts, _ *cinn.Fusion) { p.Source.Tensors = nil }, `part "source."`},
		{"no flow", func(p *cinn.Parts, _ *cinn.Fusion) { p.Flow.Tensors = nil }, `part "flow."`},
		{"no target", func(p *cinn.Parts, _ *cinn.Fusion) { p.Target.Tensors = nil }, `part "target."`},
		{"a tensor less", func(p *cinn.Parts, _ *cinn.Fusion) { p.Target = without(p.Target, "gen_z.bias") }, "gen_z.bias"},
		{"a tensor twice", func(p *cinn.Parts, _ *cinn.Fusion) { p.Flow.Tensors = append(p.Flow.Tensors, p.Flow.Tensors[0]) }, "flow."},
		{"a tensor more", func(p *cinn.Parts, _ *cinn.Fusion) {
			p.Source.Tensors = append(slices.Clone(p.Source.Tensors), safetensors.NewF32("spare", []int{1}, []float32{1}))
		}, "spare"},
		{"parts swapped", func(p *cinn.Parts, _ *cinn.Fusion) { p.Source, p.Target = p.Target, p.Source }, "source."},
		{"source config", func(p *cinn.Parts, _ *cinn.Fusion) { p.Source.Meta = map[string]string{"config": "{"} }, ""},
		{"flow config", func(p *cinn.Parts, _ *cinn.Fusion) { p.Flow.Meta = map[string]string{"config": "[]"} }, ""},
		{"target config", func(p *cinn.Parts, _ *cinn.Fusion) { p.Target.Meta = map[string]string{"config": "1"} }, ""},
		{"a config of none", func(p *cinn.Parts, _ *cinn.Fusion) { p.Flow.Meta = nil }, "flow part has no config"},
		{"an endless flow", func(p *cinn.Parts, _ *cinn.Fusion) { p.Flow = config(p.Flow, `"blocks":2`, `"blocks":2000000000`) }, ""},
		{"more blocks", func(p *cinn.Parts, _ *cinn.Fusion) { p.Flow = config(p.Flow, `"blocks":2`, `"blocks":3`) }, "flow."},
		{"encoder config", func(p *cinn.Parts, _ *cinn.Fusion) { p.Encoder.Meta = map[string]string{"config": "1"} }, "encoder."},
		{"other latents", func(p *cinn.Parts, _ *cinn.Fusion) { p.Encoder = config(p.Encoder, `"latent":2`, `"latent":3`) }, "gives 3 dimensions"},
		{"temperature", func(_ *cinn.Parts, about *cinn.Fusion) { about.Temperature = -1 }, "temperature -1"},
		{"guidance", func(_ *cinn.Parts, about *cinn.Fusion) { about.Guidance = 1e6 }, "guidance 1e+06"},
		{"truncation", func(_ *cinn.Parts, about *cinn.Fusion) { about.Truncation = 2 }, "truncation 2"},
	} {
		p, about := parts, tiny.About()
		test.change(&p, &about)
		path := filepath.Join(t.TempDir(), "bad.pack")
		err := cinn.WritePack(path, about, p)
		if err == nil {
			var m *cinn.Model
			if m, err = cinn.Open(path, cinn.Options{}); err == nil {
				m.Close()
			}
		}
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %s and %q", test.name, err, path, test.want)
		}
	}
}

// A flow without class head models the class embedding as it does the rest, and -snap moves what it draws.
func TestSnapMovesTheClassOfAFlowWithoutClasses(t *testing.T) {
	parts := tiny.Experts(t)
	parts.Flow = tiny.RandomFlow(t, tiny.Width, 4, 0, 0)
	path := filepath.Join(t.TempDir(), "headless.pack")
	if err := cinn.WritePack(path, tiny.About(), parts); err != nil {
		t.Fatal(err)
	}
	m, s := open(t, path, 1)

	// The same from the parts.
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	joint, err := flow.LoadExpert(nn.Under(file, "flow."), []byte(file.Metadata()["flow.config"]))
	if err != nil {
		t.Fatal(err)
	}
	config, err := biggan.ParseConfig(path, []byte(file.Metadata()["target.config"]))
	if err != nil {
		t.Fatal(err)
	}
	target, err := biggan.Load(nn.Under(file, "target."), config, tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	sampler, err := joint.NewSession(dev, 1)
	if err != nil {
		t.Fatal(err)
	}
	text, x := tensor.New(1, tiny.Width), tensor.New(1, 4)
	if err := s.Embed(t.Context(), text.Data, "red heart"); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for sample := range uint64(8) {
		sampler.Sample(x, text, flow.Draw{Seed: 1, Sample: sample, Temperature: 1, Guidance: 1})
		z, class := tensor.Of(1, 2, x.Data[:2]), tensor.Of(1, 2, x.Data[2:])
		nearest, least := 0, math.Inf(1)
		for k := range target.Classes {
			e := target.Class(k)
			if d := math.Hypot(float64(class.Data[0]-e[0]), float64(class.Data[1]-e[1])); d < least {
				nearest, least = k, d
			}
		}
		copy(class.Data, target.Class(nearest))
		pixels, err := target.NewSession(dev, 1).Generate(z, class, biggan.Truncation{})
		if err != nil {
			t.Fatal(err)
		}
		want := image.NewNRGBA(m.Bounds())
		biggan.Draw(want, pixels.Data)
		r := cinn.Request{Prompt: "red heart", Seed: 1, Sample: sample, Snap: true}
		if !slices.Equal(draw(t, s, m.Bounds(), r), want.Pix) {
			t.Errorf("sample %d is not of class %d", sample, nearest)
		}
		if r.Snap = false; !slices.Equal(draw(t, s, m.Bounds(), r), want.Pix) {
			moved++
		}
	}
	if moved == 0 {
		t.Error("Snap changes nothing")
	}
}

func TestPartsThatDoNotFitAreRefused(t *testing.T) {
	parts := tiny.Experts(t)
	for name, test := range map[string]struct {
		width, latent, class, classes int
		want                          string
	}{
		"condition": {tiny.Width + 1, 2, 2, 3, "32 dimensions, the flow wants 33"},
		"latent":    {tiny.Width, 3, 2, 3, "draws 5 dimensions, the generator wants 4"},
		"classes":   {tiny.Width, 2, 2, 4, "knows 4 classes, the generator 3"},
		"parts":     {tiny.Width, 3, 1, 3, "classes have 1 dimensions, the generator's 2"},
	} {
		flow := tiny.RandomFlow(t, test.width, test.latent, test.class, test.classes)
		path := filepath.Join(t.TempDir(), "bad.pack")
		if err := cinn.WritePack(path, tiny.About(), cinn.Parts{Source: parts.Source, Flow: flow, Target: parts.Target}); err != nil {
			t.Fatal(err)
		}
		m, err := cinn.Open(path, cinn.Options{})
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestTruncatedPacksAreRefusedByName(t *testing.T) {
	path := tiny.Pack(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.pack")
	for _, n := range []int{0, 1, 8, 100, 4096, len(data) / 2, len(data) - 1} {
		if err := os.WriteFile(cut, data[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := cinn.Open(cut, cinn.Options{})
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), cut) {
			t.Errorf("the first %d bytes of %d: %v", n, len(data), err)
		}
	}
}

// FuzzParse gives the descriptions in a pack to chance: whatever they claim, there is an error or a Model that draws.
func FuzzParse(f *testing.F) {
	parts := tiny.Experts(f)
	about := `{"name":"tiny","temperature":1,"guidance":1}`
	f.Add(about, parts.Source.Meta["config"], parts.Flow.Meta["config"], parts.Target.Meta["config"])
	f.Fuzz(func(t *testing.T, about, source, flow, target string) {
		meta := map[string]string{
			"arch": "fusion", "fusion": about, "licences": "{}",
			"source.config": source, "flow.config": flow, "target.config": target,
		}
		var all []safetensors.Tensor
		for prefix, part := range map[string]cinn.Part{"source.": parts.Source, "flow.": parts.Flow, "target.": parts.Target} {
			for _, x := range part.Tensors {
				x.Name = prefix + x.Name
				all = append(all, x)
			}
		}
		var file strings.Builder
		if safetensors.Write(&file, meta, all) != nil {
			t.Skip("not UTF-8")
		}
		m, err := cinn.Parse("pack", []byte(file.String()), cinn.Options{Workers: 1})
		if err != nil {
			return
		}
		defer m.Close()
		s, err := m.NewSession()
		if err != nil {
			return
		}
		defer s.Close()
		if err := s.Generate(t.Context(), image.NewNRGBA(m.Bounds()), cinn.Request{Prompt: "red heart"}); err != nil {
			t.Error(err)
		}
	})
}

// without returns p less a tensor.
func without(p cinn.Part, name string) cinn.Part {
	p.Tensors = slices.DeleteFunc(slices.Clone(p.Tensors), func(x safetensors.Tensor) bool { return x.Name == name })
	return p
}

// config replaces a word of a part's config, and fails if it is not there.
