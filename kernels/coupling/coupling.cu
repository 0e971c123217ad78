// Package coupling on the GPU. Letters and layouts are the CPU's: rows of n values, each matrix with its row stride. One warp a
// row: grid ceil(rows/4), blocks of 128, unless stated otherwise. The order of a row's sum depends on n alone.
#include "functions.cuh"
#include "warp.cuh"

// The bounded log-scale α·tanh(raw/α).
float bounded(float raw, float alpha, float inverse) { return tanh_of(raw * inverse) * alpha; }

// coupling_forward: s = α·tanh(raw/α), y = x·exp(s) + t and logdet[i] += Σ_j s[i][j]. raw and t have row stride ldr. s, packed
// [rows][n], is kept for coupling_backward, or null. y may be x.
extern "C" __global__ void __launch_bounds__(128) coupling_forward(float *y, int ldy, const float *x, int ldx, const float *raw,
	const float *t, int ldr, float *s, float *logdet, int rows, int n, float alpha) {
	int row = global_warp();
	if (row >= rows) return;
	y += u64(row) * ldy;
	x += u64(row) * ldx;
	raw += u64(row) * ldr;
	t += u64(row) * ldr;
	float inverse = 1 / alpha, sum = 0;
	for (int j = lane(); j < n; j += warp_size) {
		float sj = bounded(raw[j], alpha, inverse);
		y[j] = fmaf(x[j], exponential(sj), t[j]);
		if (s) s[u64(row) * n + j] = sj;
		sum += sj;
	}
	sum = warp_sum(sum);
	if (lane() == 0) logdet[row] += sum;
}

// coupling_inverse: x = (y - t)·exp(-s) with s = α·tanh(raw/α). x may be y.
extern "C" __global__ void __launch_bounds__(128) coupling_inverse(float *x, int ldx, const float *y, int ldy, const float *raw,
	const float *t, int ldr, int rows, int n, float alpha) {
	int row = global_warp();
	if (row >= rows) return;
	x += u64(row) * ldx;
	y += u64(row) * ldy;
	raw += u64(row) * ldr;
	t += u64(row) * ldr;
	float inverse = 1 / alpha;
	for (int j = lane(); j < n; j += warp_size) x[j] = (y[j] - t[j]) * exponential(-bounded(raw[j], alpha, inverse));
}

// coupling_backward turns d = ∂L/∂y into ∂L/∂x in place and writes draw = ∂L/∂raw and dt = ∂L/∂t, both at row stride ldr. x and s
// are those of coupling_forward; dlogdet is ∂L/∂logdet, the same for every row.
extern "C" __global__ void __launch_bounds__(128) coupling_backward(float *d, int ldd, float *draw, float *dt, int ldr,
	const float *x, int ldx, const float *s, int rows, int n, float dlogdet, float alpha) {
	int row = global_warp();
	if (row >= rows) return;
	d += u64(row) * ldd;
	draw += u64(row) * ldr;
	dt += u64(row) * ldr;
	x += u64(row) * ldx;
	s += u64(row) * n;
	float square = 1 / (alpha * alpha);
	for (int j = lane(); j < n; j += warp_size) {
		float g = d[j], ge = g * exponential(s[j]);
		float slope = fmaf(-s[j] * s[j], square, 1); // of α·tanh(raw/α)
		draw[j] = fmaf(ge, x[j], dlogdet) * slope;
		dt[j] = g;
		d[j] = ge;
	}
}

// coupling_loss ends a flow: for v = the columns from[j] of y, of which a negative one is left out,
//
//	loss[i] = ½·Σ_j v² - logdet[i]    d[i][j] = weight·v, or 0 where it is left out
//
// n is the width of d, and of from. A null d is left out.
extern "C" __global__ void __launch_bounds__(128) coupling_loss(float *loss, float *d, int ldd, const float *y, int ldy,
	const int *from, const float *logdet, int rows, int n, float weight) {
	int row = global_warp();
	if (row >= rows) return;
	y += u64(row) * ldy;
	float sum = 0;
	for (int j = lane(); j < n; j += warp_size) {
		float v = from[j] < 0 ? 0 : y[from[j]];
		sum = fmaf(v, v, sum);
		if (d) d[u64(row) * ldd + j] = v * weight;
	}
	sum = warp_sum(sum);
	if (lane() == 0) loss[row] = fmaf(0.5f, sum, -logdet[row]);
}

// coupling_log_scales: *sum = Σ log|scale[j]|, j < n, the log-determinant of ActNorms. Grid: 1; blocks of 256.
extern "C" __global__ void __launch_bounds__(256) coupling_log_scales(double *sum, const float *scale, int n) {
	double total = 0;
	for (int j = threadIdx.x; j < n; j += 256) total += logf(fabsf(scale[j]));
	total = block_sum<256>(total);
	if (threadIdx.x == 0) *sum = total;
}
