package affine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

func random(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

var sentinel = math.Float32frombits(0x7fc0beef) // a NaN of our own

func poisoned(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = sentinel
	}
	return s
}

// Two roundings: of the product and of the sum.
func near(got float32, product, offset float64) bool {
	const u = 0x1p-24
	return math.Abs(float64(got)-max(0, product+offset)) <= 2*u*(math.Abs(product)+math.Abs(product+offset))
}

func TestReLU(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for rows := range 6 {
			for cols := range 70 {
				ldd, ldx := cols+3, cols+1
				x, scale, offset := random(r, rows*ldx), random(r, cols), random(r, cols)
				const guard = 20
				buf := poisoned(guard + rows*ldd + guard)
				ReLU(buf[guard:], ldd, x, ldx, scale, offset, rows, cols)
				for i, v := range buf {
					i -= guard
					if i < 0 || i >= rows*ldd || i%ldd >= cols {
						if math.Float32bits(v) != math.Float32bits(sentinel) {
							t.Fatalf("rows=%d cols=%d: wrote dst[%d]", rows, cols, i)
						}
						continue
					}
					row, col := i/ldd, i%ldd
					if !near(v, float64(scale[col])*float64(x[row*ldx+col]), float64(offset[col])) {
						t.Fatalf("rows=%d cols=%d: dst[%d][%d] = %v", rows, cols, row, col, v)
					}
				}
			}
		}
	})
}

func TestAdd(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 2))
		for rows := range 4 {
			for cols := range 40 {
				for _, ldx := range []int{0, cols, cols + 1} {
					ldd := cols + 3
					dst, x := cputest.AtPageEnd[float32](t, max(0, (rows-1)*ldd+cols)), cputest.AtPageEnd[float32](t, max(0, (rows-1)*ldx)+cols)
					copy(dst, random(r, len(dst)))
					copy(x, random(r, len(x)))
					want := slices.Clone(dst)
					for i := range rows {
						for j := range cols {
							want[i*ldd+j] += x[i*ldx+j]
						}
					}
					Add(dst, ldd, x, ldx, rows, cols)
					if !slices.Equal(dst, want) {
						t.Fatalf("rows=%d cols=%d ldx=%d: wrong", rows, cols, ldx)
					}
				}
			}
		}
	})
}

func TestScale(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 3))
		for rows := range 4 {
			for cols := range 40 {
				ldd := cols + 3
				dst, by := cputest.AtPageEnd[float32](t, max(0, (rows-1)*ldd+cols)), cputest.AtPageEnd[float32](t, rows)
				copy(dst, random(r, len(dst)))
				copy(by, random(r, rows))
				want := slices.Clone(dst)
				for i := range rows {
					for j := range cols {
						want[i*ldd+j] *= by[i]
					}
				}
				Scale(dst, ldd, by, cols)
				if !slices.Equal(dst, want) {
					t.Fatalf("rows=%d cols=%d: wrong", rows, cols)
				}
			}
		}
	})
}

// Splitting the channels at any place, or working in place, gives the same bits.
func TestReLUSameBitsForAnySplit(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		const rows, cols = 3, 61
		x, scale, offset := random(r, rows*cols), random(r, cols), random(r, cols)
		want := make([]float32, rows*cols)
		ReLU(want, cols, x, cols, scale, offset, rows, cols)
		for cut := range cols {
			got := append([]float32(nil), x...)
			ReLU(got, cols, got, cols, scale, offset, rows, cut)
			ReLU(got[cut:], cols, got[cut:], cols, scale[cut:], offset[cut:], rows, cols-cut)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("cut at %d: [%d] = %v, want %v", cut, i, got[i], want[i])
				}
			}
		}
	})
}

func TestVectorFormsGiveTheSameBits(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	const rows, cols = 5, 45
	x, scale, offset := random(r, rows*cols), random(r, cols), random(r, cols)
	results := map[string][]float32{}
	cputest.EachForm(t, func(t *testing.T) {
		y := make([]float32, rows*cols)
		ReLU(y, cols, x, cols, scale, offset, rows, cols)
		results[t.Name()] = y
	})
	a, b := results[t.Name()+"/form=avx512"], results[t.Name()+"/form=avx2"]
	if a == nil || b == nil {
		t.Skip("needs AVX2 and AVX-512")
	}
	if !slices.Equal(a, b) {
		t.Error("AVX2 and AVX-512 differ")
	}
}

