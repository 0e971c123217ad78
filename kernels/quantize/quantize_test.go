package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

// value16 decodes any binary format of 16 bits in float64, straight from its definition.
func value16(h uint16, expBits, manBits int) float64 {
	bias := 1<<(expBits-1) - 1
	man := float64(int(h) & (1<<manBits - 1))
	exp := int(h>>manBits) & (1<<expBits - 1)
	sign := 1.0
	if h>>15 != 0 {
		sign = -1
	}
	switch {
	case exp == 0:
		return sign * math.Ldexp(man, 1-bias-manBits)
	case exp < 1<<expBits-1:
		return sign * math.Ldexp(man+float64(int(1)<<manBits), exp-bias-manBits)
	case man == 0:
		return sign * math.Inf(1)
	default:
		return math.NaN()
	}
}

type format struct {
	name             string
	expBits, manBits int
	widen            func([]float32, []uint16)
	narrow           func([]uint16, []float32)
}

var formats = []format{
	{"f16", 5, 10, F16ToF32, F32ToF16},
	{"bf16", 8, 7, BF16ToF32, F32ToBF16},
}

func allPatterns() []uint16 {
	p := make([]uint16, 1<<16)
	for i := range p {
		p[i] = uint16(i)
	}
	return p
}

func TestWidenEveryPattern(t *testing.T) {
	for _, f := range formats {
		src := allPatterns()
		dst := make([]float32, len(src))
		f.widen(dst, src)
		for i, h := range src {
			want := float32(value16(h, f.expBits, f.manBits))
			if want != want {
				if dst[i] == dst[i] || math.Signbit(float64(dst[i])) != (h>>15 != 0) {
					t.Fatalf("%s %#04x: got %v, wanted a NaN of the same sign", f.name, h, dst[i])
				}
			} else if math.Float32bits(dst[i]) != math.Float32bits(want) {
				t.Fatalf("%s %#04x: got %v, wanted %v", f.name, h, dst[i], want)
			}
		}
	}
}

func TestNarrowIsInverseOfWiden(t *testing.T) {
	for _, f := range formats {
		src := allPatterns()
		wide := make([]float32, len(src))
		back := make([]uint16, len(src))
		f.widen(wide, src)
		f.narrow(back, wide)
		for i, h := range src {
			want := h
			if wide[i] != wide[i] {
				want |= 1 << (f.manBits - 1) // made quiet
			}
			if back[i] != want {
				t.Fatalf("%s: %#04x came back as %#04x, wanted %#04x", f.name, h, back[i], want)
			}
		}
	}
}

// Between any two neighbours: what is nearer wins, and the midpoint goes to the even one.
func TestNarrowRoundsToNearestEven(t *testing.T) {
	for _, f := range formats {
		infinity := uint16(1<<15 - 1<<f.manBits)
		for lo := range infinity {
			hi := lo + 1
			a, b := value16(lo, f.expBits, f.manBits), value16(hi, f.expBits, f.manBits)
			if hi == infinity { // rounding goes on as if there were one more finite value
				b = math.Ldexp(1, 1<<(f.expBits-1))
			}
			mid := float32((a + b) / 2)
			even := lo + lo&1
			src := []float32{mid, -mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, math.MaxFloat32)}
			want := []uint16{even, even | 1<<15, lo, hi}
			if hi == infinity {
				src[3] = math.Float32frombits(math.Float32bits(mid) + 1)
			}
			var got [4]uint16
			f.narrow(got[:], src)
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%s: %v between %#04x and %#04x became %#04x, wanted %#04x", f.name, src[i], lo, hi, got[i], want[i])
				}
			}
		}
	}
}

func TestNarrowExtremes(t *testing.T) {
	inf, nan := float32(math.Inf(1)), math.Float32frombits(0xff800001) // a signalling NaN whose low bits would vanish
	src := []float32{inf, -inf, math.MaxFloat32, 1e-45, nan}
	var got [5]uint16
	F32ToF16(got[:], src)
	if want := [5]uint16{0x7c00, 0xfc00, 0x7c00, 0, 0xfe00}; got != want {
		t.Errorf("f16: got %#04x, wanted %#04x", got, want)
	}
	F32ToBF16(got[:], src)
	if want := [5]uint16{0x7f80, 0xff80, 0x7f80, 0, 0xffc0}; got != want {
		t.Errorf("bf16: got %#04x, wanted %#04x", got, want)
	}
}

