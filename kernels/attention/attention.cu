// Package attention on the GPU: softmax(Q·Kᵀ)·V in one pass over the keys. Scores are never stored: each query keeps
// the largest score so far, the sum of its weights and its weighted values, rescaled whenever the largest grows (online softmax,
// Milakov and Gimelshein 2018; Dao et al. 2022). As on the CPU, the usual 1/√depth is folded into what makes the queries.
#include "epilogue.cuh"
#include "mma.cuh"

// 2ˣ by the hardware, within 2 ulp; 0 for -Inf.
float exp2_fast(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

enum : int { query_tile = 64, key_tile = 32, block = 128 };

// Rows is a matrix in memory.
template <class T> struct Rows {
	const T *at;
	int ld;

	Rows from(int row) const { return {at + u64(row) * ld, ld}; }
};

// load copies rows × columns of the matrix to shared memory, width to a row at pitch; what is not there becomes zero.
template <int height, int width, int pitch> void load(float *to, Rows<float> from, int rows, int columns) {
	for (int i = threadIdx.x; i < height * width; i += block) {
		int row = i / width, column = i % width;
		to[row * pitch + column] = row < rows && column < columns ? from.at[u64(row) * from.ld + column] : 0;
	}
}

// store writes scale times a lane's values of a row to the columns from, from+step, … below width, four side by side at each.
template <int parts> void store(float *row, const float (&value)[parts][4], float scale, int from, int step, int width) {
#pragma unroll
	for (int h = 0; h < parts; h++) {
		const float(&v)[4] = value[h];
		int column = from + h * step;
		if (column + 4 <= width && u64(row + column) % 16 == 0) {
			store_global(row + column, v[0] * scale, v[1] * scale, v[2] * scale, v[3] * scale);
			continue;
		}
#pragma unroll
		for (int e = 0; e < 4; e++)
			if (column + e < width) row[column + e] = v[e] * scale;
	}
}

// Attend computes dst[i] = Σ_j softmax_j(q[i]·k[j])·v[j] for one block's queries, q [queries][depth], k [keys][depth], v and dst
// [·][width], where depth <= max_depth and width <= max_width. keys > 0. There are three of them.

// attend_f32 works in float32 throughout.
template <int max_depth, int max_width>
void attend_f32(float *dst, int ldd, Rows<float> q, Rows<float> k, Rows<float> v, int queries, int keys, int depth, int width) {
	constexpr int lanes = 8; // share 4 queries, 16 apart
	// Pitches that put what a warp reads, and the weights that it writes, at a time into different banks.
	constexpr int pitch = max_depth + 4, weight_pitch = key_tile + lanes, down = query_tile / (block / lanes), across = key_tile / lanes;
	constexpr int parts = max_width / (4 * lanes); // float4 of a query's values that a lane holds
	__shared__ __align__(16) float qs[query_tile * pitch], ks[key_tile * pitch], vs[key_tile * max_width], weights[query_tile * weight_pitch];
	int row = threadIdx.x / lanes, part = threadIdx.x % lanes; // the thread's queries are row + 16·i
	int i0 = blockIdx.x * query_tile;
	const float log2e = 1.44269504f, infinity = __int_as_float(0x7f800000);
	float top[down], sum[down], value[down][parts][4] = {};
#pragma unroll
	for (int i = 0; i < down; i++) {
		top[i] = -infinity;
		sum[i] = 0;
	}
	load<query_tile, max_depth, pitch>(qs, q.from(i0), queries - i0, depth);
#pragma unroll 1
	for (int j0 = 0; j0 < keys; j0 += key_tile) {
		__syncthreads(); // the last tile is done with
		load<key_tile, max_depth, pitch>(ks, k.from(j0), keys - j0, depth);
		load<key_tile, max_width, max_width>(vs, v.from(j0), keys - j0, width);
		__syncthreads();
		float score[down][across] = {};
#pragma unroll 4
		for (int p = 0; p < max_depth; p += 4) {
			float4 b[across];
#pragma unroll
			for (int j = 0; j < across; j++) b[j] = load_shared(ks + (part + lanes * j) * pitch + p);
#pragma unroll
			for (int i = 0; i < down; i++) {
				float4 a = load_shared(qs + (row + block / lanes * i) * pitch + p);
#pragma unroll
				for (int j = 0; j < across; j++)
					score[i][j] = fmaf(a.w, b[j].w, fmaf(a.z, b[j].z, fmaf(a.y, b[j].y, fmaf(a.x, b[j].x, score[i][j]))));
			}
		}
#pragma unroll
		for (int i = 0; i < down; i++) {
			float largest = top[i];
#pragma unroll
			for (int j = 0; j < across; j++) {
				if (j0 + part + lanes * j >= keys) score[i][j] = -infinity;
				largest = fmaxf(largest, score[i][j]);
			}
#pragma unroll
			for (int d = lanes / 2; d > 0; d /= 2) largest = fmaxf(largest, __shfl_xor_sync(whole_warp, largest, d));
			float shrink = exp2_fast((top[i] - largest) * log2e);
			top[i] = largest;
			sum[i] *= shrink;
#pragma unroll
			for (int j = 0; j < across; j++) {
				float w = exp2_fast((score[i][j] - largest) * log2e);
				sum[i] += w;
				weights[(row + block / lanes * i) * weight_pitch + part + lanes * j] = w;
			}
#pragma unroll
			for (int h = 0; h < parts; h++)
#pragma unroll
				for (int e = 0; e < 4; e++) value[i][h][e] *= shrink;
		}
		__syncwarp(); // the lanes that share a query's weights are of one warp
#pragma unroll 1
		for (int j = 0; j < key_tile; j += 4) {
			float w[down][4];
#pragma unroll
			for (int i = 0; i < down; i++) *(float4 *)w[i] = load_shared(weights + (row + block / lanes * i) * weight_pitch + j);
#pragma unroll
			for (int e = 0; e < 4; e++)
#pragma unroll
				for (int h = 0; h < parts; h++) {
					float4 b = load_shared(vs + (j + e) * max_width + 4 * (part + lanes * h));
#pragma unroll
					for (int i = 0; i < down; i++) {
						value[i][h][0] = fmaf(w[i][e], b.x, value[i][h][0]);
						value[i][h][1] = fmaf(w[i][e], b.y, value[i][h][1]);
						value[i][h][2] = fmaf(w[i][e], b.z, value[i][h][2]);
						value[i][h][3] = fmaf(w[i][e], b.w, value[i][h][3]);
					}
				}
		}
	}
#pragma unroll
	for (int i = 0; i < down; i++)
#pragma unroll
		for (int d = lanes / 2; d > 0; d /= 2) sum[i] += __shfl_xor_sync(whole_warp, sum[i], d);
#pragma unroll
	for (int i = 0; i < down; i++) {
		int query = i0 + row + block / lanes * i;
		if (query < queries) store<parts>(dst + u64(query) * ldd, value[i], 1 / sum[i], 4 * part, 4 * lanes, width);
	}
}

// copy starts the copy of a tile of key_tile rows to shared memory, as load, in chunks of 16 bytes: place(row, column) is where one
// goes.
template <int width, class T, class Place> void copy(Rows<T> from, int rows, int columns, Place place) {
	constexpr int chunk = 16 / sizeof(T);
	for (int i = threadIdx.x; i < key_tile * width / chunk; i += block) {
		int row = i / (width / chunk), column = i % (width / chunk) * chunk;
		int size = row < rows ? int(sizeof(T)) * min(max(columns - column, 0), chunk) : 0;
		copy_async((u32 *)place(row, column), from.at + (size > 0 ? u64(row) * from.ld + column : 0), size);
	}
}

// place of a chunk in a tile of float32 with so many values from one row to the next, and in one of bfloat16: there the chunks of a row
// are permuted, so that those of one column in eight rows, and all of neighbouring rows, are in different banks.
template <int pitch> float *place(float *tile, int row, int column) { return tile + row * pitch + column; }
template <int width> u16 *place(u16 *tile, int row, int column) {
	constexpr int chunks = width / 8;
	return tile + row * width + (column / 8 ^ row * chunks / 8 % chunks) * 8;
}

// Online is the softmax of a warp's 16 queries, and its products with the values, as the tiles of keys come, on tensor cores: a lane
// sees the rows g and g+8 of sums.
template <int parts> struct Online {
	float top[2] = {-__int_as_float(0x7f800000), -__int_as_float(0x7f800000)}, sum[2] = {}, value[parts][4] = {};

	// weigh prepares for the weights of a tile's scores, of which the first so many keys are there. They are not in sum yet.
	template <int across> void weigh(float (&score)[across][4], int keys) {
		const float log2e = 1.44269504f, infinity = __int_as_float(0x7f800000);
#pragma unroll
		for (int r = 0; r < 2; r++) {
			float largest = top[r];
#pragma unroll
			for (int j = 0; j < across; j++)
#pragma unroll
				for (int e = 0; e < 2; e++) {
					float &s = score[j][2 * r + e];
					if (8 * j + 2 * (lane() % 4) + e >= keys) s = -infinity;
					largest = fmaxf(largest, s);
				}
			largest = fmaxf(largest, __shfl_xor_sync(whole_warp, largest, 1));
			largest = fmaxf(largest, __shfl_xor_sync(whole_warp, largest, 2));
			float shrink = exp2_fast((top[r] - largest) * log2e);
			top[r] = largest;
			sum[r] *= shrink;
#pragma unroll
			for (int h = 0; h < parts; h++) {
				value[h][2 * r] *= shrink;
				value[h][2 * r + 1] *= shrink;
			}
		}
	}

	// weight is that of a score of row g + 8·r.
	float weight(float score, int r) const { return exp2_fast((score - top[r]) * 1.44269504f); }

	// each calls f(row, column, a, b) for the results (row, column) and (row, column+1) of the lane: row is g or g+8.
	template <class F> void each(F f) {
#pragma unroll
		for (int r = 0; r < 2; r++) {
			sum[r] += __shfl_xor_sync(whole_warp, sum[r], 1);
			sum[r] += __shfl_xor_sync(whole_warp, sum[r], 2);
			float scale = 1 / sum[r];
#pragma unroll
			for (int h = 0; h < parts; h++)
				f(lane() / 4 + 8 * r, 8 * h + lane() % 4 * 2, value[h][2 * r] * scale, value[h][2 * r + 1] * scale);
		}
	}
};

// attend_tf32 multiplies on tensor cores, with queries, keys, values and weights rounded to tf32; the rest is float32. A warp has
// 16 queries. Rows of k and of v begin at multiples of 16 bytes.
template <int max_depth, int max_width>
void attend_tf32(float *dst, int ldd, Rows<float> q, Rows<float> k, Rows<float> v, int queries, int keys, int depth, int width) {
	constexpr int k_pitch = max_depth + 4, v_pitch = max_width + 4; // as in attend_f32
	constexpr int steps = max_depth / 8, across = key_tile / 8, parts = max_width / 8;
	__shared__ __align__(16) float ks[2][key_tile * k_pitch], vs[2][key_tile * v_pitch];
	int l = lane(), g = l / 4, t = l % 4, i0 = blockIdx.x * query_tile + threadIdx.x / warp_size * 16;
	u32 query[steps][4];
#pragma unroll
	for (int p = 0; p < steps; p++)
#pragma unroll
		for (int e = 0; e < 4; e++) {
			int row = i0 + g + e % 2 * 8, column = 8 * p + t + e / 2 * 4;
			query[p][e] = tf32(row < queries && column < depth ? q.at[u64(row) * q.ld + column] : 0);
		}
	auto fetch = [&](int tile) {
		int j0 = tile * key_tile;
		if (j0 < keys) {
			copy<max_depth>(k.from(j0), keys - j0, depth, [&](int row, int column) { return place<k_pitch>(ks[tile % 2], row, column); });
			copy<max_width>(v.from(j0), keys - j0, width, [&](int row, int column) { return place<v_pitch>(vs[tile % 2], row, column); });
		}
		commit_copies();
	};
	Online<parts> online;
	fetch(0);
#pragma unroll 1
	for (int tile = 0; tile * key_tile < keys; tile++) {
		fetch(tile + 1);
		wait_copies<1>();
		__syncthreads();
		float score[across][4] = {};
#pragma unroll
		for (int p = 0; p < steps; p++)
#pragma unroll
			for (int j = 0; j < across; j += 2) {
				u32 b[4];
				load_matrices(b, (u32 *)ks[tile % 2] + (8 * j + l / 16 * 8 + l % 8) * k_pitch + 8 * p + l / 8 % 2 * 4);
#pragma unroll
				for (int e = 0; e < 4; e++) b[e] = TF32::load(b[e]);
				TF32::multiply(score[j], query[p], b[0], b[1]);
				TF32::multiply(score[j + 1], query[p], b[2], b[3]);
			}
		online.weigh(score, keys - tile * key_tile);
#pragma unroll
		for (int j = 0; j < across; j++) {
			u32 weight[4];
#pragma unroll
			for (int e = 0; e < 4; e++) {
				weight[e] = tf32(online.weight(score[j][e], e / 2));
				online.sum[e / 2] += __uint_as_float(weight[e]);
			}
			// The sums of one product are the left operand of the next as they lie, if its words t and t+4 are the keys 2t and 2t+1.
			u32 a[4] = {weight[0], weight[2], weight[1], weight[3]};
			const float *row = vs[tile % 2] + (8 * j + 2 * t) * v_pitch + g;
#pragma unroll
			for (int h = 0; h < parts; h++) TF32::multiply(online.value[h], a, tf32(row[8 * h]), tf32(row[v_pitch + 8 * h]));
		}
		__syncthreads(); // the tile's place may be written to
	}
	online.each([&](int row, int column, float a, float b) {
		row += i0;
		if (row >= queries || column >= width) return; // width is even
		float *to = dst + u64(row) * ldd + column;
		if (u64(to) % 8 == 0) {
			store_global(to, a, b);
		} else {
			to[0] = a;
			to[1] = b;
		}
	});
}

// attend_bf16 is attend_tf32 with queries, keys, values, and weights, in bfloat16, and so are the results. depth, width and all row
// strides are multiples of 8, and all begins at multiples of 16 bytes.
template <int max_depth, int max_width>
void attend_bf16(u16 *dst, int ldd, Rows<u16> q, Rows<u16> k, Rows<u16> v, int queries, int keys, int depth, int width) {
	constexpr int steps = max_depth / 16, across = key_tile / 8, parts = max_width / 8;
	__shared__ __align__(16) u16 ks[2][key_tile * max_depth], vs[2][key_tile * max_width];
	int l = lane(), g = l / 4, t = l % 4, i0 = blockIdx.x * query_tile + threadIdx.x / warp_size * 16;
	u32 query[steps][4];
#pragma unroll
	for (int p = 0; p < steps; p++)
#pragma unroll
		for (int e = 0; e < 4; e++) {
			int row = i0 + g + e % 2 * 8, column = 16 * p + 2 * t + e / 2 * 8;
			query[p][e] = row < queries && column < depth ? *(const u32 *)(q.at + u64(row) * q.ld + column) : 0;
		}
	auto fetch = [&](int tile) {
		int j0 = tile * key_tile;
		if (j0 < keys) {
			copy<max_depth>(k.from(j0), keys - j0, depth, [&](int row, int column) { return place<max_depth>(ks[tile % 2], row, column); });
			copy<max_width>(v.from(j0), keys - j0, width, [&](int row, int column) { return place<max_width>(vs[tile % 2], row, column); });
		}
		commit_copies();
	};
	Online<parts> online;
	fetch(0);
#pragma unroll 1
	for (int tile = 0; tile * key_tile < keys; tile++) {
		fetch(tile + 1);
		wait_copies<1>();
		__syncthreads();
		float score[across][4] = {};
#pragma unroll
		for (int p = 0; p < steps; p++)
#pragma unroll
			for (int j = 0; j < across; j += 2) {
				u32 b[4];
				load_matrices(b, (u32 *)place<max_depth>(ks[tile % 2], 8 * j + l / 16 * 8 + l % 8, 16 * p + l / 8 % 2 * 8));
				BF16::multiply(score[j], query[p], b[0], b[1]);
				BF16::multiply(score[j + 1], query[p], b[2], b[3]);
			}
		online.weigh(score, keys - tile * key_tile);
#pragma unroll
		for (int j = 0; j < across; j += 2) {
			// Rounded to even, so that the sum is that of what is multiplied.
			u32 a[4];
#pragma unroll
			for (int e = 0; e < 4; e++) {
				const float *w = score[j + e / 2] + e % 2 * 2;
				a[e] = bf16x2(online.weight(w[0], e % 2), online.weight(w[1], e % 2));
				online.sum[e % 2] += __uint_as_float(a[e] << 16) + __uint_as_float(a[e] & 0xffff0000);
			}
#pragma unroll
			for (int h = 0; h < parts; h += 2) {
				u32 b[4];
				load_transposed(b, place<max_width>(vs[tile % 2], 8 * j + l % 16, 8 * h + l / 16 * 8));
				BF16::multiply(online.value[h], a, b[0], b[1]);
				BF16::multiply(online.value[h + 1], a, b[2], b[3]);
			}
		}
		__syncthreads(); // the tile's place may be written to
	}
	online.each([&](int row, int column, float a, float b) {
		row += i0;
		if (row < queries && column < width) *(u32 *)(dst + u64(row) * ldd + column) = bf16x2(a, b);
	});
}

// text: self-attention of packed texts. q, k and v have row stride ld, dst ldd; text i is the rows starts[i] … starts[i+1]-1, head h
// the columns [h·depth, (h+1)·depth) of each. Grid: x = ceil(longest text/64), y = heads, z = texts; blocks of 128. In tf32, ld and
// depth are multiples of 4, and k and v aligned to 16 bytes; in bf16, see attend_bf16.
template <class T, class Attend>
void text(Attend attend, T *dst, int ldd, const T *q, const T *k, const T *v, int ld, const int *starts, int depth, const Ahead &ahead) {
	ahead.fetch();
	int begin = starts[blockIdx.z], tokens = starts[blockIdx.z + 1] - begin, column = blockIdx.y * depth;
	if (int(blockIdx.x) * query_tile >= tokens) return;
	auto head = [=](const T *m) { return Rows<T>{m + u64(begin) * ld + column, ld}; };
	attend(dst + u64(begin) * ldd + column, ldd, head(q), head(k), head(v), tokens, tokens, depth, depth);
}

// attention_text_32 and _64 are for heads of at most 32 and 64 channels. (The second number of launch bounds, blocks of a multiprocessor,
// allows ptxas the registers that it needs.)
extern "C" __global__ void __launch_bounds__(128) attention_text_32(float *dst, int ldd, const float *q, const float *k, const float *v,
	int ld, const int *starts, int depth, Ahead ahead) {
	text(attend_f32<32, 32>, dst, ldd, q, k, v, ld, starts, depth, ahead);
}
extern "C" __global__ void __launch_bounds__(128) attention_text_64(float *dst, int ldd, const float *q, const float *k, const float *v,
	int ld, const int *starts, int depth, Ahead ahead) {
	text(attend_f32<64, 64>, dst, ldd, q, k, v, ld, starts, depth, ahead);
}
extern "C" __global__ void __launch_bounds__(128, 4) attention_tf32_text_32(float *dst, int ldd, const float *q, const float *k, const float *v,
	int ld, const int *starts, int depth, Ahead ahead) {
	text(attend_tf32<32, 32>, dst, ldd, q, k, v, ld, starts, depth, ahead);
}
extern "C" __global__ void __launch_bounds__(128) attention_tf32_text_64(float *dst, int ldd, const float *q, const float *k, const float *v,
	int ld, const int *starts, int depth, Ahead ahead) {
	text(attend_tf32<64, 64>, dst, ldd, q, k, v, ld, starts, depth, ahead);
}
extern "C" __global__ void __launch_bounds__(128) attention_bf16_text_32(u16 *dst, int ldd, const u16 *q, const u16 *k, const u16 *v,
	int ld, const int *starts, int depth, Ahead ahead) {
	text(attend_bf16<32, 32>, dst, ldd, q, k, v, ld, starts, depth, ahead);
}
extern "C" __global__ void __launch_bounds__(128) attention_bf16_text_64(u16 *dst, int ldd, const u16 *q, const u16 *k, const u16 *v,
	int ld, const int *starts, int depth, Ahead ahead) {
	text(attend_bf16<64, 64>, dst, ldd, q, k, v, ld, starts, depth, ahead);
}

// pooled: the attention of the SAGAN layer, one head an image, keys and values from a pooled map. Per image, q is [queries][depth],
// k [keys][depth], v [keys][width], dst [queries][width], with row strides; images follow each other. depth is at most 64, or 32 where
// an entry's name says so; a block computes 64 columns. Grid: x = ceil(queries/64), y = ceil(width/64), z = images; blocks of 128. In tf32, depth, width, ldk and ldv
// are multiples of 4, and k and v aligned to 16 bytes.
template <class Attend>
void pooled(Attend attend, float *dst, int ldd, Rows<float> q, Rows<float> k, Rows<float> v, int queries, int keys, int depth, int width) {
	int image = blockIdx.z, column = blockIdx.y * 64;
	v.at += column;
	attend(dst + u64(image) * queries * ldd + column, ldd, q.from(image * queries), k.from(image * keys), v.from(image * keys), queries,
		keys, depth, min(width - column, 64));
}

extern "C" __global__ void __launch_bounds__(128) attention_pooled(float *dst, int ldd, const float *q, int ldq, const float *k, int ldk,
	const float *v, int ldv, int queries, int keys, int depth, int width) {
	pooled(attend_f32<64, 64>, dst, ldd, Rows<float>{q, ldq}, Rows<float>{k, ldk}, Rows<float>{v, ldv}, queries, keys, depth, width);
}
extern "C" __global__ void __launch_bounds__(128) attention_tf32_pooled(float *dst, int ldd, const float *q, int ldq, const float *k,
	int ldk, const float *v, int ldv, int queries, int keys, int depth, int width) {
	pooled(attend_tf32<64, 64>, dst, ldd, Rows<float>{q, ldq}, Rows<float>{k, ldk}, Rows<float>{v, ldv}, queries, keys, depth, width);
}
extern "C" __global__ void __launch_bounds__(128) attention_tf32_pooled_32(float *dst, int ldd, const float *q, int ldq, const float *k,
	int ldk, const float *v, int ldv, int queries, int keys, int depth, int width) {
	pooled(attend_tf32<32, 64>, dst, ldd, Rows<float>{q, ldq}, Rows<float>{k, ldk}, Rows<float>{v, ldv}, queries, keys, depth, width);
}
