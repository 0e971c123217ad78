package ptx

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

var floatCorners = func() (c []uint64) {
	for _, v := range []float32{0, 1, 1.5, 3, 0.1, 1e-20, 1e20, 0x1p-126, 0x1p-149, 0x1.fffffcp-127, math.MaxFloat32, 0x1.000002p0, 16777217} {
		c = append(c, f32bits(v), f32bits(-v))
	}
	return append(c, 0x7f800000, 0xff800000, 0x7fc00000)
}()

// anyFloat spreads over all exponents, and often over near ones, where sums cancel and round to ties.
func anyFloat(r *rand.Rand) uint64 {
	if r.IntN(2) == 0 {
		return r.Uint64N(1 << 32)
	}
	return r.Uint64N(2)<<31 | (100+r.Uint64N(40))<<23 | r.Uint64N(1<<23)&^(1<<r.Uint64N(23)-1)
}

// special tells whether an operand is infinite or NaN, where big.Float cannot follow.
func special(v ...uint64) bool {
	for _, x := range v {
		if x>>23&0xff == 0xff {
			return true
		}
	}
	return false
}

func big32(v uint64) *big.Float { return exact(float64(f32of(v))) }

func TestFloatArithmeticRoundsOnce(t *testing.T) {
	mul := func(a, b uint64) *big.Float { return new(big.Float).SetPrec(4000).Mul(big32(a), big32(b)) }
	add := func(a, b *big.Float) *big.Float { return new(big.Float).SetPrec(4000).Add(a, b) }
	for _, mode := range []string{"rn", "rz", "rm", "rp"} {
		// zero is what IEEE 754 says of sums that vanish; the sign there follows from float32 itself in the mode rn.
		result := func(x *big.Float, plain float32) uint64 {
			if x == nil || x.Sign() == 0 && mode == "rn" {
				return f32bits(plain)
			}
			return f32bits(nearest(x, mode))
		}
		same := func(got, want uint64) bool {
			return sameFloat32(got, want) || mode != "rn" && got<<33 == 0 && want<<33 == 0
		}
		for _, c := range []calculation{
			{"add", "w=ww", func(a, b, _ uint64) uint64 {
				if special(a, b) {
					return result(nil, f32of(a)+f32of(b))
				}
				return result(add(big32(a), big32(b)), f32of(a)+f32of(b))
			}},
			{"sub", "w=ww", func(a, b, _ uint64) uint64 {
				if special(a, b) {
					return result(nil, f32of(a)-f32of(b))
				}
				return result(add(big32(a), big32(b^1<<31)), f32of(a)-f32of(b))
			}},
			{"mul", "w=ww", func(a, b, _ uint64) uint64 {
				if special(a, b) {
					return result(nil, f32of(a)*f32of(b))
				}
				return result(mul(a, b), f32of(a)*f32of(b))
			}},
			{"fma", "w=www", func(a, b, c uint64) uint64 {
				p := float64(f32of(a)) * float64(f32of(b))
				if special(a, b, c) {
					return result(nil, float32(p+float64(f32of(c))))
				}
				return result(add(mul(a, b), big32(c)), float32(p+float64(f32of(c))))
			}},
			{"div", "w=ww", func(a, b, _ uint64) uint64 {
				if special(a, b) || b<<33 == 0 || a<<33 == 0 {
					return result(nil, f32of(a)/f32of(b))
				}
				return result(new(big.Float).SetPrec(4000).Quo(big32(a), big32(b)), 0)
			}},
			{"rcp", "w=w", func(a, _, _ uint64) uint64 {
				if special(a) || a<<33 == 0 {
					return result(nil, 1/f32of(a))
				}
				return result(new(big.Float).SetPrec(4000).Quo(exact(1), big32(a)), 0)
			}},
			{"sqrt", "w=w", func(a, _, _ uint64) uint64 {
				if special(a) || f32of(a) <= 0 {
					return result(nil, float32(math.Sqrt(float64(f32of(a)))))
				}
				return result(new(big.Float).SetPrec(400).Sqrt(big32(a)), 0)
			}},
		} {
			c.op += "." + mode + ".f32"
			check(t, c, operands(len(c.banks)-2, floatCorners, anyFloat), same)
		}
	}
}

