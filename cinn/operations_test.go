package cinn_test

import (
	"context"
	"errors"
	"image"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// photo is some image of the tiny fusion's size that no generator drew.
func photo(shade uint8) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for y := range 16 {
		for x := range 16 {
			img.SetNRGBA(x, y, color.NRGBA{uint8(16 * x), uint8(16 * y), shade, 255})
		}
	}
	return img
}

func latentOf(t testing.TB, m *cinn.Model, s *cinn.Session, p cinn.Subject, c cinn.Condition) []float32 {
	t.Helper()
	x := make([]float32, m.Info().Latent)
	if err := s.Latent(t.Context(), x, p, c); err != nil {
		t.Fatal(err)
	}
	return x
}

func rendered(t testing.TB, m *cinn.Model, s *cinn.Session, latent []float32) []uint8 {
	t.Helper()
	dst := image.NewNRGBA(m.Bounds())
	if err := s.Render(t.Context(), dst, latent); err != nil {
		t.Fatal(err)
	}
	return dst.Pix
}

// alike tells whether two pictures differ by no more than rounding does.
func alike(a, b []uint8) bool {
	for i, v := range a {
		if d := int(v) - int(b[i]); d < -1 || d > 1 {
			return false
		}
	}
	return true
}

func TestALatentOfADrawRendersWhatGenerateDraws(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 2)
	r := cinn.Request{Prompt: "red heart", Seed: 3, Temperature: 0.7, Guidance: 2}
	x := latentOf(t, m, s, cinn.Subject{Draw: &r}, cinn.Condition{})
	if !slices.Equal(rendered(t, m, s, x), draw(t, s, m.Bounds(), r)) {
		t.Error("the latent draws another picture")
	}
	if again := latentOf(t, m, s, cinn.Subject{Latent: x}, cinn.Condition{}); !slices.Equal(again, x) {
		t.Error("the latent of a latent is another")
	}
}

func TestTheLatentOfAnImageIsTheEncodersMeanAndOneOfTheClasses(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	x := latentOf(t, m, s, cinn.Subject{Image: photo(90)}, cinn.Condition{Prompt: "red"})
	mean, std := make([]float32, m.Info().Z), make([]float32, m.Info().Z)
	if err := s.Encode(mean, std, photo(90)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x[:len(mean)], mean) {
		t.Error("z is not the mean")
	}
	// The generator's own pictures have the class that they were drawn in.
	found := map[float32]bool{}
	for seed := range uint64(12) {
		drawn := latentOf(t, m, s, cinn.Subject{Draw: &cinn.Request{Prompt: "red", Seed: seed, Snap: true}}, cinn.Condition{})
		found[drawn[len(mean)]] = true
	}
	if !found[x[len(mean)]] {
		t.Error("its class part is not one of the classes")
	}
}

func TestAnEditWithTheSameConditionChangesNothing(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	red := cinn.Condition{Prompt: "red heart"}
	for name, p := range map[string]cinn.Subject{
		"draw":   {Draw: &cinn.Request{Prompt: "red heart", Seed: 3}},
		"image":  {Image: photo(90)},
		"latent": {Latent: latentOf(t, m, s, cinn.Subject{Draw: &cinn.Request{Prompt: "w1", Seed: 5}}, cinn.Condition{})},
	} {
		want := rendered(t, m, s, latentOf(t, m, s, p, red))
		for _, guidance := range []float32{0, 1, 3} {
			dst := image.NewNRGBA(m.Bounds())
			if err := s.Edit(t.Context(), dst, cinn.Edit{Subject: p, From: red, To: red, Guidance: guidance, Seed: 9}); err != nil {
				t.Fatal(err)
			}
			if !alike(dst.Pix, want) {
				t.Errorf("%s, guidance %v: another picture", name, guidance)
			}
		}
		dst := image.NewNRGBA(m.Bounds())
		if err := s.Edit(t.Context(), dst, cinn.Edit{Subject: p, From: red, To: cinn.Condition{Prompt: "w40 w3"}}); err != nil {
			t.Fatal(err)
		}
		if alike(dst.Pix, want) {
			t.Errorf("%s: another condition changes nothing", name)
		}
	}
}

