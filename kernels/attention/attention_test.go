package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

var sentinel = math.Float32frombits(0x7fc0beef) // a NaN of our own

func poisoned(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = sentinel
	}
	return s
}

func random(r *rand.Rand, n int, std float64) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(std * r.NormFloat64())
	}
	return s
}

// reference returns the attention of query i in float64, and Σ_j p_j·|v_j|, which the bound needs.
func reference(q, k, v []float32, ld, n, d, i int) (out, size []float64, largest float64) {
	score, peak := make([]float64, n), math.Inf(-1)
	for j := range n {
		var a float64
		for p := range d {
			score[j] += float64(q[i*ld+p]) * float64(k[j*ld+p])
			a += math.Abs(float64(q[i*ld+p]) * float64(k[j*ld+p]))
		}
		peak, largest = max(peak, score[j]), max(largest, a)
	}
	out, size = make([]float64, d), make([]float64, d)
	var sum float64
	for j := range n {
		e := math.Exp(score[j] - peak)
		sum += e
		for p := range d {
			out[p] += e * float64(v[j*ld+p])
			size[p] += e * math.Abs(float64(v[j*ld+p]))
		}
	}
	for p := range d {
		out[p] /= sum
		size[p] /= sum
	}
	return out, size, largest
}

func TestF32(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for _, n := range []int{0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 48, 65, 100} {
			for _, d := range []int{1, 3, 8, 16, 24, 32, 64} {
				for _, std := range []float64{0.3, 3} {
					ld, ldd := 3*d+1, d+2
					x := random(r, n*ld+1, std)
					const guard = 20
					buf, work := poisoned(guard+n*ldd+guard), poisoned(WorkLen(n, d)+guard)
					dst := buf[guard:]
					F32(dst, ldd, x, x[min(d, len(x)):], x[min(2*d, len(x)):], ld, n, d, work[:WorkLen(n, d)])
					for i, v := range buf {
						i -= guard
						written := i >= 0 && i < n*ldd && i%ldd < d
						if !written && math.Float32bits(v) != math.Float32bits(sentinel) {
							t.Fatalf("n=%d d=%d: wrote dst[%d]", n, d, i)
						}
					}
					for i := range n {
						want, size, largest := reference(x, x[d:], x[2*d:], ld, n, d, i)
						for p := range d {
							// A relative error of a weight is the absolute error of its score, plus that of exp and of the sums.
							const u = 0x1p-24
							relative := u * (2*float64(d+2)*largest + 2*float64(n) + 12)
							if got := float64(dst[i*ldd+p]); !(math.Abs(got-want[p]) <= 2*relative*size[p]+1e-30) {
								t.Fatalf("n=%d d=%d std=%v: [%d][%d] = %v, want %v ± %v", n, d, std, i, p, got, want[p], 2*relative*size[p])
							}
						}
					}
				}
			}
		}
	})
}

func TestPanics(t *testing.T) {
	v := make([]float32, 400)
	for name, f := range map[string]func(){
		"work":   func() { F32(v, 4, v, v, v, 4, 3, 4, v[:WorkLen(3, 4)-1]) },
		"dst":    func() { F32(v[:11], 4, v, v, v, 4, 3, 4, v) },
		"q":      func() { F32(v, 4, v[:11], v, v, 4, 3, 4, v) },
		"stride": func() { F32(v, 4, v, v, v, 3, 3, 4, v) },
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
	x, dst, work := make([]float32, 20*24), make([]float32, 20*8), make([]float32, WorkLen(20, 8))
	if n := testing.AllocsPerRun(10, func() { F32(dst, 8, x, x[8:], x[16:], 24, 20, 8, work) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkF32(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, n := range []int{16, 128} {
			b.Run(fmt.Sprintf("n=%d,d=32", n), func(b *testing.B) {
				const d = 32
				r := rand.New(rand.NewPCG(1, 2))
				x, dst, work := random(r, n*3*d, 0.3), make([]float32, n*d), make([]float32, WorkLen(n, d))
				for b.Loop() {
					F32(dst, d, x, x[d:], x[2*d:], 3*d, n, d, work)
				}
				b.ReportMetric(float64(4*n*n*d)/float64(b.Elapsed().Nanoseconds())*float64(b.N), "GFLOP/s")
			})
		}
	})
}
