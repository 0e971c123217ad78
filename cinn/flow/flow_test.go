package flow

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
	"netfusion/tensor"
)

// small configs of every kind: both dialects, odd and even latents, with and without a class head.
var small = map[string]Config{
	"netfusion": {Dialect: NetFusion, Latent: 6, Cond: 4, Blocks: 3, Hidden: 12, Depth: 1, Clamp: 2, Embed: 5, EmbedWidth: 8, EmbedDepth: 1},
	"odd":       {Dialect: NetFusion, Latent: 5, Cond: 3, Blocks: 2, Hidden: 7, Depth: 0, Clamp: 1.5, Embed: 4, EmbedWidth: 6},
	"class": {Dialect: NetFusion, Latent: 4, Cond: 3, Class: 2, Classes: 3, ClassNoise: 0.4, HeadHidden: 6,
		Blocks: 2, Hidden: 9, Depth: 1, Clamp: 2, Embed: 4, EmbedWidth: 6, EmbedDepth: 1},
	"linear head": {Dialect: NetFusion, Latent: 3, Cond: 3, Class: 3, Classes: 4, ClassNoise: 0.7, Blocks: 1, Hidden: 9, Clamp: 2, Embed: 4, EmbedWidth: 6},
	"map": {Dialect: NetFusion, Latent: 4, Cond: 2 * 8 * 8, Side: 8, Convs: 2, ConvWidth: 3, Pool: 2, Class: 2, Classes: 3, ClassNoise: 0.4,
		Blocks: 2, Hidden: 9, Depth: 1, Clamp: 2, Embed: 4, EmbedWidth: 6, EmbedDepth: 1},
	"plain map":  {Dialect: NetFusion, Latent: 3, Cond: 4 * 4, Side: 4, Pool: 4, Blocks: 1, Hidden: 9, Clamp: 2, Embed: 4, EmbedWidth: 6},
	"batch norm": {Dialect: NetFusion, Latent: 5, Cond: 4, Blocks: 2, Hidden: 11, Depth: 1, Clamp: 2, Embed: 5, EmbedWidth: 7, EmbedDepth: 1, Norm: BatchNorm},
	"net2net":    {Dialect: Net2Net, Latent: 6, Cond: 4, Blocks: 3, Hidden: 12, Depth: 2, Clamp: 1, Embed: 5, EmbedWidth: 8, EmbedDepth: 2},
}

// trained returns a Flow none of whose values is special: as if trained.
func trained(t testing.TB, c Config) *Flow {
	t.Helper()
	f, err := New(c, 7)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range f.params {
		v := f.values[p.Begin:][:p.Len]
		for i := range v {
			if p.Decay {
				v[i] = float32(r.NormFloat64() / math.Sqrt(3*float64(p.Shape[1]))) // the variance that PyTorch starts with
			} else {
				v[i] += float32(0.2 * r.NormFloat64())
			}
		}
	}
	for _, b := range f.buffers {
		for i := range b.data {
			switch {
			case b.name == "linear.cholesky" && i%c.Latent > i/c.Latent:
			case b.name == "classes.weight":
				b.data[i] = float32(r.NormFloat64())
			default:
				b.data[i] += float32(0.1 * r.NormFloat64())
			}
		}
	}
	f.Pack()
	return f
}

func normal(rows, cols int, seed uint64) tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 9))
	t := tensor.New(rows, cols)
	for i := range t.Data {
		t.Data[i] = float32(r.NormFloat64())
	}
	return t
}

