package flow

import (
	"math"
	"slices"
	"testing"

	"netfusion/tensor"
)

// gpuTrainer is a GPUGradient with what its caller has beside it.
type gpuTrainer struct {
	*GPUGradient
	q      *tensor.Queue
	values tensor.Array[float32]
	draw   tensor.Array[uint64]
	v      tensor.Buffer
}

func newGPUTrainer(t *testing.T, f *Flow, rows int, r Regularisation) *gpuTrainer {
	t.Helper()
	q, err := openGPU(t).NewQueue(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	d, err := f.NewGPUGradient(q, rows, r)
	if err != nil {
		t.Fatal(err)
	}
	g := &gpuTrainer{d, q, tensor.Keep[float32](q, d.Size()), tensor.Keep[uint64](q, 2), tensor.Buffer{}}
	v := tensor.Keep[float32](q, rows*f.Config.Latent)
	g.v = tensor.Matrix(v, rows, f.Config.Latent)
	if err := d.Upload(g.values, f.Values()); err != nil {
		t.Fatal(err)
	}
	return g
}

// run uploads a batch, does what record calls, and returns the losses without their constants.
func (g *gpuTrainer) run(t *testing.T, x, c tensor.Tensor, seed, step uint64, record func()) (z, class []float64) {
	t.Helper()
	set := func(to tensor.Buffer, from func(i int) []float32) {
		for i := range to.Rows {
			row := to.Slice(i, i+1)
			if err := tensor.Set(g.q, row.Values(), from(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := g.flow.Config.Latent
	set(g.In.C, c.Row)
	set(g.In.Z, func(i int) []float32 { return x.Row(i)[:n] })
	if g.flow.Config.Classes > 0 {
		set(g.In.E, func(i int) []float32 { return x.Row(i)[n:] })
	}
	if err := tensor.Set(g.q, g.draw, []uint64{seed, step << 16}); err != nil {
		t.Fatal(err)
	}
	if err := g.q.Run(record); err != nil {
		t.Fatal(err)
	}
	losses, classes, logs := make([]float32, x.Rows), make([]float32, x.Rows), make([]float64, 1)
	tensor.Get(g.q, losses, g.Losses.Z)
	tensor.Get(g.q, classes, g.Losses.Class)
	if err := tensor.Get(g.q, logs, g.Losses.LogScales); err != nil {
		t.Fatal(err)
	}
	constant, classConstant := g.Constant()
	for i := range losses {
		z, class = append(z, float64(losses[i])-logs[0]+constant), append(class, float64(classes[i])+classConstant)
	}
	return z, class
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

func TestPTXAGPUsGradientIsThatOfTheCPU(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m, seed, step = 6, 5, 3
		for name, r := range map[string]Regularisation{"plain": {}, "regularised": {Dropout: 0.25, Noise: 0.3}} {
			f := trained(t, c)
			x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
			dev := tensor.CPU(1)
			defer dev.Close()
			want, err := f.NewGradient(dev, m, r, seed)
			if err != nil {
				t.Fatal(err)
			}
			on := newGPUTrainer(t, f, m, r)
			wantZ, wantClass := make([]float64, m), make([]float64, m)
			want.LogProb(f, wantZ, wantClass, x, cond)
			z, class := on.run(t, x, cond, seed, step, func() { on.LogProb(on.values, on.v) })
			for i := range m {
				if math.Abs(z[i]+wantZ[i]) > 1e-4*(1+math.Abs(z[i])) || c.Classes > 0 && math.Abs(class[i]+wantClass[i]) > 1e-4*(1+math.Abs(class[i])) {
					t.Errorf("%s, row %d: -log p is %v and %v, want %v and %v", name, i, z[i], class[i], -wantZ[i], -wantClass[i])
				}
			}
			v, wantV := tensor.New(m, c.Latent), tensor.New(m, c.Latent)
			want.Residuals(wantV)
			if err := tensor.Get(on.q, v.Data, on.v.Values()); err != nil {
				t.Fatal(err)
			}
			agrees(t, "residuals", v, wantV, gpuTolerance)

			lossZ, lossClass := want.Step(x, cond, step)
			z, class = on.run(t, x, cond, seed, step, func() { on.Step(on.values, on.draw) })
			if math.Abs(mean(z)-lossZ) > 1e-4*(1+math.Abs(lossZ)) || c.Classes > 0 && math.Abs(mean(class)-lossClass) > 1e-4*(1+math.Abs(lossClass)) {
				t.Errorf("%s: losses %v and %v, want %v and %v", name, mean(z), mean(class), lossZ, lossClass)
			}
			got := make([]float32, len(f.Values()))
			if err := on.Download(got, on.Gradient); err != nil {
				t.Fatal(err)
			}
			for _, p := range f.params { // to a share of the parameter's largest
				var largest, worst float64
				for i := p.Begin; i < p.Begin+p.Len; i++ {
					w := float64(want.Values()[i])
					largest, worst = max(largest, math.Abs(w)), max(worst, math.Abs(float64(got[i])-w))
				}
				if !(worst <= 1e-4*largest+1e-6) {
					t.Errorf("%s: the gradient of %s is off by %v of %v", name, p.Name, worst, largest)
				}
			}
			squares, sum := make([]float64, on.Squares.Len), 0.0
			if err := tensor.Get(on.q, squares, on.Squares); err != nil {
				t.Fatal(err)
			}
			for _, s := range squares {
				sum += s
			}
			if math.Abs(sum-want.SumSquares()) > 1e-4*sum {
				t.Errorf("%s: the sum of squares is %v, want %v", name, sum, want.SumSquares())
			}
			// What lies in the gaps of the slab has no gradient, and so never changes.
			whole, back := make([]float32, on.Size()), make([]float32, len(f.Values()))
			if err := tensor.Get(on.q, whole, on.Gradient); err != nil {
				t.Fatal(err)
			}
			if err := on.Download(back, on.values); err != nil || !slices.Equal(back, f.Values()) {
				t.Error("the parameters do not come back as they went", err)
			}
			if n := nonzeros(whole); n > nonzeros(got) {
				t.Errorf("%s: %d values of the gradient in gaps", name, n-nonzeros(got))
			}
		}
	})
}

func nonzeros(v []float32) (n int) {
	for _, x := range v {
		if x != 0 {
			n++
		}
	}
	return n
}

// BatchNorm's running averages are those of the CPU, and come back.
func TestPTXRunningAveragesComeBack(t *testing.T) {
	c := small["net2net"]
	const m = 6
	f, g := trained(t, c), trained(t, c)
	x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
	dev := tensor.CPU(1)
	defer dev.Close()
	want, err := g.NewGradient(dev, m, Regularisation{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want.Step(x, cond, 1)
	on := newGPUTrainer(t, f, m, Regularisation{})
	on.run(t, x, cond, 1, 1, func() { on.Step(on.values, on.draw) })
	if err := on.Statistics(); err != nil {
		t.Fatal(err)
	}
	for i := range f.embedder.norms {
		got, want := &f.embedder.norms[i], &g.embedder.norms[i]
		agrees(t, "mean", tensor.Of(1, got.n, got.mean), tensor.Of(1, want.n, want.mean), 1e-5)
		agrees(t, "variance", tensor.Of(1, got.n, got.variance), tensor.Of(1, want.n, want.variance), 1e-5)
	}
}
