// Rounding to the narrower forms that mma.sync takes.
#pragma once
#include "warp.cuh"

// The nearest bfloat16, ties to even.
inline u16 bf16(float x) {
	u16 h;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
	return h;
}

// Two of them in one word, low in the low half.
inline u32 bf16x2(float low, float high) {
	u32 w;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
	return w;
}

// The nearest tf32 (10 bits of mantissa), ties away from zero, in the bits of a float.
inline u32 tf32(float x) {
	u32 w;
	asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(w) : "f"(x));
	return w;
}

// Range is how a row of values from low to high, 0 among them, becomes uint8: x ≈ step·(q - zero), 255 steps over the range. peak is the
// largest magnitude. A row with an infinity or a NaN has the step NaN, one of which the inverse step would be infinite the step 0;
// both become zeros.
struct Range {
	float step, inverse;
	int zero;

	Range(float low, float high, float peak) {
		const float normal = 0x1p-126f, infinity = __int_as_float(0x7f800000);
		step = __fdiv_rn(high - low, 255);
		inverse = 0;
		zero = 0;
		if (!(peak < infinity))
			step = infinity - infinity;
		else if (step < normal)
			step = 0;
		else {
			inverse = __fdiv_rn(1, step);
			zero = __float2int_rn(-low * inverse);
		}
	}

	u8 of(float x) const { return step > 0 ? min(max(__float2int_rn(x * inverse) + zero, 0), 255) : 0; }
};
