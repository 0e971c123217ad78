package coupling

import (
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
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

func TestShortSlicesPanicBeforeTheFirstStore(t *testing.T) {
	const m = rows * n
	v := func(n int) []float32 { return make([]float32, n) }
	cputest.Refuses(t, m, map[string]func(dst []float32){
		"clamp s":          func(dst []float32) { Clamp(dst[:m-1], v(m), rows, n, n, 1) },
		"clamp raw":        func(dst []float32) { Clamp(dst, v(m-1), rows, n, n, 1) },
		"clamp stride":     func(dst []float32) { Clamp(dst, v(m), rows, n, n-1, 1) },
		"forward y":        func(dst []float32) { Forward(dst[:m-1], n, v(m), n, v(m), v(m), n, v(rows), rows, n, v(n)) },
		"forward x":        func(dst []float32) { Forward(dst, n, v(m-1), n, v(m), v(m), n, v(rows), rows, n, v(n)) },
		"forward s":        func(dst []float32) { Forward(dst, n, v(m), n, v(m-1), v(m), n, v(rows), rows, n, v(n)) },
		"forward t":        func(dst []float32) { Forward(dst, n, v(m), n, v(m), v(m-1), n, v(rows), rows, n, v(n)) },
		"forward logdet":   func(dst []float32) { Forward(dst, n, v(m), n, v(m), v(m), n, v(rows-1), rows, n, v(n)) },
		"forward scratch":  func(dst []float32) { Forward(dst, n, v(m), n, v(m), v(m), n, v(rows), rows, n, v(n-1)) },
		"inverse x":        func(dst []float32) { Inverse(dst[:m-1], n, v(m), n, v(m), v(m), n, rows, n, v(n)) },
		"inverse y":        func(dst []float32) { Inverse(dst, n, v(m-1), n, v(m), v(m), n, rows, n, v(n)) },
		"inverse s":        func(dst []float32) { Inverse(dst, n, v(m), n, v(m-1), v(m), n, rows, n, v(n)) },
		"inverse t":        func(dst []float32) { Inverse(dst, n, v(m), n, v(m), v(m-1), n, rows, n, v(n)) },
		"inverse scratch":  func(dst []float32) { Inverse(dst, n, v(m), n, v(m), v(m), n, rows, n, v(n-1)) },
		"backward d":       func(dst []float32) { Backward(dst[:m-1], n, v(m), v(m), n, v(m), n, v(m), 0, 1, rows, n, v(n)) },
		"backward draw":    func(dst []float32) { Backward(dst, n, v(m-1), v(m), n, v(m), n, v(m), 0, 1, rows, n, v(n)) },
		"backward dt":      func(dst []float32) { Backward(dst, n, v(m), v(m-1), n, v(m), n, v(m), 0, 1, rows, n, v(n)) },
		"backward x":       func(dst []float32) { Backward(dst, n, v(m), v(m), n, v(m-1), n, v(m), 0, 1, rows, n, v(n)) },
		"backward s":       func(dst []float32) { Backward(dst, n, v(m), v(m), n, v(m), n, v(m-1), 0, 1, rows, n, v(n)) },
		"backward scratch": func(dst []float32) { Backward(dst, n, v(m), v(m), n, v(m), n, v(m), 0, 1, rows, n, v(n-1)) },
	})
}

func TestDoesNotAllocate(t *testing.T) {
	a, b, c, logdet, scratch := make([]float32, rows*n), make([]float32, rows*n), make([]float32, rows*n), make([]float32, rows), make([]float32, n)
	if count := testing.AllocsPerRun(10, func() {
		Clamp(a, b, rows, n, n, 2)
		Forward(c, n, c, n, a, b, n, logdet, rows, n, scratch)
		Inverse(c, n, c, n, a, b, n, rows, n, scratch)
		Backward(c, n, b, b, n, c, n, a, 0, 2, rows, n, scratch)
	}); count != 0 {
		t.Errorf("%v allocations", count)
	}
}
