// Package matmul on compute capability 9.0: products of bfloat16 on a warpgroup's tensor cores, with operands that the tensor memory
// accelerator copies. Parameters are those of matmul_bf16_t*, but for x and W, whose memory tensor maps describe:
//
//	x  values of 2 bytes, {k, m} of them, rows 2·ldx bytes apart, in boxes of {64, 64}, swizzle 128
//	w  the same with n and ldw
//
//	matmul_bf16_w64    tiles of 64 outputs squared, in blocks of 160 threads with 98400 bytes of dynamic shared memory,
//	                   grid x = ceil(m/64), y = ceil(n/64)
//	matmul_bf16_w128   tiles of 128 outputs squared, in blocks of 288 threads with 98352 bytes of dynamic shared memory,
//	                   grid x = ceil(m/128), rounded up to even, y = ceil(n/128): two neighbours in x share their rows of W
//
// What x and W hold behind k, in their rows, is not read.
#include "hopper.cuh"
#include "output.cuh"

extern __shared__ __align__(1024) u8 memory[];

enum : int { step_values = 64, box_rows = 64, box_bytes = box_rows * 2 * step_values }; // of a step of k

// product computes one tile: a warpgroup computes 64 rows of it, and one more warp sees to the copies, stages steps ahead. The
// blocks of a cluster lie below each other; each copies its part of the rows of W for all of them.
template <int tile, int blocks, int stages> void product(const TensorMap &x, const TensorMap &w, int k, const Output &out) {
	constexpr int boxes = tile / box_rows, operand = boxes * box_bytes, warps = tile / 16;
	Barrier *full = (Barrier *)(memory + stages * 2 * operand), *empty = full + stages;
	int warp = threadIdx.x / warp_size, steps = (k + step_values - 1) / step_values;
	int i0 = blockIdx.x * tile, j0 = blockIdx.y * tile, rank = blocks > 1 ? cluster_rank() : 0;
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
	out.ahead.fetch();
	if (warp == warps) {
		if (lane() == 0) {
			prefetch(x);
			prefetch(w);
#pragma unroll 1
			for (int step = 0; step < steps; step++) {
				int stage = step % stages, p = step * step_values;
				u8 *a = memory + stage * 2 * operand, *b = a + operand;
				empty[stage].wait(step / stages % 2 ^ 1);
				full[stage].expect(2 * operand);
#pragma unroll
				for (int box = 0; box < boxes; box++) copy_box(a + box * box_bytes, x, p, i0 + box * box_rows, full[stage]);
#pragma unroll
				for (int part = 0; part < boxes; part += blocks) {
					int box = part + rank;
					if (blocks > 1)
						copy_box(b + box * box_bytes, w, p, j0 + box * box_rows, full[stage], (1 << blocks) - 1);
					else
						copy_box(b + box * box_bytes, w, p, j0 + box * box_rows, full[stage]);
				}
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
		for (int l = lane(); l < 16 * tile; l += warp_size) {
			int row = l / tile, column = l % tile, i = i0 + warp * 16 + row, j = j0 + column;
			if (i < out.m && j < out.n) out.store(i, j, *at(row, column));
		}
	}
	if (blocks > 1) cluster_wait(); // others may still arrive at this block's barriers
}

extern "C" __global__ void __launch_bounds__(160, 2)
matmul_bf16_w64(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, int k, Output out) {
	product<64, 1, 6>(x, w, k, out);
}

extern "C" __global__ void __launch_bounds__(288, 2) __cluster_dims__(2, 1, 1)
matmul_bf16_w128(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, int k, Output out) {
	product<128, 2, 3>(x, w, k, out);
}
