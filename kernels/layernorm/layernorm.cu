// Package layernorm on the GPU.
#include "epilogue.cuh"

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

// Rounded is a copy of a normalised matrix for the product that follows: rows of ld values, zeros behind the n of dst. Without a scale
// it is bfloat16, otherwise uint8 with a scale and a zero point for each row (quantize_u8_rows).
struct Rounded {
	void *at; // or null
	float *scale;
	int *zero;
	int ld;
	int unused;
};

// normalise makes row blockIdx.x of layernorm_f32 without an activation, y(j) being what is normalised, and its copy. A row that y
// reads may be that of dst.
template <class Y> void normalise(float *dst, Y y, const float *gamma, const float *beta, int n, float eps, const Rounded &copy) {
	enum : int { block = 128 };
	int row = blockIdx.x;
	dst += u64(row) * n;
	float first = y(0), sum = 0, squares = 0;
	for (int j = threadIdx.x; j < n; j += block) sum += y(j) - first;
	float mean = block_sum<block>(sum) / n;
	for (int j = threadIdx.x; j < n; j += block) {
		float d = y(j) - first - mean;
		squares = fmaf(d, d, squares);
	}
	float scale = 1 / sqrtf(block_sum<block, 1>(squares) / n + eps), low = 0, high = 0, peak = 0;
	u16 *half = (u16 *)copy.at + u64(row) * copy.ld;
	bool bf16s = copy.at && !copy.scale, bytes = copy.at && copy.scale;
	for (int j = threadIdx.x; j < n; j += block) {
		float v = fmaf((y(j) - first - mean) * scale, gamma[j], beta[j]);
		dst[j] = v;
		if (bf16s) half[j] = bf16(v);
		low = fminf(low, v);
		high = fmaxf(high, v);
		peak = larger(peak, fabsf(v));
	}
	if (bf16s)
		for (int j = n + threadIdx.x; j < copy.ld; j += block) half[j] = 0;
	if (!bytes) return;
	Range range(-block_max<block>(-low), block_max<block, 1>(high), block_max<block, 2>(peak));
	u8 *q = (u8 *)copy.at + u64(row) * copy.ld;
	for (int j = threadIdx.x; j < copy.ld; j += block) q[j] = j < n ? range.of(dst[j]) : 0;
	if (threadIdx.x == 0) {
		copy.scale[row] = range.step;
		copy.zero[row] = range.zero;
	}
}

// layernorm_next is layernorm_f32 without an activation, and Rounded. One block of 128 a row.
extern "C" __global__ void __launch_bounds__(128) layernorm_next(float *dst, const float *x, const float *residual, const float *gamma,
	const float *beta, int n, float eps, Rounded copy, Ahead ahead) {
	ahead.fetch();
	x += u64(blockIdx.x) * n;
	if (residual) residual += u64(blockIdx.x) * n;
	normalise(dst, [=](int j) { return residual ? x[j] + residual[j] : x[j]; }, gamma, beta, n, eps, copy);
}

// Text is the tables of a text encoder, [·][n], and for each token its rows of them.
struct Text {
	const void *words; // float32 or, with a scale for each row, int8
	const float *scale;
	const float *positions, *types;
	const int *ids, *places, *kinds;
};

// layernorm_text is layernorm_next of each token's word + position + type, in that order. One block of 128 a token.
extern "C" __global__ void __launch_bounds__(128)
layernorm_text(float *dst, Text text, const float *gamma, const float *beta, int n, float eps, Rounded copy, Ahead ahead) {
	ahead.fetch();
	int token = blockIdx.x, id = text.ids[token];
	const float *position = text.positions + u64(text.places[token]) * n, *type = text.types + u64(text.kinds[token]) * n;
	normalise(dst, [=](int j) {
		float word = text.scale ? __fmul_rn(text.scale[id], ((const i8 *)text.words)[u64(id) * n + j]) : ((const float *)text.words)[u64(id) * n + j];
		return __fadd_rn(__fadd_rn(word, position[j]), type[j]);
	}, gamma, beta, n, eps, copy);
}
