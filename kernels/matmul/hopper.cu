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
#include "output.cuh"
#include "warpgroup.cuh"

// product computes one tile.
template <int tile, int blocks, int stages> void product(const TensorMap &x, const TensorMap &w, int k, const Output &out) {
	int i0 = blockIdx.x * tile, j0 = blockIdx.y * tile;
	warpgroups<tile, blocks, stages>((k + step_values - 1) / step_values, out.ahead, [&](int step, u8 *a, u8 *b, int rank, Barrier &full) {
		int p = step * step_values;
#pragma unroll
		for (int row = 0; row < tile; row += box_rows) copy_box(a + row / box_rows * box_bytes, x, full, p, i0 + row);
		share<tile, blocks>(b, rank, [&](u8 *to, int row) { copy_box<blocks>(to, w, full, p, j0 + row); });
	}, [&](int i, int j, float sum) {
		i += i0;
		j += j0;
		if (i < out.m && j < out.n) out.store(i, j, sum);
	});
}

extern "C" __global__ void __launch_bounds__(160, 2)
matmul_bf16_w64(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, int k, Output out) {
	product<64, 1, 6>(x, w, k, out);
}

extern "C" __global__ void __launch_bounds__(288, 2) __cluster_dims__(2, 1, 1)
matmul_bf16_w128(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap w, int k, Output out) {
	product<128, 2, 3>(x, w, k, out);
}
