package layernorm

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/cpu/cputest"
)

func random(r *rand.Rand, n int, mean, std float64) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(mean + std*r.NormFloat64())
	}
	return s
}

var sentinel = math.Float32frombits(0x7fc0beef) // a NaN of our own

// exact returns the statistics of a row up to one float64 rounding.
func exact(x []float32) (mean, variance float64) {
	n := new(big.Float).SetPrec(400).SetInt64(int64(len(x)))
	m, v := new(big.Float).SetPrec(400), new(big.Float).SetPrec(400)
	for _, f := range x {
		m.Add(m, big.NewFloat(float64(f)))
	}
	m.Quo(m, n)
	for _, f := range x {
		d := new(big.Float).SetPrec(400).Sub(big.NewFloat(float64(f)), m)
		v.Add(v, d.Mul(d, d))
	}
	v.Quo(v, n)
	mean, _ = m.Float64()
	variance, _ = v.Float64()
	return mean, variance
}

func TestF32(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, c := range []row32{
			{0, 5, 0, 1, 1e-12}, {3, 1, 0, 1, 1e-5}, {2, 2, 0, 1, 1e-12}, {5, 7, 1, 2, 1e-12}, {2, 8, 0, 1, 1e-12}, {3, 15, 0, 1, 1e-12}, {3, 16, 0, 1, 1e-5},
			{3, 17, 5, 1, 1e-12}, {2, 31, 0, 1, 1e-12}, {4, 64, 0, 1e-4, 1e-5}, {3, 384, -3, 1, 1e-12}, {2, 1027, 1000, 0.1, 1e-12},
		} {
			t.Run(fmt.Sprintf("rows=%d,n=%d", c.rows, c.n), c.test)
		}
	})
}

// row32 is a matrix of random rows to normalise.
type row32 struct {
	rows, n   int
	mean, std float64
	eps       float32
}

func (c row32) test(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	atEnd := func(v []float32) []float32 {
		end := cputest.AtPageEnd[float32](t, len(v))
		copy(end, v)
		return end
	}
	size := c.rows * c.n
	x, residual := atEnd(random(r, size, c.mean, c.std)), atEnd(random(r, size, 0, c.std))
	gamma, beta := atEnd(random(r, c.n, 1, 1)), atEnd(random(r, c.n, 0, 1))
	if c.n > 100 {
		x[0] = float32(c.mean + 1e4*c.std) // the value that the statistics are shifted by, far out
	}
	sum := slices.Clone(x)
	for i, v := range residual {
		sum[i] += v
	}
	for _, add := range [][]float32{nil, residual} {
		y := x
		if add != nil {
			y = sum
		}
		const guard = 8
		dst := atEnd(slices.Repeat([]float32{sentinel}, guard+size))
		F32(dst[guard:], x, add, gamma, beta, c.rows, c.n, c.eps)
		for i, v := range dst[:guard] {
			if math.Float32bits(v) != math.Float32bits(sentinel) {
				t.Fatalf("wrote dst[%d]", i-guard)
			}
		}
		c.compare(t, dst[guard:], y, gamma, beta)
		overX := slices.Clone(x)
		F32(overX, overX, add, gamma, beta, c.rows, c.n, c.eps)
		if !slices.Equal(overX, dst[guard:]) {
			t.Fatal("dst is x: other bits")
		}
		if add != nil {
			overResidual := slices.Clone(add)
			F32(overResidual, x, overResidual, gamma, beta, c.rows, c.n, c.eps)
			if !slices.Equal(overResidual, dst[guard:]) {
				t.Fatal("dst is residual: other bits")
			}
		}
	}
}

// compare checks got against the normalised rows of y.
func (c row32) compare(t *testing.T, got, y, gamma, beta []float32) {
	t.Helper()
	var mean, variance float64
	for i, v := range got {
		if i%c.n == 0 {
			mean, variance = exact(y[i:][:c.n])
		}
		g, b := float64(gamma[i%c.n]), float64(beta[i%c.n])
		p := (float64(y[i]) - mean) / math.Sqrt(variance+float64(c.eps)) * g
		if bound := 0x1p-24 * (5.01*math.Abs(p) + math.Abs(p+b)); !(math.Abs(float64(v)-(p+b)) <= bound+1e-30) {
			t.Fatalf("[%d] = %v, want %v", i, v, p+b)
		}
	}
}

func TestConstantRowIsBeta(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, n := range []int{3, 21, 40} {
			x, gamma, beta, dst := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
			for i := range x {
				x[i], gamma[i], beta[i] = 7, float32(i), float32(2*i)
			}
			F32(dst, x, nil, gamma, beta, 1, n, 1e-12)
			if !slices.Equal(dst, beta) {
				t.Errorf("n=%d: got %v", n, dst)
			}
		}
	})
}

// A value that is not finite spoils its own row and no other.
func TestNaNStaysInItsRow(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const n = 37
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			for _, at := range []int{0, 20, n - 1} {
				x := random(rand.New(rand.NewPCG(3, 4)), 2*n, 0, 1)
				x[at] = float32(bad)
				F32(x, x, nil, x[n:], x[n:], 1, n, 1e-12)
				for i, v := range x {
					if (v != v) != (i < n) {
						t.Fatalf("%v at %d: [%d] = %v", bad, at, i, v)
					}
				}
			}
		}
	})
}

func TestWrongArgumentsPanic(t *testing.T) {
	v := make([]float32, 8)
	cputest.Refuses(t, 8, map[string]func(dst []float32){
		"dst":      func(dst []float32) { F32(dst[:7], v, nil, v, v, 2, 4, 0) },
		"x":        func(dst []float32) { F32(dst, v[:7], nil, v, v, 2, 4, 0) },
		"residual": func(dst []float32) { F32(dst, v, v[:7], v, v, 2, 4, 0) },
		"gamma":    func(dst []float32) { F32(dst, v, nil, v[:3], v, 2, 4, 0) },
		"beta":     func(dst []float32) { F32(dst, v, nil, v, v[:3], 2, 4, 0) },
		"rows":     func(dst []float32) { F32(dst, v, nil, v, v, -1, 4, 0) },
	})
}

func TestDoesNotAllocate(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		v := make([]float32, 64)
		if n := testing.AllocsPerRun(10, func() { F32(v, v, v, v, v, 2, 32, 1) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// BenchmarkF32 is 16 tokens of MiniLM and of BERT-base. The part of the roof counts 10 operations for each value, although the
// statistics are float64, of which half as many fit into a register.
func BenchmarkF32(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, n := range []int{384, 768} {
			b.Run(fmt.Sprintf("rows=16,n=%d", n), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 2))
				x, y, g, dst := random(r, 16*n, 0, 1), random(r, 16*n, 0, 1), random(r, n, 0, 1), make([]float32, 16*n)
				roof, bytes := roofline.Measure(1), float64(12*16*n)
				b.SetBytes(int64(bytes))
				for b.Loop() {
					F32(dst, x, y, g, g, 16, n, 1e-12)
				}
				roof.Report(b, 10*16*float64(n), bytes, roofline.Warm(bytes))
			})
		}
	})
}
