package activation

import (
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/cpu/cputest"
)

// inputs yields what covers the range of every function, some at a time: every step-th bit pattern of a float32 (a prime, so
// that all exponents and all kinds of mantissas come up), a fine grid where the functions bend, and the edges. ACTIVATION_STEP
// is another step; with 1 the test is exhaustive.
func inputs(t *testing.T) iter.Seq[[]float32] {
	step := uint64(8009)
	if env := os.Getenv("ACTIVATION_STEP"); env != "" {
		var err error
		if step, err = strconv.ParseUint(env, 10, 32); err != nil || step == 0 {
			t.Fatalf("ACTIVATION_STEP is %q", env)
		}
	}
	return func(yield func([]float32) bool) {
		inf := float32(math.Inf(1))
		xs := []float32{float32(math.NaN())}
		for _, x := range []float32{0, 0.625, 4, 88.72283, 88.7229, 87.33654, 103.97, 103.98, 0x1p-149, 0x1p-126, math.MaxFloat32, inf} {
			xs = append(xs, x, -x)
		}
		for x := -110.0; x <= 110; x += 1.0 / 64 {
			xs = append(xs, float32(x), float32(x/16), float32(x/256))
		}
		for bits := uint64(0); bits < 1<<32; bits += step {
			if len(xs) > 1<<16 {
				if !yield(xs) {
					return
				}
				xs = xs[:0]
			}
			xs = append(xs, math.Float32frombits(uint32(bits)))
		}
		yield(xs)
	}
}

// ulp returns the distance of got from want in units of the last place of a float32 near want.
func ulp(got float32, want float64) float64 {
	if math.IsNaN(want) && got != got {
		return 0
	}
	if g := float64(got); g == want || float32(want) == got {
		return 0
	}
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// fifth is PReLU with slope 1/5.
func fifth(dst, src []float32) { PReLU(dst, src, 0.2) }

// The errors that activation.go states, in every form.
func TestAccuracy(t *testing.T) {
	inUlp := func(got float32, _, want float64) float64 { return ulp(got, want) }
	functions := []struct {
		name string
		got  func(dst, src []float32)
		want func(float64) float64
		err  func(got float32, x, want float64) float64
		max  float64
	}{
		{"Exp", Exp, math.Exp, inUlp, 1.5},
		{"Tanh", Tanh, math.Tanh, inUlp, 1.5},
		{"GELU", GELU, func(x float64) float64 { return x / 2 * math.Erfc(-x/math.Sqrt2) }, ofGELU, 3.1},
		{"ReLU", ReLU, func(x float64) float64 { return max(x, 0) }, inUlp, 0},
		{"LeakyReLU", LeakyReLU, func(x float64) float64 { return max(x, 0.01*x) }, inUlp, 1},
		{"PReLU", fifth, func(x float64) float64 { return max(x, x/5) }, inUlp, 1},
	}
	cputest.EachForm(t, func(t *testing.T) {
		worst, at := make([]float64, len(functions)), make([]float32, len(functions))
		var dst []float32
		for xs := range inputs(t) {
			dst = slices.Grow(dst[:0], len(xs))[:len(xs)]
			for i, f := range functions {
				f.got(dst, xs)
				for j, x := range xs {
					if x != x {
						if dst[j] == dst[j] {
							t.Errorf("%s(NaN) = %v", f.name, dst[j])
						}
						continue
					}
					if e := f.err(dst[j], float64(x), f.want(float64(x))); !(e <= worst[i]) {
						worst[i], at[i] = e, x
					}
				}
			}
		}
		for i, f := range functions {
			t.Logf("%-9s largest error %.3g at %v", f.name, worst[i], at[i])
			if !(worst[i] <= f.max) {
				t.Errorf("%s(%v): error %g, want at most %g", f.name, at[i], worst[i], f.max)
			}
		}
	})
}

// ofGELU is an error in units of the last place of max(1, |x|).
func ofGELU(got float32, x, want float64) float64 {
	if math.IsInf(x, 0) { // -Inf·0 is NaN, as elsewhere
		return 0
	}
	_, e := math.Frexp(max(1, math.Abs(x)))
	return math.Abs(float64(got)-want) / math.Ldexp(1, e-24)
}

func TestGELUFarBelowZeroIsZero(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		x := []float32{-6, -50, -1e9, -math.MaxFloat32}
		GELU(x, x)
		for i, v := range x {
			if v != 0 {
				t.Errorf("[%d] = %v, want 0", i, v)
			}
		}
	})
}

