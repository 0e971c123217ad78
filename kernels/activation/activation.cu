// Package activation on the GPU: the approximations of the CPU's vector forms, with their error bounds (functions.cuh).
#include "functions.cuh"
#include "warp.cuh"

// map writes f(src[i]) to dst[i], i < n, one element a thread: grid ceil(n/256), blocks of 256. dst may be src.
template <class F> void map(float *dst, const float *src, int n, F f) {
	int i = global_thread();
	if (i < n) dst[i] = f(src[i]);
}

extern "C" __global__ void __launch_bounds__(256) activation_exp(float *dst, const float *src, int n) { map(dst, src, n, exponential); }
extern "C" __global__ void __launch_bounds__(256) activation_tanh(float *dst, const float *src, int n) { map(dst, src, n, tanh_of); }
extern "C" __global__ void __launch_bounds__(256) activation_gelu(float *dst, const float *src, int n) { map(dst, src, n, gelu); }
extern "C" __global__ void __launch_bounds__(256) activation_gelu_tanh(float *dst, const float *src, int n) { map(dst, src, n, gelu_tanh); }
extern "C" __global__ void __launch_bounds__(256) activation_relu(float *dst, const float *src, int n) { map(dst, src, n, relu); }

// activation_prelu: x where x > 0 and slope·x elsewhere; LeakyReLU has slope 0.01.
extern "C" __global__ void __launch_bounds__(256) activation_prelu(float *dst, const float *src, int n, float slope) {
	map(dst, src, n, [=](float x) { return leaky_relu(x, slope); });
}

// activation_softmax replaces each row of x [rows][cols], row stride ld, by exp(x - max)/Σ exp(x - max). One warp a row:
// grid ceil(rows/4), blocks of 128. cols > 0. The order of the sum, over lanes, then across them, depends on cols alone.
extern "C" __global__ void __launch_bounds__(128) activation_softmax(float *x, int rows, int cols, int ld) {
	int row = global_warp();
	if (row >= rows) return;
	x += u64(row) * ld;
	float top = x[0];
	for (int j = lane(); j < cols; j += warp_size) top = larger(top, x[j]);
	top = warp_max(top);
	float sum = 0;
	__syncwarp(); // every lane has read x[0], which lane 0 now writes
	for (int j = lane(); j < cols; j += warp_size) {
		float e = exponential(x[j] - top);
		x[j] = e;
		sum += e;
	}
	float scale = 1 / warp_sum(sum);
	for (int j = lane(); j < cols; j += warp_size) x[j] *= scale;
}
