package ptx

import "math"

// format is a binary floating-point format narrower than float64.
type format struct {
	mantissa uint // stored bits
	smallest int  // exponent of the smallest normal number
	largest  int
	drop     uint // zero bits at the end of the register, as in tf32
	nan      uint64
}

var (
	half     = format{mantissa: 10, smallest: -14, largest: 15, nan: 0x7fff}
	bfloat   = format{mantissa: 7, smallest: -126, largest: 127, nan: 0x7fff}
	tfloat32 = format{mantissa: 10, smallest: -126, largest: 127, drop: 13, nan: 0x7fffffff} // in a word
	single   = format{mantissa: 23, smallest: -126, largest: 127, nan: 0x7fffffff}
)

// rounding is a mode of rounding.
type rounding uint8

const (
	nearestEven rounding = iota
	nearestAway
	towardZero
	downward
	upward
)

var roundings = map[string]rounding{"rn": nearestEven, "rna": nearestAway, "rz": towardZero, "rm": downward, "rp": upward}

// round returns the bits of x in the format f.
func (f format) round(x float64, mode rounding) uint64 {
	u := math.Float64bits(x)
	negative := u>>63 == 1
	sign := (u >> 63) << (f.mantissa + f.exponentBits())
	infinite := uint64(f.largest-f.smallest+2) << f.mantissa
	switch {
	case x != x:
		return f.nan
	case math.IsInf(x, 0):
		return (sign | infinite) << f.drop
	case x == 0:
		return sign << f.drop
	}
	exponent := int(u >> 52 & 0x7ff)
	m := u & (1<<52 - 1)
	if exponent == 0 {
		exponent = 1
	} else {
		m |= 1 << 52
	}
	exponent -= 1023
	e := max(exponent, f.smallest)
	shift := uint(e - exponent + 52 - int(f.mantissa)) // bits of m below the format's last one
	var q, rest, tie uint64
	if shift < 64 {
		q, rest, tie = m>>shift, m&(1<<shift-1), 1<<(shift-1)
	} else {
		rest, tie = 1, 2
	}
	switch mode {
	case nearestEven:
		if rest > tie || rest == tie && q&1 == 1 {
			q++
		}
	case nearestAway:
		if rest >= tie {
			q++
		}
	case downward:
		if negative && rest > 0 {
			q++
		}
	case upward:
		if !negative && rest > 0 {
			q++
		}
	}
	r := uint64(e-f.smallest)<<f.mantissa + q // the leading bit of q counts the exponent up by one
	if r >= infinite {
		r = infinite
		if mode == towardZero || mode == downward && !negative || mode == upward && negative {
			r--
		}
	}
	return (sign | r) << f.drop
}

func (f format) exponentBits() uint {
	if f.largest == 15 {
		return 5
	}
	return 8
}

// value is the number that bits of the format stand for.
func (f format) value(bits uint64) float64 {
	switch f {
	case single:
		return float64(math.Float32frombits(uint32(bits)))
	case bfloat:
		return float64(math.Float32frombits(uint32(bits) << 16))
	case half:
		return float64(halfValue(uint16(bits)))
	}
	return float64(math.Float32frombits(uint32(bits) &^ 0x1fff)) // tf32: a device ignores the low bits
}

// halfValue widens an IEEE half.
func halfValue(h uint16) float32 {
	sign, e, m := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch e {
	case 0:
		v := float32(m) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | m<<13)
	}
	return math.Float32frombits(sign | (e+112)<<23 | m<<13)
}

// odd returns x, or, where the exact number differs from x by a rest of the sign of e, the neighbour of the exact number
// whose last bit is 1. Rounding that to fewer bits gives what rounding the exact number once would.
func odd(x, e float64) float64 {
	if e == 0 || math.IsInf(x, 0) || x != x || e != e {
		return x
	}
	u := math.Float64bits(x)
	if x == 0 {
		return math.Copysign(math.SmallestNonzeroFloat64, e)
	}
	if (e > 0) != (x > 0) {
		u--
	}
	return math.Float64frombits(u | 1)
}

// sumOdd is a+b rounded to odd.
func sumOdd(a, b float64) float64 {
	x := a + b
	t := x - a
	return odd(x, (a-(x-t))+(b-t))
}

// quotientOdd is a/b rounded to odd, for a and b of at most 32 bits.
func quotientOdd(a, b float64) float64 {
	x := a / b
	rest := math.FMA(-x, b, a)
	if b < 0 {
		rest = -rest
	}
	return odd(x, rest)
}

// rootOdd is the square root of a rounded to odd.
func rootOdd(a float64) float64 {
	x := math.Sqrt(a)
	return odd(x, math.FMA(-x, x, a))
}

// fma32 is a·b+c rounded once.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b) // exact
	x := p + float64(c)
	// Rounding x again is right unless x, already rounded, lies halfway between two float32, or its float32 is subnormal.
	if u := math.Float64bits(x); u&0x1fffffff == 0x10000000 || u&(1<<63-1) < 0x3810000000000000 {
		return float32(sumOdd(p, float64(c)))
	}
	return float32(x)
}