// Every length, in place and not, gives what the element alone gives, and touches nothing else.
func TestLengths(t *testing.T) {
	funcs := map[string]func(dst, src []float32){"Exp": Exp, "Tanh": Tanh, "GELU": GELU, "ReLU": ReLU, "LeakyReLU": LeakyReLU, "PReLU": fifth}
	r := rand.New(rand.NewPCG(9, 10))
	cputest.EachForm(t, func(t *testing.T) {
		for name, f := range funcs {
			for n := range 70 {
				src, want := make([]float32, n), make([]float32, n)
				for i := range src {
					src[i] = float32(r.NormFloat64())
					f(want[i:i+1], src[i:i+1])
				}
				buf := make([]float32, n+40)
				for i := range buf {
					buf[i] = -77
				}
				f(buf[20:], src)
				for i, v := range buf {
					w := float32(-77)
					if i >= 20 && i < 20+n {
						w = want[i-20]
					}
					if v != w {
						t.Fatalf("%s n=%d: [%d] = %v, want %v", name, n, i-20, v, w)
					}
				}
				f(src, src)
				for i, v := range src {
					if v != want[i] {
						t.Fatalf("%s n=%d in place: [%d] = %v, want %v", name, n, i, v, want[i])
					}
				}
			}
		}
	})
}

func TestSoftmax(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	cputest.EachForm(t, func(t *testing.T) {
		for cols := range 70 {
			const rows = 3
			ld := cols + 2
			x := make([]float32, rows*ld)
			for i := range x {
				x[i] = float32(r.NormFloat64() * 20)
			}
			if cols > 3 {
				x[2] = float32(math.Inf(-1)) // a masked position
			}
			src := append([]float32(nil), x...)
			Softmax(x, rows, cols, ld)
			for i := range rows {
				row, top, sum := src[i*ld:][:cols], math.Inf(-1), 0.0
				for _, v := range row {
					top = max(top, float64(v))
				}
				for _, v := range row {
					sum += math.Exp(float64(v) - top)
				}
				for j, v := range row {
					want := math.Exp(float64(v)-top) / sum
					// x - max is rounded, so the error grows with its size.
					tol := want * (float64(cols) + 8 + math.Min(top-float64(v), 110)) * 0x1p-23
					if got := float64(x[i*ld+j]); !(math.Abs(got-want) <= tol+0x1p-140) {
						t.Fatalf("cols %d: [%d][%d] = %v, want %v", cols, i, j, got, want)
					}
				}
				for j := cols; j < ld; j++ {
					if x[i*ld+j] != src[i*ld+j] {
						t.Fatalf("cols %d: wrote between rows", cols)
					}
				}
			}
		}
	})
}

func TestSoftmaxSums(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	cputest.EachForm(t, func(t *testing.T) {
		for cols := 1; cols < 70; cols++ {
			const rows = 3
			ld := (cols + Room - 1) / Room * Room
			x, sum := cputest.AtPageEnd[float32](t, rows*ld), cputest.AtPageEnd[float32](t, rows)
			for i := range x {
				x[i] = float32(r.NormFloat64() * 20)
			}
			src := slices.Clone(x)
			SoftmaxSums(x, rows, cols, ld, sum)
			for i := range rows {
				row, top, total := src[i*ld:][:cols], math.Inf(-1), 0.0
				for _, v := range row {
					top = max(top, float64(v))
				}
				for j, v := range row {
					want := math.Exp(float64(v) - top)
					total += want
					// x - max is rounded, so the error grows with its size.
					if got := float64(x[i*ld+j]); !(math.Abs(got-want) <= want*(8+min(top-float64(v), 110))*0x1p-23+0x1p-140) {
						t.Fatalf("cols %d: [%d][%d] = %v, want %v", cols, i, j, got, want)
					}
				}
				if !(math.Abs(float64(sum[i])-total) <= total*(float64(cols)+120)*0x1p-23) {
					t.Fatalf("cols %d: sum %v, want %v", cols, sum[i], total)
				}
			}
		}
	})
}

// A softmax down columns that come in one to three parts is that of whole columns.
func TestSoftmaxPart(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	nan := float32(math.NaN())
	cputest.EachForm(t, func(t *testing.T) {
		for trial := range 100 {
			cols := Room * (1 + trial%3)
			ld := cols + trial%2
			parts := []int{1 + r.IntN(40), 1 + r.IntN(9), 1 + r.IntN(40)}[:1+trial/2%3]
			peak, sum := cputest.AtPageEnd[float32](t, cols), cputest.AtPageEnd[float32](t, cols)
			src, got := make([][]float64, cols), make([][]float64, cols)
			for part, rows := range parts {
				x := cputest.AtPageEnd[float32](t, (rows-1)*ld+cols)
				for i := range x {
					x[i] = float32(r.NormFloat64() * 20)
					if i%ld >= cols {
						x[i] = nan
					} else {
						src[i%ld] = append(src[i%ld], float64(x[i]))
					}
				}
				var keep []float32
				if part > 0 {
					keep = cputest.AtPageEnd[float32](t, cols)
				} else {
					for j := range cols {
						peak[j], sum[j] = nan, nan
					}
				}
				SoftmaxPart(x, rows, cols, ld, peak, sum, keep)
				for j := range cols {
					for i := range got[j] {
						got[j][i] *= float64(keep[j])
					}
				}
				for i, v := range x {
					if i%ld < cols {
						got[i%ld] = append(got[i%ld], float64(v))
					} else if v == v {
						t.Fatalf("parts %v: wrote between rows", parts)
					}
				}
			}
			for j, column := range src {
				top, total := slices.Max(column), 0.0
				for i, v := range column {
					want := math.Exp(v - top)
					total += want
					// x - peak is rounded, so the error grows with its size.
					if !(math.Abs(got[j][i]-want) <= want*(8+2*math.Min(top-v, 110))*0x1p-23+0x1p-140) {
						t.Fatalf("parts %v: [%d][%d] = %v, want %v", parts, i, j, got[j][i], want)
					}
				}
				if float64(peak[j]) != top || !(math.Abs(float64(sum[j])-total) <= total*(float64(len(column))+200)*0x1p-23) {
					t.Fatalf("parts %v: column %d: peak %v and sum %v, want %v and %v", parts, j, peak[j], sum[j], top, total)
				}
			}
		}
	})
}