func session(t testing.TB, f *Flow, rows, workers int) *Session {
	t.Helper()
	dev := tensor.CPU(workers)
	t.Cleanup(dev.Close)
	s, err := f.NewSession(dev, rows)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func each(t *testing.T, do func(t *testing.T, c Config)) {
	for name, c := range small {
		t.Run(name, func(t *testing.T) { do(t, c) })
	}
}

func TestForwardFollowsTheOracle(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 13 // more than a session's rows, and no multiple of them
		f := trained(t, c)
		x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
		v, logdet, class := newOracle(f).run(rows64(x), rows64(cond))
		s := session(t, f, 5, 2)
		got, gotdet := tensor.New(m, c.Latent), make([]float32, m)
		s.Forward(got, gotdet, x, cond)
		z, k := make([]float64, m), make([]float64, m)
		s.LogProb(z, k, x, cond)
		for i := range m {
			want := logdet[i]
			for j, a := range v[i] {
				want -= a*a/2 + halfLog2Pi
				if d := math.Abs(float64(got.Row(i)[j]) - a); d > 1e-4*max(1, math.Abs(a)) {
					t.Errorf("row %d: v[%d] = %v, want %v", i, j, got.Row(i)[j], a)
				}
			}
			if math.Abs(float64(gotdet[i])-logdet[i]) > 1e-4 {
				t.Errorf("row %d: logdet = %v, want %v", i, gotdet[i], logdet[i])
			}
			if math.Abs(z[i]-want) > 1e-4*max(1, math.Abs(want)) {
				t.Errorf("row %d: log p(z) = %v, want %v", i, z[i], want)
			}
			if class != nil && math.Abs(k[i]-class[i]) > 1e-4*max(1, math.Abs(class[i])) {
				t.Errorf("row %d: log p(e) = %v, want %v", i, k[i], class[i])
			}
		}
	})
}

// A Gradient judges another Flow than its own as a Session of that does, and then trains on.
func TestAGradientKnowsTheLikelihoodOfASession(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 13
		f, err := New(c, 3)
		if err != nil {
			t.Fatal(err)
		}
		other := trained(t, c)
		copied, err := other.Copy()
		if err != nil {
			t.Fatal(err)
		}
		x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
		want, wantClass := make([]float64, m), make([]float64, m)
		session(t, other, 5, 2).LogProb(want, wantClass, x, cond)
		dev := tensor.CPU(2)
		defer dev.Close()
		g, err := f.NewGradient(dev, m, Regularisation{Dropout: 0.5, Noise: 1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := g.Step(x, cond, 1)
		mean := slices.Clone(f.buffers[0].data)
		z, class := make([]float64, m), make([]float64, m)
		g.LogProb(copied, z, class, x, cond)
		for i := range z {
			if math.Abs(z[i]-want[i]) > 1e-4*max(1, math.Abs(want[i])) || math.Abs(class[i]-wantClass[i]) > 1e-4*max(1, math.Abs(wantClass[i])) {
				t.Errorf("row %d: %v + %v, want %v + %v", i, z[i], class[i], want[i], wantClass[i])
			}
		}
		if !slices.Equal(mean, f.buffers[0].data) {
			t.Error("the running averages have moved")
		}
		if after, _ := g.Step(x, cond, 1); after != before {
			t.Errorf("after that the loss of a step is %v, and was %v", after, before)
		}
	})
}

func TestLogDetIsTheJacobians(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m, h = 4, 1e-5
		f := trained(t, c)
		x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
		logdet := make([]float32, m)
		session(t, f, m, 1).Forward(tensor.New(m, c.Latent), logdet, x, cond)
		o, x64, c64 := newOracle(f), rows64(x), rows64(cond)
		n := c.Latent
		jacobian := make([][]float64, m)
		for j := range n {
			at := func(d float64) [][]float64 {
				y := make([][]float64, m)
				for i := range y {
					y[i] = append([]float64(nil), x64[i]...)
					y[i][j] += d
				}
				v, _, _ := o.run(y, c64)
				return v
			}
			up, down := at(h), at(-h)
			for i := range m {
				for k := range n {
					jacobian[i] = append(jacobian[i], (up[i][k]-down[i][k])/(2*h))
				}
			}
		}
		for i := range m {
			if want := logAbsDet(jacobian[i], n); math.Abs(float64(logdet[i])-want) > 1e-4 {
				t.Errorf("row %d: logdet = %v, want %v", i, logdet[i], want)
			}
		}
	})
}

