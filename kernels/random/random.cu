// Package random on the GPU, with its bits: every product is rounded before it is added (__fmul_rn and __fadd_rn are never
// fused), and the square root is the correctly rounded one.
//
// All entries: dst is [rows][n] with row stride ld, row i being dimensions dim0 … dim0+n-1 of sample draw[1]+i under the seed
// draw[0]. The draw lies in memory, so that a captured launch can be played again with another. Grid: x = rows, and y covers
// (dim0+n+3)/4 - dim0/4 threads, one for each four dimensions; blocks of 128.
#include "warp.cuh"

struct Block {
	u32 word[4];
};

// Ten rounds of Philox4x32 (Salmon et al. 2011).
Block philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
	for (int i = 0; i < 10; i++) {
		u32 high0 = __umulhi(0xD2511F53, c0), low0 = 0xD2511F53 * c0;
		u32 high1 = __umulhi(0xCD9E8D57, c2), low1 = 0xCD9E8D57 * c2;
		c0 = high1 ^ c1 ^ k0;
		c1 = low1;
		c2 = high0 ^ c3 ^ k1;
		c3 = low0;
		k0 += 0x9E3779B9;
		k1 += 0xBB67AE85;
	}
	return {c0, c1, c2, c3};
}

// horner_rn evaluates a polynomial, rounding every product and every sum.
template <class... C> float horner_rn(float x, float first, C... rest) {
	((first = __fadd_rn(__fmul_rn(first, x), rest)), ...);
	return first;
}

// The natural logarithm of a normal u > 0.
float ln(float u) {
	u32 bits = __float_as_uint(u);
	float e = float(int(bits >> 23) - 127);
	float m = __uint_as_float((bits & 0x7fffff) | 0x3f800000); // [1, 2)
	if (m >= 1.41421356f) {
		m *= 0.5f;
		e += 1;
	}
	float x = m - 1, x2 = __fmul_rn(x, x);
	float y = horner_rn(x, 7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
		-1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f);
	y = __fadd_rn(__fmul_rn(__fmul_rn(y, x), x2), __fmul_rn(e, -2.12194440e-4f));
	y = __fadd_rn(y, __fmul_rn(-0.5f, x2));
	return __fadd_rn(__fadd_rn(x, y), __fmul_rn(e, 0.693359375f));
}

// The sine and cosine of 2π·w·2⁻²⁴, w < 2²⁴.
void sincos_of(u32 w, float &sin, float &cos) {
	constexpr u32 quarter = 1 << 22;
	u32 q = (w + quarter / 2) / quarter;
	float x = __fmul_rn(float(int(w) - int(q * quarter)), 1.57079632679f / quarter), x2 = __fmul_rn(x, x);
	float s = horner_rn(x2, -1.9515295891e-4f, 8.3321608736e-3f, -1.6666654611e-1f);
	float c = horner_rn(x2, 2.443315711809948e-5f, -1.388731625493765e-3f, 4.166664568298827e-2f);
	s = __fadd_rn(__fmul_rn(__fmul_rn(s, x2), x), x);
	c = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(c, x2), x2), -__fmul_rn(0.5f, x2)), 1);
	sin = q & 1 ? c : s;
	cos = q & 1 ? s : c;
	if (q & 2) sin = -sin;
	if ((q + 1) & 2) cos = -cos;
}

// Box and Muller's transform of the words of two dimensions.
void normal_pair(u32 a, u32 b, float &even, float &odd) {
	float u = __fadd_rn(__fmul_rn(float(a), 0x1p-32f), 0x1p-33f);
	float r = __fsqrt_rn(__fmul_rn(-2, ln(u)));
	float sin, cos;
	sincos_of(b >> 8, sin, cos);
	even = __fmul_rn(r, cos);
	odd = __fmul_rn(r, sin);
}

// fill stores what transform makes of each of the block's four words.
template <class T, class Transform>
void fill(T *dst, int ld, int n, const u64 *draw, u32 stream, int dim0, Transform transform) {
	int i = dim0 / 4 + blockIdx.y * blockDim.x + threadIdx.x;
	if (4 * i >= dim0 + n) return;
	u64 seed = draw[0], sample = draw[1] + blockIdx.x;
	Block b = philox(i, u32(sample), u32(sample >> 32), stream, u32(seed), u32(seed >> 32));
	T value[4];
	transform(value, b);
	dst += u64(blockIdx.x) * ld;
#pragma unroll
	for (int k = 0; k < 4; k++) {
		int d = 4 * i + k - dim0;
		if (d >= 0 && d < n) dst[d] = value[k];
	}
}