func TestSoftmaxNaN(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, bad := range []float64{math.NaN(), math.Inf(1)} {
			for _, cols := range []int{5, 16, 37} {
				for at := range cols {
					x := make([]float32, cols)
					x[at] = float32(bad)
					Softmax(x, 1, cols, cols)
					if x[at] == x[at] {
						t.Fatalf("cols %d: softmax of %v at %d gives %v", cols, bad, at, x[at])
					}
				}
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		x := make([]float32, 100)
		if n := testing.AllocsPerRun(10, func() { GELU(x, x); Tanh(x, x); Softmax(x, 4, 25, 25) }); n != 0 {
			t.Errorf("%v allocations, want 0", n)
		}
	})
}

func TestWrongArgumentsPanic(t *testing.T) {
	x := make([]float32, 4)
	for name, call := range map[string]func(){
		"short dst": func() { Exp(x[:3], x) }, "short dst of PReLU": func() { PReLU(x[:3], x, 0) },
		"slope 1.1": func() { PReLU(x, x, 1.1) }, "slope -0.1": func() { PReLU(x, x, -0.1) },
		"slope NaN":  func() { PReLU(x, x, float32(math.NaN())) },
		"no room":    func() { SoftmaxSums(make([]float32, 100), 1, 17, 31, x) },
		"few sums":   func() { SoftmaxSums(make([]float32, 100), 5, 2, 16, x) },
		"short row":  func() { SoftmaxSums(make([]float32, 63), 4, 2, 16, x) },
		"15 columns": func() { SoftmaxPart(make([]float32, 100), 1, 15, 16, make([]float32, 16), make([]float32, 16), nil) },
		"few peaks":  func() { SoftmaxPart(make([]float32, 100), 1, 16, 16, x, make([]float32, 16), nil) },
		"few keeps":  func() { SoftmaxPart(make([]float32, 100), 1, 16, 16, make([]float32, 16), make([]float32, 16), x) },
		"short x":    func() { SoftmaxPart(make([]float32, 31), 2, 16, 16, make([]float32, 16), make([]float32, 16), nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
}

// A fault here is a read or write beyond the operands.
func TestStaysWithinOperands(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for n := 1; n < 40; n++ {
			dst, src := cputest.AtPageEnd[float32](t, n), cputest.AtPageEnd[float32](t, n)
			for _, f := range []func(dst, src []float32){Exp, Tanh, GELU, ReLU, LeakyReLU, fifth} {
				f(dst, src)
			}
			Softmax(dst, 1, n, n)
		}
	})
}

// Benchmark is 16 tokens of MiniLM's inner layer. The part of the roof counts the operations of the approximations, a
// comparison and a quotient as one each.
func Benchmark(b *testing.B) {
	x, y := make([]float32, 16*1536), make([]float32, 16*1536)
	for i := range x {
		x[i] = float32(i%97)/16 - 3
	}
	cputest.EachForm(b, func(b *testing.B) {
		for _, f := range []struct {
			name       string
			operations int // for each value
			do         func(dst, src []float32)
		}{
			{"Exp", 22, Exp}, {"Tanh", 40, Tanh}, {"GELU", 32, GELU}, {"ReLU", 1, ReLU}, {"LeakyReLU", 2, LeakyReLU},
			{"Softmax", 26, func(dst, src []float32) { Softmax(dst, 16, 1536, 1536) }},
		} {
			b.Run(f.name+"/n=16x1536", func(b *testing.B) {
				roof := roofline.Measure(1)
				bytes := 8 * float64(len(x))
				b.SetBytes(int64(bytes))
				for b.Loop() {
					f.do(y, x)
				}
				roof.Report(b, float64(f.operations*len(x)), bytes, roofline.Warm(bytes))
			})
		}
	})
}
