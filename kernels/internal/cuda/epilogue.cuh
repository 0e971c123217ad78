// What products do to their results on the way out.
#pragma once
#include "functions.cuh"
#include "warp.cuh"

// Epilogue makes an output of a sum, in this order: bias, activation, affine and ReLU, residual. Null pointers are left out.
struct Epilogue {
	const float *bias;           // [n]
	const float *scale, *offset; // [images][n]: max(0, scale·y + offset)
	const float *residual;       // row stride ldr
	int ldr;
	int act; // one of matmul.Act

	// finish makes output (i, j) of a sum, in an image and with its residual in row r.
	float finish(float sum, int j, int n, int image, int r) const {
		if (bias) sum = __fadd_rn(sum, bias[j]);
		sum = activate(act, sum);
		if (scale) sum = relu(fmaf(scale[u64(image) * n + j], sum, offset[u64(image) * n + j]));
		if (residual) sum = __fadd_rn(sum, residual[u64(r) * ldr + j]);
		return sum;
	}
};