// logAbsDet eliminates with row pivots.
func logAbsDet(a []float64, n int) (sum float64) {
	for k := range n {
		p := k
		for i := k; i < n; i++ {
			if math.Abs(a[i*n+k]) > math.Abs(a[p*n+k]) {
				p = i
			}
		}
		for j := range n {
			a[k*n+j], a[p*n+j] = a[p*n+j], a[k*n+j]
		}
		sum += math.Log(math.Abs(a[k*n+k]))
		for i := k + 1; i < n; i++ {
			c := a[i*n+k] / a[k*n+k]
			for j := k; j < n; j++ {
				a[i*n+j] -= c * a[k*n+j]
			}
		}
	}
	return sum
}

func TestInverseUndoesForward(t *testing.T) {
	check := func(t *testing.T, f *Flow, m int) {
		c := f.Config
		x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
		s := session(t, f, 16, 2)
		v, back := tensor.New(m, c.Latent), tensor.New(m, c.dims())
		s.Forward(v, nil, x, cond)
		copy(back.Data, x.Data)
		for i := range m {
			clear(back.Row(i)[:c.Latent])
		}
		s.Inverse(back, v, cond)
		var worst float64
		for i, a := range x.Data {
			worst = max(worst, math.Abs(float64(back.Data[i]-a))/max(1, math.Abs(float64(a))))
		}
		if worst > 1e-5 {
			t.Errorf("inverse is off by %.2g", worst)
		}
	}
	each(t, func(t *testing.T, c Config) { check(t, trained(t, c), 37) })
	t.Run("large", func(t *testing.T) {
		f, err := New(Config{Dialect: Net2Net, Latent: 64, Cond: 32, Blocks: 8, Hidden: 64, Depth: 1, Clamp: 1, Embed: 16, EmbedWidth: 32}, 1)
		if err != nil {
			t.Fatal(err)
		}
		check(t, f, 40) // PyTorch's initial weights
	})
}

// slope is a derivative of the oracle's loss, by differences.
type slope struct {
	at   int // of a parameter's values
	want float64
}

func TestGradientsAreThoseOfTheOracle(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m, h = 9, 1e-5
		f := trained(t, c)
		x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
		o := newOracle(f)
		o.batch = true
		x64, c64 := rows64(x), rows64(cond)
		wantZ, wantClass := o.loss(x64, c64)
		slopes := map[string][]slope{}
		r := rand.New(rand.NewPCG(1, 1))
		for _, p := range f.params {
			for range min(p.Len, 24) {
				i := r.IntN(p.Len)
				v := &o.values[p.Name][i]
				old := *v
				*v = old + h
				a, b := o.loss(x64, c64)
				up := a + b
				*v = old - h
				a, b = o.loss(x64, c64)
				*v = old
				slopes[p.Name] = append(slopes[p.Name], slope{i, (up - a - b) / (2 * h)})
			}
		}
		cputest.EachForm(t, func(t *testing.T) {
			dev := tensor.CPU(2)
			defer dev.Close()
			g, err := f.NewGradient(dev, m+3, Regularisation{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			z, class := g.Step(x, cond, 1)
			if math.Abs(z-wantZ) > 1e-5*max(1, math.Abs(wantZ)) || math.Abs(class-wantClass) > 1e-5*max(1, math.Abs(wantClass)) {
				t.Errorf("loss = %v + %v, want %v + %v", z, class, wantZ, wantClass)
			}
			var squares float64
			for _, v := range g.Values() {
				squares += float64(v) * float64(v)
			}
			if got := g.SumSquares(); math.Abs(got-squares) > 1e-12*squares {
				t.Errorf("the sum of squares is %v, want %v", got, squares)
			}
			for _, p := range f.params {
				var difference, size float64
				for _, s := range slopes[p.Name] {
					d := float64(g.Values()[p.Begin+s.at]) - s.want
					difference += d * d
					size += s.want * s.want
				}
				// A bias in front of BatchNorm has no effect, so its gradient is rounding alone.
				if math.Sqrt(difference) > 1e-3*math.Sqrt(size)+1e-6 {
					t.Errorf("%s: the gradient is off by %.2g of %.2g", p.Name, math.Sqrt(difference), math.Sqrt(size))
				}
			}
		})
	})
}