func TestI8RowsRoundTrip(t *testing.T) {
	const rows, cols = 7, 33
	rng := rand.New(rand.NewPCG(1, 2))
	src := make([]float32, rows*cols)
	for i := range src {
		src[i] = float32(rng.NormFloat64())
	}
	q, scale, back := make([]int8, len(src)), make([]float32, rows), make([]float32, len(src))
	F32ToI8Rows(q, scale, src, rows, cols)
	I8RowsToF32(back, q, scale, rows, cols)
	for r := range rows {
		var peak float32
		var peakQ int8
		for c := range cols {
			i := r*cols + c
			if e := math.Abs(float64(src[i] - back[i])); e > float64(scale[r])*0.50001 {
				t.Fatalf("row %d: %v came back as %v, off by more than half of %v", r, src[i], back[i], scale[r])
			}
			peak = max(peak, src[i], -src[i])
			peakQ = max(peakQ, q[i], -q[i])
		}
		if scale[r] != peak/127 || peakQ != 127 {
			t.Fatalf("row %d: scale %v and largest q %d, wanted %v and 127", r, scale[r], peakQ, peak/127)
		}
	}
}

func TestI8RowsTiesAndZeros(t *testing.T) {
	src := []float32{127, 0.5, 1.5, -0.5, -2.5, 0, 0, 0, 0, 0, 1e-45, 0, 0, 0, 0}
	q, scale := make([]int8, len(src)), make([]float32, 3)
	F32ToI8Rows(q, scale, src, 3, 5)
	want := []int8{127, 0, 2, 0, -2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for i := range want {
		if q[i] != want[i] {
			t.Errorf("%v became %d, wanted %d", src[i], q[i], want[i])
		}
	}
	if scale[0] != 1 || scale[1] != 0 || scale[2] != 0 {
		t.Errorf("scales %v, wanted [1 0 0]", scale)
	}
}

// A scale so small that it has few bits left must not push values out of range.
func TestI8RowsSubnormalScale(t *testing.T) {
	var q [2]int8
	var scale [1]float32
	F32ToI8Rows(q[:], scale[:], []float32{190e-45, -190e-45}, 1, 2)
	if q != [2]int8{127, -127} || scale[0] == 0 {
		t.Errorf("got %v, scale %v", q, scale)
	}
}

func TestWrongLengthsPanicBeforeStoring(t *testing.T) {
	f3, u4 := []float32{1, 2, 3}, []uint16{9, 9, 9, 9}
	q, s := make([]int8, 6), make([]float32, 2)
	for name, call := range map[string]func(){
		"F16ToF32":    func() { F16ToF32(f3, u4) },
		"BF16ToF32":   func() { BF16ToF32(f3, u4) },
		"F32ToF16":    func() { F32ToF16(u4, f3) },
		"F32ToBF16":   func() { F32ToBF16(u4, f3) },
		"I8RowsToF32": func() { I8RowsToF32(f3, q, s, 2, 3) },
		"F32ToI8Rows": func() { F32ToI8Rows(q, s[:1], make([]float32, 6), 2, 3) },
		"negative":    func() { F32ToI8Rows(q, s, make([]float32, 6), -2, -3) },
	} {
		func() {
			defer func() {
				if _, ok := recover().(string); !ok {
					t.Errorf("%s: no panic with a string", name)
				}
			}()
			call()
		}()
	}
	if f3[0] != 1 || u4[0] != 9 {
		t.Error("something was stored")
	}
}

func TestDoesNotAllocate(t *testing.T) {
	f, h, q, scale := make([]float32, 12), make([]uint16, 12), make([]int8, 12), make([]float32, 3)
	if n := testing.AllocsPerRun(10, func() {
		F32ToF16(h, f)
		F16ToF32(f, h)
		F32ToBF16(h, f)
		BF16ToF32(f, h)
		F32ToI8Rows(q, scale, f, 3, 4)
		I8RowsToF32(f, q, scale, 3, 4)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A row is given back to within half a step, and 0 exactly.
func TestU8RowsRoundTrip(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for cols := range 70 {
			const rows = 6
			ldq, ldx := (cols+3)&^3, cols+1
			x := make([]float32, rows*ldx)
			for i := range x {
				x[i] = float32(rng.NormFloat64()) + float32(i/ldx) - 2 // the last rows are on one side of 0
				if i%7 == 0 {
					x[i] = 0
				}
			}
			q, scale, zero := make([]uint8, rows*ldq), make([]float32, rows), make([]int32, rows)
			for i := range q {
				q[i] = 99
			}
			F32ToU8Rows(q, ldq, scale, zero, x, ldx, rows, cols)
			for r := range rows {
				if zero[r] < 0 || zero[r] > 255 {
					t.Fatalf("%d columns: zero point %d", cols, zero[r])
				}
				for c := range ldq {
					got := scale[r] * float32(int32(q[r*ldq+c])-zero[r])
					if c >= cols {
						if q[r*ldq+c] != 0 {
							t.Fatalf("%d columns: %d behind the row", cols, q[r*ldq+c])
						}
					} else if v := x[r*ldx+c]; math.Abs(float64(v-got)) > 0.501*float64(scale[r]) || v == 0 && got != 0 {
						t.Fatalf("%d columns: %v came back as %v in steps of %v", cols, v, got, scale[r])
					}
				}
			}
		}
	})
}

func TestU8RowsThatHaveNoScale(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		inf, nan := float32(math.Inf(1)), float32(math.NaN())
		for _, c := range []struct{ value, scale float32 }{{inf, nan}, {-inf, nan}, {nan, nan}, {1e-37, 0}, {-1e-45, 0}, {0, 0}} {
			for _, n := range []int{1, 5, 16, 37} {
				x, q, scale, zero := make([]float32, n), make([]uint8, n), []float32{9}, []int32{9}
				x[n-1] = c.value
				if c.scale != c.scale {
					x[0] += 3
				}
				F32ToU8Rows(q, n, scale, zero, x, n, 1, n)
				if scale[0] != c.scale && (scale[0] == scale[0] || c.scale == c.scale) || zero[0] != 0 || slices.Max(q) != 0 {
					t.Errorf("%v behind %d others: scale %v, zero %v, q %v", c.value, n-1, scale, zero, q)
				}
			}
		}
	})
}

