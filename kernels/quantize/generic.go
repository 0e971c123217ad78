package quantize

import "math"

// binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. float32: 1, 8 (bias 127), 23. bfloat16: float32's upper half.

func f32FromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 31
	man := uint32(h & 0x3ff)
	switch {
	case exp == 0: // zero or subnormal: units of 2⁻²⁴, all of them normal in float32
		return math.Float32frombits(sign | math.Float32bits(float32(man)*0x1p-24))
	case exp < 31:
		return math.Float32frombits(sign | (exp+127-15)<<23 | man<<13)
	case man == 0:
		return math.Float32frombits(sign | 0x7f800000)
	default:
		return math.Float32frombits(sign | 0x7fc00000 | man<<13)
	}
}

func f16FromF32(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(b>>13)&0x3ff
	case b >= 0x47800000: // 65536 and above
		return sign | 0x7c00
	case b >= 0x38800000: // 2⁻¹⁴ and above, normal in binary16; a carry out of the mantissa raises the exponent, as it should
		b += 0xfff + b>>13&1
		return sign | uint16((b-(127-15)<<23)>>13)
	default: // the last bit of 0.5+x weighs 2⁻²⁴, a binary16 subnormal's unit, so the addition does the rounding
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
}

func widenBF16Generic(dst []float32, src []uint16) {
	for i, h := range src {
		dst[i] = math.Float32frombits(uint32(h) << 16)
	}
}

func narrowBF16Generic(dst []uint16, src []float32) {
	for i, f := range src {
		dst[i] = bf16FromF32(f)
	}
}

func bf16FromF32(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 { // rounding could carry a NaN into an infinity
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func widenI8Generic(dst []float32, q []int8, scale float32) {
	for i, v := range q {
		dst[i] = scale * float32(v)
	}
}

// quantizeI8Row is F32ToI8Rows of one row.
func quantizeI8Row(q []int8, src []float32) (scale float32) {
	scale = peak(src) / 127
	if scale == 0 { // also where the peak is so small that the quotient vanishes
		clear(q)
		return 0
	}
	roundI8(q, src, scale)
	return scale
}

// peakGeneric returns the greatest magnitude. Magnitudes are in the order of their bits, and a NaN comes last.
func peakGeneric(src []float32) float32 {
	var peak uint32
	for _, x := range src {
		peak = max(peak, math.Float32bits(x)&0x7fffffff)
	}
	return math.Float32frombits(peak)
}

func roundI8Generic(q []int8, src []float32, scale float32) {
	for i, x := range src {
		v := math.RoundToEven(float64(x / scale))
		// A subnormal scale is coarse enough to overshoot; written so that a NaN, too, gets a value that is the same everywhere.
		if !(v > -127) {
			v = -127
		}
		q[i] = int8(min(v, 127))
	}
}

// quantizeU8Row is F32ToU8Rows of one row.
func quantizeU8Row(q []uint8, x []float32) (scale float32, zero int32) {
	const normal = 0x1p-126 // of anything less the inverse would be infinite
	low, high, peak := span(x)
	scale = (high - low) / 255
	if !(peak <= math.MaxFloat32) {
		scale = float32(math.NaN())
	} else if scale < normal {
		scale = 0
	}
	if !(scale > 0) {
		clear(q)
		return scale, 0
	}
	inverse := 1 / scale
	zero = int32(math.RoundToEven(float64(-low * inverse)))
	roundU8(q, x, inverse, zero)
	return scale, zero
}

// spanGeneric returns the least and the greatest of 0 and x, and the greatest magnitude, which tells whether all are finite.
func spanGeneric(x []float32) (low, high, peak float32) {
	for _, v := range x {
		if v < low {
			low = v
		}
		if v > high {
			high = v
		}
	}
	return low, high, peakGeneric(x)
}

func roundU8Generic(q []uint8, x []float32, inverse float32, zero int32) {
	for i, v := range x {
		q[i] = uint8(min(max(int32(math.RoundToEven(float64(v*inverse)))+zero, 0), 255))
	}
}
