// Tensor cores, and the copies that feed them: thin names for PTX instructions.
//
// All mma.sync here see 32-bit words: a word is one tf32, two bf16 or four int8, side by side in k. In words the fragments of
// m16n8k8·tf32, m16n8k16·bf16 and m16n8k32·int8 are the same, 8 words deep:
//
//	A [16][8]: a[0], a[1] = rows g, g+8 of word t; a[2], a[3] = rows g, g+8 of word t+4      g = lane/4
//	B [8][8]:  b[0], b[1] = row g of words t, t+4 (B is stored as n rows of k)               t = lane%4
//	C [16][8]: c[0], c[1] = row g, columns 2t, 2t+1; c[2], c[3] = row g+8
//
// so one kernel serves the three.
#pragma once
#include "round.cuh"
#include "wide.cuh"

// Copies 16 bytes to shared memory behind the thread's back: the first size of them from src, the rest zeros. Both are aligned to
// 16; src is not read if size is 0, but must be a pointer into memory of ours.
inline void copy_async(u32 *dst, const void *src, int size) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(size) : "memory");
}

// Ends a group of copies.
inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last n groups of this thread have arrived.
template <int n> inline void wait_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); }

// Loads four 8×4 matrices of words: lane l names row l%8 of matrix l/8, and r[i] becomes word l%4 of row l/4 of matrix i.
inline void load_matrices(u32 (&r)[4], const u32 *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		: "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// Loads four 8×8 matrices of 16-bit values and transposes each: lane l names row l%8 of matrix l/8, and r[i] becomes the values of
// column l/4 in the rows 2·(l%4) and the next.
inline void load_transposed(u32 (&r)[4], const u16 *row) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		: "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// The formats: what an accumulator is, how many values a word holds, what a loaded word becomes, and the product c += a·b.
struct BF16 {
	using Sum = float;
	enum : int { per_word = 2 };
	static u32 load(u32 word) { return word; }
	static void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
		asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
			: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
	}
};

struct TF32 {
	using Sum = float;
	enum : int { per_word = 1 };
	static u32 load(u32 word) { return tf32(__uint_as_float(word)); } // memory holds float32
	static void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
		asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
			: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
	}
};

struct Int8 { // A is uint8, B is int8
	using Sum = int;
	enum : int { per_word = 4 };
	static u32 load(u32 word) { return word; }
	static void multiply(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
		asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
			: "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
	}
};
