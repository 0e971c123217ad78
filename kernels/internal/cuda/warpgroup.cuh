// The tiles of products of bfloat16 on compute capability 9.0.
#pragma once
#include "epilogue.cuh"
#include "hopper.cuh"

extern __shared__ __align__(1024) u8 memory[];

enum : int { step_values = 64, box_rows = 64, box_bytes = box_rows * 2 * step_values }; // of a step of k

// warpgroups computes one tile of tile×tile sums: a warpgroup computes 64 rows of it, and one more warp sees to the copies, stages steps
// ahead. A step's operands are boxes of 64 rows of 64 values. The blocks of a cluster lie below each other, so that they have the same
// right operand, of which each copies its part for all: copy(step, a, b, rank, full) starts the copies of the left operand's
// boxes to a, and of its part of the right one's, which share tells, to b. store(i, j, sum)
// gets every sum, neighbours in a row at a time.
template <int tile, int blocks, int stages, class Copy, class Store> inline void warpgroups(int steps, const Ahead &ahead, Copy copy, Store store) {
	constexpr int operand = tile / box_rows * box_bytes, warps = tile / 16;
	Barrier *full = (Barrier *)(memory + stages * 2 * operand), *empty = full + stages;
	int warp = threadIdx.x / warp_size;
	if (threadIdx.x == 0) {
		for (int stage = 0; stage < stages; stage++) {
			full[stage].init(1);
			empty[stage].init(blocks * warps);
		}
		fence_barriers();
	}
	auto all_arrive = [] { if (blocks > 1) cluster_arrive(); };
	auto all_wait = [] { if (blocks > 1) cluster_wait(); else __syncthreads(); };
	all_arrive();
	all_wait();
	ahead.fetch();
	if (warp == warps) {
		if (lane() == 0) {
			int rank = blocks > 1 ? cluster_rank() : 0;
#pragma unroll 1
			for (int step = 0; step < steps; step++) {
				int stage = step % stages;
				u8 *a = memory + stage * 2 * operand, *b = a + operand;
				empty[stage].wait(step / stages % 2 ^ 1);
				full[stage].expect(2 * operand);
				copy(step, a, b, rank, full[stage]);
			}
		}
		all_arrive();
	} else {
		float sum[tile / 2] = {};
#pragma unroll 1
		for (int step = 0; step < steps; step++) {
			int stage = step % stages;
			u8 *a = memory + stage * 2 * operand + warp / 4 * box_bytes, *b = memory + (stage * 2 + 1) * operand;
			full[stage].wait(step / stages % 2);
			multiply(sum, matrix(a), matrix(b));
			if (blocks > 1) {
				if (lane() < blocks) empty[stage].arrive_at(lane());
			} else if (lane() == 0)
				empty[stage].arrive();
		}
		all_arrive();
		// The sums go through the memory of the stages, so that a warp stores neighbours. Columns are permuted by eights, so that the
		// rows that half a warp writes at a time are in different banks.
		asm volatile("bar.sync 1, %0;" ::"n"(warps * warp_size) : "memory");
		float *mine = (float *)memory + warp * 16 * tile;
		auto at = [=](int row, int column) { return mine + row * tile + (column ^ row % 4 * 8); };
#pragma unroll
		for (int j = 0; j < tile / 8; j++)
#pragma unroll
			for (int e = 0; e < 4; e += 2) store_shared(at(lane() / 4 + e / 2 * 8, 8 * j + lane() % 4 * 2), sum[4 * j + e], sum[4 * j + e + 1]);
		__syncwarp();
#pragma unroll 1
		for (int l = lane(); l < 16 * tile; l += warp_size) store(warp * 16 + l / tile, l % tile, *at(l / tile, l % tile));
	}
	if (blocks > 1) cluster_wait(); // others may still arrive at this block's barriers
}

// share starts the copies of a block's part of the right operand: box(to, row) is that of the rows from the one called row on.
template <int tile, int blocks, class Box> inline void share(u8 *b, int rank, Box box) {
#pragma unroll
	for (int part = 0; part < tile / box_rows; part += blocks) box(b + (part + rank) * box_bytes, (part + rank) * box_rows);
}
