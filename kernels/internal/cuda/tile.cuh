// The tiles of products: operands in shared memory, sums in registers.
#pragma once
#include "mma.cuh"

// A step of a tile is 16 words (64 bytes) of k. Operands lie in shared memory as rows of 16 words in which the chunks of 4 words
// (16 bytes) are permuted, so that eight rows' chunks of one column, which is what load_matrices reads at a time, are in
// different banks.
enum : int { step_words = 16, step_bytes = 4 * step_words, chunks = 4 };

inline u32 *chunk_at(u32 *rows, int row, int chunk) { return rows + row * step_words + (chunk ^ (row / 2 & 3)) * 4; }

// copy_rows starts the copy of one step of rows to shared memory: row r < count of the tile is from + r·stride bytes, the bytes
// from begin up to end of it matter, and all else becomes zero. from and stride are multiples of 16. thread is one of threads.
template <int rows, int threads>
inline void copy_rows(u32 *to, const void *from, u64 stride, int count, int begin, int end, int thread) {
#pragma unroll
	for (int i = 0; i < rows * chunks / threads; i++) {
		int row = (thread + i * threads) / chunks, chunk = thread % chunks, at = begin + 16 * chunk;
		int size = row < count ? min(max(end - at, 0), 16) : 0;
		copy_async(chunk_at(to, row, chunk), (const char *)from + (size > 0 ? row * stride + at : 0), size);
	}
}

