// Package conv on compute capability 9.0: convolutions of bfloat16 on a warpgroup's tensor cores, of windows that the tensor memory
// accelerator gathers: a pixel outside the image reads as 0. The Convolution is that of conv.cu, with stride 1; tensor maps describe the
// memory of x and the weights, whose fields are not used:
//
//	x        values of 2 bytes, {c, w, h, images} of them, as ldx says, in boxes of 64 values of 64 windows that follow each other, swizzle
//	         128: the width of an image divides 64 or is a multiple of it, and so do its windows
//	weights  the same, {c, size·size, phases·n} in boxes of {64, 1, 64}
//
//	conv_bf16_w64    tiles of 64 windows × 64 channels, in blocks of 160 threads with 98400 bytes of dynamic shared memory,
//	                 grid x = ceil(windows/64), y = ceil(n/64), z = 4 with up, else 1
//	conv_bf16_w128   tiles of 128 × 128, in blocks of 288 threads with 98352 bytes of dynamic shared memory,
//	                 grid x = ceil(windows/128), rounded up to even, y = ceil(n/128), z the same: two neighbours in x share their weights
#include "convolution.cuh"
#include "warpgroup.cuh"

template <int tile, int blocks, int stages> void convolve(const TensorMap &x, const TensorMap &weights, const Convolution &v) {
	int i0 = blockIdx.x * tile, j0 = blockIdx.y * tile, steps = (v.c + step_values - 1) / step_values; // of a pixel
	int before_y = v.size / 2 - (v.up ? int(blockIdx.z) / 2 : 0), before_x = v.size / 2 - (v.up ? int(blockIdx.z) % 2 : 0);
	warpgroups<tile, blocks, stages>(steps * v.size * v.size, v.out.ahead, [&](int step, u8 *a, u8 *b, int rank, Barrier &full) {
		int pixel = step / steps, channel = step % steps * step_values;
#pragma unroll
		for (int row = 0; row < tile; row += box_rows) {
			int p = i0 + row;
			copy_box(a + row / box_rows * box_bytes, x, full, channel, p % v.w + pixel % v.size - before_x, p / v.w % v.h + pixel / v.size - before_y,
				p / (v.w * v.h));
		}
		share<tile, blocks>(b, rank, [&](u8 *to, int row) { copy_box<blocks>(to, weights, full, channel, pixel, blockIdx.z * v.out.n + j0 + row); });
	}, [&](int i, int j, float sum) {
		if (i0 + i < v.windows() && j0 + j < v.out.n) store(v, i0 + i, j0 + j, sum);
	});
}

extern "C" __global__ void __launch_bounds__(160, 2)
conv_bf16_w64(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weights, Convolution v) {
	convolve<64, 1, 6>(x, weights, v);
}

extern "C" __global__ void __launch_bounds__(288, 2) __cluster_dims__(2, 1, 1)
conv_bf16_w128(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weights, Convolution v) {
	convolve<128, 2, 3>(x, weights, v);
}