// random_words: uniform 32-bit words.
extern "C" __global__ void __launch_bounds__(128) random_words(u32 *dst, int ld, int n, const u64 *draw, u32 stream, int dim0) {
	fill(dst, ld, n, draw, stream, dim0, [](u32 *v, const Block &b) {
#pragma unroll
		for (int k = 0; k < 4; k++) v[k] = b.word[k];
	});
}

// random_uniform: (w >> 8 + 1/2)·2⁻²⁴, never 0 and never 1.
extern "C" __global__ void __launch_bounds__(128) random_uniform(float *dst, int ld, int n, const u64 *draw, u32 stream, int dim0) {
	fill(dst, ld, n, draw, stream, dim0, [](float *v, const Block &b) {
#pragma unroll
		for (int k = 0; k < 4; k++) v[k] = (float(b.word[k] >> 8) + 0.5f) * 0x1p-24f;
	});
}

// random_normal: standard normal numbers.
extern "C" __global__ void __launch_bounds__(128) random_normal(float *dst, int ld, int n, const u64 *draw, u32 stream, int dim0) {
	fill(dst, ld, n, draw, stream, dim0, [](float *v, const Block &b) {
		normal_pair(b.word[0], b.word[1], v[0], v[1]);
		normal_pair(b.word[2], b.word[3], v[2], v[3]);
	});
}

// random_dropout: x [rows][n] with row stride ld, a batch of rows samples; each value becomes 0, or keep times itself, as a byte of
// noise is below cut or not. The byte of sample s and feature j is byte s%4 of word s/4 of sample draw[1]+j: it does not depend on
// how the batch lies. The same launch on the gradient is the way back. Grid: x = ceil(rows/16), y = ceil(n/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
random_dropout(float *x, int ld, int rows, int n, const u64 *draw, u32 stream, u32 cut, float keep) {
	int j = blockIdx.y * blockDim.x + threadIdx.x;
	if (j >= n) return;
	u64 seed = draw[0], sample = draw[1] + j;
	Block b = philox(blockIdx.x, u32(sample), u32(sample >> 32), stream, u32(seed), u32(seed >> 32));
#pragma unroll
	for (int i = 0; i < 16; i++) {
		int s = 16 * blockIdx.x + i;
		if (s < rows) x[u64(s) * ld + j] *= (b.word[i / 4] >> i % 4 * 8 & 255) < cut ? 0 : keep;
	}
}

// random_pairs picks the pairs of a batch: pair i of rows is the first whose sum, of the weights up to its own, is not below
// (w₀ + ½)·2⁻³²·sums[count-1], w₀ and w₁ being the words of dimensions 0 and 1 of sample draw[1]+i. members is [count][columns] and
// gives ids [columns][rows] the pair's row; but its first becomes null where (w₁ >> 8 + ½)·2⁻²⁴ is below drop. Grid
// ceil(rows/128), blocks of 128.
extern "C" __global__ void __launch_bounds__(128) random_pairs(int *ids, int rows, const int *members, int columns,
	const double *sums, int count, const u64 *draw, u32 stream, float drop, int null) {
	int i = global_thread();
	if (i >= rows) return;
	u64 seed = draw[0], sample = draw[1] + i;
	Block b = philox(0, u32(sample), u32(sample >> 32), stream, u32(seed), u32(seed >> 32));
	double u = __dmul_rn(__dmul_rn(double(b.word[0]) + 0.5, 0x1p-32), sums[count - 1]);
	int low = 0, high = count - 1; // the last is it if no sum reaches u
	while (low < high) {
		int middle = (low + high) / 2;
		if (sums[middle] >= u) high = middle;
		else low = middle + 1;
	}
	for (int k = 0; k < columns; k++) ids[k * rows + i] = members[u64(low) * columns + k];
	if (__fmul_rn(float(b.word[1] >> 8) + 0.5f, 0x1p-24f) < drop) ids[i] = null;
}
