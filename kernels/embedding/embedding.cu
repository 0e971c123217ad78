// Package embedding on the GPU, and the pooling of a text's tokens. The host has checked every id.
#include "warp.cuh"

// embedding_f32: dst[i] = table[ids[i]], dst [rows][n], table [·][n]. Grid: x = ceil(n/128), y = rows; blocks of 128.
extern "C" __global__ void __launch_bounds__(128) embedding_f32(float *dst, const float *table, const int *ids, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j < n) dst[u64(blockIdx.y) * n + j] = table[u64(ids[blockIdx.y]) * n + j];
}

// embedding_i8: dst[i] = scale[ids[i]]·q[ids[i]], q [·][n] int8. Grid as embedding_f32.
extern "C" __global__ void __launch_bounds__(128) embedding_i8(float *dst, const i8 *q, const float *scale, const int *ids, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x, id = ids[blockIdx.y];
	if (j < n) dst[u64(blockIdx.y) * n + j] = scale[id] * q[u64(id) * n + j];
}

// embedding_add: dst[i] += table[ids[i]]. Grid as embedding_f32.
extern "C" __global__ void __launch_bounds__(128) embedding_add(float *dst, const float *table, const int *ids, int n) {
	int j = blockIdx.x * blockDim.x + threadIdx.x;
	if (j < n) dst[u64(blockIdx.y) * n + j] += table[u64(ids[blockIdx.y]) * n + j];
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
