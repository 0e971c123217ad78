// Accesses of neighbours that are one instruction. Of plain ones the compiler makes one or several, in one run this and in the next
// that: several stores move a sector of memory several times, and lanes that are as far apart as the neighbours are many share a
// bank.
#pragma once
#include "warp.cuh"

inline u32 shared_address(const void *p) { return u32(__cvta_generic_to_shared(p)); }

// from is in shared memory and aligned to 16 bytes.
inline float4 load_shared(const float *from) {
	float4 v;
	asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
		: "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(shared_address(from)) : "memory");
	return v;
}

// to is in global memory and aligned to 8 bytes.
inline void store_global(float *to, float a, float b) {
	asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "f"(a), "f"(b) : "memory");
}

// to is in global memory and aligned to 16 bytes.
inline void store_global(float *to, float a, float b, float c, float d) {
	asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

// to is in shared memory and aligned to 8 bytes.
inline void store_shared(float *to, float a, float b) {
	asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(shared_address(to)), "f"(a), "f"(b) : "memory");
}
inline void store_shared(int *to, int a, int b) {
	asm volatile("st.shared.v2.s32 [%0], {%1, %2};" ::"r"(shared_address(to)), "r"(a), "r"(b) : "memory");
}
