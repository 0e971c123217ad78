// Package affine on the GPU.
#include "functions.cuh"
#include "warp.cuh"

// affine_relu: dst[i][j] = max(0, scale[image][j]·x[i][j] + offset[image][j]) with image = i/pixels: x is [rows][cols] with
// row stride ldx, dst with ldd, scale and offset are [rows/pixels][cols]. dst may be x if ldd = ldx.
// Grid: x = ceil(cols/128), y = rows, at most 65535 at a time from row0 on; blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
affine_relu(float *dst, int ldd, const float *x, int ldx, const float *scale, const float *offset, int row0, int cols, int pixels) {
	int i = row0 + blockIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= cols) return;
	int channel = i / pixels * cols + j;
	dst[u64(i) * ldd + j] = relu(fmaf(scale[channel], x[u64(i) * ldx + j], offset[channel]));
}

// affine_fold turns y = (x + bias - mean)·invStd·(1 + gain) + shift into y = scale·x + offset, in place, for each image:
// gain [images][n] becomes scale and shift [images][n] becomes offset. mean, invStd and bias are [n]; a null bias is 0.
// Grid: x = ceil(n/128), y = images; blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
affine_fold(float *gain, float *shift, const float *mean, const float *invStd, const float *bias, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j >= n) return;
	int i = blockIdx.y * n + j;
	float centre = bias ? mean[j] - bias[j] : mean[j];
	float scale = __fmul_rn(1 + gain[i], invStd[j]);
	gain[i] = scale;
	shift[i] = __fadd_rn(shift[i], -__fmul_rn(centre, scale));
}
