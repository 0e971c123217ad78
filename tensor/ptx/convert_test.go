package ptx

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// wholeNumber rounds an exact number to an integer.
func wholeNumber(x *big.Float, mode string) *big.Int {
	n, acc := x.Int(nil) // towards zero
	if acc == big.Exact {
		return n
	}
	away := new(big.Int).Add(n, big.NewInt(int64(x.Sign())))
	rest := new(big.Float).SetPrec(4000).Sub(x, new(big.Float).SetInt(n))
	switch c := rest.Abs(rest).Cmp(exact(0.5)); {
	case mode == "rzi", mode == "rmi" && x.Sign() > 0, mode == "rpi" && x.Sign() < 0:
		return n
	case mode == "rmi", mode == "rpi", c > 0, c == 0 && n.Bit(0) == 1:
		return away
	}
	return n
}

// fit clamps an integer to a type.
func fit(x *big.Int, kind string) uint64 {
	size := uint(8 * typeBytes(kind))
	low, high := big.NewInt(0), new(big.Int).Lsh(big.NewInt(1), size)
	if kind[0] == 's' {
		high.Rsh(high, 1)
		low.Neg(high)
	}
	high.Sub(high, big.NewInt(1))
	if x.Cmp(low) < 0 {
		x = low
	} else if x.Cmp(high) > 0 {
		x = high
	}
	return bitsOf(x)
}

var bankOf = map[int]string{2: "h", 4: "w", 8: "l"}

func TestConversionsBetweenIntegers(t *testing.T) {
	kinds := []string{"u16", "s16", "u32", "s32", "u64", "s64"}
	for _, to := range kinds {
		for _, from := range kinds {
			banks := bankOf[typeBytes(to)] + "=" + bankOf[typeBytes(from)]
			rows := operands(1, integerCorners, anyBits)
			check(t, calculation{"cvt." + to + "." + from, banks, func(a, _, _ uint64) uint64 { return bitsOf(number(a, from)) }}, rows, identical)
			check(t, calculation{"cvt.sat." + to + "." + from, banks, func(a, _, _ uint64) uint64 { return fit(number(a, from), to) }}, rows, identical)
		}
	}
	// Types narrower than their registers.
	for _, c := range []calculation{
		{"cvt.s32.s8", "w=w", func(a, _, _ uint64) uint64 { return uint64(int64(int8(a))) }},
		{"cvt.u32.u8", "w=w", func(a, _, _ uint64) uint64 { return a & 0xff }},
		{"cvt.u8.u32", "h=w", func(a, _, _ uint64) uint64 { return a & 0xff }},
		{"cvt.s8.s32", "h=w", func(a, _, _ uint64) uint64 { return uint64(int64(int8(a))) }},
		{"cvt.s16.s8", "h=h", func(a, _, _ uint64) uint64 { return uint64(int64(int8(a))) }},
	} {
		check(t, c, operands(1, integerCorners, anyBits), identical)
	}
}

func TestConversionsOfFloatsToIntegers(t *testing.T) {
	corners := append([]uint64{f32bits(0.5), f32bits(1.5), f32bits(2.5), f32bits(-0.5), f32bits(-1.5), f32bits(255.5), f32bits(0x1p31), f32bits(-0x1p31), f32bits(0x1p63), f32bits(0x1p64), f32bits(65535.5)}, floatCorners...)
	for _, to := range []string{"u16", "s16", "u32", "s32", "u64", "s64"} {
		for _, mode := range []string{"rni", "rzi", "rmi", "rpi"} {
			check(t, calculation{"cvt." + mode + "." + to + ".f32", bankOf[typeBytes(to)] + "=w", func(a, _, _ uint64) uint64 {
				x := float64(f32of(a))
				if x != x && typeBytes(to) == 8 {
					return 1 << 63
				} else if x != x {
					return 0
				} else if math.IsInf(x, 0) {
					x = math.Copysign(0x1p100, x)
				}
				return fit(wholeNumber(exact(x), mode), to)
			}}, operands(1, corners, anyFloat), identical)
		}
	}
	doubles := []uint64{0, 1 << 63, 0x3fe0000000000000, 0xbff8000000000000, 0x41e0000000000000, 0xc1e0000000000001, 0x43e0000000000000, 0x7ff8000000000000, 0x7fefffffffffffff}
	for _, to := range []string{"u32", "s32", "u64", "s64"} {
		check(t, calculation{"cvt.rni." + to + ".f64", bankOf[typeBytes(to)] + "=l", func(a, _, _ uint64) uint64 {
			x := math.Float64frombits(a)
			if x != x {
				return 1 << (8*typeBytes(to) - 1)
			}
			return fit(wholeNumber(exact(max(-0x1p100, min(x, 0x1p100))), "rni"), to)
		}}, operands(1, doubles, func(r *rand.Rand) uint64 { return r.Uint64N(2)<<63 | (1000+r.Uint64N(100))<<52 | r.Uint64N(1<<52) }), identical)
	}
	for _, mode := range []string{"rni", "rzi", "rmi", "rpi"} {
		check(t, calculation{"cvt." + mode + ".f32.f32", "w=w", func(a, _, _ uint64) uint64 {
			if special(a) {
				return a
			}
			v, _ := new(big.Float).SetInt(wholeNumber(big32(a), mode)).Float32()
			return f32bits(v) | a&(1<<31)
		}}, operands(1, corners, anyFloat), sameFloat32)
	}
}

