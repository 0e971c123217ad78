package matmul

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"netfusion/kernels/cpu/cputest"
	"netfusion/kernels/quantize"
)

// Every shape of tile, cut and whole, and every remainder of k.
func TestSmallSizes(t *testing.T) {
	problems := map[string][]*problem{}
	for _, in := range precisions {
		for m := range 20 {
			for _, n := range []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 55, 63, 64, 65, 100, 130} {
				for _, k := range []int{0, 1, 2, 3, 4, 5, 7, 8, 18, 41} {
					problems[in.name] = append(problems[in.name], in.new(m, n, k))
				}
			}
		}
	}
	eachPrecision(t, func(t *testing.T, in precision) {
		for _, p := range problems[in.name] {
			p.check(t, p.run(t))
		}
	})
}

var modelShapes = [][2]int{{384, 384}, {1536, 384}, {384, 1536}, {1024, 402}, {402, 1024}, {1024, 1024}} // n, k

func TestModelShapes(t *testing.T) {
	problems := map[string][]*problem{}
	for _, in := range precisions {
		for _, s := range modelShapes {
			for _, m := range []int{1, 8, 32} {
				if testing.Short() && m > 8 {
					continue
				}
				problems[in.name] = append(problems[in.name], in.new(m, s[0], s[1]))
			}
		}
		problems[in.name] = append(problems[in.name], in.new(20, 70, 2500)) // k in several blocks
	}
	eachPrecision(t, func(t *testing.T, in precision) {
		for _, p := range problems[in.name] {
			p.check(t, p.run(t))
		}
	})
}

