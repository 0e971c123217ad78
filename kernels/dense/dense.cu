// Package dense on the GPU: what training needs beside the products, which are those of matmul. Here a batch is [rows][n], one
// sample to a row. With x [m][k], W [n][k] and y = x·Wᵀ, the way back is
//
//	∂L/∂x = ∂L/∂y·(Wᵀ)ᵀ    ∂L/∂W = (∂L/∂y)ᵀ·(xᵀ)ᵀ
//
// of which the factors are copies made by dense_transpose.
#include "warp.cuh"

// dense_transpose: dst[j][i] = x[i][j], x [rows][cols] with row stride ldx, dst [cols][ldd]; the columns of dst from rows to ldd become
// zero. Grid: x = ceil(ldd/32), y = ceil(cols/32); blocks of 256.
extern "C" __global__ void __launch_bounds__(256) dense_transpose(float *dst, int ldd, const float *x, int ldx, int rows, int cols) {
	constexpr int side = 32, tall = 256 / side;
	__shared__ float square[side][side + 1]; // so that neither rows nor columns share a bank
	int across = threadIdx.x % side, down = threadIdx.x / side, i0 = blockIdx.x * side, j0 = blockIdx.y * side;
#pragma unroll
	for (int r = down; r < side; r += tall) {
		int i = i0 + r, j = j0 + across;
		square[r][across] = i < rows && j < cols ? x[u64(i) * ldx + j] : 0;
	}
	__syncthreads();
#pragma unroll
	for (int r = down; r < side; r += tall) {
		int i = i0 + across, j = j0 + r;
		if (i < ldd && j < cols) dst[u64(j) * ldd + i] = square[across][r];
	}
}

// dense_leaky_back goes back through LeakyReLU: d[i] becomes 0.01·d[i] where h[i], which it left, has a negative sign. Grid
// ceil(n/256), blocks of 256.
extern "C" __global__ void __launch_bounds__(256) dense_leaky_back(float *d, const float *h, int n) {
	int i = global_thread();
	if (i < n && signbit(h[i])) d[i] *= 0.01f;
}

// dense_sums: the gradients of biases, and of what a normalisation scales by: sums[j] = Σ_i d[i][j]·x[i][j], or Σ_i d[i][j] where x is
// null. d is [rows][n] with row stride ldd, x with ldx. Each sum has an order of its own, that depends on rows alone. Grid
// ceil(n/32), blocks of 256.
extern "C" __global__ void __launch_bounds__(256)
dense_sums(float *sums, const float *d, int ldd, const float *x, int ldx, int rows, int n) {
	constexpr int side = 32, tall = 256 / side;
	__shared__ float parts[tall][side];
	int across = threadIdx.x % side, down = threadIdx.x / side, j = blockIdx.x * side + across;
	float sum = 0;
	if (j < n)
		for (int i = down; i < rows; i += tall) {
			float v = d[u64(i) * ldd + j];
			sum = x ? fmaf(v, x[u64(i) * ldx + j], sum) : sum + v;
		}
	parts[down][across] = sum;
	__syncthreads();
	if (down > 0 || j >= n) return;
#pragma unroll
	for (int p = 1; p < tall; p++) sum += parts[p][across];
	sums[j] = sum;
}

// dense_norm_back goes back through layernorm_f32 without an activation. From x, which that read, and d = ∂L/∂dst it makes in place
// x̂ = (x - mean)/√(var + eps) of x, and ∂L/∂x of d; old keeps what d was, since dense_sums(old, x̂) and dense_sums(old) are the
// gradients of gamma and beta. All are [rows][n]. One warp a row: grid ceil(rows/4), blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
dense_norm_back(float *d, float *x, float *old, const float *gamma, int rows, int n, float eps) {
	int row = global_warp();
	if (row >= rows) return;
	d += u64(row) * n;
	x += u64(row) * n;
	old += u64(row) * n;
	float first = x[0], sum = 0, squares = 0;
	for (int j = lane(); j < n; j += warp_size) sum += x[j] - first;
	float mean = warp_sum(sum) / n;
	for (int j = lane(); j < n; j += warp_size) {
		float v = x[j] - first - mean;
		squares = fmaf(v, v, squares);
	}
	float scale = 1 / sqrtf(warp_sum(squares) / n + eps), total = 0, along = 0;
	for (int j = lane(); j < n; j += warp_size) {
		float v = (x[j] - first - mean) * scale, g = d[j];
		old[j] = g;
		x[j] = v;
		g *= gamma[j];
		total += g;
		along = fmaf(g, v, along);
	}
	total = warp_sum(total) / n;
	along = warp_sum(along) / n;
	// ∂L/∂x̂ = gamma·d, less its mean and its part along x̂.
	for (int j = lane(); j < n; j += warp_size) d[j] = scale * fmaf(-along, x[j], fmaf(d[j], gamma[j], -total));
}