func TestConversionsToFloats(t *testing.T) {
	for _, from := range []string{"u16", "s16", "u32", "s32", "u64", "s64"} {
		for _, mode := range []string{"rn", "rz", "rm", "rp"} {
			check(t, calculation{"cvt." + mode + ".f32." + from, "w=" + bankOf[typeBytes(from)], func(a, _, _ uint64) uint64 {
				return f32bits(nearest(new(big.Float).SetInt(number(a, from)), mode))
			}}, operands(1, integerCorners, anyBits), identical)
		}
		check(t, calculation{"cvt.rn.f64." + from, "l=" + bankOf[typeBytes(from)], func(a, _, _ uint64) uint64 {
			v, _ := new(big.Float).SetInt(number(a, from)).Float64()
			return math.Float64bits(v)
		}}, operands(1, integerCorners, anyBits), identical)
	}
	doubles := []uint64{0, 1 << 63, 0x3ff0000010000000, 0x3ff0000030000000, 0x47efffffefffffff, 0x47effffff0000000, 0x36a0000000000000, 0x3690000000000000, 0x7ff0000000000000}
	for _, mode := range []string{"rn", "rz", "rm", "rp"} {
		check(t, calculation{"cvt." + mode + ".f32.f64", "w=l", func(a, _, _ uint64) uint64 {
			x := math.Float64frombits(a)
			if math.IsInf(x, 0) || x != x {
				return f32bits(float32(x))
			}
			return f32bits(nearest(exact(x), mode))
		}}, operands(1, doubles, func(r *rand.Rand) uint64 {
			return r.Uint64N(2)<<63 | (870+r.Uint64N(300))<<52 | r.Uint64N(1<<52)&^(1<<r.Uint64N(52)-1)
		}), sameFloat32)
	}
	check(t, calculation{"cvt.f64.f32", "l=w", func(a, _, _ uint64) uint64 { return math.Float64bits(float64(f32of(a))) }}, operands(1, floatCorners[:20], anyFloat),
		func(got, want uint64) bool {
			return got == want || math.IsNaN(math.Float64frombits(got)) && math.IsNaN(math.Float64frombits(want))
		})
	// tf32: 10 bits of mantissa, ties away from zero.
	check(t, calculation{"cvt.rna.tf32.f32", "w=w", func(a, _, _ uint64) uint64 {
		switch {
		case a&0x7fffffff > 0x7f800000:
			return 0x7fffffff
		case a&0x7fffffff == 0x7f800000:
			return a
		}
		return (a + 1<<12) &^ (1<<13 - 1)
	}}, operands(1, floatCorners, anyFloat), identical)
	// Pairs: the first operand is the upper half.
	check(t, calculation{"cvt.rn.bf16x2.f32", "w=ww", func(a, b, _ uint64) uint64 {
		one := func(v uint64) uint64 {
			if v&0x7fffffff > 0x7f800000 {
				return 0x7fff
			}
			return (v + 0x7fff + v>>16&1) >> 16 & 0xffff
		}
		return one(a)<<16 | one(b)
	}}, operands(2, floatCorners, anyFloat), identical)
	check(t, calculation{"cvt.rn.f16x2.f32", "w=ww", func(a, b, _ uint64) uint64 { return a>>16&0x8000<<16 | b>>16&0x8000 }},
		operands(2, []uint64{0, 1 << 31, 1, 0x32800000, 0xb2800000}, func(r *rand.Rand) uint64 { return r.Uint64N(1<<20) | r.Uint64N(2)<<31 }), identical)
	check(t, calculation{"cvt.rn.relu.bf16.f32", "h=w", func(a, _, _ uint64) uint64 {
		if a>>31 == 1 && a&0x7fffffff <= 0x7f800000 {
			return 0
		} else if a&0x7fffffff > 0x7f800000 {
			return 0x7fff
		}
		return (a + 0x7fff + a>>16&1) >> 16
	}}, operands(1, floatCorners, anyFloat), identical)
}

