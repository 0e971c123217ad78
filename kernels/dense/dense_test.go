package dense

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

// A layer has n outputs and k inputs, and a batch of m samples in ld columns. All operands end where memory may not be touched.
type layer struct {
	n, k, m, ld       int
	w, bias, x, dy    []float32 // [n][k], [n], [k][ld], [n][ld]
	h, mask           []float32 // [k][ld]
	y, dx, dw, turned []float32
}

var nan = float32(math.NaN())

// newLayer fills the columns beyond the batch, and all that is to be written, with NaN.
func newLayer(t testing.TB, n, k, m int) *layer {
	r := rand.New(rand.NewPCG(uint64(n), uint64(k<<20+m)))
	l := &layer{n: n, k: k, m: m, ld: (m + Width - 1) / Width * Width}
	random := func(rows, cols, ld int) []float32 {
		s := cputest.AtPageEnd[float32](t, rows*ld)
		for i := range s {
			s[i] = nan
			if i%ld < cols {
				s[i] = r.Float32()*2 - 1
			}
		}
		return s
	}
	l.w, l.bias, l.x, l.dy = random(n, k, k), random(n, 1, 1), random(k, m, l.ld), random(n, m, l.ld)
	l.h, l.mask = random(k, m, l.ld), random(k, m, l.ld)
	l.y, l.dx, l.dw, l.turned = random(n, 0, l.ld), random(k, 0, l.ld), random(n, 0, k), random(1, 0, TurnedLen(k, m))
	return l
}

// run computes all of the layer, its outputs and inputs in the given parts. A leaky layer follows another, which left h, and a
// dropout; and its inputs' and weights' gradients are twice its own, in two goes.
func (l *layer) run(leaky bool, parts int) {
	for i := range parts {
		o0, o1, i0, i1 := i*l.n/parts, (i+1)*l.n/parts, i*l.k/parts, (i+1)*l.k/parts
		Forward(l.y, l.w, l.bias, l.x, l.n, l.k, l.ld, o0, o1, leaky, l.w[o0*l.k:])
		if leaky {
			Inputs(l.dx, l.w, l.dy, nil, nil, l.n, l.k, l.ld, i0, i1, false)
			Inputs(l.dx, l.w, l.dy, l.h, l.mask, l.n, l.k, l.ld, i0, i1, true)
		} else {
			Inputs(l.dx, l.w, l.dy, nil, nil, l.n, l.k, l.ld, i0, i1, false)
		}
	}
	Turn(l.turned, l.x, l.k, l.ld, l.m)
	for i := range parts {
		Weights(l.dw, l.dy, l.turned, l.n, l.k, l.ld, l.m, i*l.n/parts, (i+1)*l.n/parts, false, l.w[i*l.n/parts*l.k:])
		if leaky {
			Weights(l.dw, l.dy, l.turned, l.n, l.k, l.ld, l.m, i*l.n/parts, (i+1)*l.n/parts, true, nil)
		}
	}
}

// near fails unless got is the sum of products, but for rounding.
func near(t *testing.T, what string, got float32, terms int, start float64, product func(p int) float64, act func(float64) float64) {
	t.Helper()
	sum, abs := start, math.Abs(start)
	for p := range terms {
		v := product(p)
		sum += v
		abs += math.Abs(v)
	}
	bound := float64(terms+3) * 0x1p-24 * abs
	if want := act(sum); !(math.Abs(float64(got)-want) <= bound) {
		t.Fatalf("%s = %v, want %v ± %v", what, got, want, bound)
	}
}

