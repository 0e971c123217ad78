// Products of few rows, where reading W takes the time: x·Wᵀ, W [n][k] with row stride ldw. Blocks of 128 threads.
#pragma once
#include "mma.cuh"

// The warps of a block share k, in steps of span values. A lane's part of W in the next so many steps (ahead) is loaded before the
// first is multiplied, so that enough is on its way.
enum : int { skinny_warps = 4 };

template <class W, int span, int ahead, class Fetch, class Multiply> inline void share(int k, Fetch fetch, Multiply multiply) {
	constexpr int stride = skinny_warps * span;
#pragma unroll 1
	for (int p = threadIdx.x / warp_size * span; p < k; p += ahead * stride) {
		W w[ahead];
#pragma unroll
		for (int a = 0; a < ahead; a++) w[a] = fetch(p + a * stride);
#pragma unroll
		for (int a = 0; a < ahead; a++) multiply(p + a * stride, w[a]);
	}
}

// What four loaded words become.
template <class Format> inline uint4 loaded(uint4 w) {
	return make_uint4(Format::load(w.x), Format::load(w.y), Format::load(w.z), Format::load(w.w));
}

// skinny multiplies 8 columns, from 8·blockIdx.x on, by 16·groups rows on tensor cores, with operands straight from memory. A warp's
// step is 16 words of k, of which a lane holds 4 neighbours: the words t and t+4 of a product may be any, as long as they are the
// same of x and W. words(r, p) returns the words of x's row 8·r + lane/4 whose values begin at p; from k on they are multiplied
// by zero, as is what they belong to. store(i, j, sum) gets every sum of columns j < n.
template <class Format, int groups, class Words, class Store>
inline void skinny(const void *w, int ldw, int n, int k, Words words, Store store) {
	using Sum = typename Format::Sum;
	constexpr int columns = 8, values = 4 * Format::per_word; // that a lane holds
	__shared__ __align__(16) Sum parts[skinny_warps][16 * groups][columns];
	int warp = threadIdx.x / warp_size, g = lane() / 4, t = lane() % 4, j0 = blockIdx.x * columns;
	Sum sum[groups][4] = {};
	const char *column = (const char *)w + u64(min(j0 + g, n - 1)) * ldw * 4 / Format::per_word;
	auto fetch = [&](int p) {
		p += t * values;
		return p < k ? *(const uint4 *)(column + p * 4 / Format::per_word) : make_uint4(0, 0, 0, 0);
	};
	share<uint4, 4 * values, groups == 1 ? 4 : 2>(k, fetch, [&](int p, const uint4 &b) {
#pragma unroll
		for (int r = 0; r < groups; r++) {
			uint4 low = loaded<Format>(words(2 * r, p + t * values)), high = loaded<Format>(words(2 * r + 1, p + t * values));
			uint4 c = loaded<Format>(b);
			Format::multiply(sum[r], {low.x, high.x, low.y, high.y}, c.x, c.y);
			Format::multiply(sum[r], {low.z, high.z, low.w, high.w}, c.z, c.w);
		}
	});
#pragma unroll
	for (int r = 0; r < groups; r++)
#pragma unroll
		for (int e = 0; e < 4; e += 2) store_shared(&parts[warp][16 * r + g + e / 2 * 8][2 * t], sum[r][e], sum[r][e + 1]);
	__syncthreads();
	int j = threadIdx.x % columns;
#pragma unroll 1
	for (int i = threadIdx.x / columns; i < 16 * groups; i += 16) {
		Sum s = 0;
#pragma unroll
		for (int part = 0; part < skinny_warps; part++) s += parts[part][i][j];
		if (j0 + j < n) store(i, j0 + j, s);
	}
}