// A draw's residual is its noise: so an edit of it is a draw of the other prompt from the same noise, in the class that the edit
// picks.
func TestAnEditOfADrawKeepsItsNoise(t *testing.T) {
	m, s := open(t, withoutClasses(t), 1)
	r := cinn.Request{Prompt: "red heart", Seed: 3, Temperature: 0.7, Guidance: 2}
	dst := image.NewNRGBA(m.Bounds())
	if err := s.Edit(t.Context(), dst, cinn.Edit{Subject: cinn.Subject{Draw: &r}, To: cinn.Condition{Prompt: "w4"}}); err != nil {
		t.Fatal(err)
	}
	r.Prompt = "w4"
	if !alike(dst.Pix, draw(t, s, m.Bounds(), r)) {
		t.Error("the edit differs from the draw")
	}
}

func TestAnExemplarOfADrawIsADrawWithItsNoise(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	r := cinn.Request{Prompt: "red heart", Seed: 3}
	dst := image.NewNRGBA(m.Bounds())
	if err := s.Exemplar(t.Context(), dst, cinn.Exemplar{Style: cinn.Subject{Draw: &r}, Content: cinn.Condition{Prompt: "w4"}, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	r.Prompt = "w4"
	if !alike(dst.Pix, draw(t, s, m.Bounds(), r)) {
		t.Error("content and class of w4 with the noise of seed 3 differ from that draw")
	}
}

func TestAnInterpolationEndsAtItsEnds(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	heart := cinn.Request{Prompt: "red heart", Seed: 3}
	frames := make([]*image.NRGBA, 5)
	for i := range frames {
		frames[i] = image.NewNRGBA(m.Bounds())
	}
	img := photo(20)
	shows := cinn.Condition{Prompt: "w7"}
	if err := s.Interpolate(t.Context(), frames, cinn.Interpolation{
		From: cinn.Subject{Draw: &heart}, To: cinn.Subject{Image: img}, ToShows: shows,
	}); err != nil {
		t.Fatal(err)
	}
	if !alike(frames[0].Pix, draw(t, s, m.Bounds(), heart)) {
		t.Error("the first frame is not the first picture")
	}
	if !alike(frames[4].Pix, rendered(t, m, s, latentOf(t, m, s, cinn.Subject{Image: img}, shows))) {
		t.Error("the last frame is not the second picture")
	}
	for i := range 4 {
		if alike(frames[i].Pix, frames[i+1].Pix) {
			t.Errorf("frames %d and %d are the same", i, i+1)
		}
	}
}

// tinyFlow reads the flow out of the pack at path.
func tinyFlow(t *testing.T, path string) *flow.Session {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fl, err := flow.LoadPacked(nn.Under(f, "flow."), []byte(f.Metadata()["flow.config"]), tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(1)
	t.Cleanup(dev.Close)
	fs, err := fl.NewSession(dev, 1)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// classEmbeddings reads them out of the pack at path.
func classEmbeddings(t *testing.T, path string) (rows [][]float32) {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, _ := f.Lookup("target.classes.weight")
	for range x.Shape[0] {
		rows = append(rows, make([]float32, x.Shape[1]))
	}
	flat := make([]float32, x.Shape[0]*x.Shape[1])
	if err := x.Float32(flat); err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		copy(rows[i], flat[i*len(rows[i]):])
	}
	return rows
}

// withoutClasses is a pack whose flow models the class embedding as it does the rest of the latent.
func withoutClasses(t *testing.T) string {
	t.Helper()
	p := tiny.Experts(t)
	p.Flow = tiny.RandomFlow(t, tiny.Width, 4, 0, 0)
	path := filepath.Join(t.TempDir(), "plain.pack")
	if err := cinn.WritePack(path, tiny.About(), p); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAScoreIsTheFlowsLogProb(t *testing.T) {
	path := tiny.Pack(t)
	m, s := open(t, path, 1)
	fs := tinyFlow(t, path)
	x := latentOf(t, m, s, cinn.Subject{Draw: &cinn.Request{Prompt: "red heart", Seed: 3}}, cinn.Condition{})
	c := tensor.New(1, m.Info().Condition)
	if err := s.Embed(t.Context(), c.Data, "w4 red"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Score(t.Context(), cinn.Subject{Latent: x}, cinn.Condition{Prompt: "w4 red"})
	if err != nil {
		t.Fatal(err)
	}
	var want cinn.Score
	var z, class [1]float64
	fs.LogProb(z[:], class[:], tensor.Of(1, len(x), x), c)
	want.Z, want.Class = z[0], class[0]
	clear(c.Data) // the flow was never fitted: its mean condition is zero
	fs.LogProb(z[:], class[:], tensor.Of(1, len(x), x), c)
	want.PriorZ, want.PriorClass = z[0], class[0]
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got.LogProb() != want.Z+want.Class || got.Gain() != got.LogProb()-want.PriorZ-want.PriorClass || got.Gain() == 0 {
		t.Errorf("log p %v, gain %v", got.LogProb(), got.Gain())
	}
}

// Where one class alone could have drawn an image, its score is that of its latent.
func TestTheScoreOfAnImageSumsOverItsClasses(t *testing.T) {
	path := tiny.Pack(t)
	m, s := open(t, path, 1)
	fs := tinyFlow(t, path)
	img := photo(90)
	c := tensor.New(1, m.Info().Condition)
	if err := s.Embed(t.Context(), c.Data, "red"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Score(t.Context(), cinn.Subject{Image: img}, cinn.Condition{Prompt: "red"})
	if err != nil {
		t.Fatal(err)
	}
	mean, std := make([]float32, m.Info().Z), make([]float32, m.Info().Z)
	if err := s.Encode(mean, std, img); err != nil {
		t.Fatal(err)
	}
	p := tensor.New(1, 3)
	fs.ClassProbabilities(p, c)
	var weights, joints, classes float64
	for _, class := range classEmbeddings(t, path) {
		x := append(slices.Clone(mean), class...)
		pix := rendered(t, m, s, x)
		var sum float64
		for i, v := range pix {
			if i%4 != 3 {
				d := (float64(v) - float64(img.Pix[i])) / 127.5
				sum += d * d
			}
		}
		w := math.Pow(sum/float64(3*16*16), -25)
		var z [1]float64
		fs.LogProb(z[:], nil, tensor.Of(1, len(x), x), c)
		k := float64(p.Data[0])
		p.Data = p.Data[1:]
		weights, classes, joints = weights+w, classes+w*k, joints+w*k*math.Exp(z[0])
	}
	// Bytes are rounded, the generator's own pixels are not: hence the tolerance.
	if d := got.LogProb() - math.Log(joints/weights); math.Abs(d) > 0.3 {
		t.Errorf("log p = %v, want %v", got.LogProb(), math.Log(joints/weights))
	}
	if d := got.Class - math.Log(classes/weights); math.Abs(d) > 0.3 {
		t.Errorf("class part %v, want %v", got.Class, math.Log(classes/weights))
	}
}

func TestRankIsScoreOfEveryPair(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	pictures := []cinn.Subject{
		{Draw: &cinn.Request{Prompt: "red", Seed: 1}}, {Image: photo(10)},
		{Latent: latentOf(t, m, s, cinn.Subject{Draw: &cinn.Request{Prompt: "w1", Seed: 2}}, cinn.Condition{})},
	}
	texts := []cinn.Condition{{Prompt: "red"}, {Prompt: "w1 w2"}}
	got, err := s.Rank(t.Context(), pictures, texts)
	if err != nil || len(got) != 6 {
		t.Fatal(err, got)
	}
	for i, p := range pictures {
		for j, c := range texts {
			want, err := s.Score(t.Context(), p, c)
			if err != nil || got[i*2+j] != want {
				t.Errorf("picture %d, text %d: %+v, want %+v, %v", i, j, got[i*2+j], want, err)
			}
		}
	}
}

func TestOrderIsStable(t *testing.T) {
	nan := math.NaN()
	if got := cinn.Order([]float64{1, nan, 3, 1, 3, math.Inf(-1), nan}); !slices.Equal(got, []int{2, 4, 0, 3, 5, 1, 6}) {
		t.Error(got)
	}
}

// operate runs every operation that draws, and returns what they drew.
func operate(t testing.TB, m *cinn.Model, s *cinn.Session) func() []uint8 {
	heart := cinn.Request{Prompt: "red heart", Seed: 3}
	img, dst := photo(90), image.NewNRGBA(m.Bounds())
	frames := []*image.NRGBA{image.NewNRGBA(m.Bounds()), image.NewNRGBA(m.Bounds()), image.NewNRGBA(m.Bounds())}
	vector := make([]float32, m.Info().Condition)
	vector[0] = 1
	red := cinn.Condition{Prompt: "red"}
	all := make([]uint8, 0, 6*len(dst.Pix))
	return func() []uint8 {
		all = all[:0]
		try := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		try(s.Edit(t.Context(), dst, cinn.Edit{Subject: cinn.Subject{Image: img}, From: red, To: cinn.Condition{Vector: vector}}))
		all = append(all, dst.Pix...)
		try(s.Exemplar(t.Context(), dst, cinn.Exemplar{Style: cinn.Subject{Draw: &heart}, Content: red}))
		all = append(all, dst.Pix...)
		try(s.Interpolate(t.Context(), frames, cinn.Interpolation{From: cinn.Subject{Draw: &heart}, To: cinn.Subject{Image: img}}))
		for _, f := range frames {
			all = append(all, f.Pix...)
		}
		return all
	}
}

func TestOperationsGiveTheSameBytesForAnyNumberOfWorkers(t *testing.T) {
	path := tiny.Pack(t)
	var want []uint8
	var score cinn.Score
	for _, workers := range []int{1, 2, 7} {
		m, s := open(t, path, workers)
		got := operate(t, m, s)()
		sc, err := s.Score(t.Context(), cinn.Subject{Image: photo(5)}, cinn.Condition{Prompt: "red"})
		if err != nil {
			t.Fatal(err)
		}
		if workers == 1 {
			want, score = slices.Clone(got), sc
		} else if !slices.Equal(got, want) || sc != score {
			t.Errorf("%d workers draw other bytes, or score %+v instead of %+v", workers, sc, score)
		}
	}
}

func TestOperationsThatDrawDoNotAllocate(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	all := operate(t, m, s)
	all()
	if n := testing.AllocsPerRun(5, func() { all() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	p, c := cinn.Subject{Image: photo(5)}, cinn.Condition{Prompt: "red"}
	if n := testing.AllocsPerRun(5, func() { s.Score(t.Context(), p, c) }); n != 0 {
		t.Errorf("%v allocations in Score", n)
	}
}

// The laws hold whatever a condition is.
func TestOperationsWorkUnderEverySource(t *testing.T) {
	for kind, src := range sources(t) {
		if kind == cinn.Layer {
			continue // reads an image as Picture does
		}
		part := cinn.Part{Meta: map[string]string{"config": src.config}}
		m, s := open(t, tiny.PackOf(t, part, src.width, src.side), 1)
		one := cinn.Condition{Prompt: src.one.Prompt, Image: src.one.Image, Vector: src.one.Vector}
		another := cinn.Condition{Prompt: src.another.Prompt, Image: src.another.Image, Vector: src.another.Vector}
		src.one.Seed, src.another.Seed = 3, 4
		drawn := draw(t, s, m.Bounds(), src.one)
		dst := image.NewNRGBA(m.Bounds())
		if err := s.Edit(t.Context(), dst, cinn.Edit{Subject: cinn.Subject{Draw: &src.one}, To: one}); err != nil || !alike(dst.Pix, drawn) {
			t.Errorf("%s: an edit to the same condition changes something, %v", kind, err)
		}
		if err := s.Edit(t.Context(), dst, cinn.Edit{Subject: cinn.Subject{Draw: &src.one}, To: another}); err != nil || alike(dst.Pix, drawn) {
			t.Errorf("%s: an edit to another condition changes nothing, %v", kind, err)
		}
		frames := []*image.NRGBA{image.NewNRGBA(m.Bounds()), image.NewNRGBA(m.Bounds())}
		if err := s.Interpolate(t.Context(), frames, cinn.Interpolation{From: cinn.Subject{Draw: &src.one}, To: cinn.Subject{Draw: &src.another}}); err != nil ||
			!alike(frames[0].Pix, drawn) || !alike(frames[1].Pix, draw(t, s, m.Bounds(), src.another)) {
			t.Errorf("%s: an interpolation does not end at its ends, %v", kind, err)
		}
		if score, err := s.Score(t.Context(), cinn.Subject{Draw: &src.one}, one); err != nil || score.Gain() == 0 || score != score {
			t.Errorf("%s: %+v, %v", kind, score, err)
		}
	}
}

func TestOperationsRefuse(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	ctx := t.Context()
	dst := image.NewNRGBA(m.Bounds())
	red := cinn.Condition{Prompt: "red"}
	heart := cinn.Subject{Draw: &cinn.Request{Prompt: "red"}}
	frames := []*image.NRGBA{dst, image.NewNRGBA(m.Bounds())}
	short, broken := make([]float32, 3), make([]float32, m.Info().Latent)
	broken[1] = float32(math.NaN())
	_, nothing := s.Score(ctx, cinn.Subject{}, red)
	_, rankNothing := s.Rank(ctx, []cinn.Subject{heart}, []cinn.Condition{{Prompt: "\xff"}})
	for name, test := range map[string]struct{ got, want error }{
		"no picture":        {s.Edit(ctx, dst, cinn.Edit{To: red}), cinn.ErrSubject},
		"nothing to score":  {nothing, cinn.ErrSubject},
		"two pictures":      {s.Edit(ctx, dst, cinn.Edit{Subject: cinn.Subject{Image: photo(1), Latent: broken}, To: red}), cinn.ErrSubject},
		"a draw and more":   {s.Edit(ctx, dst, cinn.Edit{Subject: cinn.Subject{Image: photo(1), Draw: heart.Draw}, To: red}), cinn.ErrSubject},
		"no condition":      {s.Edit(ctx, dst, cinn.Edit{Subject: heart}), cinn.ErrPrompt},
		"no content":        {s.Exemplar(ctx, dst, cinn.Exemplar{Style: heart}), cinn.ErrPrompt},
		"not text":          {rankNothing, cinn.ErrEncoding},
		"no bounds":         {s.Edit(ctx, nil, cinn.Edit{Subject: heart, To: red}), nil},
		"small bounds":      {s.Exemplar(ctx, image.NewNRGBA(image.Rect(0, 0, 3, 3)), cinn.Exemplar{Style: heart, Content: red}), nil},
		"small image":       {s.Edit(ctx, dst, cinn.Edit{Subject: cinn.Subject{Image: image.NewNRGBA(image.Rect(0, 0, 3, 3))}, To: red}), nil},
		"short latent":      {s.Edit(ctx, dst, cinn.Edit{Subject: cinn.Subject{Latent: short}, To: red}), nil},
		"broken latent":     {s.Render(ctx, dst, broken), nil},
		"guidance":          {s.Edit(ctx, dst, cinn.Edit{Subject: heart, To: red, Guidance: -1}), nil},
		"temperature":       {s.Exemplar(ctx, dst, cinn.Exemplar{Style: heart, Content: red, Temperature: 100}), nil},
		"one frame":         {s.Interpolate(ctx, frames[:1], cinn.Interpolation{From: heart, To: heart}), nil},
		"a frame is absent": {s.Interpolate(ctx, []*image.NRGBA{dst, nil}, cinn.Interpolation{From: heart, To: heart}), nil},
		"small room":        {s.Latent(ctx, short, heart, cinn.Condition{}), nil},
	} {
		if test.got == nil || test.want != nil && !errors.Is(test.got, test.want) {
			t.Errorf("%s: %v, want %v", name, test.got, test.want)
		}
	}
	before := slices.Clone(dst.Pix)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.Score(cancelled, cinn.Subject{Image: photo(1)}, red)
	for name, err := range map[string]error{
		"edit":        s.Edit(cancelled, dst, cinn.Edit{Subject: heart, To: red}),
		"exemplar":    s.Exemplar(cancelled, dst, cinn.Exemplar{Style: heart, Content: red}),
		"interpolate": s.Interpolate(cancelled, frames, cinn.Interpolation{From: heart, To: heart}),
		"render":      s.Render(cancelled, dst, make([]float32, m.Info().Latent)),
		"score":       err,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v after it was cancelled", name, err)
		}
	}
	if !slices.Equal(dst.Pix, before) {
		t.Error("what was cancelled drew something")
	}
	s.Close()
	if err := s.Edit(ctx, dst, cinn.Edit{Subject: heart, To: red}); !errors.Is(err, cinn.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