// The columns of a Gradient that a smaller batch leaves unused still hold the batch before: here one of NaN.
func TestABatchLeavesNothingBehind(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const rows, m = 20, 7
		dev := tensor.CPU(2)
		defer dev.Close()
		step := func(before bool) (z, class float64, values []float32) {
			f := trained(t, c)
			g, err := f.NewGradient(dev, rows, Regularisation{Dropout: 0.2}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if before {
				running := make([][]float32, len(f.buffers))
				for i, b := range f.buffers {
					running[i] = slices.Clone(b.data)
				}
				x := tensor.New(rows, c.dims())
				for i := range x.Data {
					x.Data[i] = float32(math.NaN())
				}
				g.Step(x, normal(rows, c.Cond, 3), 1)
				for i, b := range f.buffers {
					copy(b.data, running[i])
				}
			}
			z, class = g.Step(normal(m, c.dims(), 1), normal(m, c.Cond, 2), 2)
			return z, class, g.Values()
		}
		z, class, values := step(false)
		if z2, class2, values2 := step(true); z2 != z || class2 != class || !slices.Equal(values2, values) {
			t.Errorf("loss %v + %v after another batch, %v + %v alone", z2, class2, z, class)
		}
	})
}

func TestDropoutGradientsBelongToTheMasksDrawn(t *testing.T) {
	c := small["class"]
	f := trained(t, c)
	dev := tensor.CPU(1)
	defer dev.Close()
	g, err := f.NewGradient(dev, 16, Regularisation{Dropout: 0.25}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, cond := normal(16, c.dims(), 1), normal(16, c.Cond, 2)
	loss := func(step uint64) float64 {
		z, k := g.Step(x, cond, step)
		return z + k
	}
	if loss(1) == loss(2) || loss(1) != loss(1) {
		t.Error("masks are not indexed by the step")
	}
	loss(1)
	want := append([]float32(nil), g.Values()...)
	// Along the gradient itself the directional derivative is large, so float32 losses show it.
	var norm float64
	for _, v := range want {
		norm += float64(v) * float64(v)
	}
	h := 1e-3 / math.Sqrt(norm)
	start := append([]float32(nil), f.values...)
	at := func(h float64) float64 {
		for i, v := range start {
			f.values[i] = v + float32(h*float64(want[i]))
		}
		return loss(1)
	}
	if got := (at(h) - at(-h)) / (2 * h); math.Abs(got-norm) > 0.01*norm {
		t.Errorf("derivative along the gradient is %v, want %v", got, norm)
	}
}

func TestNothingAllocatesAfterTheStart(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 20
		f := trained(t, c)
		s := session(t, f, 8, 2)
		x, cond, v := normal(m, c.dims(), 1), normal(m, c.Cond, 2), tensor.New(m, c.Latent)
		z, class := make([]float64, m), make([]float64, m)
		if n := testing.AllocsPerRun(20, func() {
			s.LogProb(z, class, x, cond)
			s.Inverse(x, v, cond)
			s.Sample(x, cond, Draw{Seed: 1, Temperature: 1, Guidance: 2})
		}); n != 0 {
			t.Errorf("a session allocates %v times", n)
		}
		dev := tensor.CPU(2)
		defer dev.Close()
		g, err := f.NewGradient(dev, m, Regularisation{Dropout: 0.1, Noise: 1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(20, func() {
			g.Step(x, cond, 1)
			g.LogProb(f, z, class, x, cond)
		}); n != 0 {
			t.Errorf("a training step and a judgement allocate %v times", n)
		}
	})
}
