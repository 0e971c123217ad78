package matmul

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

// A problem is one call of F32 with its operands.
type problem struct {
	m, n, k  int
	ldd, ldx int
	x        []float32 // [m][k], stride ldx
	w        []float32 // [n][k]
	packed   []float32
	e        *Epilogue

	want, abs []float64 // [m][n]: the sums in float64 and Σ|a||b|, once they are needed
}

func random(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = r.Float32()*2 - 1
	}
	return s
}

func newProblem(m, n, k int) *problem {
	r := rand.New(rand.NewPCG(uint64(m), uint64(n<<20+k)))
	p := &problem{m: m, n: n, k: k, ldd: n + 3, ldx: k + 1}
	p.x = random(r, max(0, (m-1)*p.ldx+k))
	p.w = random(r, n*k)
	p.packed = make([]float32, PackedLen(n, k))
	Pack(p.packed, p.w, n, k)
	p.e = &Epilogue{Bias: random(r, n)}
	return p
}

const guard = 32

var sentinel = math.Float32frombits(0x7fc0beef) // a NaN of our own

// run computes the columns [j0, j1) into a guarded, NaN-poisoned dst and fails if anything else is written.
func (p *problem) run(t testing.TB, cuts ...int) []float32 {
	t.Helper()
	size := max(0, (p.m-1)*p.ldd+p.n)
	buf := make([]float32, guard+size+guard)
	for i := range buf {
		buf[i] = sentinel
	}
	dst := buf[guard : guard+size : guard+size]
	j := 0
	for _, cut := range append(cuts, p.n) {
		F32(dst, p.ldd, p.x, p.ldx, p.packed, p.m, p.n, p.k, j, cut, p.e)
		j = cut
	}
	for i, v := range buf {
		outside := i < guard || i >= guard+size || (i-guard)%p.ldd >= p.n
		if written := math.Float32bits(v) != math.Float32bits(sentinel); written == outside {
			t.Fatalf("m=%d n=%d k=%d: element %d of dst [%d]: written = %v", p.m, p.n, p.k, i-guard, size, written)
		}
	}
	return dst
}

// solve computes want and abs.
func (p *problem) solve() {
	p.want, p.abs = make([]float64, p.m*p.n), make([]float64, p.m*p.n)
	for i := range p.m {
		x := p.x[i*p.ldx:][:p.k]
		for j := range p.n {
			var sum, abs float64
			if p.e.Bias != nil {
				sum = float64(p.e.Bias[j])
				abs = math.Abs(sum)
			}
			w := p.w[j*p.k:][:len(x)]
			for q, a := range x {
				v := float64(a) * float64(w[q])
				sum += v
				abs += math.Abs(v)
			}
			p.want[i*p.n+j], p.abs[i*p.n+j] = sum, abs
		}
	}
}

// check compares with float64 within γ(k+2)·Σ|a||b|, which holds for any order of summation.
func (p *problem) check(t testing.TB, dst []float32) {
	t.Helper()
	if p.want == nil {
		p.solve()
	}
	const u = 0x1p-24
	gamma := float64(p.k+2) * u / (1 - float64(p.k+2)*u)
	var square, bound float64
	for i := range p.m {
		for j := range p.n {
			got, want, abs := dst[i*p.ldd+j], p.want[i*p.n+j], p.abs[i*p.n+j]
			diff := float64(got) - want
			if !(math.Abs(diff) <= gamma*abs) {
				t.Fatalf("m=%d n=%d k=%d: dst[%d][%d] = %v, want %v ± %v", p.m, p.n, p.k, i, j, got, want, gamma*abs)
			}
			square += diff * diff
			bound += abs * abs
		}
	}
	// The bound above grows with k, but rounding errors are nearly random and grow with √k.
	if rms, want := math.Sqrt(square), 4*math.Sqrt(float64(p.k+2))*u*math.Sqrt(bound); rms > want {
		t.Errorf("m=%d n=%d k=%d: RMS error %g, want at most %g", p.m, p.n, p.k, rms, want)
	}
}

func TestF32SmallSizes(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for m := range 41 {
			for n := range 71 {
				for _, k := range []int{0, 1, 2, 5, 8} {
					p := newProblem(m, n, k)
					p.check(t, p.run(t))
				}
			}
		}
		for k := range 41 {
			for m := range 41 {
				for _, n := range []int{15, 16, 17, 40, 48, 64} {
					p := newProblem(m, n, k)
					p.check(t, p.run(t))
				}
			}
		}
	})
}

var modelShapes = [][2]int{{384, 384}, {1536, 384}, {384, 1536}, {1024, 402}, {402, 1024}, {1024, 1024}} // n, k

