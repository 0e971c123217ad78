// Package quantize on the GPU, with its bits: what rounds the rows of activations for the products of kernels/matmul.
#include "functions.cuh"
#include "round.cuh"
#include "warp.cuh"

// quantize_bf16: q[i][j] = x[i][j] rounded to bfloat16, and 0 for cols <= j < ldq. x is [rows][ldx], q [rows][ldq].
// Grid: x = rows, y = ceil(ldq/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128) quantize_bf16(u16 *q, int ldq, const float *x, int ldx, int cols) {
	int i = blockIdx.x, j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j < ldq) q[u64(i) * ldq + j] = j < cols ? bf16(x[u64(i) * ldx + j]) : 0;
}

// quantize_u8_rows: x[i][j] ≈ scale[i]·(q[i][j] - zero[i]) with 255 steps over the range of the row and 0; 0 for cols <= j < ldq.
// See Range.
// x is [rows][ldx], q [rows][ldq], scale and zero are [rows]. One warp a row: grid ceil(rows/4), blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
quantize_u8_rows(u8 *q, int ldq, float *scale, int *zero, const float *x, int ldx, int rows, int cols) {
	int row = global_warp();
	if (row >= rows) return;
	q += u64(row) * ldq;
	x += u64(row) * ldx;
	float low = 0, high = 0, peak = 0;
	for (int j = lane(); j < cols; j += warp_size) {
		low = fminf(low, x[j]);
		high = fmaxf(high, x[j]);
		peak = larger(peak, fabsf(x[j]));
	}
	high = warp_max(high);
	low = -warp_max(-low);
	peak = warp_max(peak);
	Range range(low, high, peak);
	for (int j = lane(); j < ldq; j += warp_size) q[j] = j < cols ? range.of(x[j]) : 0;
	if (lane() == 0) {
		scale[row] = range.step;
		zero[row] = range.zero;
	}
}

// quantize_pixels makes bytes of a generator's colours: dst[i] = red, green, blue and 255 from x[i][0 … 2], x [n][ldx], each
// 128·(x + 1) clipped to [0, 255] and truncated; NaN is 0. Grid ceil(n/256), blocks of 256.
extern "C" __global__ void __launch_bounds__(256) quantize_pixels(u32 *dst, const float *x, int ldx, int n) {
	int i = global_thread();
	if (i >= n) return;
	u32 pixel = 255u << 24;
#pragma unroll
	for (int c = 0; c < 3; c++) pixel |= u32(fminf(fmaxf(128 * (x[u64(i) * ldx + c] + 1), 0), 255)) << 8 * c;
	dst[i] = pixel;
}