// MmaTile is a tile of size×size sums on tensor cores, of which each warp computes 16·down × 8·across; across is even. It is made by
// threads threads, of which this is thread.
template <class Format_, int size_, int down, int across> struct MmaTile {
	using Format = Format_;
	using Sum = typename Format::Sum;
	enum : int { size = size_, width = 8 * across, warps_across = size / width, threads = 32 * warps_across * (size / (16 * down)) };
	enum : int { staging = threads / warp_size * 16 * width };

	Sum sum[down][across][4] = {};
	int warp, row, column;

	explicit MmaTile(int thread) : warp(thread / warp_size), row(warp / warps_across * 16 * down), column(warp % warps_across * width) {}

	// step adds the products of one step of the rows of a and of b, [size][step_words] each.
	void step(u32 *a, u32 *b) {
		int l = lane();
#pragma unroll
		for (int k = 0; k < chunks; k += 2) {
			u32 fa[down][4], fb[across / 2][4];
#pragma unroll
			for (int i = 0; i < down; i++) load_matrices(fa[i], chunk_at(a, row + 16 * i + l % 16, k + l / 16));
#pragma unroll
			for (int j = 0; j < across / 2; j++) load_matrices(fb[j], chunk_at(b, column + 16 * j + l / 16 * 8 + l % 8, k + l / 8 % 2));
#pragma unroll
			for (int e = 0; e < 4; e++) {
#pragma unroll
				for (int i = 0; i < down; i++) fa[i][e] = Format::load(fa[i][e]);
#pragma unroll
				for (int j = 0; j < across / 2; j++) fb[j][e] = Format::load(fb[j][e]);
			}
#pragma unroll
			for (int i = 0; i < down; i++)
#pragma unroll
				for (int j = 0; j < across; j++) Format::multiply(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
		}
	}

	// each calls f(i, j, sum) for every sum, neighbours in a row at a time. The sums go through memory [staging], which the block
	// must have finished with: so f is compiled once only, and stores are coalesced.
	template <class F> void each(u32 *memory, F f) const {
		Sum *mine = (Sum *)memory + warp * 16 * width;
		// Columns are permuted by eights, so that the rows that half a warp writes at a time are in different banks.
		auto at = [=](int row, int column) { return mine + row * width + (column ^ row * width / 32 * 8 % width); };
#pragma unroll 1
		for (int i = 0; i < down; i++) {
#pragma unroll
			for (int r = 0; r < down; r++)
				if (r == i) { // registers cannot be indexed
#pragma unroll
					for (int j = 0; j < across; j++)
#pragma unroll
						for (int e = 0; e < 4; e += 2) store_shared(at(lane() / 4 + e / 2 * 8, 8 * j + lane() % 4 * 2), sum[r][j][e], sum[r][j][e + 1]);
				}
			__syncwarp();
#pragma unroll 1
			for (int l = lane(); l < 16 * width; l += warp_size) f(row + 16 * i + l / width, column + l % width, *at(l / width, l % width));
			__syncwarp();
		}
	}
};

// float32 as it is.
struct F32 {
	using Sum = float;
	enum : int { per_word = 1 };
};

// FloatTile is a block's tile of 64×64 sums, each one chain of fused multiply-adds over k in order. A thread computes 8×4 of
// them, 8 rows and 16 columns apart: a warp reads two rows of a, and eight rows of b at a time.
struct FloatTile {
	using Format = F32;
	using Sum = float;
	enum : int { size = 64, threads = 128, down = 8, across = 4, staging = size * size };

	float sum[down][across] = {};
	int row, column;

	explicit FloatTile(int thread) : row(thread / 16), column(thread % 16) {}

	void step(u32 *a, u32 *b) {
#pragma unroll
		for (int chunk = 0; chunk < chunks; chunk++) {
			float4 fa[down], fb[across];
#pragma unroll
			for (int i = 0; i < down; i++) fa[i] = *(float4 *)chunk_at(a, row + 8 * i, chunk);
#pragma unroll
			for (int j = 0; j < across; j++) fb[j] = *(float4 *)chunk_at(b, column + 16 * j, chunk);
#pragma unroll
			for (int i = 0; i < down; i++)
#pragma unroll
				for (int j = 0; j < across; j++) {
					float s = fmaf(fa[i].x, fb[j].x, sum[i][j]);
					s = fmaf(fa[i].y, fb[j].y, s);
					s = fmaf(fa[i].z, fb[j].z, s);
					sum[i][j] = fmaf(fa[i].w, fb[j].w, s);
				}
		}
	}

	// each is MmaTile's, for a block that has no other threads.
	template <class F> void each(u32 *memory, F f) const {
		// The halves of 32 columns change places in odd rows, since a warp writes 16 columns of two rows at a time.
		auto at = [=](int row, int column) { return (float *)memory + row * size + (column ^ row % 2 * 16); };
#pragma unroll
		for (int i = 0; i < down; i++)
#pragma unroll
			for (int j = 0; j < across; j++) *at(row + 8 * i, column + 16 * j) = sum[i][j];
		__syncthreads();
#pragma unroll 1
		for (int t = threadIdx.x; t < size * size; t += threads) f(t / size, t % size, *at(t / size, t % size));
	}
};

// multiply computes a tile of a product, k cut into steps. copy(step, thread, a, b) starts the copies of a step of both operands, of
// which thread, one of Tile::threads, has its share; store(i, j, sum) gets the sums.
//
// While a step is multiplied, the copies of the next two are on their way. Where a block has several times Tile::threads threads, slices
// of them take the steps in turn, each with sums of its own, which are added in the end: for few tiles and many steps.
enum : int { stages = 3 };

template <class Tile, int slices, class Copy, class Store> inline void multiply(int steps, Copy copy, Store store) {
	using Sum = typename Tile::Sum;
	constexpr int operand = Tile::size * step_words;
	using Steps = u32[stages][2][operand];
	Steps *memory;
	if constexpr (slices * sizeof(Steps) <= 48 << 10) {
		__shared__ __align__(128) Steps fixed[slices];
		memory = fixed;
	} else {
		extern __shared__ __align__(128) u32 dynamic[]; // slices of them
		memory = (Steps *)dynamic;
	}
	int slice = slices > 1 ? threadIdx.x / Tile::threads : 0, thread = threadIdx.x - slice * Tile::threads;
	auto fetch = [&](int turn) {
		int step = turn * slices + slice;
		if (step < steps) {
			u32(&to)[2][operand] = memory[slice][turn % stages];
			copy(step, thread, to[0], to[1]);
		}
		commit_copies(); // an empty group keeps the count
	};
	Tile tile(thread);
	for (int turn = 0; turn < stages - 1; turn++) fetch(turn);
#pragma unroll 1
	for (int turn = 0; turn * slices < steps; turn++) {
		wait_copies<stages - 2>();
		__syncthreads(); // this step is here, and all have finished the one before, whose place the next copy takes
		fetch(turn + stages - 1);
		u32(&from)[2][operand] = memory[slice][turn % stages];
		if (slices == 1 || turn * slices + slice < steps) tile.step(from[0], from[1]);
	}
	__syncthreads(); // nothing is on its way any more: the last groups were empty
	if (slices == 1) {
		tile.each(memory[0][0][0], store);
		return;
	}
	constexpr int sums = Tile::size * Tile::size;
	static_assert(slices == 1 || Tile::staging + sums <= stages * 2 * operand, "the slices' sums have no room");
	Sum *parts = (Sum *)memory[0][0][0] + slices * Tile::staging;
	// The halves of 32 columns change places in odd rows, since a warp writes 16 columns of two rows at a time.
	auto at = [=](int i, int j) { return i * Tile::size + (j ^ i % 2 * 16); };
	tile.each(memory[0][0][0] + slice * Tile::staging, [&](int i, int j, Sum sum) { parts[slice * sums + at(i, j)] = sum; });
	__syncthreads();
#pragma unroll 1
	for (int t = threadIdx.x; t < sums; t += slices * Tile::threads) {
		int i = t / Tile::size, j = t % Tile::size;
		Sum sum = parts[at(i, j)];
#pragma unroll
		for (int part = 1; part < slices; part++) sum += parts[part * sums + at(i, j)];
		store(i, j, sum);
	}
}