func TestF32ModelShapes(t *testing.T) {
	var problems []*problem
	for _, s := range modelShapes {
		for _, m := range []int{1, 8, 16, 32, 128} {
			if testing.Short() && m > 16 {
				continue
			}
			problems = append(problems, newProblem(m, s[0], s[1]))
		}
	}
	problems = append(problems, newProblem(20, 70, 2500)) // k in three blocks
	cputest.EachForm(t, func(t *testing.T) {
		for _, p := range problems {
			p.check(t, p.run(t))
		}
	})
}

// A result depends neither on the split over workers, nor on how many rows are computed with it.
func TestF32SameBitsForAnySplit(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, n := range []int{100, 128, 402} {
			p := newProblem(13, n, 77)
			p.e.Act, p.e.Residual, p.e.LdRes = GELU, random(rand.New(rand.NewPCG(1, 2)), 13*n), n
			want := p.run(t)
			for _, cuts := range [][]int{{16}, {48}, {64}, {16, 32, 96}, {0, 80}} {
				same(t, p, p.run(t, cuts...), want)
			}
			for m := 1; m < 13; m++ {
				p.m = m
				same(t, p, p.run(t), want)
			}
		}
	})
}

// With a residual k is not split into blocks, and without it is; adding -0 changes nothing.
func TestF32SameBitsForAnyBlocksOfK(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		p := newProblem(20, 70, 2500)
		want := p.run(t)
		p.e.Residual, p.e.LdRes = make([]float32, 20*70), 70
		for i := range p.e.Residual {
			p.e.Residual[i] = float32(math.Copysign(0, -1))
		}
		same(t, p, p.run(t), want)
	})
}

func same(t *testing.T, p *problem, got, want []float32) {
	t.Helper()
	for i := range p.m {
		for j := range p.n {
			if g, w := got[i*p.ldd+j], want[i*p.ldd+j]; math.Float32bits(g) != math.Float32bits(w) {
				t.Fatalf("m=%d n=%d: dst[%d][%d] = %v, want %v", p.m, p.n, i, j, g, w)
			}
		}
	}
}

func TestF32Epilogue(t *testing.T) {
	acts := map[Act]func(float64) float64{
		None:      func(x float64) float64 { return x },
		GELU:      func(x float64) float64 { return x / 2 * math.Erfc(-x/math.Sqrt2) },
		Tanh:      math.Tanh,
		LeakyReLU: func(x float64) float64 { return max(x, 0.01*x) },
		ReLU:      func(x float64) float64 { return max(x, 0) },
	}
	cputest.EachForm(t, func(t *testing.T) {
		const m, n, k = 9, 150, 20
		for act, f := range acts {
			for _, residual := range []bool{false, true} {
				p := newProblem(m, n, k)
				sum := p.run(t) // the sums alone
				p.e.Act = act
				if residual {
					p.e.LdRes = n + 1
					p.e.Residual = random(rand.New(rand.NewPCG(3, 4)), m*(n+1))
				}
				got := p.run(t)
				for i := range m {
					for j := range n {
						want := f(float64(sum[i*p.ldd+j]))
						if residual {
							want += float64(p.e.Residual[i*p.e.LdRes+j])
						}
						if d := math.Abs(float64(got[i*p.ldd+j]) - want); !(d <= 1e-6*max(1, math.Abs(want))) {
							t.Fatalf("act %d: dst[%d][%d] = %v, want %v", act, i, j, got[i*p.ldd+j], want)
						}
					}
				}
			}
		}
	})
}

func TestF32ResidualMayBeDst(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		p := newProblem(7, 90, 33)
		p.e.Residual, p.e.LdRes = random(rand.New(rand.NewPCG(5, 6)), 7*p.ldd), p.ldd
		want := p.run(t)
		dst := append([]float32(nil), p.e.Residual...)
		p.e.Residual = dst
		F32(dst, p.ldd, p.x, p.ldx, p.packed, p.m, p.n, p.k, 0, p.n, p.e)
		same(t, p, dst, want)
	})
}

func TestF32OverlappingRows(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		p := newProblem(10, 40, 12)
		p.ldx = 4
		p.check(t, p.run(t))
	})
}

func TestF32NoBias(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		p := newProblem(10, 70, 30)
		p.e = &Epilogue{}
		want := p.run(t)
		p.check(t, want)
		dst := make([]float32, len(want))
		F32(dst, p.ldd, p.x, p.ldx, p.packed, p.m, p.n, p.k, 0, p.n, nil)
		same(t, p, dst, want)
	})
}