// A result depends neither on the split over workers, nor on how many rows are computed with it.
func TestSameBitsForAnySplit(t *testing.T) {
	eachPrecision(t, func(t *testing.T, in precision) {
		for _, n := range []int{100, 128, 402} {
			p := in.new(13, n, 77)
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
func TestSameBitsForAnyBlocksOfK(t *testing.T) {
	eachPrecision(t, func(t *testing.T, in precision) {
		p := in.new(20, 70, 2500)
		want := p.run(t)
		p.e.Residual, p.e.LdRes = make([]float32, 20*70), 70
		for i := range p.e.Residual {
			p.e.Residual[i] = float32(math.Copysign(0, -1))
		}
		same(t, p, p.run(t), want)
	})
}

// In float32 the vector forms agree, and in bfloat16 AVX2 agrees with the definition, whose products are exact; in int8 all do.
func TestFormsGiveTheSameBits(t *testing.T) {
	results := map[string][]float32{}
	problems := map[string]*problem{}
	for _, in := range precisions {
		problems[in.name] = in.new(17, 200, 2101)
	}
	eachPrecision(t, func(t *testing.T, in precision) { results[t.Name()] = problems[in.name].run(t) })
	for _, c := range []struct{ precision, a, b string }{
		{"F32", "avx512", "avx2"}, {"BF16", "avx2", "generic"},
		{"I8", "avx512", "generic"}, {"I8", "avx2", "generic"},
	} {
		a, b := results[t.Name()+"/form="+c.a+"/"+c.precision], results[t.Name()+"/form="+c.b+"/"+c.precision]
		if a != nil && b != nil {
			same(t, problems[c.precision], a, b)
		}
	}
}

func TestEpilogue(t *testing.T) {
	acts := map[Act]func(float64) float64{
		None:      func(x float64) float64 { return x },
		GELU:      func(x float64) float64 { return x / 2 * math.Erfc(-x/math.Sqrt2) },
		Tanh:      math.Tanh,
		LeakyReLU: func(x float64) float64 { return max(x, 0.01*x) },
		ReLU:      func(x float64) float64 { return max(x, 0) },
	}
	eachPrecision(t, func(t *testing.T, in precision) {
		const m, n, k = 9, 150, 20
		for act, f := range acts {
			for _, residual := range []bool{false, true} {
				p := in.new(m, n, k)
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

func TestResidualMayBeDst(t *testing.T) {
	eachPrecision(t, func(t *testing.T, in precision) {
		p := in.new(7, 90, 33)
		p.e.Residual, p.e.LdRes = random(rand.New(rand.NewPCG(5, 6)), 7*p.ldd), p.ldd
		want := p.run(t)
		dst := append([]float32(nil), p.e.Residual...)
		p.e.Residual = dst
		p.multiply(dst, p.m, 0, p.n)
		same(t, p, dst, want)
	})
}

func TestNoBias(t *testing.T) {
	eachPrecision(t, func(t *testing.T, in precision) {
		p := in.new(10, 70, 30)
		p.e = &Epilogue{}
		want := p.run(t)
		p.check(t, want)
		p.e = nil
		same(t, p, p.run(t), want)
	})
}

func TestF32OverlappingRows(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const m, n, k, ldx = 10, 40, 12, 4
		r := generator(m, n, k)
		x, w, packed := random(r, (m-1)*ldx+k), random(r, n*k), make([]float32, PackedLen(n, k))
		Pack(packed, w, n, k)
		p := newProblem(r, m, n, k, x, ldx, w)
		p.multiply = func(dst []float32, m, j0, j1 int) { F32(dst, p.ldd, x, ldx, packed, m, n, k, j0, j1, p.e) }
		p.check(t, p.run(t))
	})
}

func TestDoesNotAllocate(t *testing.T) {
	eachPrecision(t, func(t *testing.T, in precision) {
		p := in.new(8, 100, 32)
		p.e.Act, p.e.Residual, p.e.LdRes = GELU, make([]float32, 8*100), 100
		dst := make([]float32, 8*p.ldd)
		if n := testing.AllocsPerRun(10, func() { p.multiply(dst, p.m, 0, p.n) }); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	})
}

func TestPanicsBeforeItWrites(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const m, n, k = 4, 40, 5
		buf := func(n int) []float32 { return make([]float32, n) }
		half := func(n int) []uint16 { return make([]uint16, n) }
		rows := func(n int) Uint8 { return Uint8{make([]uint8, n), 8, make([]float32, m), make([]int32, m)} }
		w8 := NewInt8(n, k)
		cputest.Refuses(t, m*n, map[string]func(dst []float32){
			"dst":      func(dst []float32) { F32(dst[:m*n-1], n, buf(m*k), k, buf(48*k), m, n, k, 0, n, nil) },
			"ldd":      func(dst []float32) { F32(dst, n-1, buf(m*k), k, buf(48*k), m, n, k, 0, n, nil) },
			"x":        func(dst []float32) { F32(dst, n, buf(m*k-1), k, buf(48*k), m, n, k, 0, n, nil) },
			"w":        func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k-1), m, n, k, 0, n, nil) },
			"j0":       func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 8, n, nil) },
			"j1":       func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 0, n+1, nil) },
			"bias":     func(dst []float32) { F32(dst, n, buf(m*k), k, buf(48*k), m, n, k, 0, n, &Epilogue{Bias: buf(n - 1)}) },
			"bf16 dst": func(dst []float32) { BF16(dst[:m*n-1], n, half(m*6), 6, half(48*6), m, n, k, 0, n, nil) },
			"bf16 ldx": func(dst []float32) { BF16(dst, n, half(m*6), 5, half(48*6), m, n, k, 0, n, nil) },
			"bf16 x":   func(dst []float32) { BF16(dst, n, half(m*6-1), 6, half(48*6), m, n, k, 0, n, nil) },
			"bf16 w":   func(dst []float32) { BF16(dst, n, half(m*6), 6, half(48*6-1), m, n, k, 0, n, nil) },
			"int8 dst": func(dst []float32) { I8(dst[:m*n-1], n, rows(m*8), w8, m, n, k, 0, n, nil) },
			"int8 x":   func(dst []float32) { I8(dst, n, rows(m*8-1), w8, m, n, k, 0, n, nil) },
			"int8 w":   func(dst []float32) { I8(dst, n, rows(m*8), NewInt8(n, 4), m, n, k, 0, n, nil) },
			"int8 k":   func(dst []float32) { I8(dst, n, rows(0), w8, m, n, maxI8+1, 0, n, nil) },
			"int8 scale": func(dst []float32) {
				x := rows(m * 8)
				x.Scale = x.Scale[1:]
				I8(dst, n, x, w8, m, n, k, 0, n, nil)
			},
			"int8 zero": func(dst []float32) {
				x := rows(m * 8)
				x.Zero = x.Zero[1:]
				I8(dst, n, x, w8, m, n, k, 0, n, nil)
			},
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

// The narrow packs round as package quantize does, and leave nothing of what was in memory before.
func TestPackNarrow(t *testing.T) {
	for n := range 35 {
		for k := range 20 {
			w := random(rand.New(rand.NewPCG(uint64(n), uint64(k))), n*k)
			half := make([]uint16, PackedLenBF16(n, k))
			for i := range half {
				half[i] = 0xffff
			}
			PackBF16(half, w, n, k)
			bytes := NewInt8(n, k)
			for i := range bytes.Panels {
				bytes.Panels[i] = 99
			}
			for i := range bytes.Sum {
				bytes.Sum[i], bytes.Scale[i] = 99, 99
			}
			PackI8(bytes, w, n, k)
			q, scale := make([]int8, n*k), make([]float32, n)
			quantize.F32ToI8Rows(q, scale, w, n, k)
			for j := range bytes.Sum {
				var sum int32
				for p := range four(k) {
					var wantHalf uint16
					var want int8
					if j < n && p < k {
						wantHalf, want = quantize.BF16(w[j*k+p]), q[j*k+p]
						sum += int32(want)
					}
					if got := bytes.Panels[j/16*16*four(k)+p/4*64+j%16*4+p%4]; got != want {
						t.Fatalf("int8 n=%d k=%d: W[%d][%d] is %d, want %d", n, k, j, p, got, want)
					}
					if p >= even(k) {
						continue
					}
					if got := half[j/16*16*even(k)+p/2*32+j%16*2+p%2]; got != wantHalf {
						t.Fatalf("bfloat16 n=%d k=%d: W[%d][%d] is %#x, want %#x", n, k, j, p, got, wantHalf)
					}
				}
				if j >= n && bytes.Scale[j] != 0 || j < n && bytes.Scale[j] != scale[j] || bytes.Sum[j] != sum {
					t.Fatalf("int8 n=%d k=%d: output %d has scale %v and sum %d", n, k, j, bytes.Scale[j], bytes.Sum[j])
				}
			}
		}
	}
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
func TestStaysWithinOperands(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		staysWithin(t, cputest.AtPageEnd[float32], cputest.AtPageEnd[uint16], cputest.AtPageEnd[uint8])
		staysWithin(t, cputest.AtPageStart[float32], cputest.AtPageStart[uint16], cputest.AtPageStart[uint8])
	})
}

func staysWithin(t *testing.T, floats func(testing.TB, int) []float32, halves func(testing.TB, int) []uint16, bytes func(testing.TB, int) []uint8) {
	for _, m := range []int{1, 2, 5, 8, 13} {
		for _, n := range []int{1, 8, 17, 33, 64, 65, 130} {
			for _, k := range []int{1, 3, 17} {
				e := &Epilogue{Bias: floats(t, n), Act: GELU}
				dst := floats(t, m*n)
				x, w := floats(t, m*k), floats(t, PackedLen(n, k))
				xh, wh := halves(t, m*even(k)), halves(t, PackedLenBF16(n, k))
				x8 := Uint8{bytes(t, m*four(k)), four(k), floats(t, m), asInt32(floats(t, m))}
				padded := (n + 15) / 16 * 16
				panels := bytes(t, padded*four(k))
				w8 := Int8{unsafe.Slice((*int8)(unsafe.Pointer(&panels[0])), len(panels)), floats(t, padded), asInt32(floats(t, padded))}
				for range 2 {
					F32(dst, n, x, k, w, m, n, k, 0, n, e)
					BF16(dst, n, xh, even(k), wh, m, n, k, 0, n, e)
					I8(dst, n, x8, w8, m, n, k, 0, n, e)
					e.Residual, e.LdRes = floats(t, m*n), n
					e.Next = bytes(t, 1+n%3)
				}
			}
		}
	}
}

func asInt32(f []float32) []int32 { return unsafe.Slice((*int32)(unsafe.Pointer(&f[0])), len(f)) }
