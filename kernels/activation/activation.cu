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

// activation_prelu_back goes back through activation_prelu: d[i] becomes slope·d[i] where y[i], which that left, has a negative sign.
extern "C" __global__ void __launch_bounds__(256) activation_prelu_back(float *d, const float *y, int n, float slope) {
	int i = global_thread();
	if (i < n && signbit(y[i])) d[i] *= slope;
}

// activation_softmax replaces each row of x [rows][cols], row stride ld, by exp(x - max)/Σ exp(x - max). One warp a row:
// grid ceil(rows/4), blocks of 128. cols > 0. The order of the sum, over lanes, then across them, depends on cols alone.
extern "C" __global__ void __launch_bounds__(128) activation_softmax(float *x, int rows, int cols, int ld) {
	int row = global_warp();
	if (row >= rows) return;
	x += u64(row) * ld;
	float top = x[0];
	for (int j = lane(); j < cols; j += warp_size) top = larger(top, x[j]);
	top = warp_max(top); // for which every lane has read x[0], which lane 0 writes below
	float sum = 0;
	for (int j = lane(); j < cols; j += warp_size) {
		float e = exponential(x[j] - top);
		x[j] = e;
		sum += e;
	}
	float scale = 1 / warp_sum(sum);
	for (int j = lane(); j < cols; j += warp_size) x[j] *= scale;
}

// activation_pick draws a class for each row of logits [rows][cols] from softmax(logits/temperature) with the uniform u[row] in (0,
// 1), by inverse distribution: picked[row] is the first class up to which, in order, the sum of the weights is above u times
// that of all. The temperature lies in memory; 0 is the first of the most probable classes. One warp a row: grid ceil(rows/4),
// blocks of 128. Weights are float32, sums float64.
extern "C" __global__ void __launch_bounds__(128)
activation_pick(int *picked, const float *logits, const float *u, const float *temperature, int rows, int cols) {
	int row = global_warp();
	if (row >= rows) return;
	logits += u64(row) * cols;
	float top = logits[0], inverse = 1 / *temperature;
	for (int j = lane(); j < cols; j += warp_size) top = larger(top, logits[j]);
	top = warp_max(top);
	auto weight = [=](int j) -> double {
		if (j >= cols) return 0;
		return *temperature > 0 ? exponential((logits[j] - top) * inverse) : float(logits[j] == top);
	};
	double total = 0;
	for (int j = lane(); j < cols; j += warp_size) total += weight(j);
	double left = *temperature > 0 ? u[row] * warp_sum(total) : 0; // of the sum that the classes before j0 have not reached
	int last = 0;
	for (int j0 = 0; j0 < cols; j0 += warp_size) {
		double w = weight(j0 + lane()), sum = w; // of the lanes up to this one
		for (int d = 1; d < warp_size; d *= 2) {
			double below = __shfl_up_sync(whole_warp, sum, d);
			if (lane() >= d) sum += below;
		}
		u32 above = __ballot_sync(whole_warp, w > 0 && sum > left), possible = __ballot_sync(whole_warp, w > 0);
		if (above) {
			last = j0 + __ffs(above) - 1;
			break;
		}
		if (possible) last = j0 + 31 - __clz(possible); // the last class, should roundings leave more than all weights
		left -= __shfl_sync(whole_warp, sum, warp_size - 1);
	}
	if (lane() == 0) picked[row] = last;
}

// activation_mixture is the loss of a mixture's weights, p = softmax(logits), when scores are the log-likelihoods of its parts:
//
//	loss[i] = log Σ_k exp(logits) - log Σ_k exp(logits + scores)    logits ← weight·∂loss/∂logits
//
// logits is [rows][classes] with row stride ld, scores [rows][classes]. One warp a row: grid ceil(rows/4), blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
activation_mixture(float *loss, float *logits, int ld, const float *scores, int rows, int classes, float weight) {
	int row = global_warp();
	if (row >= rows) return;
	logits += u64(row) * ld;
	scores += u64(row) * classes;
	float top = logits[0], joint = logits[0] + scores[0];
	for (int k = lane(); k < classes; k += warp_size) {
		top = larger(top, logits[k]);
		joint = larger(joint, logits[k] + scores[k]);
	}
	top = warp_max(top);
	joint = warp_max(joint);
	float prior = 0, both = 0;
	for (int k = lane(); k < classes; k += warp_size) {
		prior += exponential(logits[k] - top);
		both += exponential(logits[k] + scores[k] - joint);
	}
	prior = warp_sum(prior);
	both = warp_sum(both);
	for (int k = lane(); k < classes; k += warp_size) {
		float p = exponential(logits[k] - top) / prior, posterior = exponential(logits[k] + scores[k] - joint) / both;
		logits[k] = weight * (p - posterior);
	}
	if (lane() == 0) loss[row] = top - joint + logf(prior / both);
}