func (l *layer) check(t *testing.T, leaky bool) {
	t.Helper()
	act := func(v float64) float64 { return v }
	if leaky {
		act = func(v float64) float64 { return max(v, 0.01*v) }
	}
	same := func(v float64) float64 { return v }
	f := func(s []float32, i int) float64 { return float64(s[i]) }
	for j := range l.m {
		for o := range l.n {
			near(t, "y", l.y[o*l.ld+j], l.k, f(l.bias, o), func(p int) float64 { return f(l.w, o*l.k+p) * f(l.x, p*l.ld+j) }, act)
		}
		for i := range l.k {
			product, terms, slope := func(p int) float64 { return f(l.w, p*l.k+i) * f(l.dy, p*l.ld+j) }, l.n, same
			if leaky {
				once := product
				product, terms = func(p int) float64 { return once(p % l.n) }, 2*l.n
				factor := f(l.mask, i*l.ld+j)
				if l.h[i*l.ld+j] < 0 {
					factor *= 0.01
				}
				slope = func(v float64) float64 { return factor * v }
			}
			near(t, "dx", l.dx[i*l.ld+j], terms, 0, product, slope)
		}
	}
	goes := 1
	if leaky {
		goes = 2
	}
	for o := range l.n {
		for i := range l.k {
			near(t, "dw", l.dw[o*l.k+i], goes*l.m, 0, func(p int) float64 { return f(l.dy, o*l.ld+p%l.m) * f(l.x, i*l.ld+p%l.m) }, same)
		}
	}
}

func TestProductsFollowFloat64(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for n := range 28 {
			for _, k := range []int{0, 1, 2, 15, 16, 17, 33, 64, 66} {
				l := newLayer(t, n, k, 1+(3*n+k)%18)
				l.run(n%2 == 0, 1+n%3)
				l.check(t, n%2 == 0)
			}
		}
		for _, m := range []int{1, 16, 17, 40, 48, 64, 70, 100, 130} { // all widths of a tile, several blocks of the sums
			l := newLayer(t, 140, 300, m)
			l.run(true, 3)
			l.check(t, true)
		}
		newLayer(t, 3, 4, 0).run(false, 1)
	})
}

func TestSameBitsForAnySplit(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		want := newLayer(t, 150, 210, 70)
		want.run(true, 1)
		for _, parts := range []int{2, 7} {
			got := newLayer(t, 150, 210, 70)
			got.run(true, parts)
			for i, s := range [][2][]float32{{got.dw, want.dw}, {batch(got.y, got), batch(want.y, want)}, {batch(got.dx, got), batch(want.dx, want)}} {
				if !slices.Equal(s[0], s[1]) {
					t.Errorf("result %d in %d parts has other bits than in one", i, parts)
				}
			}
		}
	})
}

// batch leaves the columns out that are not of the batch.
func batch(s []float32, l *layer) (cut []float32) {
	for i := 0; i < len(s); i += l.ld {
		cut = append(cut, s[i:i+l.m]...)
	}
	return cut
}

func TestVectorFormsGiveTheSameBits(t *testing.T) {
	results := map[string][]float32{}
	cputest.EachForm(t, func(t *testing.T) {
		l := newLayer(t, 50, 150, 70)
		l.run(true, 1)
		results[t.Name()] = slices.Concat(batch(l.y, l), batch(l.dx, l), l.dw)
	})
	a, b := results[t.Name()+"/form=avx512"], results[t.Name()+"/form=avx2"]
	if a == nil || b == nil {
		t.Skip("needs AVX2 and AVX-512")
	}
	if !slices.Equal(a, b) {
		t.Error("AVX2 and AVX-512 differ")
	}
}

func TestTurn(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, k := range []int{1, 15, 16, 17, 48, 63, 64, 65, 100, 130} {
			for _, m := range []int{1, 5, 16, 31, 64} {
				l := newLayer(t, 1, k, m)
				Turn(l.turned, l.x, l.k, l.ld, l.m)
				for i := range (k + 15) / 16 * 16 {
					width := min(64, (k-i/64*64+15)/16*16)
					for j := range m {
						want := float32(0)
						if i < k {
							want = l.x[i*l.ld+j]
						}
						if got := l.turned[i/64*64*m+j*width+i%64]; got != want {
							t.Fatalf("k=%d m=%d: feature %d of sample %d is %v, want %v", k, m, i, j, got, want)
						}
					}
				}
			}
		}
	})
}