// Operands end where memory ends: a vector form that reads or writes beyond them crashes.
func TestReLUStaysInsideItsOperands(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const rows = 3
		for cols := 1; cols < 35; cols++ {
			x, dst := cputest.AtPageEnd[float32](t, rows*cols), cputest.AtPageEnd[float32](t, rows*cols)
			ReLU(dst, cols, x, cols, cputest.AtPageEnd[float32](t, cols), cputest.AtPageEnd[float32](t, cols), rows, cols)
		}
	})
}

func TestReLUKeepsNaN(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for cols := 1; cols < 40; cols++ {
			x, one, zero := make([]float32, cols), make([]float32, cols), make([]float32, cols)
			for i := range x {
				x[i], one[i] = sentinel, 1
			}
			ReLU(x, cols, x, cols, one, zero, 1, cols)
			for i, v := range x {
				if v == v {
					t.Fatalf("cols=%d: [%d] = %v, want NaN", cols, i, v)
				}
			}
		}
	})
}

func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const n = 37
	for _, bias := range [][]float32{nil, random(r, n)} {
		gain, shift, mean, invStd := random(r, n), random(r, n), random(r, n), random(r, n)
		scale, offset := append([]float32(nil), gain...), append([]float32(nil), shift...)
		Fold(scale, offset, mean, invStd, bias)
		for i := range n {
			for _, x := range []float64{-3, 0, 0.5} {
				y := x
				if bias != nil {
					y += float64(bias[i])
				}
				want := (y-float64(mean[i]))*float64(invStd[i])*(1+float64(gain[i])) + float64(shift[i])
				if got := float64(scale[i])*x + float64(offset[i]); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
					t.Fatalf("bias %v, channel %d, x %v: %v, want %v", bias != nil, i, x, got, want)
				}
			}
		}
	}
}

func TestPanicsBeforeItWrites(t *testing.T) {
	buf := func(n int) []float32 { return make([]float32, n) }
	cputest.Refuses(t, 12, map[string]func(dst []float32){
		"dst":          func(dst []float32) { ReLU(dst[:11], 4, buf(12), 4, buf(4), buf(4), 3, 4) },
		"x":            func(dst []float32) { ReLU(dst, 4, buf(11), 4, buf(4), buf(4), 3, 4) },
		"stride":       func(dst []float32) { ReLU(dst, 3, buf(12), 4, buf(4), buf(4), 3, 4) },
		"scale":        func(dst []float32) { ReLU(dst, 4, buf(12), 4, buf(3), buf(4), 3, 4) },
		"offset":       func(dst []float32) { ReLU(dst, 4, buf(12), 4, buf(4), buf(3), 3, 4) },
		"scale dst":    func(dst []float32) { Scale(dst[:11], 4, buf(3), 4) },
		"scale stride": func(dst []float32) { Scale(dst, 3, buf(3), 4) },
		"add dst":      func(dst []float32) { Add(dst[:11], 4, buf(12), 4, 3, 4) },
		"add x":        func(dst []float32) { Add(dst, 4, buf(11), 4, 3, 4) },
		"add stride":   func(dst []float32) { Add(dst, 4, buf(12), 3, 3, 4) },
		"fold":         func(dst []float32) { Fold(dst, buf(12), buf(12), buf(11), nil) },
	})
}

func BenchmarkReLU(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, c := range []int{16, 64, 512} {
			b.Run(fmt.Sprintf("c=%d", c), func(b *testing.B) {
				const n = 1 << 14
				x, a := make([]float32, n), make([]float32, c)
				b.SetBytes(8 * n)
				for b.Loop() {
					ReLU(x, c, x, c, a, a, n/c, c)
				}
			})
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, c := range []int{16, 64, 512} {
			b.Run(fmt.Sprintf("c=%d", c), func(b *testing.B) {
				const n = 1 << 14
				x, y := make([]float32, n), make([]float32, n)
				b.SetBytes(12 * n)
				for b.Loop() {
					Add(y, c, x, c, n/c, c)
				}
			})
		}
	})
}

func TestDoesNotAllocate(t *testing.T) {
	x, v := make([]float32, 3*20), make([]float32, 20)
	if n := testing.AllocsPerRun(10, func() {
		ReLU(x, 20, x, 20, v, v, 3, 20)
		Add(x, 20, v, 0, 3, 20)
		Scale(x, 20, v[:3], 20)
		Fold(x[:20], x[20:40], v, v, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
