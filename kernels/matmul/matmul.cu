// Package matmul on the GPU: epilogue(x·Wᵀ), x [m][k] with row stride ldx, W [n][k] ("out, in") with row stride ldw, to an Output.
// Strides count values.
//
// Rows of x and of W begin at multiples of 16 bytes, in their strides too. Behind k a row of W is zero up to the next such multiple,
// and a row of x is finite up to there in the _m and _b entries; in the others it does not matter. Every n, m > 0 and k > 0 is possible.
//
//	matmul_f32               float32 operands. Each sum is one chain of fused multiply-adds over k in order
//	matmul_f32_m1 … _m16     float32 operands, at most so many rows of x (1, 2, 4, 8, 16), where reading W takes the time
//	matmul_tf32_t32 … _t128  float32 operands, rounded to tf32 on the way into tensor cores
//	matmul_bf16_t32 … _t128  bfloat16 operands (quantize_bf16)
//	matmul_bf16_m16 … _m64   W in bfloat16, at most 16, 32 or 64 rows of x in float32, rounded on the way
//	matmul_bf16_b16 … _b64   the same with x in bfloat16
//	matmul_int8_t32 … _t128  x uint8 with scale and zero point per row (quantize_u8_rows), W int8 with scale and sum per output: the
//	                         sums are exact, and the result has the bits of matmul.I8
//	matmul_int8_m16 … _m64   the same for at most 16, 32 or 64 rows
//
// _t32, _t64 and _t128 compute tiles of so many outputs squared, in blocks of 64, 128 and 256 threads, with grid x = ceil(m/tile),
// y = ceil(n/tile): small tiles fill the device, large ones read less. matmul_f32 is launched as a _t64. _s32 is _t32 with k cut among
// four parts of a block, of 256 threads, for few tiles and long k, _x32 with k cut among eight, of 512 threads, which have 98304 bytes of
// dynamic shared memory. The _m and _b entries, which fill the device where there are few
// tiles, have blocks of 128 threads and grid ceil(n/4), except bf16 and int8: ceil(n/8).
#include "output.cuh"
#include "skinny.cuh"
#include "tile.cuh"

// What makes a float32 of an integer sum: matmul.Uint8's scales and zero points, matmul.Int8's scales and sums.
struct Dequantise {
	const float *x_scale;
	const int *x_zero;
	const float *w_scale;
	const int *w_sum;

	float operator()(int sum, int i, int j) const {
		return __fmul_rn(float(sum - x_zero[i] * w_sum[j]), __fmul_rn(x_scale[i], w_scale[j]));
	}
};

// In float32 there is nothing to do.
struct Same {
	float operator()(float sum, int, int) const { return sum; }
};

// tiled computes one tile, k cut among slices.
template <class Tile, int slices = 1, class Finish>
void tiled(const void *x, int ldx, const void *w, int ldw, int k, const Output &out, Finish finish) {
	constexpr int bytes = 4 / Tile::Format::per_word;
	int i0 = blockIdx.x * Tile::size, j0 = blockIdx.y * Tile::size;
	const char *x0 = (const char *)x + u64(i0) * ldx * bytes, *w0 = (const char *)w + u64(j0) * ldw * bytes;
	out.ahead.fetch();
	multiply<Tile, slices>((k * bytes + step_bytes - 1) / step_bytes, [&](int step, int thread, u32 *a, u32 *b) {
		copy_rows<Tile::size, Tile::threads>(a, x0, u64(ldx) * bytes, out.m - i0, step * step_bytes, k * bytes, thread);
		copy_rows<Tile::size, Tile::threads>(b, w0, u64(ldw) * bytes, out.n - j0, step * step_bytes, k * bytes, thread);
	}, [&](int i, int j, typename Tile::Sum sum) {
		i += i0;
		j += j0;
		if (i < out.m && j < out.n) out.store(i, j, finish(sum, i, j));
	});
}