// TestFusedMultiplyAddAtTies takes sums that lie at, or one bit beside, the middle between two float32: rounding twice
// would be wrong there.
func TestFusedMultiplyAddAtTies(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var rows [][]uint64
	for range 20000 {
		a := f32bits(1 + float32(rng.IntN(1<<12))/(1<<12))
		b := f32bits(1 + float32(rng.IntN(1<<12))/(1<<12))
		c := f32bits(float32(math.Ldexp(float64(rng.IntN(7)-3), rng.IntN(90)-60)))
		rows = append(rows, []uint64{a, b, c})
		// Products far below the smallest normal number.
		rows = append(rows, []uint64{0x00800001 + rng.Uint64N(1<<23), 0x3f000000 - rng.Uint64N(4)<<23 + rng.Uint64N(1<<23), rng.Uint64N(1 << 20)})
	}
	check(t, calculation{"fma.rn.f32", "w=www", func(a, b, c uint64) uint64 {
		x := new(big.Float).SetPrec(4000).Mul(big32(a), big32(b))
		v, _ := x.Add(x, big32(c)).Float32()
		return f32bits(v)
	}}, rows, sameFloat32)
}

func TestMinimaSignsAndFlushing(t *testing.T) {
	choose := func(less bool) func(a, b, _ uint64) uint64 {
		return func(a, b, _ uint64) uint64 {
			x, y := f32of(a), f32of(b)
			switch {
			case x != x:
				return b
			case y != y:
				return a
			case x == y: // -0 below 0
				if (a>>31 == 1) == less {
					return a
				}
				return b
			case (x < y) == less:
				return a
			}
			return b
		}
	}
	flush := func(v uint64) uint64 {
		if v>>23&0xff == 0 {
			return v & (1 << 31)
		}
		return v
	}
	clamp := func(x float32) uint64 {
		if !(x > 0) {
			return 0
		}
		return f32bits(min(x, 1))
	}
	for _, c := range []calculation{
		{"min.f32", "w=ww", choose(true)},
		{"max.f32", "w=ww", choose(false)},
		{"neg.f32", "w=w", func(a, _, _ uint64) uint64 { return a ^ 1<<31 }},
		{"abs.f32", "w=w", func(a, _, _ uint64) uint64 { return a &^ (1 << 31) }},
		{"copysign.f32", "w=ww", func(a, b, _ uint64) uint64 { return a&(1<<31) | b&^(1<<31) }},
		{"max.NaN.f32", "w=ww", func(a, b, _ uint64) uint64 {
			if x, y := f32of(a), f32of(b); x != x || y != y {
				return 0x7fffffff
			}
			return choose(false)(a, b, 0)
		}},
		{"mul.ftz.f32", "w=ww", func(a, b, _ uint64) uint64 { return flush(f32bits(f32of(flush(a)) * f32of(flush(b)))) }},
		{"add.ftz.f32", "w=ww", func(a, b, _ uint64) uint64 { return flush(f32bits(f32of(flush(a)) + f32of(flush(b)))) }},
		{"add.sat.f32", "w=ww", func(a, b, _ uint64) uint64 { return clamp(f32of(a) + f32of(b)) }},
		{"mul.rn.sat.f32", "w=ww", func(a, b, _ uint64) uint64 { return clamp(f32of(a) * f32of(b)) }},
	} {
		check(t, c, operands(len(c.banks)-2, floatCorners, anyFloat), sameFloat32)
	}
}

func TestApproximateFunctions(t *testing.T) {
	ulp := func(got, want uint64) bool {
		g, w := f32of(got), f32of(want)
		return sameFloat32(got, want) || math.Abs(float64(g-w)) <= math.Abs(float64(w))*0x1p-22 || math.Abs(float64(g-w)) < 0x1p-140
	}
	for op, f := range map[string]func(float64) float64{
		"ex2.approx.f32": math.Exp2, "lg2.approx.f32": math.Log2, "sin.approx.f32": math.Sin, "cos.approx.f32": math.Cos, "tanh.approx.f32": math.Tanh,
		"rcp.approx.f32": func(x float64) float64 { return 1 / x }, "sqrt.approx.f32": math.Sqrt,
		"rsqrt.approx.f32": func(x float64) float64 { return 1 / math.Sqrt(x) },
	} {
		check(t, calculation{op, "w=w", func(a, _, _ uint64) uint64 { return f32bits(float32(f(float64(f32of(a))))) }}, operands(1, floatCorners, anyFloat), ulp)
	}
	check(t, calculation{"div.full.f32", "w=ww", func(a, b, _ uint64) uint64 { return f32bits(f32of(a) / f32of(b)) }}, operands(2, floatCorners, anyFloat), ulp)
	check(t, calculation{"div.approx.f32", "w=ww", func(a, b, _ uint64) uint64 {
		if x := f32of(b); x > 0x1p126 || x < -0x1p126 {
			if a&0x7fffffff >= 0x7f800000 || x != x {
				return 0x7fffffff
			}
			return (a ^ b) & (1 << 31)
		}
		return f32bits(f32of(a) / f32of(b))
	}}, operands(2, floatCorners, anyFloat), ulp)
	check(t, calculation{"ex2.approx.ftz.f32", "w=w", func(a, _, _ uint64) uint64 {
		v := float32(math.Exp2(float64(f32of(a))))
		if v < 0x1p-126 {
			v = 0
		}
		return f32bits(v)
	}}, operands(1, floatCorners, anyFloat), ulp)
}