func TestF32DoesNotAllocate(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		p := newProblem(8, 100, 32)
		p.e.Act, p.e.Residual, p.e.LdRes = GELU, make([]float32, 8*100), 100
		dst := make([]float32, 8*p.ldd)
		n := testing.AllocsPerRun(10, func() {
			F32(dst, p.ldd, p.x, p.ldx, p.packed, p.m, p.n, p.k, 0, p.n, p.e)
		})
		if n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	})
}

func TestF32PanicsBeforeItWrites(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const m, n, k = 4, 40, 5
		buf := func(n int) []float32 { return make([]float32, n) }
		cputest.Refuses(t, m*n, map[string]func(dst []float32){
			"dst":  func(dst []float32) { F32(dst[:m*n-1], n, buf(m*k), k, buf(48*k), m, n, k, 0, n, nil) },
			"ldd":  func(dst []float32) { F32(dst, n-1, buf(m*k), k, buf(48*k), m, n, k, 0, n, nil) },
			"x":    func(dst []float32) { F32(dst, n, buf(m*k-1), k, buf(48*k), m, n, k, 0, n, nil) },
			"w":    func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k-1), m, n, k, 0, n, nil) },
			"j0":   func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 8, n, nil) },
			"j1":   func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 0, n+1, nil) },
			"bias": func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 0, n, &Epilogue{Bias: buf(n - 1)}) },
			"residual": func(dst []float32) {
				F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 0, n, &Epilogue{Residual: buf(m*n - 1), LdRes: n})
			},
		})
	})
}

func TestPack(t *testing.T) {
	for n := range 41 {
		for k := range 41 {
			r := rand.New(rand.NewPCG(uint64(n), uint64(k)))
			w, wt := random(r, n*k), make([]float32, n*k)
			for j := range n {
				for p := range k {
					wt[p*n+j] = w[j*k+p]
				}
			}
			want := make([]float32, PackedLen(n, k))
			for j := range n {
				for p := range k {
					want[j/16*16*k+16*p+j%16] = w[j*k+p]
				}
			}
			for name, pack := range map[string]func(dst []float32){
				"Pack":  func(dst []float32) { Pack(dst, w, n, k) },
				"PackT": func(dst []float32) { PackT(dst, wt, n, k) },
			} {
				got := make([]float32, len(want)+1)
				for i := range got {
					got[i] = sentinel
				}
				pack(got)
				for i, v := range want {
					if got[i] != v {
						t.Fatalf("%s n=%d k=%d: [%d] = %v, want %v", name, n, k, i, got[i], v)
					}
				}
				if got[len(want)] == got[len(want)] {
					t.Fatalf("%s n=%d k=%d writes beyond the panels", name, n, k)
				}
			}
		}
	}
}

func TestVectorFormsGiveTheSameBits(t *testing.T) {
	results := map[string][]float32{}
	p := newProblem(17, 200, 100)
	cputest.EachForm(t, func(t *testing.T) { results[t.Name()] = p.run(t) })
	a, b := results[t.Name()+"/form=avx512"], results[t.Name()+"/form=avx2"]
	if a == nil || b == nil {
		t.Skip("needs AVX2 and AVX-512")
	}
	same(t, p, a, b)
}

func ExampleF32() {
	w := []float32{
		1, 2, 3,
		4, 5, 6,
	} // W [2][3]
	packed := make([]float32, PackedLen(2, 3))
	Pack(packed, w, 2, 3)

	x := []float32{1, 0, -1} // [1][3]
	y := make([]float32, 2)  // [1][2]
	F32(y, 2, x, 3, packed, 1, 2, 3, 0, 2, &Epilogue{Bias: []float32{10, 20}})
	fmt.Println(y)
	// Output: [8 18]
}

// A fault here is a read or write beyond the operands.
func TestF32StaysWithinOperands(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, m := range []int{1, 2, 3, 5, 6, 7, 13} {
			for _, n := range []int{1, 8, 15, 16, 17, 33, 63, 64, 65, 130} {
				for _, k := range []int{1, 3, 4, 17} {
					e := &Epilogue{Bias: cputest.AtPageEnd(t, n), Act: GELU}
					dst, x, w := cputest.AtPageEnd(t, m*n), cputest.AtPageEnd(t, m*k), cputest.AtPageEnd(t, PackedLen(n, k))
					F32(dst, n, x, k, w, m, n, k, 0, n, e)
					e.Residual, e.LdRes = cputest.AtPageEnd(t, m*n), n
					F32(dst, n, x, k, w, m, n, k, 0, n, e)
				}
			}
		}
	})
}
