// Package affine on the GPU.
#include "functions.cuh"
#include "warp.cuh"

// affine_relu: dst[i][j] = max(0, scale[image][j]·x[i][j] + offset[image][j]) with image = i/pixels: x is [rows][cols] with
// row stride ldx, dst with ldd, scale and offset are [rows/pixels][cols]. dst may be x if ldd = ldx. Grid: x = rows, y =
// ceil(cols/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
affine_relu(float *dst, int ldd, const float *x, int ldx, const float *scale, const float *offset, int cols, int pixels) {
	int i = blockIdx.x, j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	int channel = i / pixels * cols + j;
	dst[u64(i) * ldd + j] = relu(fmaf(scale[channel], x[u64(i) * ldx + j], offset[channel]));
}

// affine_fold turns y = (x + bias - mean)·invStd·(1 + gain) + shift into y = scale·x + offset, in place, for each image:
// gain [images][n] becomes scale and shift [images][n] becomes offset. mean, invStd and bias are [n]; a null bias is 0.
// Grid: x = images, y = ceil(n/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
affine_fold(float *gain, float *shift, const float *mean, const float *invStd, const float *bias, int n) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= n) return;
	int i = blockIdx.x * n + j;
	float centre = bias ? mean[j] - bias[j] : mean[j];
	float scale = __fmul_rn(1 + gain[i], invStd[j]);
	gain[i] = scale;
	shift[i] = __fadd_rn(shift[i], -__fmul_rn(centre, scale));
}

// affine_columns: dst[i][j] = (x[i][from[j]] + before[j])·scale[j] + after[j], j < cols, each step rounded; a null from is j, the
// others count as 0, 1 and 0. So it is a permutation, its inverse, an ActNorm either way, a standardisation, or a copy between
// matrices of different row strides. dst must not be x unless from is null. Grid: x = rows, y = ceil(cols/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128) affine_columns(float *dst, int ldd, const float *x, int ldx, const int *from,
	const float *before, const float *scale, const float *after, int cols) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	float v = x[u64(blockIdx.x) * ldx + (from ? from[j] : j)];
	if (before) v = __fadd_rn(v, before[j]);
	if (scale) v = __fmul_rn(v, scale[j]);
	if (after) v = __fadd_rn(v, after[j]);
	dst[u64(blockIdx.x) * ldd + j] = v;
}

// What follows takes its factor from memory, so that a captured launch can be played again with another. Grid ceil(n/256), blocks
// of 256.

// affine_mix: dst[i] = base[i] + factor·(dst[i] - base[i]), guidance away from base; a null base is 0.
extern "C" __global__ void __launch_bounds__(256) affine_mix(float *dst, const float *base, const float *factor, int n) {
	int i = global_thread();
	if (i >= n) return;
	float b = base ? base[i] : 0;
	dst[i] = __fadd_rn(b, __fmul_rn(*factor, __fadd_rn(dst[i], -b)));
}

// affine_add: dst[i] += factor·x[i].
extern "C" __global__ void __launch_bounds__(256) affine_add(float *dst, const float *x, const float *factor, int n) {
	int i = global_thread();
	if (i < n) dst[i] = __fadd_rn(dst[i], __fmul_rn(*factor, x[i]));
}