// The vector forms do what generic.go does, bit for bit, and touch nothing beyond their operands.
func TestFormsGiveTheSameBits(t *testing.T) {
	special := []float32{0, float32(math.Copysign(0, -1)), 1e-45, -1e-40, math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1)),
		float32(math.NaN()), math.Float32frombits(0xff800001), 0.5, 1.5, 2.5, -0.5}
	rng := rand.New(rand.NewPCG(5, 6))
	cputest.EachForm(t, func(t *testing.T) {
		for n := range 100 {
			edges[float32, uint16, uint8, int8](t, n, func(x []float32, h []uint16, u []uint8, i8 []int8) {
				for i := range x {
					x[i] = float32(rng.NormFloat64())
				}
				scale := peakGeneric(x) / 127
				roundI8(i8, x, scale)
				same(t, "roundI8", n, i8, func(dst []int8) { roundI8Generic(dst, x, scale) })
				wide := cputest.AtPageEnd[float32](t, n)
				widenI8(wide, i8, scale)
				same(t, "widenI8", n, wide, func(dst []float32) { widenI8Generic(dst, i8, scale) })
				roundU8(u, x, 40, 100)
				same(t, "roundU8", n, u, func(dst []uint8) { roundU8Generic(dst, x, 40, 100) })

				low, high, most := span(x)
				if l, h, p := spanGeneric(x); low != l || high != h || most != p {
					t.Fatalf("span of %d: %v %v %v, want %v %v %v", n, low, high, most, l, h, p)
				}
				for i := range x {
					if rng.IntN(3) == 0 {
						x[i] = special[rng.IntN(len(special))]
					}
				}
				if got, want := math.Float32bits(peak(x)), math.Float32bits(peakGeneric(x)); got != want {
					t.Fatalf("peak of %d: %#x, want %#x", n, got, want)
				}
				narrowBF16(h, x)
				same(t, "narrowBF16", n, h, func(dst []uint16) { narrowBF16Generic(dst, x) })
				widenBF16(x, h)
				same(t, "widenBF16", n, asBits(x), func(dst []uint32) {
					wide := make([]float32, n)
					widenBF16Generic(wide, h)
					copy(dst, asBits(wide))
				})
			})
		}
	})
}

// edges calls f with operands that end where memory may not be touched, and then with some that begin there.
func edges[A, B, C, D any](t *testing.T, n int, f func([]A, []B, []C, []D)) {
	f(cputest.AtPageEnd[A](t, n), cputest.AtPageEnd[B](t, n), cputest.AtPageEnd[C](t, n), cputest.AtPageEnd[D](t, n))
	f(cputest.AtPageStart[A](t, n), cputest.AtPageStart[B](t, n), cputest.AtPageStart[C](t, n), cputest.AtPageStart[D](t, n))
}

func same[T comparable](t *testing.T, what string, n int, got []T, definition func(dst []T)) {
	t.Helper()
	want := make([]T, n)
	definition(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%s of %d values: %v, want %v", what, n, got, want)
	}
}

func asBits(f []float32) []uint32 {
	bits := make([]uint32, len(f))
	for i, v := range f {
		bits[i] = math.Float32bits(v)
	}
	return bits
}
