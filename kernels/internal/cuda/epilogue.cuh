// What products do to their results on the way out.
#pragma once
#include "functions.cuh"
#include "round.cuh"
#include "warp.cuh"

// Ahead names the weights of a later launch. Every thread has its share of them brought into the second-level cache, and goes on.
struct Ahead {
	const void *at;
	int bytes; // 0: nothing
	int unused;

	void fetch() const {
		enum : u64 { line = 64 }; // what that cache reads from memory at a time, unless told otherwise
		u64 block = blockIdx.x + gridDim.x * (blockIdx.y + u64(gridDim.y) * blockIdx.z), blocks = u64(gridDim.x) * gridDim.y * gridDim.z;
		for (u64 i = line * (block * blockDim.x + threadIdx.x); i < u64(bytes); i += line * blocks * blockDim.x)
			asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global((const char *)at + i)));
	}
};

// Epilogue makes an output of a sum, in this order: bias, activation, affine and ReLU, residual. Null pointers are left out.
struct Epilogue {
	const float *bias;           // [n]
	const float *scale, *offset; // [images][n], row stride lda: max(0, scale·y + offset)
	const float *residual;       // row stride ldr
	int ldr;
	int act; // one of matmul.Act
	int lda;

	// finish makes output (i, j) of a sum, in an image and with its residual in row r.
	float finish(float sum, int j, int image, int r) const {
		if (bias) sum = __fadd_rn(sum, bias[j]);
		sum = activate(act, sum);
		if (scale) sum = relu(fmaf(scale[u64(image) * lda + j], sum, offset[u64(image) * lda + j]));
		if (residual) sum = __fadd_rn(sum, residual[u64(r) * ldr + j]);
		return sum;
	}
};

// Next is a copy of the outputs for the product that follows: normalised, where scale is not null, as Epilogue does it, and where half
// is not 0 rounded to bfloat16. With a null at there is none.
struct Next {
	void *at; // row stride ld
	const float *scale, *offset;
	int ld, lda, half;

	void store(int i, int j, int image, float v) const {
		if (!at) return;
		if (scale) v = relu(fmaf(scale[u64(image) * lda + j], v, offset[u64(image) * lda + j]));
		u64 to = u64(i) * ld + j;
		if (half)
			((u16 *)at)[to] = bf16(v);
		else
			((float *)at)[to] = v;
	}
};