func TestDoubles(t *testing.T) {
	corners := []uint64{0, 1 << 63, 0x3ff0000000000000, 0xbff8000000000000, 1, 0x7fefffffffffffff, 0x7ff0000000000000, 0x7ff8000000000000}
	d := math.Float64frombits
	same := func(got, want uint64) bool { return got == want || d(got) != d(got) && d(want) != d(want) }
	one := func(f func(x float64) float64) func(a, b, c uint64) uint64 {
		return func(a, _, _ uint64) uint64 { return math.Float64bits(f(d(a))) }
	}
	for _, c := range []calculation{
		{"add.f64", "l=ll", func(a, b, _ uint64) uint64 { return math.Float64bits(d(a) + d(b)) }},
		{"sub.rn.f64", "l=ll", func(a, b, _ uint64) uint64 { return math.Float64bits(d(a) - d(b)) }},
		{"mul.f64", "l=ll", func(a, b, _ uint64) uint64 { return math.Float64bits(d(a) * d(b)) }},
		{"div.rn.f64", "l=ll", func(a, b, _ uint64) uint64 { return math.Float64bits(d(a) / d(b)) }},
		{"fma.rn.f64", "l=lll", func(a, b, c uint64) uint64 { return math.Float64bits(math.FMA(d(a), d(b), d(c))) }},
		{"sqrt.rn.f64", "l=l", one(math.Sqrt)},
		{"neg.f64", "l=l", func(a, _, _ uint64) uint64 { return a ^ 1<<63 }},
		{"abs.f64", "l=l", func(a, _, _ uint64) uint64 { return a &^ (1 << 63) }},
	} {
		check(t, c, operands(len(c.banks)-2, corners, anyBits), same)
	}
}

// halves is a 16-bit format for the oracle: all of its finite numbers in order.
type halves struct {
	value  func(bits uint64) float64
	values []float64 // of the bits 0, 1, …
}

func newHalves(f format, value func(bits uint64) float64) halves {
	h := halves{value: value}
	for b := uint64(0); b < uint64(f.largest-f.smallest+2)<<f.mantissa; b++ {
		h.values = append(h.values, value(b))
	}
	return h
}

// round finds the nearest number by looking at all candidates' neighbours, ties to the even one.
func (h halves) round(x *big.Float, negative bool) uint64 {
	sign := uint64(0)
	if x.Sign() < 0 || x.Sign() == 0 && negative {
		sign = 0x8000
	}
	x = new(big.Float).Abs(x)
	low, high := 0, len(h.values) // values[low] <= x
	for high-low > 1 {
		if mid := (low + high) / 2; exact(h.values[mid]).Cmp(x) <= 0 {
			low = mid
		} else {
			high = mid
		}
	}
	next := 2*h.values[len(h.values)-1] - h.values[len(h.values)-2] // where infinity is
	if high < len(h.values) {
		next = h.values[high]
	}
	middle := new(big.Float).SetPrec(4000).Add(exact(h.values[low]), exact(next))
	middle.Quo(middle, exact(2))
	if c := x.Cmp(middle); c > 0 || c == 0 && low&1 == 1 {
		low++
	}
	return sign | uint64(low)
}

