// Package layernorm on the GPU.
#include "functions.cuh"
#include "warp.cuh"

// layernorm_f32: with y = x + residual,
//
//	dst[i][j] = act((y[i][j] - mean_i)/√(var_i + eps)·gamma[j] + beta[j])
//
// x, residual (null: zeros) and dst are [rows][n], gamma and beta [n], act is one of matmul.Act. dst may be x or residual. One
// warp a row: grid ceil(rows/4), blocks of 128. n > 0.
//
// Statistics are those of y - y[0], in two passes: as y[0] is one of the row, the differences are of the size of the row's
// spread, however far its mean from zero, and float32 is enough.
extern "C" __global__ void __launch_bounds__(128) layernorm_f32(float *dst, const float *x, const float *residual,
	const float *gamma, const float *beta, int rows, int n, float eps, int act) {
	int row = global_warp();
	if (row >= rows) return;
	dst += u64(row) * n;
	x += u64(row) * n;
	if (residual) residual += u64(row) * n;
	auto y = [=](int j) { return residual ? x[j] + residual[j] : x[j]; };
	float first = y(0), sum = 0, squares = 0;
	for (int j = lane(); j < n; j += warp_size) sum += y(j) - first;
	float mean = warp_sum(sum) / n;
	for (int j = lane(); j < n; j += warp_size) {
		float d = y(j) - first - mean;
		squares = fmaf(d, d, squares);
	}
	// The sum is also where every lane has read y(0), which lane 0 may overwrite below.
	float scale = 1 / sqrtf(warp_sum(squares) / n + eps);
	for (int j = lane(); j < n; j += warp_size) dst[j] = activate(act, fmaf((y(j) - first - mean) * scale, gamma[j], beta[j]));
}
