package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/bench/roofline"
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
		for _, n := range []int{0, 1, 2, 3, 5, 7, 12, 13, 15, 16, 17, 31, 33, 48, 64} {
			for _, d := range []int{1, 3, 8, 15, 16, 17, 24, 32, 40, 64} {
				for _, std := range []float64{0.3, 3} {
					test(t, n, d, std)
				}
			}
		}
		for _, n := range []int{100, 127, 128, 129, 300, 400} { // up to four blocks of keys
			test(t, n, 20, 1)
		}
	})
}

// test compares all queries of a random head with the reference, with operands at the ends of pages.
func test(t *testing.T, n, d int, std float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	ld, ldd := 3*d+1, d+2
	operand := func() []float32 {
		x := cputest.AtPageEnd[float32](t, max(0, (n-1)*ld+d))
		copy(x, random(r, len(x), std))
		return x
	}
	q, k, v := operand(), operand(), operand()
	work := cputest.AtPageEnd[float32](t, WorkLen(d))
	dst := cputest.AtPageEnd[float32](t, max(0, (n-1)*ldd+d))
	copy(work, poisoned(len(work)))
	copy(dst, poisoned(len(dst)))
	for i := 0; i < n; i += Queries {
		F32(dst[i*ldd:], ldd, q[i*ld:], k, v, ld, min(Queries, n-i), n, d, work)
	}
	for i, x := range dst {
		if i%ldd >= d && math.Float32bits(x) != math.Float32bits(sentinel) {
			t.Fatalf("n=%d d=%d: wrote dst[%d]", n, d, i)
		}
	}
	for i := range n {
		want, size, largest := reference(q, k, v, ld, n, d, i)
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

// A query's result is the same bit for bit with any others in the call.
func TestQueriesAreIndependent(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const n, d, ld = 150, 32, 96
		r := rand.New(rand.NewPCG(5, 6))
		x, work, want := random(r, n*ld, 1), make([]float32, WorkLen(d)), make([]float32, Queries*d)
		F32(want, d, x, x[d:], x[2*d:], ld, Queries, n, d, work)
		for m := 1; m <= 30; m++ {
			for i := 0; i+m <= Queries; i += 11 {
				got := poisoned(m * d)
				F32(got, d, x[i*ld:], x[d:], x[2*d:], ld, m, n, d, work)
				if !slices.Equal(got, want[i*d:][:m*d]) {
					t.Fatalf("queries %d to %d alone give other bits", i, i+m)
				}
			}
		}
	})
}

// Scores whose largest comes in a later block, and far below that of before: what was computed so far has to shrink to
// nothing, or to stay.
func TestThePeakMoves(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const n, d = 3 * blockKeys, 1
		k, v, dst, work := make([]float32, n), make([]float32, n), poisoned(3), make([]float32, WorkLen(d))
		for j := range n {
			k[j], v[j] = float32(j/blockKeys), float32(j/blockKeys)
		}
		F32(dst, 1, []float32{200, -200, 0}, k, v, 1, 3, n, d, work)
		if dst[0] != 2 || dst[1] != 0 || dst[2] != 1 {
			t.Errorf("got %v, want [2 0 1]", dst)
		}
	})
}

func TestPanics(t *testing.T) {
	v := make([]float32, WorkLen(4))
	cputest.Refuses(t, 100, map[string]func(dst []float32){
		"work":    func(dst []float32) { F32(dst, 4, v, v, v, 4, 3, 3, 4, v[:WorkLen(4)-1]) },
		"dst":     func(dst []float32) { F32(dst[:11], 4, v, v, v, 4, 3, 3, 4, v) },
		"q":       func(dst []float32) { F32(dst, 4, v[:11], v, v, 4, 3, 3, 4, v) },
		"k":       func(dst []float32) { F32(dst, 4, v, v[:11], v, 4, 2, 3, 4, v) },
		"v":       func(dst []float32) { F32(dst, 4, v, v, v[:11], 4, 2, 3, 4, v) },
		"stride":  func(dst []float32) { F32(dst, 4, v, v, v, 3, 3, 3, 4, v) },
		"queries": func(dst []float32) { F32(dst, 1, v, v, v, 1, Queries+1, 3, 1, v) },
	})
}

func TestDoesNotAllocate(t *testing.T) {
	x, dst, work := make([]float32, 20*24), make([]float32, 20*8), make([]float32, WorkLen(8))
	if n := testing.AllocsPerRun(10, func() { F32(dst, 8, x, x[8:], x[16:], 24, 20, 20, 8, work) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkF32(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, d := range []int{32, 64} {
			for _, n := range []int{8, 16, 32, 128, 512} {
				b.Run(fmt.Sprintf("n=%d,d=%d", n, d), func(b *testing.B) {
					roof := roofline.Measure(1)
					ld := 36 * d // of 12 heads
					r := rand.New(rand.NewPCG(1, 2))
					x, dst, work := random(r, n*ld, 0.3), make([]float32, n*12*d), make([]float32, WorkLen(d))
					for b.Loop() {
						for i := 0; i < n; i += Queries {
							F32(dst[i*12*d:], 12*d, x[i*ld:], x[12*d:], x[24*d:], ld, min(Queries, n-i), n, d, work)
						}
					}
					bytes := 4 * float64(4*n*d)
					roof.Report(b, float64(4*n*n*d), bytes, roofline.Warm(bytes))
				})
			}
		}
	})
}
