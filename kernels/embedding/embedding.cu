// Package embedding on the GPU, and the pooling of a text's tokens. The host has checked every id.
#include "functions.cuh"
#include "warp.cuh"

// embedding_f32: dst[i] = table[ids[i]], dst [rows][n], table [·][n]. Grid: x = rows, y = ceil(n/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128) embedding_f32(float *dst, const float *table, const int *ids, int n) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j < n) dst[u64(blockIdx.x) * n + j] = table[u64(ids[blockIdx.x]) * n + j];
}

// embedding_i8: dst[i] = scale[ids[i]]·q[ids[i]], q [·][n] int8. Grid as embedding_f32.
extern "C" __global__ void __launch_bounds__(128) embedding_i8(float *dst, const i8 *q, const float *scale, const int *ids, int n) {
	int j = blockIdx.y * blockDim.x + threadIdx.x, id = ids[blockIdx.x];
	if (j < n) dst[u64(blockIdx.x) * n + j] = scale[id] * q[u64(id) * n + j];
}

// embedding_add: dst[i] += table[ids[i]]. Grid as embedding_f32.
extern "C" __global__ void __launch_bounds__(128) embedding_add(float *dst, const float *table, const int *ids, int n) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j < n) dst[u64(blockIdx.x) * n + j] += table[u64(ids[blockIdx.x]) * n + j];
}

// embedding_draw makes samples of Gaussians out of noise: dst[i] = table[ids[i]] + spread[ids[i]]·dst[i], each step rounded; a null
// spread is all noise. dst [rows][n] has row stride ldd, table and spread are [·][n]. Grid as embedding_f32.
extern "C" __global__ void __launch_bounds__(128)
embedding_draw(float *dst, int ldd, const float *table, const float *spread, float noise, const int *ids, int n) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= n) return;
	u64 at = u64(ids[blockIdx.x]) * n + j;
	dst += u64(blockIdx.x) * ldd;
	dst[j] = __fadd_rn(table[at], __fmul_rn(spread ? spread[at] : noise, dst[j]));
}

// embedding_pool makes one embedding of each text's tokens: dst [texts][n] from x [tokens][n], where text i is the tokens
// starts[i] … starts[i+1]-1, at least one. It takes the first token, or the mean where mean is not 0, and divides the result by
// its length where normalize is not 0. Grid: texts; blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
embedding_pool(float *dst, const float *x, const int *starts, int n, int mean, int normalize) {
	int begin = starts[blockIdx.x], end = mean ? starts[blockIdx.x + 1] : begin + 1;
	dst += u64(blockIdx.x) * n;
	float scale = 1 / float(end - begin), squares = 0;
	for (int j = threadIdx.x; j < n; j += 128) {
		float sum = 0;
		for (int i = begin; i < end; i++) sum += x[u64(i) * n + j];
		sum *= scale;
		dst[j] = sum;
		squares = fmaf(sum, sum, squares);
	}
	if (!normalize) return;
	scale = 1 / fmaxf(sqrtf(block_sum<128>(squares)), 1e-12f);
	for (int j = threadIdx.x; j < n; j += 128) dst[j] *= scale; // each thread's own
}

// embedding_posterior is the mean of a table's rows under what a noisy row says of them: for each row of e [rows][n] and the table
// [classes][n],
//
//	scores[k] = -half·|e - table[k]|²    hat = Σ_k softmax_k(scores)·table[k]    half = 1/(2σ²)
//
// scores is [rows][classes], hat [rows][n]. Grid: rows; blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
embedding_posterior(float *hat, float *scores, const float *e, const float *table, int classes, int n, float half) {
	hat += u64(blockIdx.x) * n;
	scores += u64(blockIdx.x) * classes;
	e += u64(blockIdx.x) * n;
	int warp = threadIdx.x / warp_size;
	for (int k = warp; k < classes; k += 4) {
		float square = 0;
		for (int j = lane(); j < n; j += warp_size) {
			float d = e[j] - table[u64(k) * n + j];
			square = fmaf(d, d, square);
		}
		square = warp_sum(square);
		if (lane() == 0) scores[k] = -half * square;
	}
	__syncthreads();
	float top = scores[0], sum = 0; // every warp works out both
	for (int k = lane(); k < classes; k += warp_size) top = larger(top, scores[k]);
	top = warp_max(top);
	for (int k = lane(); k < classes; k += warp_size) sum += exponential(scores[k] - top);
	float scale = 1 / warp_sum(sum);
	for (int j = threadIdx.x; j < n; j += 128) {
		float mean = 0;
		for (int k = 0; k < classes; k++) {
			float w = exponential(scores[k] - top);
			if (w > 0) mean = fmaf(w * scale, table[u64(k) * n + j], mean);
		}
		hat[j] = mean;
	}
}