func TestHalfPrecision(t *testing.T) {
	for name, x := range map[string]struct {
		h   halves
		inf uint64
	}{
		"f16": {newHalves(half, func(b uint64) float64 {
			if e := int(b >> 10); e > 0 {
				return math.Ldexp(float64(b&0x3ff|0x400), e-25)
			}
			return math.Ldexp(float64(b), -24)
		}), 0x7c00},
		"bf16": {newHalves(bfloat, func(b uint64) float64 { return float64(math.Float32frombits(uint32(b << 16))) }), 0x7f80},
	} {
		corners := []uint64{0, 0x8000, 1, 0x8001, x.inf - 1, x.inf | 0x8000 - 1, 0x3c00, 0x3f80, 0x0400, 0x03ff, 0x0080, 0x007f}
		finite := func(r *rand.Rand) uint64 {
			for {
				if v := r.Uint64N(1 << 16); v&0x7fff < x.inf {
					return v
				}
			}
		}
		val := func(v uint64) *big.Float {
			f := x.h.values[v&0x7fff]
			if v&0x8000 != 0 {
				f = -f
			}
			return exact(f)
		}
		sum := func(a, b *big.Float) *big.Float { return new(big.Float).SetPrec(4000).Add(a, b) }
		mul := func(a, b uint64) *big.Float { return new(big.Float).SetPrec(4000).Mul(val(a), val(b)) }
		same := func(got, want uint64) bool { return got == want || (got|want)&0x7fff == 0 }
		fma := func(a, b, c uint64) uint64 { return x.h.round(sum(mul(a, b), val(c)), false) }
		all := []calculation{
			{"add", "h=hh", func(a, b, _ uint64) uint64 { return x.h.round(sum(val(a), val(b)), false) }},
			{"sub", "h=hh", func(a, b, _ uint64) uint64 { return x.h.round(sum(val(a), val(b^0x8000)), false) }},
			{"mul", "h=hh", func(a, b, _ uint64) uint64 { return x.h.round(mul(a, b), (a^b)&0x8000 != 0) }},
			{"fma.rn", "h=hhh", fma},
			{"fma.rn.relu", "h=hhh", func(a, b, c uint64) uint64 {
				if v := fma(a, b, c); v&0x8000 == 0 {
					return v
				}
				return 0
			}},
			{"neg", "h=h", func(a, _, _ uint64) uint64 { return a ^ 0x8000 }},
			{"abs", "h=h", func(a, _, _ uint64) uint64 { return a &^ 0x8000 }},
			{"max", "h=hh", func(a, b, _ uint64) uint64 {
				if val(a).Cmp(val(b)) >= 0 {
					return a
				}
				return b
			}},
		}
		for _, c := range all {
			if _, there := forms[c.op+"."+name]; !there && name == "bf16" && len(c.op) == 3 {
				continue // add, sub and mul of bf16 are instructions of sm_90
			}
			one := c
			one.op += "." + name
			rows := operands(len(c.banks)-2, corners, finite)
			check(t, one, rows, same)
			// Two at once.
			two := calculation{c.op + "." + name + "x2", map[int]string{3: "w=w", 4: "w=ww", 5: "w=www"}[len(c.banks)], nil}
			for _, r := range rows {
				for i := range r {
					r[i] |= (r[i] * 0x3b) << 16 & 0x3fff0000
				}
			}
			two.want = func(a, b, d uint64) uint64 {
				return c.want(a&0xffff, b&0xffff, d&0xffff)&0xffff | c.want(a>>16, b>>16, d>>16)&0xffff<<16
			}
			check(t, two, rows, func(got, want uint64) bool { return same(got&0xffff, want&0xffff) && same(got>>16, want>>16) })
		}
		// Conversion from float32, over all exponents and at ties.
		corners32 := append([]uint64{0x33000000, 0x33000001, 0x33800000, 0x477fefff, 0x477ff000, 0x387fc000, 0x387fe000, 0x3f808000, 0x3f818000}, floatCorners...)
		check(t, calculation{"cvt.rn." + name + ".f32", "h=w", func(a, _, _ uint64) uint64 {
			switch {
			case a&0x7fffffff > 0x7f800000:
				return 0x7fff
			case a&0x7fffffff == 0x7f800000:
				return a>>16&0x8000 | x.inf
			}
			return x.h.round(big32(a), a>>31 == 1)
		}}, operands(1, corners32, func(r *rand.Rand) uint64 {
			return r.Uint64N(2)<<31 | (100+r.Uint64N(50))<<23 | r.Uint64N(1<<23)&^(1<<r.Uint64N(23)-1)
		}), identical)
		check(t, calculation{"cvt.f32." + name, "w=h", func(a, _, _ uint64) uint64 { v, _ := val(a).Float32(); return f32bits(v) | a&0x8000<<16 }},
			operands(1, corners, finite), identical)
	}
}
