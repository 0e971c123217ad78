package optimizer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/cpu/cputest"
)

// oracle is the textbook update of one parameter in float64.
type oracle struct{ p, m, v, peak float64 }

func (o *oracle) step(a Adam, g float64, amsgrad bool) {
	o.m = a.Beta1*o.m + (1-a.Beta1)*g
	o.v = a.Beta2*o.v + (1-a.Beta2)*g*g
	o.peak = max(o.peak, o.v)
	v := o.v
	if amsgrad {
		v = o.peak
	}
	t := float64(a.Step)
	o.p -= a.Rate * a.Decay * o.p
	o.p -= a.Rate * (o.m / (1 - math.Pow(a.Beta1, t))) / (math.Sqrt(v/(1-math.Pow(a.Beta2, t))) + a.Epsilon)
}

func TestAdamFollowsTheTextbook(t *testing.T) {
	const n = 37
	for _, c := range []struct {
		name    string
		adam    Adam
		amsgrad bool
	}{
		{"Adam", Adam{Rate: 1e-2, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}, false},
		{"AdamW", Adam{Rate: 1e-2, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Decay: 0.1}, false},
		{"AMSGrad", Adam{Rate: 1e-2, Beta1: 0.5, Beta2: 0.9, Epsilon: 1e-8}, true},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		p, g, m, v, peak := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		want := make([]oracle, n)
		for i := range p {
			p[i] = float32(r.NormFloat64())
			want[i].p = float64(p[i])
		}
		if !c.amsgrad {
			peak = nil
		}
		for step := 1; step <= 50; step++ {
			c.adam.Step = step
			for i := range g {
				g[i] = float32(r.NormFloat64() * math.Exp(3*r.NormFloat64()))
				want[i].step(c.adam, 0.5*float64(g[i]), c.amsgrad)
			}
			c.adam.Apply(p, g, m, v, peak, 0.5)
		}
		for i := range p {
			if d := math.Abs(float64(p[i]) - want[i].p); d > 2e-5 {
				t.Errorf("%s: parameter %d is %v after 50 steps, want %v", c.name, i, p[i], want[i].p)
			}
		}
	}
}

// state is what all of the package's functions work on, at page ends.
type state struct{ p, g, m, v, peak, ema []float32 }

func newState(t testing.TB, n int) state {
	r := rand.New(rand.NewPCG(uint64(n), 9))
	slab := func(size float64) []float32 {
		s := cputest.AtPageEnd[float32](t, n)
		for i := range s {
			s[i] = float32(size * r.NormFloat64() * math.Exp(4*r.NormFloat64()))
		}
		return s
	}
	s := state{slab(1), slab(1), slab(0), slab(0), slab(0), slab(1)}
	if n > 2 {
		s.g[n-1], s.g[n/2], s.g[0] = float32(math.NaN()), 0, 1e30 // whose square overflows
	}
	return s
}

// steps takes some, and returns all bits of where they lead to.
func (s state) steps(amsgrad bool) (bits []uint32) {
	peak := s.peak
	if !amsgrad {
		peak = nil
	}
	for step := 1; step <= 3; step++ {
		Adam{Rate: 1e-2, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Decay: 0.1, Step: step}.Apply(s.p, s.g, s.m, s.v, peak, 0.7)
		Average(s.ema, s.p, 0.9)
	}
	for _, x := range [][]float32{s.p, s.m, s.v, s.peak, s.ema} {
		for _, v := range x {
			if v != v {
				v = float32(math.NaN()) // of which there are many
			}
			bits = append(bits, math.Float32bits(v))
		}
	}
	sum := math.Float64bits(SumSquares(s.ema[:max(0, len(s.ema)-1)]))
	return append(bits, uint32(sum), uint32(sum>>32))
}

func TestAllFormsGiveTheSameBits(t *testing.T) {
	for n := range 131 {
		for _, amsgrad := range []bool{false, true} {
			var want []uint32
			cputest.EachForm(t, func(t *testing.T) {
				got := newState(t, n).steps(amsgrad)
				if want == nil {
					want = got
				} else if !slices.Equal(got, want) {
					t.Errorf("%d elements, amsgrad = %v: other bits than the first form", n, amsgrad)
				}
			})
		}
	}
}

func TestAverageApproachesWhatItFollows(t *testing.T) {
	ema, p := []float32{0, 4}, []float32{1, 4}
	for range 100 {
		Average(ema, p, 0.98)
	}
	if want := 1 - math.Pow(0.98, 100); math.Abs(float64(ema[0])-want) > 1e-5 || ema[1] != 4 {
		t.Errorf("average is %v, want %v and 4", ema, want)
	}
}

func TestSumSquaresCountsEveryElement(t *testing.T) {
	for n := range 75 {
		g := make([]float32, n)
		var want float64
		for i := range g {
			g[i] = float32(i + 1)
			want += float64((i + 1) * (i + 1))
		}
		if got := SumSquares(g); got != want {
			t.Errorf("%d elements: %v, want %v", n, got, want)
		}
	}
}

func TestWrongArgumentsPanicBeforeTheFirstStore(t *testing.T) {
	v := func(n int) []float32 { return make([]float32, n) }
	cputest.Refuses(t, 2, map[string]func(p []float32){
		"g":       func(p []float32) { Adam{Step: 1, Rate: 1}.Apply(p, v(1), v(2), v(2), v(2), 1) },
		"m":       func(p []float32) { Adam{Step: 1, Rate: 1}.Apply(p, v(2), v(3), v(2), v(2), 1) },
		"v":       func(p []float32) { Adam{Step: 1, Rate: 1}.Apply(p, v(2), v(2), v(1), v(2), 1) },
		"peak":    func(p []float32) { Adam{Step: 1, Rate: 1}.Apply(p, v(2), v(2), v(2), v(1), 1) },
		"step 0":  func(p []float32) { Adam{Rate: 1}.Apply(p, v(2), v(2), v(2), nil, 1) },
		"average": func(p []float32) { Average(p, v(3), 0.5) },
	})
}

func TestDoesNotAllocate(t *testing.T) {
	p, g, m, v, peak := make([]float32, 9), make([]float32, 9), make([]float32, 9), make([]float32, 9), make([]float32, 9)
	if n := testing.AllocsPerRun(10, func() {
		a := Adam{Rate: 1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Step: 3}
		a.Apply(p, g, m, v, nil, 1)
		a.Apply(p, g, m, v, peak, float32(SumSquares(g)))
		Average(m, p, 0.5)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAdam is one thread over more parameters than any cache holds, 28 bytes of memory traffic each.
func BenchmarkAdam(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		const n = 1 << 24
		p, g, m, v := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range g {
			p[i], g[i], m[i], v[i] = 1, float32(i%77), 1, 1
		}
		step := 0
		for b.Loop() {
			step++
			Adam{Rate: 1e-3, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, Step: step}.Apply(p, g, m, v, nil, 1)
		}
		roofline.Measure(1).Report(b, 12*n, 28*n, roofline.DRAM)
	})
}
