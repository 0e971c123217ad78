package pack_test

import (
	"image"
	"math"
	"slices"
	"sync"
	"testing"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pack"
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/nn"
	"netfusion/tensor"
)

// cacheless sends the unpacked weights to a folder of the test's own.
func cacheless(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)         // where macOS looks
	t.Setenv("LocalAppData", cache) // where Windows looks
}

func open(t *testing.T, o cinn.Options) (*cinn.Model, *cinn.Session) {
	t.Helper()
	m, err := pack.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	s, err := m.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return m, s
}

var precisions = []cinn.Precision{cinn.F32, cinn.BF16, cinn.Int8}

func TestTheSameBytesForAnyNumberOfWorkers(t *testing.T) {
	cacheless(t)
	for _, precision := range precisions {
		if testing.Short() && precision != cinn.F32 {
			continue // the tests of package cinn have them, too
		}
		var first []uint8
		for _, workers := range []int{1, 2, 7} {
			m, s := open(t, cinn.Options{Workers: workers, Precision: precision})
			img := image.NewNRGBA(m.Bounds())
			if err := s.Generate(t.Context(), img, cinn.Request{Prompt: "red heart", Seed: 1}); err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = img.Pix
			} else if !slices.Equal(img.Pix, first) {
				t.Errorf("%v: %d workers draw another picture than 1", precision, workers)
			}
		}
	}
}

func TestEightSessionsOfOneModelDrawTheSameBytes(t *testing.T) {
	cacheless(t)
	m, _ := open(t, cinn.Options{Workers: 1})
	r := cinn.Request{Prompt: "red heart", Seed: 1}
	var drawn [8]*image.NRGBA
	var all sync.WaitGroup
	for i := range drawn {
		all.Go(func() {
			s, err := m.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			drawn[i] = image.NewNRGBA(m.Bounds())
			for range 3 {
				if err := s.Generate(t.Context(), drawn[i], r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, img := range drawn[1:] {
		if !slices.Equal(img.Pix, drawn[0].Pix) {
			t.Error("a session draws other bytes")
		}
	}
}

// What a lower precision does to pictures, against those of float32: the median PSNR, and how many are another picture, since a
// class is drawn by lot and a rounded embedding may move the edge between two of them across the lot.
var pictureError = map[cinn.Precision]struct{ psnr, other float64 }{cinn.BF16: {50, 0.02}, cinn.Int8: {40, 0.05}}

func TestPicturesInEveryPrecision(t *testing.T) {
	cacheless(t)
	prompts := []string{"red heart", "a dog in the rain", "sunflower", "police car", "an old wizard with a long beard", "rocket", "happy", "ten o'clock"}
	draws := 8
	if testing.Short() {
		prompts, draws = prompts[:2], 1
	}
	m, exact := open(t, cinn.Options{})
	want, got := image.NewNRGBA(m.Bounds()), image.NewNRGBA(m.Bounds())
	for precision, bound := range pictureError {
		_, s := open(t, cinn.Options{Precision: precision})
		var psnr []float64
		for _, prompt := range prompts {
			for sample := range draws {
				r := cinn.Request{Prompt: prompt, Seed: 1, Sample: uint64(sample)}
				if err := exact.Generate(t.Context(), want, r); err != nil {
					t.Fatal(err)
				}
				if err := s.Generate(t.Context(), got, r); err != nil {
					t.Fatal(err)
				}
				var square, n float64
				for i, v := range want.Pix {
					if i%4 < 3 {
						d := float64(v) - float64(got.Pix[i])
						square, n = square+d*d, n+1
					}
				}
				psnr = append(psnr, 10*math.Log10(255*255/(square/n)))
			}
		}
		slices.Sort(psnr)
		other := 0
		for _, v := range psnr {
			if v < 20 {
				other++
			}
		}
		median, share := psnr[len(psnr)/2], float64(other)/float64(len(psnr))
		t.Logf("%v: PSNR %.1f dB (median), %.1f (5%%), %.1f (least); %d of %d are other pictures", precision, median, psnr[len(psnr)/20], psnr[0], other, len(psnr))
		if !(median >= bound.psnr && share <= bound.other) {
			t.Errorf("%v: want %v dB and at most %v others", precision, bound.psnr, bound.other)
		}
		if math.IsInf(psnr[0], 1) {
			t.Errorf("%v: exactly the pictures of float32", precision)
		}
	}
}

// Real latents, with the names of what they show, go through the flow and back.
func TestTheFlowIsInvertible(t *testing.T) {
	cacheless(t)
	_, s := open(t, cinn.Options{})
	file, err := cinn.OpenContainer("emoji.pack")
	if err != nil {
		t.Fatal(err)
	}
	f, err := flow.LoadExpert(nn.Under(file, "flow."), []byte(file.Metadata()["flow.config"]))
	if err != nil {
		t.Fatal(err)
	}
	set, err := pairs.Open("../pairs/emoji.pairs")
	if err != nil {
		t.Fatal(err)
	}
	step := 20
	if testing.Short() {
		step = 400
	}
	n := (len(set.Images) + step - 1) / step
	c := f.Config
	x, back := tensor.New(n, c.Latent+c.Class), tensor.New(n, c.Latent+c.Class)
	cond, v := tensor.New(n, c.Cond), tensor.New(n, c.Latent)
	for i := range n {
		im := set.Images[i*step]
		if err := s.Embed(t.Context(), cond.Row(i), set.Concepts[im.Concept].Name); err != nil {
			t.Fatal(err)
		}
		row := x.Row(i)
		random.Normal(row, 1, 1, uint64(i), 0)
		mean, std := set.Z(i * step)
		for j := range mean {
			row[j] = mean[j] + std[j]*row[j]
		}
		if c.Class > 0 {
			for j, e := range f.ClassEmbedding(im.Class) {
				row[c.Latent+j] = e + c.ClassNoise*row[c.Latent+j]
			}
		}
		copy(back.Row(i)[c.Latent:], row[c.Latent:])
	}
	dev := tensor.CPU(0)
	defer dev.Close()
	session, err := f.NewSession(dev, 64)
	if err != nil {
		t.Fatal(err)
	}
	session.Forward(v, nil, x, cond)
	session.Inverse(back, v, cond)
	var errs []float64
	for i := range n {
		for j, z := range x.Row(i)[:c.Latent] {
			errs = append(errs, math.Abs(float64(z-back.Row(i)[j])))
		}
	}
	slices.Sort(errs)
	p99, worst := errs[len(errs)*99/100], errs[len(errs)-1]
	t.Logf("%d latents come back within %.2g (p99) and %.2g (max)", n, p99, worst)
	if !(worst <= 1e-3) {
		t.Errorf("a latent comes back %v off, want at most 1e-3", worst)
	}
}