func TestComparisons(t *testing.T) {
	ints := map[string]func(c int) bool{
		"eq": func(c int) bool { return c == 0 }, "ne": func(c int) bool { return c != 0 }, "lt": func(c int) bool { return c < 0 },
		"le": func(c int) bool { return c <= 0 }, "gt": func(c int) bool { return c > 0 }, "ge": func(c int) bool { return c >= 0 },
	}
	one := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	for _, kind := range []string{"u16", "s16", "u32", "s32", "u64", "s64"} {
		b := bankOf[typeBytes(kind)]
		for name, holds := range ints {
			check(t, calculation{"setp." + name + "." + kind, "p=" + b + b, func(x, y, _ uint64) uint64 {
				return one(holds(number(x, kind).Cmp(number(y, kind))))
			}}, operands(2, integerCorners, anyBits), identical)
		}
	}
	nan := func(x float64) bool { return x != x }
	for kind, value := range map[string]func(uint64) float64{
		"f32": func(v uint64) float64 { return float64(f32of(v)) }, "f64": math.Float64frombits, "f16": half.value,
	} {
		b := bankOf[typeBytes(kind)]
		corners := map[string][]uint64{"f32": floatCorners, "f64": {0, 1 << 63, 0x3ff0000000000000, 0x7ff8000000000000, 0xfff0000000000000, 1}, "f16": {0, 0x8000, 0x3c00, 0x7e00, 0xfc00, 1}}[kind]
		for name, holds := range ints {
			ordered := func(x, y uint64) uint64 {
				a, b := value(x), value(y)
				c := 0
				if a < b {
					c = -1
				} else if a > b {
					c = 1
				}
				return one(!nan(a) && !nan(b) && holds(c))
			}
			check(t, calculation{"setp." + name + "." + kind, "p=" + b + b, func(x, y, _ uint64) uint64 { return ordered(x, y) }}, operands(2, corners, anyBits), identical)
			check(t, calculation{"setp." + name + "u." + kind, "p=" + b + b, func(x, y, _ uint64) uint64 {
				return one(nan(value(x)) || nan(value(y)) || ordered(x, y) == 1)
			}}, operands(2, corners, anyBits), identical)
		}
		check(t, calculation{"setp.num." + kind, "p=" + b + b, func(x, y, _ uint64) uint64 { return one(!nan(value(x)) && !nan(value(y))) }}, operands(2, corners, anyBits), identical)
		check(t, calculation{"setp.nan." + kind, "p=" + b + b, func(x, y, _ uint64) uint64 { return one(nan(value(x)) || nan(value(y))) }}, operands(2, corners, anyBits), identical)
	}
	for name, f := range map[string]func(a, b uint64) uint64{"and": func(a, b uint64) uint64 { return a & b }, "or": func(a, b uint64) uint64 { return a | b }, "xor": func(a, b uint64) uint64 { return a ^ b }} {
		check(t, calculation{"setp.lt." + name + ".s32", "p=wwp", func(a, b, c uint64) uint64 {
			return f(one(int32(a) < int32(b)), one(c != 0))
		}}, operands(3, integerCorners, anyBits), identical)
	}
	check(t, calculation{"set.gt.u32.f32", "w=ww", func(a, b, _ uint64) uint64 { return -one(f32of(a) > f32of(b)) }}, operands(2, floatCorners, anyFloat), identical)
	check(t, calculation{"set.le.f32.s32", "w=ww", func(a, b, _ uint64) uint64 { return one(int32(a) <= int32(b)) * 0x3f800000 }}, operands(2, integerCorners, anyBits), identical)
}
