package coupling

import (
	"math"
	"math/rand/v2"
	"testing"
)

const rows, n, ld = 5, 7, 20 // raw at column 0 and t at column 10 of one matrix

func random(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func TestInverseUndoesForward(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, alpha := range []float32{1, 2} {
		st, x := random(r, rows*ld), random(r, rows*ld)
		s, logdet, scratch := make([]float32, rows*n), make([]float32, rows), make([]float32, n)
		y, back := make([]float32, rows*n), make([]float32, rows*n)
		Clamp(s, st, rows, n, ld, alpha)
		Forward(y, n, x, ld, s, st[10:], ld, logdet, rows, n, scratch)
		Inverse(back, n, y, n, s, st[10:], ld, rows, n, scratch)
		for i := range rows {
			var sum float64
			for j := range n {
				want := float64(alpha) * math.Tanh(float64(st[i*ld+j])/float64(alpha))
				sum += want
				if math.Abs(float64(s[i*n+j])-want) > 1e-6 {
					t.Errorf("s = %v, want %v", s[i*n+j], want)
				}
				if y := float64(x[i*ld+j])*math.Exp(want) + float64(st[i*ld+10+j]); math.Abs(y-float64(back[i*n+j])) < 1e-9 {
					t.Errorf("forward did nothing at %d, %d", i, j)
				}
				if d := math.Abs(float64(back[i*n+j] - x[i*ld+j])); d > 1e-5 {
					t.Errorf("inverse is off by %v", d)
				}
			}
			if math.Abs(float64(logdet[i])-sum) > 1e-5 {
				t.Errorf("logdet = %v, want %v", logdet[i], sum)
			}
		}
	}
}

func TestBackwardIsTheGradient(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	const dlogdet = -0.3
	for _, alpha := range []float32{1, 2} {
		st, x, d := random(r, rows*ld), random(r, rows*n), random(r, rows*n)
		s, scratch, dst := make([]float32, rows*n), make([]float32, n), make([]float32, rows*ld)
		Clamp(s, st, rows, n, ld, alpha)
		dx := append([]float32(nil), d...)
		Backward(dx, n, dst, dst[10:], ld, x, n, s, dlogdet, alpha, rows, n, scratch)
		for i := range rows {
			for j := range n {
				loss := func(x, raw, t float64) float64 {
					s := float64(alpha) * math.Tanh(raw/float64(alpha))
					return float64(d[i*n+j])*(x*math.Exp(s)+t) + dlogdet*s
				}
				x, raw, shift := float64(x[i*n+j]), float64(st[i*ld+j]), float64(st[i*ld+10+j])
				const h = 1e-5
				for _, c := range []struct {
					name      string
					got, want float64
				}{
					{"x", float64(dx[i*n+j]), (loss(x+h, raw, shift) - loss(x-h, raw, shift)) / (2 * h)},
					{"raw", float64(dst[i*ld+j]), (loss(x, raw+h, shift) - loss(x, raw-h, shift)) / (2 * h)},
					{"t", float64(dst[i*ld+10+j]), (loss(x, raw, shift+h) - loss(x, raw, shift-h)) / (2 * h)},
				} {
					if math.Abs(c.got-c.want) > 1e-5*max(1, math.Abs(c.want)) {
						t.Errorf("∂L/∂%s = %v, want %v", c.name, c.got, c.want)
					}
				}
			}
		}
	}
}

func TestShortMatricesPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Forward(make([]float32, 10), 5, make([]float32, 9), 5, make([]float32, 10), make([]float32, 10), 5, make([]float32, 2), 2, 5, make([]float32, 5))
}
