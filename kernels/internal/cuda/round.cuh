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
