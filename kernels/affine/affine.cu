// Package affine on the GPU.
#include "functions.cuh"
#include "warp.cuh"

// affine_relu: dst[i][j] = max(0, scale[image][j]·x[i][j] + offset[image][j]) with image = i/pixels: x is [rows][cols] with
// row stride ldx, dst with ldd, scale and offset are [rows/pixels][cols] with row stride lda. dst may be x if ldd = ldx. Grid: x =
// rows, y = ceil(cols/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
affine_relu(float *dst, int ldd, const float *x, int ldx, const float *scale, const float *offset, int lda, int cols, int pixels) {
	int i = blockIdx.x, j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	u64 channel = u64(i / pixels) * lda + j;
	dst[u64(i) * ldd + j] = relu(fmaf(scale[channel], x[u64(i) * ldx + j], offset[channel]));
}

// affine_fold turns y = (x + bias - mean)·invStd·(1 + gain) + shift into y = scale·x + offset, in place, for each image:
// gain [images][n] becomes scale and shift [images][n] becomes offset, both with row stride ld. mean, invStd and bias are [n]; a null
// bias is 0. Grid: x = images, y = ceil(n/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
affine_fold(float *gain, float *shift, int ld, const float *mean, const float *invStd, const float *bias, int n) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= n) return;
	u64 i = u64(blockIdx.x) * ld + j;
	float centre = bias ? mean[j] - bias[j] : mean[j];
	float scale = __fmul_rn(1 + gain[i], invStd[j]);
	gain[i] = scale;
	shift[i] = __fadd_rn(shift[i], -__fmul_rn(centre, scale));
}

// affine_columns: dst[i][j] = (x[i][from[j]] + before[j])·scale[j] + after[j], j < cols, each step rounded; a null from is j, a
// negative from[j] reads 0, and the others count as 0, 1 and 0 where they are null. So it is a permutation, its inverse, an ActNorm
// either way, a standardisation, or a copy between matrices of different row strides. dst must not be x unless from is null.
// Grid: x = rows, y = ceil(cols/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128) affine_columns(float *dst, int ldd, const float *x, int ldx, const int *from,
	const float *before, const float *scale, const float *after, int cols) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	int column = from ? from[j] : j;
	float v = column < 0 ? 0 : x[u64(blockIdx.x) * ldx + column];
	if (before) v = __fadd_rn(v, before[j]);
	if (scale) v = __fmul_rn(v, scale[j]);
	if (after) v = __fadd_rn(v, after[j]);
	dst[u64(blockIdx.x) * ldd + j] = v;
}

// affine_columns_back: dst[i][j] = d[i][from[j]]·scale[which[j]], j < cols, or 0 where from[j] is negative: the way back through an
// ActNorm, whose scale lies as it lay on the way forth. dst must not be d. Grid as affine_columns.
extern "C" __global__ void __launch_bounds__(128)
affine_columns_back(float *dst, int ldd, const float *d, int ldx, const int *from, const float *scale, const int *which, int cols) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	int column = from[j];
	dst[u64(blockIdx.x) * ldd + j] = column < 0 ? 0 : __fmul_rn(d[u64(blockIdx.x) * ldx + column], scale[which[j]]);
}

// affine_columns_gather: dst[i][j] = Σ_k d[i][from[k][j]], k < count in order, where a negative from[k][j] reads 0: what goes back to
// columns that went forth to several, or sums over pixels. from is [count][cols]; dst must not be d. Grid as affine_columns.
extern "C" __global__ void __launch_bounds__(128)
affine_columns_gather(float *dst, int ldd, const float *d, int ldx, const int *from, int count, int cols) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	d += u64(blockIdx.x) * ldx;
	float sum = 0;
	for (int k = 0; k < count; k++) {
		int column = from[u64(k) * cols + j];
		if (column >= 0) sum += d[column];
	}
	dst[u64(blockIdx.x) * ldd + j] = sum;
}

// affine_columns_sums are the gradients of an ActNorm y = scale·(x + loc) from d = ∂L/∂y and y: with the columns from[j] of d and
// which[j] of y,
//
//	dloc[j] = scale[j]·Σ_i d    dscale[j] = (Σ_i d·y - 1)/scale[j]
//
// where -1/scale is that of -log|scale|. Where from[j] is negative both are 0. Each sum has an order of its own, that depends on
// rows alone. Grid ceil(n/32), blocks of 256.
extern "C" __global__ void __launch_bounds__(256) affine_columns_sums(float *dloc, float *dscale, const float *d, int ldd,
	const int *from, const float *y, int ldy, const int *which, const float *scale, int rows, int n) {
	constexpr int side = 32, tall = 256 / side;
	__shared__ float parts[tall][2][side];
	int across = threadIdx.x % side, down = threadIdx.x / side, j = blockIdx.x * side + across;
	float sum = 0, along = 0;
	int column = j < n ? from[j] : -1;
	if (column >= 0)
		for (int i = down, at = which[j]; i < rows; i += tall) {
			float v = d[u64(i) * ldd + column];
			sum += v;
			along = fmaf(v, y[u64(i) * ldy + at], along);
		}
	parts[down][0][across] = sum;
	parts[down][1][across] = along;
	__syncthreads();
	if (down > 0 || j >= n) return;
#pragma unroll
	for (int p = 1; p < tall; p++) {
		sum += parts[p][0][across];
		along += parts[p][1][across];
	}
	dloc[j] = column < 0 ? 0 : scale[j] * sum;
	dscale[j] = column < 0 ? 0 : (along - 1) / scale[j];
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