func TestTranspose(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for rows := range 40 {
			for _, cols := range []int{0, 1, 7, 8, 15, 16, 17, 31, 33, 48} {
				lds, ldd := cols+rows%3, rows+cols%2
				src := cputest.AtPageEnd[float32](t, max(0, (rows-1)*lds+cols))
				dst := cputest.AtPageEnd[float32](t, max(0, (cols-1)*ldd+rows))
				for i := range src {
					src[i] = float32(i)
				}
				for i := range dst {
					dst[i] = -1
				}
				Transpose(dst, ldd, src, lds, rows, cols)
				for i, v := range dst {
					want := float32(-1)
					if i%ldd < rows {
						want = src[i%ldd*lds+i/ldd]
					}
					if v != want {
						t.Fatalf("rows=%d cols=%d: [%d][%d] = %v, want %v", rows, cols, i/ldd, i%ldd, v, want)
					}
				}
			}
		}
	})
}

func TestWrongArgumentsPanicBeforeAnythingIsWritten(t *testing.T) {
	const n, k, ld = 4, 5, 16
	w, bias, x, dy := make([]float32, n*k), make([]float32, n), make([]float32, k*ld), make([]float32, n*ld)
	xt := make([]float32, TurnedLen(k, ld))
	cputest.Refuses(t, TurnedLen(k, ld), map[string]func(dst []float32){
		"w":          func(dst []float32) { Forward(dst, w[1:], bias, x, n, k, ld, 0, n, false, nil) },
		"bias":       func(dst []float32) { Forward(dst, w, bias[1:], x, n, k, ld, 0, n, false, nil) },
		"x":          func(dst []float32) { Forward(dst, w, bias, x[1:], n, k, ld, 0, n, false, nil) },
		"y":          func(dst []float32) { Forward(dst[:n*ld-1], w, bias, x, n, k, ld, 0, n, false, nil) },
		"columns":    func(dst []float32) { Forward(dst, w, bias, x, n, k, 15, 0, n, false, nil) },
		"outputs":    func(dst []float32) { Forward(dst, w, bias, x, n, k, ld, 0, n+1, false, nil) },
		"inputs":     func(dst []float32) { Inputs(dst, w, dy, nil, nil, n, k, ld, 2, 1, false) },
		"dx":         func(dst []float32) { Inputs(dst[:k*ld-1], w, dy, nil, nil, n, k, ld, 0, k, false) },
		"dy":         func(dst []float32) { Inputs(dst, w, dy[1:], nil, nil, n, k, ld, 0, k, false) },
		"w of dx":    func(dst []float32) { Inputs(dst, w[1:], dy, nil, nil, n, k, ld, 0, k, false) },
		"h":          func(dst []float32) { Inputs(dst, w, dy, x[1:], nil, n, k, ld, 0, k, false) },
		"mask":       func(dst []float32) { Inputs(dst, w, dy, nil, x[1:], n, k, ld, 0, k, false) },
		"dw":         func(dst []float32) { Weights(dst[:n*k-1], dy, xt, n, k, ld, ld, 0, n, false, nil) },
		"dy of dw":   func(dst []float32) { Weights(dst, dy[1:], xt, n, k, ld, ld, 0, n, false, nil) },
		"turned":     func(dst []float32) { Weights(dst, dy, xt[1:], n, k, ld, ld, 0, n, false, nil) },
		"samples":    func(dst []float32) { Weights(dst, dy, xt, n, k, ld, ld+1, 0, n, false, nil) },
		"transpose":  func(dst []float32) { Transpose(dst, 15, x, ld, 16, 4) },
		"to":         func(dst []float32) { Transpose(dst[:63], 16, w[:0:0], 16, 16, 4) },
		"of":         func(dst []float32) { Transpose(dst, 4, x[:63], 16, 4, 16) },
		"turn to":    func(dst []float32) { Turn(dst[:TurnedLen(k, ld)-1], x, k, ld, ld) },
		"turn of":    func(dst []float32) { Turn(dst, x[1:], k, ld, ld) },
		"turn wider": func(dst []float32) { Turn(dst, x, k, ld, ld+1) },
	})
}
