// Package optimizer on the GPU, with its bits: every product is rounded before it is added, and quotient and square root are
// the correctly rounded ones.
#include "warp.cuh"

// What one step of Adam multiplies by, as Adam.Apply works it out on the host.
struct Step {
	float beta1, beta2, rest1, rest2; // rest is 1 - beta
	float keep;                       // 1 - Rate·Decay
	float rate, root;                 // Rate/(1-β₁ᵗ) and 1/sqrt(1-β₂ᵗ)
	float epsilon;
	float scale; // of the gradient
	float rest;  // 1 - the decay of the average of the weights
};

// optimizer_adam updates p, m, v and, unless it is null, peak (AMSGrad) from the gradient g, n values each; and then, unless it is
// null, ema ← ema + rest·(p - ema), the average of the weights. The step lies in memory, so that a captured launch can be played
// again with the next one. Grid ceil(n/256), blocks of 256.
extern "C" __global__ void __launch_bounds__(256)
optimizer_adam(float *p, const float *g, float *m, float *v, float *peak, float *ema, const Step *step, int n) {
	int i = global_thread();
	if (i >= n) return;
	Step s = *step;
	float gi = __fmul_rn(g[i], s.scale);
	float mi = __fadd_rn(__fmul_rn(s.beta1, m[i]), __fmul_rn(s.rest1, gi));
	float vi = __fadd_rn(__fmul_rn(s.beta2, v[i]), __fmul_rn(s.rest2, __fmul_rn(gi, gi)));
	m[i] = mi;
	v[i] = vi;
	if (peak) {
		vi = larger(peak[i], vi);
		peak[i] = vi;
	}
	float divisor = __fadd_rn(__fmul_rn(__fsqrt_rn(vi), s.root), s.epsilon);
	float pi = __fadd_rn(__fmul_rn(p[i], s.keep), -__fdiv_rn(__fmul_rn(s.rate, mi), divisor));
	p[i] = pi;
	if (ema) ema[i] = __fadd_rn(ema[i], __fmul_rn(s.rest, __fadd_rn(pi, -ema[i])));
}

// optimizer_sum_squares: partial[b] is block b's share of Σ g², in float64. Which values are whose depends on the grid alone,
// so equal launches give equal bits. Any grid; blocks of 256.
extern "C" __global__ void __launch_bounds__(256) optimizer_sum_squares(double *partial, const float *g, int n) {
	double sum = 0;
	for (int i = global_thread(); i < n; i += gridDim.x * blockDim.x) sum += double(g[i]) * double(g[i]);
	sum = block_sum<256>(sum);
	if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// optimizer_clip adds up parts sums of squares: *norm becomes the root, and the scale of each of the steps bound/norm where the
// norm is above bound, else 1; a bound of 0 is none. Grid: 1; blocks of 256.
extern "C" __global__ void __launch_bounds__(256)
optimizer_clip(double *norm, Step *steps, int count, const double *partial, int parts, float bound) {
	double sum = 0;
	for (int i = threadIdx.x; i < parts; i += 256) sum += partial[i];
	sum = sqrt(block_sum<256>(sum));
	if (threadIdx.x == 0) *norm = sum;
	if (threadIdx.x < count) steps[threadIdx.x].scale = bound > 0 && sum > bound ? float(double(bound) / sum) : 1;
}
