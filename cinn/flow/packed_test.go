package flow

import (
	"math"
	"slices"
	"sync"
	"testing"

	"netfusion/nn"
	"netfusion/tensor"
)

// packed returns what LoadPacked makes of f, as it is stored.
func packed(t testing.TB, f *Flow, p tensor.Precision) *Flow {
	t.Helper()
	w := nn.Load(nn.Memory("a flow", f.Tensors(false))).As(p)
	g, err := load(f.Config, w, (*Flow).packNetworks)
	if err != nil {
		t.Fatal(err)
	}
	if extra := w.Unused(); len(extra) > 0 {
		t.Fatalf("nobody read %q", extra)
	}
	return g
}

func TestAPackedFlowDrawsTheSame(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		f := trained(t, c)
		draw := func(f *Flow) tensor.Tensor {
			x := tensor.New(5, c.dims())
			session(t, f, 2, 1).Sample(x, normal(5, c.Cond, 2), Draw{Seed: 1, Temperature: 1, Guidance: 1.5})
			return x
		}
		want, g := draw(f), packed(t, f, tensor.F32)
		if got := draw(g); !slices.Equal(got.Data, want.Data) {
			t.Error("it draws something else")
		}
		if g.Values() != nil {
			t.Error("it has Values")
		}
		dev := tensor.CPU(1)
		defer dev.Close()
		if _, err := g.NewGradient(dev, 4, Regularisation{}, 1); err == nil {
			t.Error("it was taken for training")
		}
	})
}

// roundingError is how far rounded weights and rows may move a sample and a log-likelihood: the root of the mean squared
// difference, in standard deviations and in nats per dimension.
var roundingError = map[tensor.Precision]struct{ sample, nats float64 }{
	tensor.F32: {}, tensor.BF16: {2e-3, 1e-3}, tensor.Int8: {6e-3, 3e-3},
}

func TestAFlowInEveryPrecision(t *testing.T) {
	const m = 64
	for _, c := range []Config{
		{Dialect: Net2Net, Latent: 24, Cond: 32, Blocks: 4, Hidden: 96, Depth: 2, Clamp: 1, Embed: 24, EmbedWidth: 48, EmbedDepth: 2},
		{Dialect: NetFusion, Latent: 24, Cond: 32, Class: 6, Classes: 7, ClassNoise: 0.4, HeadHidden: 20, Blocks: 4, Hidden: 96, Depth: 1, Clamp: 2,
			Embed: 24, EmbedWidth: 48, EmbedDepth: 1},
	} {
		f := trained(t, c)
		cond := normal(m, c.Cond, 2)
		want, d := tensor.New(m, c.dims()), Draw{Seed: 1, Temperature: 1, Guidance: 1.5}
		session(t, f, m, 1).Sample(want, cond, d)
		likely := make([]float64, m)
		session(t, f, m, 1).LogProb(likely, nil, want, cond)
		for p, bound := range roundingError {
			g := packed(t, f, p)
			var first []float32
			for _, workers := range []int{1, 2, 7} {
				x, z := tensor.New(m, c.dims()), make([]float64, m)
				s := session(t, g, m, workers)
				s.Sample(x, cond, d)
				s.LogProb(z, nil, want, cond)
				if first != nil {
					if !slices.Equal(x.Data, first) {
						t.Errorf("%s, %v: %d workers draw something else than 1", c.Dialect, p, workers)
					}
					continue
				}
				first = x.Data
				sample, nats := apart(x, want, z, likely)
				t.Logf("%s, %v: samples move by %.2g of their spread, log-likelihoods by %.2g nats per dimension", c.Dialect, p, sample, nats)
				if (sample == 0) != (p == tensor.F32) || !(sample <= bound.sample && nats <= bound.nats) {
					t.Errorf("%s, %v: want at most %g and %g", c.Dialect, p, bound.sample, bound.nats)
				}
			}
			single := session(t, g, 1, 2)
			x := tensor.New(m, c.dims())
			call := func() { single.Sample(x, cond, d) }
			if n := testing.AllocsPerRun(20, call); n != 0 {
				t.Errorf("%s, %v: %v allocations", c.Dialect, p, n)
			}
			if !slices.Equal(x.Data, first) {
				t.Errorf("%s, %v: one row at a time draws something else", c.Dialect, p)
			}
		}
	}
}

// apart is how far samples and log-likelihoods are from what is wanted: the root of the mean squared difference, of samples in their
// root mean square, of log-likelihoods in nats per dimension.
func apart(x, want tensor.Tensor, z, likely []float64) (sample, nats float64) {
	var spread float64
	for i, v := range want.Data {
		d := float64(x.Data[i]) - float64(v)
		sample += d * d
		spread += float64(v) * float64(v)
	}
	for i, v := range likely {
		nats += (z[i] - v) * (z[i] - v)
	}
	return math.Sqrt(sample / spread), math.Sqrt(nats/float64(len(z))) / float64(x.Cols)
}

// BenchmarkRounding has those figures at the paper's size.
func BenchmarkRounding(b *testing.B) {
	const m = 16
	c := sizes["paper"]
	cond, d := normal(m, c.Cond, 2), Draw{Seed: 1, Temperature: 1, Guidance: 1}
	run := func(f *Flow, x tensor.Tensor, z []float64, of tensor.Tensor) {
		s := session(b, f, m, 0)
		s.Sample(x, cond, d)
		s.LogProb(z, nil, of, cond)
	}
	want, likely := tensor.New(m, c.dims()), make([]float64, m)
	run(synthetic(c, tensor.F32), want, likely, want)
	for _, p := range []tensor.Precision{tensor.BF16, tensor.Int8} {
		b.Run(p.String(), func(b *testing.B) {
			f := synthetic(c, p)
			x, z := tensor.New(m, c.dims()), make([]float64, m)
			for b.Loop() {
				run(f, x, z, want)
			}
			sample, nats := apart(x, want, z, likely)
			b.ReportMetric(sample, "sample-error")
			b.ReportMetric(nats, "nats/dim-error")
		})
	}
}

// The first Session packs the networks, whoever comes first.
func TestSessionsMayBeginSideBySide(t *testing.T) {
	f := trained(t, small["class"])
	var all sync.WaitGroup
	var draws [4][]float32
	for i := range draws {
		all.Go(func() {
			dev := tensor.CPU(1)
			defer dev.Close()
			s, err := f.NewSession(dev, 2)
			if err != nil {
				t.Error(err)
				return
			}
			x := tensor.New(2, f.Config.dims())
			s.Sample(x, normal(2, f.Config.Cond, 2), Draw{Seed: 1, Temperature: 1, Guidance: 1})
			draws[i] = x.Data
		})
	}
	all.Wait()
	for _, d := range draws[1:] {
		if !slices.Equal(d, draws[0]) {
			t.Error("Sessions draw different samples")
		}
	}
}
