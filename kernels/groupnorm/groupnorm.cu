// Package groupnorm on the GPU.
#include "warp.cuh"

// groupnorm_f32: x and dst are [images][pixels][channels]; block (g, image) normalises the channels [g·n, (g+1)·n), n =
// channels/groups, over the pixels of its image:
//
//	dst = (x - mean)/√(var + eps)·gamma[c] + beta[c], then times slope where that is negative (slope 1: as it is)
//
// dst may be x. Grid: x = groups, y = images; blocks of 256. The statistics are those of x less its first value, as in layernorm.
extern "C" __global__ void __launch_bounds__(256) groupnorm_f32(float *dst, const float *x, const float *gamma, const float *beta,
	int pixels, int channels, int groups, float eps, float slope) {
	int n = channels / groups, c0 = blockIdx.x * n, values = pixels * n;
	u64 image = u64(blockIdx.y) * pixels * channels + c0;
	dst += image;
	x += image;
	float first = x[0], sum = 0, squares = 0;
	auto at = [=](int i) { return u64(i / n) * channels + i % n; };
	for (int i = threadIdx.x; i < values; i += 256) sum += x[at(i)] - first;
	float mean = block_sum<256>(sum) / values;
	for (int i = threadIdx.x; i < values; i += 256) {
		float d = x[at(i)] - first - mean;
		squares = fmaf(d, d, squares);
	}
	float scale = 1 / sqrtf(block_sum<256, 1>(squares) / values + eps);
	for (int i = threadIdx.x; i < values; i += 256) {
		int c = c0 + i % n;
		float y = fmaf((x[at(i)] - first - mean) * scale, gamma[c], beta[c]);
		dst[at(i)] = y > 0 ? y : slope * y;
	}
}