extern "C" __global__ void __launch_bounds__(128)
matmul_f32(const float *x, int ldx, const float *w, int ldw, int k, Output out) {
	tiled<FloatTile>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(64)
matmul_tf32_t32(const float *x, int ldx, const float *w, int ldw, int k, Output out) {
	tiled<MmaTile<TF32, 32, 2, 2>>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(128)
matmul_tf32_t64(const float *x, int ldx, const float *w, int ldw, int k, Output out) {
	tiled<MmaTile<TF32, 64, 2, 4>>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(256)
matmul_tf32_t128(const float *x, int ldx, const float *w, int ldw, int k, Output out) {
	tiled<MmaTile<TF32, 128, 4, 4>>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(256)
matmul_tf32_s32(const float *x, int ldx, const float *w, int ldw, int k, Output out) {
	tiled<MmaTile<TF32, 32, 2, 2>, 4>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(512, 1)
matmul_tf32_x32(const float *x, int ldx, const float *w, int ldw, int k, Output out) {
	tiled<MmaTile<TF32, 32, 2, 2>, 8>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(64)
matmul_bf16_t32(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) {
	tiled<MmaTile<BF16, 32, 2, 2>>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_t64(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) {
	tiled<MmaTile<BF16, 64, 2, 4>>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(256)
matmul_bf16_t128(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) {
	tiled<MmaTile<BF16, 128, 4, 4>>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(256)
matmul_bf16_s32(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) {
	tiled<MmaTile<BF16, 32, 2, 2>, 4>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(512, 1)
matmul_bf16_x32(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) {
	tiled<MmaTile<BF16, 32, 2, 2>, 8>(x, ldx, w, ldw, k, out, Same());
}

extern "C" __global__ void __launch_bounds__(64)
matmul_int8_t32(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) {
	tiled<MmaTile<Int8, 32, 2, 2>>(x, ldx, w, ldw, k, out, d);
}

extern "C" __global__ void __launch_bounds__(128)
matmul_int8_t64(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) {
	tiled<MmaTile<Int8, 64, 2, 4>>(x, ldx, w, ldw, k, out, d);
}

extern "C" __global__ void __launch_bounds__(256)
matmul_int8_t128(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) {
	tiled<MmaTile<Int8, 128, 4, 4>>(x, ldx, w, ldw, k, out, d);
}

extern "C" __global__ void __launch_bounds__(256)
matmul_int8_s32(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) {
	tiled<MmaTile<Int8, 32, 2, 2>, 4>(x, ldx, w, ldw, k, out, d);
}

extern "C" __global__ void __launch_bounds__(512, 1)
matmul_int8_x32(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) {
	tiled<MmaTile<Int8, 32, 2, 2>, 8>(x, ldx, w, ldw, k, out, d);
}

// What follows is for few rows. Those and columns that are not there are computed as the last one, and not stored.

// The chunk of 4 values of a row of x that begins at p, or any other where W is zero.
float4 chunk_of(const float *row, int p, int k) { return *(const float4 *)(row + (p < k ? p : 0)); }

// skinny_f32: a block computes 4 columns of at most rows rows.
template <int rows> void skinny_f32(const float *x, int ldx, const float *w, int ldw, int k, const Output &out) {
	constexpr int columns = 4;
	struct Chunks {
		float4 column[columns];
	};
	__shared__ float parts[skinny_warps][rows][columns];
	int j0 = blockIdx.x * columns;
	out.ahead.fetch();
	float sum[rows][columns] = {};
	auto fetch = [&](int p) {
		p += 4 * lane();
		Chunks b;
#pragma unroll
		for (int j = 0; j < columns; j++)
			b.column[j] = p < k ? *(const float4 *)(w + u64(min(j0 + j, out.n - 1)) * ldw + p) : make_float4(0, 0, 0, 0);
		return b;
	};
	share<Chunks, 4 * warp_size, rows < 16 ? 2 : 1>(k, fetch, [&](int p, const Chunks &b) {
#pragma unroll
		for (int i = 0; i < rows; i++) {
			float4 a = chunk_of(x + u64(min(i, out.m - 1)) * ldx, p + 4 * lane(), k);
#pragma unroll
			for (int j = 0; j < columns; j++) {
				float s = fmaf(a.x, b.column[j].x, sum[i][j]);
				s = fmaf(a.y, b.column[j].y, s);
				s = fmaf(a.z, b.column[j].z, s);
				sum[i][j] = fmaf(a.w, b.column[j].w, s);
			}
		}
	});
#pragma unroll
	for (int i = 0; i < rows; i++)
#pragma unroll
		for (int j = 0; j < columns; j++) {
			float s = warp_sum(sum[i][j]);
			if (lane() == 0) parts[threadIdx.x / warp_size][i][j] = s;
		}
	__syncthreads();
	int i = threadIdx.x / columns, j = threadIdx.x % columns;
	if (i >= min(rows, out.m) || j0 + j >= out.n) return;
	float s = 0;
#pragma unroll
	for (int part = 0; part < skinny_warps; part++) s += parts[part][i][j];
	out.store(i, j0 + j, s);
}

extern "C" __global__ void __launch_bounds__(128)
matmul_f32_m1(const float *x, int ldx, const float *w, int ldw, int k, Output out) { skinny_f32<1>(x, ldx, w, ldw, k, out); }
extern "C" __global__ void __launch_bounds__(128)
matmul_f32_m2(const float *x, int ldx, const float *w, int ldw, int k, Output out) { skinny_f32<2>(x, ldx, w, ldw, k, out); }
extern "C" __global__ void __launch_bounds__(128)
matmul_f32_m4(const float *x, int ldx, const float *w, int ldw, int k, Output out) { skinny_f32<4>(x, ldx, w, ldw, k, out); }
extern "C" __global__ void __launch_bounds__(128)
matmul_f32_m8(const float *x, int ldx, const float *w, int ldw, int k, Output out) { skinny_f32<8>(x, ldx, w, ldw, k, out); }
extern "C" __global__ void __launch_bounds__(128)
matmul_f32_m16(const float *x, int ldx, const float *w, int ldw, int k, Output out) { skinny_f32<16>(x, ldx, w, ldw, k, out); }

// The four words of a row of x whose values begin at p, as skinny multiplies them.
uint4 words_of(const float *row, int p, int k) { // 8 values, rounded to bfloat16
	float4 a = chunk_of(row, p, k), b = chunk_of(row, p + 4, k);
	return make_uint4(bf16x2(a.x, a.y), bf16x2(a.z, a.w), bf16x2(b.x, b.y), bf16x2(b.z, b.w));
}
uint4 words_of(const u16 *row, int p, int k) { return *(const uint4 *)(row + (p < k ? p : 0)); } // 8 values
uint4 words_of(const u8 *row, int p, int k) { return *(const uint4 *)(row + (p < k ? p : 0)); } // 16 values

// The product on tensor cores.
template <class Format, int groups, class X, class Finish>
void few_rows(const X *x, int ldx, const void *w, int ldw, int k, const Output &out, Finish finish) {
	out.ahead.fetch();
	skinny<Format, groups>(w, ldw, out.n, k, [&](int r, int p) {
		int i = 8 * r + lane() / 4;
		return words_of(x + u64(min(i, out.m - 1)) * ldx, p, k);
	}, [&](int i, int j, typename Format::Sum sum) {
		if (i < out.m) out.store(i, j, finish(sum, i, j));
	});
}

extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_m16(const float *x, int ldx, const u16 *w, int ldw, int k, Output out) { few_rows<BF16, 1>(x, ldx, w, ldw, k, out, Same()); }
extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_m32(const float *x, int ldx, const u16 *w, int ldw, int k, Output out) { few_rows<BF16, 2>(x, ldx, w, ldw, k, out, Same()); }
extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_m64(const float *x, int ldx, const u16 *w, int ldw, int k, Output out) { few_rows<BF16, 4>(x, ldx, w, ldw, k, out, Same()); }

extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_b16(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) { few_rows<BF16, 1>(x, ldx, w, ldw, k, out, Same()); }
extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_b32(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) { few_rows<BF16, 2>(x, ldx, w, ldw, k, out, Same()); }
extern "C" __global__ void __launch_bounds__(128)
matmul_bf16_b64(const u16 *x, int ldx, const u16 *w, int ldw, int k, Output out) { few_rows<BF16, 4>(x, ldx, w, ldw, k, out, Same()); }

extern "C" __global__ void __launch_bounds__(128)
matmul_int8_m16(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) { few_rows<Int8, 1>(x, ldx, w, ldw, k, out, d); }
extern "C" __global__ void __launch_bounds__(128)
matmul_int8_m32(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) { few_rows<Int8, 2>(x, ldx, w, ldw, k, out, d); }
extern "C" __global__ void __launch_bounds__(128)
matmul_int8_m64(const u8 *x, int ldx, const i8 *w, int ldw, int k, Dequantise d, Output out) { few_rows<Int8, 4>(x, ldx, w, ldw, k, out, d); }
