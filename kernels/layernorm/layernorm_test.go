package layernorm

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
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
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		rows, n   int
		mean, std float64
		eps       float32
	}{{0, 5, 0, 1, 1e-12}, {3, 1, 0, 1, 1e-5}, {2, 2, 0, 1, 1e-12}, {5, 7, 1, 2, 1e-12}, {4, 64, 0, 1e-4, 1e-5}, {3, 384, -3, 1, 1e-12}, {2, 1027, 1000, 0.1, 1e-12}} {
		x, gamma, beta := random(r, c.rows*c.n, c.mean, c.std), random(r, c.n, 1, 1), random(r, c.n, 0, 1)
		if c.n > 100 {
			x[0] = float32(c.mean + 1e4*c.std) // the value that the statistics are shifted by, far out
		}
		const guard = 8
		buf := make([]float32, guard+c.rows*c.n+guard)
		for i := range buf {
			buf[i] = sentinel
		}
		F32(buf[guard:], x, gamma, beta, c.rows, c.n, c.eps)
		var mean, variance float64
		for i, v := range buf {
			i -= guard
			if i < 0 || i >= c.rows*c.n {
				if math.Float32bits(v) != math.Float32bits(sentinel) {
					t.Fatalf("%+v: wrote dst[%d]", c, i)
				}
				continue
			}
			if i%c.n == 0 {
				mean, variance = exact(x[i:][:c.n])
			}
			g, b := float64(gamma[i%c.n]), float64(beta[i%c.n])
			y := (float64(x[i]) - mean) / math.Sqrt(variance+float64(c.eps)) * g
			if bound := 0x1p-24 * (5.01*math.Abs(y) + math.Abs(y+b)); !(math.Abs(float64(v)-(y+b)) <= bound+1e-30) {
				t.Fatalf("%+v: [%d] = %v, want %v", c, i, v, y+b)
			}
		}
		inPlace := append([]float32(nil), x...)
		F32(inPlace, inPlace, gamma, beta, c.rows, c.n, c.eps)
		for i, v := range inPlace {
			if v != buf[guard+i] {
				t.Fatalf("%+v: in place [%d] = %v, want %v", c, i, v, buf[guard+i])
			}
		}
	}
}

func TestConstantRowIsBeta(t *testing.T) {
	dst := make([]float32, 3)
	F32(dst, []float32{7, 7, 7}, []float32{1, 2, 3}, []float32{4, 5, 6}, 1, 3, 1e-12)
	if fmt.Sprint(dst) != "[4 5 6]" {
		t.Errorf("got %v", dst)
	}
}

func TestShortSlicesPanic(t *testing.T) {
	v := make([]float32, 8)
	for name, f := range map[string]func(){
		"dst":   func() { F32(v[:7], v, v, v, 2, 4, 0) },
		"x":     func() { F32(v, v[:7], v, v, 2, 4, 0) },
		"gamma": func() { F32(v, v, v[:3], v, 2, 4, 0) },
		"beta":  func() { F32(v, v, v, v[:3], 2, 4, 0) },
		"rows":  func() { F32(v, v, v, v, -1, 4, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestDoesNotAllocate(t *testing.T) {
	v := make([]float32, 64)
	if n := testing.AllocsPerRun(10, func() { F32(v, v, v, v, 2, 32, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkF32(b *testing.B) {
	for _, n := range []int{384, 768} {
		b.Run(fmt.Sprintf("rows=16,n=%d", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			x, g, dst := random(r, 16*n, 0, 1), random(r, n, 0, 1), make([]float32, 16*n)
			b.SetBytes(int64(8 * 16 * n))
			for b.Loop() {
				F32(dst, x, g, g, 16, n, 1e-12)
			}
		})
	}
}
