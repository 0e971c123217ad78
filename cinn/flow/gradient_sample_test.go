package flow

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"netfusion/tensor"
)

func TestAGradientSamplesAndReturnsWhatASessionDoes(t *testing.T) {
	for _, c := range []Config{
		{Dialect: NetFusion, Latent: 7, Cond: 5, Class: 2, Classes: 3, ClassNoise: 0.2, Blocks: 3, Hidden: 20, Depth: 1, Clamp: 1.5, Embed: 6, EmbedWidth: 12, EmbedDepth: 1},
		{Dialect: Net2Net, Latent: 8, Cond: 5, Blocks: 3, Hidden: 20, Depth: 2, Clamp: 1, Embed: 6, EmbedWidth: 12, EmbedDepth: 1},
		{Dialect: NetFusion, Latent: 5, Cond: 8 * 8 * 2, Side: 8, Convs: 2, ConvWidth: 4, Pool: 4, Blocks: 2, Hidden: 20, Depth: 1, Clamp: 1.5, Embed: 6, EmbedWidth: 12},
	} {
		t.Run(fmt.Sprint(c.Dialect, c.Side), func(t *testing.T) {
			const rows = 21
			f := shaken(t, c)
			dev := tensor.CPU(2)
			defer dev.Close()
			s, err := f.NewSession(dev, rows)
			if err != nil {
				t.Fatal(err)
			}
			g, err := f.NewGradient(dev, 32, Regularisation{Dropout: 0.5, Noise: 1}, 1)
			if err != nil {
				t.Fatal(err)
			}
			cond := normal(rows, c.Cond, 4)
			want, got := tensor.New(rows, c.dims()), tensor.New(rows, c.dims())
			d := Draw{Seed: 3, Sample: 5, Temperature: 0.9, Guidance: 1}
			s.Sample(want, cond, d)
			g.Sample(f, got, cond, d)
			alike(t, "samples", got, want)

			v, residual := tensor.New(rows, c.Latent), tensor.New(rows, c.Latent)
			s.Forward(v, nil, want, cond)
			logp := make([]float64, rows)
			g.LogProb(f, logp, nil, want, cond)
			g.Residuals(residual)
			alike(t, "residuals", residual, v)
		})
	}
}

func alike(t *testing.T, what string, got, want tensor.Tensor) {
	t.Helper()
	for i, v := range want.Data {
		if d := math.Abs(float64(got.Data[i] - v)); !(d <= 2e-4*(1+math.Abs(float64(v)))) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got.Data[i], v)
		}
	}
}

// shaken is a Flow whose couplings and norms do something.
func shaken(t *testing.T, c Config) *Flow {
	t.Helper()
	f, err := New(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c.Classes > 0 {
		f.SetClasses(normal(c.Classes, c.Class, 2))
	}
	noise := normal(1, len(f.values), 3).Data
	for i := range f.values {
		f.values[i] += 0.1 * noise[i]
	}
	f.Pack()
	return f
}

// What is said in advance is what is taken: no less, and hardly more.
func TestFootprintIsWhatIsTaken(t *testing.T) {
	heap := func() int {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	for _, c := range []Config{
		{Dialect: NetFusion, Latent: 96, Cond: 384, Class: 32, Classes: 10, ClassNoise: 0.2, Blocks: 4, Hidden: 128, Depth: 1, Clamp: 1.5, Embed: 64, EmbedWidth: 128, EmbedDepth: 1},
		{Dialect: Net2Net, Latent: 96, Cond: 384, Blocks: 4, Hidden: 128, Depth: 2, Clamp: 1, Embed: 64, EmbedWidth: 128, EmbedDepth: 2},
		{Dialect: NetFusion, Latent: 32, Cond: 16 * 16 * 3, Side: 16, Convs: 3, ConvWidth: 16, Pool: 4, Blocks: 2, Hidden: 64, Clamp: 1.5, Embed: 32, EmbedWidth: 64},
	} {
		for _, r := range []Regularisation{{}, {Dropout: 0.2, Noise: 0.1}} {
			said, err := c.Footprint(48, r)
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			f, err := New(c, 1)
			if err != nil {
				t.Fatal(err)
			}
			flow := heap() - before
			g, err := f.NewGradient(dev, 48, r, 1)
			if err != nil {
				t.Fatal(err)
			}
			step := heap() - before - flow - 4*len(f.values)
			const few = 48 << 10 // names and the like
			if said.Parameters != len(f.values) {
				t.Errorf("%s: %d parameters, %d were said", c.Dialect, len(f.values), said.Parameters)
			}
			if n := flow - 4*len(f.values); n > said.Beside+few || n < said.Beside/2-few {
				t.Errorf("%s: beside its values a flow takes %d bytes, %d were said", c.Dialect, n, said.Beside)
			}
			if step > said.Step+few || step < said.Step-few {
				t.Errorf("%s: a step takes %d bytes, %d were said", c.Dialect, step, said.Step)
			}
			runtime.KeepAlive(f)
			runtime.KeepAlive(g)
		}
	}
}
