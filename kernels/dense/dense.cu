// Package dense on the GPU: what training needs beside the products of the way forth, which are those of matmul. Here a batch is
// [rows][n], one sample to a row.
#include "warp.cuh"

// dense_sums: the gradients of what a normalisation scales by, and adds: sums[j] = Σ_i d[i][j]·x[i][j], or Σ_i d[i][j] where x is
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
// gradients of gamma and beta. All are [rows][n] with row stride ld. One warp a row: grid ceil(rows/4), blocks of 128.
extern "C" __global__ void __launch_bounds__(128)
dense_norm_back(float *d, float *x, float *old, int ld, const float *gamma, int rows, int n, float eps) {
	int row = global_warp();
	if (row >= rows) return;
	d += u64(row) * ld;
	x += u64(row) * ld;
	old += u64(row) * ld;
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

// dense_batch_norm is batch normalisation over the rows of x [rows][n], by their own moments, which move the running mean and variance
// (the unbiased one) by momentum; or, where frozen is not 0, by those. x becomes x̂, rstd [n] is 1/√(var + eps), and
//
//	y = z where z = gamma·x̂ + beta is positive, and 0.01·z elsewhere
//
// x and y have row stride ld. A block has 32 columns; each sum has an order of its own, that depends on rows alone. Grid ceil(n/32),
// blocks of 256.
extern "C" __global__ void __launch_bounds__(256) dense_batch_norm(float *y, float *x, int ld, const float *gamma, const float *beta,
	float *mean, float *variance, float *rstd, int rows, int n, float momentum, float eps, int frozen) {
	constexpr int side = 32, tall = 256 / side;
	__shared__ float parts[2][tall][side];
	int across = threadIdx.x % side, down = threadIdx.x / side, j = blockIdx.x * side + across;
	bool here = j < n;
	auto total = [&](int k, float sum) { // of the column, in every thread of it
		parts[k][down][across] = sum;
		__syncthreads();
		sum = 0;
#pragma unroll
		for (int p = 0; p < tall; p++) sum += parts[k][p][across];
		return sum;
	};
	float centre = here ? mean[j] : 0, spread = here ? variance[j] : 1;
	if (!frozen) { // the statistics are those of x less its first value, as in layernorm
		float first = here ? x[j] : 0, sum = 0, squares = 0;
		for (int i = down; here && i < rows; i += tall) sum += x[u64(i) * ld + j] - first;
		float offset = total(0, sum) / rows;
		for (int i = down; here && i < rows; i += tall) {
			float v = x[u64(i) * ld + j] - first - offset;
			squares = fmaf(v, v, squares);
		}
		squares = total(1, squares);
		float batch = first + offset;
		if (here && down == 0) {
			mean[j] = centre + momentum * (batch - centre);
			variance[j] = spread + momentum * (squares / max(rows - 1, 1) - spread);
		}
		centre = batch;
		spread = squares / rows;
	}
	if (!here) return;
	float scale = 1 / sqrtf(spread + eps);
	if (down == 0) rstd[j] = scale;
	for (int i = down; i < rows; i += tall) {
		float v = (x[u64(i) * ld + j] - centre) * scale, z = fmaf(v, gamma[j], beta[j]);
		x[u64(i) * ld + j] = v;
		y[u64(i) * ld + j] = z > 0 ? z : 0.01f * z;
	}
}

// dense_batch_norm_back goes back through dense_batch_norm by the moments of the batch, but for the LeakyReLU: from d = ∂L/∂z, x̂ and
// rstd it makes dgamma, dbeta, and ∂L/∂x of d. Grid as dense_batch_norm.
extern "C" __global__ void __launch_bounds__(256) dense_batch_norm_back(float *d, const float *x, int ld, const float *gamma,
	const float *rstd, float *dgamma, float *dbeta, int rows, int n) {
	constexpr int side = 32, tall = 256 / side;
	__shared__ float parts[tall][2][side];
	int across = threadIdx.x % side, down = threadIdx.x / side, j = blockIdx.x * side + across;
	bool here = j < n;
	float along = 0, total = 0;
	for (int i = down; here && i < rows; i += tall) {
		float v = d[u64(i) * ld + j];
		along = fmaf(v, x[u64(i) * ld + j], along);
		total += v;
	}
	parts[down][0][across] = along;
	parts[down][1][across] = total;
	__syncthreads();
	if (!here) return;
	along = total = 0;
#pragma unroll
	for (int p = 0; p < tall; p++) {
		along += parts[p][0][across];
		total += parts[p][1][across];
	}
	if (down == 0) {
		dgamma[j] = along;
		dbeta[j] = total;
	}
	// ∂L/∂x̂ = gamma·d, less its mean and its part along x̂, both over the batch: those are dbeta and dgamma.
	float scale = gamma[j] * rstd[j];
	along /= rows;
	total /= rows;
	for (int i = down; i < rows; i += tall) d[u64(i) * ld + j] = scale * fmaf(-along, x[u64(i) * ld + j], d[u64(i) * ld + j] - total);
}

// Layer is the way back through a linear layer y = x·Wᵀ + b. Its products read W [out][in], x [rows][in] and dy = ∂L/∂y [rows][out] as they
// lie: rows begin at multiples of 16 bytes, in their strides too; what is behind the end of a row, up to the next such multiple, is
// finite, and in W and x zero.
struct Layer {
	float *dx; // or null
	const float *dy, *w, *h, *x; // h may be null
	float *dw, *db;
	double *squares;
	int ld_dx, ld_dy, ld_w, ld_h, ld_x, rows, in, out, add;
	int blocks; // that do inputs: none without dx
};

// inputs: ∂L/∂x [rows][in] = dy·W, and then, where h is not null, back through the LeakyReLU that left it: times 0.01 where h[i][j] has
// a negative sign; with add it is added to what dx holds. A block has 16 rows and 16 columns; its 64 groups of 4 threads share out.
void inputs(const Layer &l, int block) {
	constexpr int side = 16, wide = 4, groups = 256 / (side / wide), warps = 256 / warp_size;
	__shared__ __align__(16) float parts[warps][side][side];
	int across = (l.in + side - 1) / side, i0 = block / across * side, j0 = block % across * side;
	int column = j0 + threadIdx.x % (side / wide) * wide, group = threadIdx.x / (side / wide), warp = threadIdx.x / warp_size;
	int end = (l.in + 3) / 4 * 4;
	float sum[side][wide] = {};
#pragma unroll 1
	for (int o = 4 * group; o < l.out; o += 4 * groups) {
		float4 b[4];
#pragma unroll
		for (int k = 0; k < 4; k++)
			b[k] = column < end && o + k < l.out ? *(const float4 *)(l.w + u64(o + k) * l.ld_w + column) : make_float4(0, 0, 0, 0);
#pragma unroll
		for (int i = 0; i < side; i++) {
			float4 a = *(const float4 *)(l.dy + (min(i0 + i, l.rows - 1) * l.ld_dy + o));
			const float of[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
			for (int k = 0; k < 4; k++) {
				sum[i][0] = fmaf(of[k], b[k].x, sum[i][0]);
				sum[i][1] = fmaf(of[k], b[k].y, sum[i][1]);
				sum[i][2] = fmaf(of[k], b[k].z, sum[i][2]);
				sum[i][3] = fmaf(of[k], b[k].w, sum[i][3]);
			}
		}
	}
#pragma unroll
	for (int i = 0; i < side; i++)
#pragma unroll
		for (int j = 0; j < wide; j++) {
			float s = sum[i][j];
#pragma unroll
			for (int d = side / wide; d < warp_size; d *= 2) s += __shfl_xor_sync(whole_warp, s, d);
			if (lane() < side / wide) parts[warp][i][lane() * wide + j] = s;
		}
	__syncthreads();
	int i = i0 + threadIdx.x / side, j = j0 + threadIdx.x % side;
	if (i >= l.rows || j >= l.in) return;
	float s = 0;
#pragma unroll
	for (int part = 0; part < warps; part++) s += parts[part][threadIdx.x / side][threadIdx.x % side];
	if (l.h && signbit(l.h[u64(i) * l.ld_h + j])) s *= 0.01f;
	float *to = l.dx + u64(i) * l.ld_dx + j;
	*to = l.add ? *to + s : s;
}

// weights: ∂L/∂W [out][in] = dyᵀ·x, with the row stride of W, and ∂L/∂b [out] = Σ_i dy[i], each one chain over the rows in order;
// squares[block] is the sum of the squares of a block's part of ∂L/∂W, in float64. A block has 64 inputs and 128 outputs, a thread 4
// and 8.
void weights(const Layer &l, int block) {
	constexpr int tall = 8, wide = 4, side = 16;
	int across = (l.in + wide * side - 1) / (wide * side);
	int o = block / across * tall * side + threadIdx.x / side * tall, i = block % across * wide * side + threadIdx.x % side * wide;
	bool first = o < l.out, second = o + 4 < l.out, inside = i < l.in; // of the chunks of 4 outputs; of 4 inputs
	const float4 zero = make_float4(0, 0, 0, 0);
	float sum[tall][wide] = {}, bias[tall] = {};
	for (int r = 0; r < l.rows; r++) {
		const float *d = l.dy + u64(r) * l.ld_dy + o;
		float4 a = first ? *(const float4 *)d : zero, b = second ? *(const float4 *)(d + 4) : zero;
		float4 c = inside ? *(const float4 *)(l.x + u64(r) * l.ld_x + i) : zero;
		const float of[tall] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
		for (int k = 0; k < tall; k++) {
			sum[k][0] = fmaf(of[k], c.x, sum[k][0]);
			sum[k][1] = fmaf(of[k], c.y, sum[k][1]);
			sum[k][2] = fmaf(of[k], c.z, sum[k][2]);
			sum[k][3] = fmaf(of[k], c.w, sum[k][3]);
			bias[k] += of[k];
		}
	}
	double square = 0;
#pragma unroll
	for (int k = 0; k < tall; k++) {
		if (o + k >= l.out) continue;
		if (i == 0) l.db[o + k] = bias[k];
		if (!inside) continue;
		*(float4 *)(l.dw + u64(o + k) * l.ld_w + i) = make_float4(sum[k][0], sum[k][1], sum[k][2], sum[k][3]);
#pragma unroll
		for (int j = 0; j < wide; j++) square += double(sum[k][j]) * double(sum[k][j]);
	}
	square = block_sum<256>(square);
	if (threadIdx.x == 0) l.squares[block] = square;
}

void back(const Layer &l, int block) {
	if (block < l.blocks)
		inputs(l, block);
	else
		weights(l, block - l.blocks);
}

// dense_back goes back through two layers that do not depend on each other in one launch, as a layer of few rows keeps little of a
// device busy. Each has, in this order, ceil(in/16)·ceil(rows/16) blocks for inputs, or none, and ceil(in/64)·ceil(out/128) for weights;
// begin is how many the first has. Blocks of 256.
extern "C" __global__ void __launch_bounds__(256) dense_back(Layer one, Layer two, int begin) {
	if (blockIdx.x < begin)
		back(one, blockIdx.x);
	else
		back(two, blockIdx.x - begin); // not by one pointer to either: arguments that are chosen at run time would be copied to the stack
}
