// Package conv on the GPU: convolutions as products of implicit matrices. A row of the left matrix is a window of the input,
// gathered as it is loaded; nothing is written between.
#include "epilogue.cuh"
#include "skinny.cuh"
#include "tile.cuh"

// A convolution of NHWC images.
//
// x is [images][h][w] pixels of c channels, ldx values from one pixel to the next. scale and offset [images][c], if not null, are
// a normalisation before the convolution: a pixel inside the image counts as max(0, scale·x + offset), one outside as 0.
//
// With up = 0 the output is dst [images][oh][ow], oh = ceil(h/stride): windows of size×size pixels (size 1 or 3, padding size/2).
// With up = 1 the input is first upsampled by 2 to its nearest neighbours, and a 3×3 convolution follows: size is 2, stride 1, oh =
// h, ow = w, dst is [images][2h][2w]. An output pixel (2y+py, 2x+px) of one phase (py, px) sees 2×2 pixels of x, by a filter that is
// the 3×3 one folded: along each axis {k0, k1+k2} in phase 0 and {k0+k1, k2} in phase 1. blockIdx.z is the phase, 2·py+px.
//
// weights is [phases][n][size·size·c] in the entry's format, bfloat16 or float32. c is a multiple of 8 (bf16) or 4 (the others), and
// so is ldx; x, weights, scale and offset are aligned to 16 bytes.
//
// dst has row stride ldd. The epilogue's residual (skip connection) is a map as large as the output or, with skip_up = 1, half as
// large, upsampled to its nearest neighbours; its images are those of the output.
//
// Grid: x = ceil(images·oh·ow/tile), y = ceil(n/tile), z = 4 with up, else 1.
struct Convolution {
	const float *x;
	const float *scale, *offset;
	const void *weights;
	float *dst;
	int ldx, images, h, w, c, oh, ow, n, size, stride, up, skip_up, ldd;
	int unused; // the Epilogue begins at a multiple of 8 bytes
	Epilogue e;
};

// Window is where one output's pixels lie.
struct Window {
	int image, y, x; // the first pixel, which may lie outside

	Window() {}
	Window(const Convolution &v, int p) {
		image = p / (v.oh * v.ow);
		y = p / v.ow % v.oh;
		x = p % v.ow;
		int up_y = v.up ? int(blockIdx.z) / 2 : 0, up_x = v.up ? int(blockIdx.z) % 2 : 0;
		y = y * v.stride - v.size / 2 + up_y;
		x = x * v.stride - v.size / 2 + up_x;
	}
};

// load reads count values of a window, a multiple of 4 from p on, p counting through [size][size][c].
template <int count> void load(float (&value)[count], const Convolution &v, const Window &window, int p) {
	int tap = p / v.c, channel = p % v.c, y = window.y + tap / v.size, x = window.x + tap % v.size;
	if (p >= v.size * v.size * v.c || window.image >= v.images || y < 0 || y >= v.h || x < 0 || x >= v.w) {
#pragma unroll
		for (int e = 0; e < count; e++) value[e] = 0;
		return;
	}
	const float *from = v.x + ((u64(window.image) * v.h + y) * v.w + x) * v.ldx + channel;
#pragma unroll
	for (int e = 0; e < count; e += 4) *(float4 *)(value + e) = *(const float4 *)(from + e);
	if (!v.scale) return;
	int at = window.image * v.c + channel;
	float scale[count], offset[count];
#pragma unroll
	for (int e = 0; e < count; e += 4) {
		*(float4 *)(scale + e) = *(const float4 *)(v.scale + at + e);
		*(float4 *)(offset + e) = *(const float4 *)(v.offset + at + e);
	}
#pragma unroll
	for (int e = 0; e < count; e++) value[e] = relu(fmaf(scale[e], value[e], offset[e]));
}

// What lies in a chunk of shared memory.
uint4 pack(const float (&v)[8]) { return make_uint4(bf16x2(v[0], v[1]), bf16x2(v[2], v[3]), bf16x2(v[4], v[5]), bf16x2(v[6], v[7])); }
uint4 pack(const float (&v)[4]) {
	return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
}

// store_output finishes the sum of channel j of window p and writes it.
void store_output(const Convolution &v, int p, int j, float sum) {
	int image = p / (v.oh * v.ow), y = p / v.ow % v.oh, x = p % v.ow, height = v.oh, width = v.ow;
	if (v.up) {
		height *= 2;
		width *= 2;
		y = 2 * y + int(blockIdx.z) / 2;
		x = 2 * x + int(blockIdx.z) % 2;
	}
	int row = (image * height + y) * width + x;
	int skip = v.skip_up ? (image * (height / 2) + y / 2) * (width / 2) + x / 2 : row;
	v.dst[u64(row) * v.ldd + j] = v.e.finish(sum, j, v.n, image, skip);
}

// convolve computes one tile. While a step is multiplied, the weights of the next are on their way to shared memory and the
// windows' pixels to registers, since they are changed before they are stored.
template <class Tile> void convolve(const Convolution &v) {
	constexpr int per_word = Tile::Format::per_word, bytes = 4 / per_word, operand = Tile::size * step_words;
	constexpr int mine = Tile::size * chunks / Tile::threads; // the windows of which a thread loads a chunk
	__shared__ __align__(128) u32 memory[2][2][operand];
	int i0 = blockIdx.x * Tile::size, j0 = blockIdx.y * Tile::size, chunk = threadIdx.x % chunks;
	int k = v.size * v.size * v.c, windows = v.images * v.oh * v.ow, steps = (k * bytes + step_bytes - 1) / step_bytes;
	const char *weights = (const char *)v.weights + (u64(blockIdx.z) * v.n + j0) * k * bytes;
	auto row = [=](int i) { return int(threadIdx.x + i * Tile::threads) / chunks; };
	float value[mine][4 * per_word];

	auto fetch = [&](int step) {
		copy_rows<Tile::size, Tile::threads>(memory[step % 2][1], weights, u64(k) * bytes, v.n - j0, step * step_bytes, k * bytes);
		commit_copies();
#pragma unroll
		for (int i = 0; i < mine; i++) load(value[i], v, Window(v, i0 + row(i)), (step * step_words + 4 * chunk) * per_word);
	};
	auto keep = [&](int step) {
#pragma unroll
		for (int i = 0; i < mine; i++) *(uint4 *)chunk_at(memory[step % 2][0], row(i), chunk) = pack(value[i]);
	};

	Tile tile;
	fetch(0);
	keep(0);
#pragma unroll 1
	for (int step = 0; step < steps; step++) {
		wait_copies<0>();
		__syncthreads(); // this step is here, and all have finished the one before, whose place the next one takes
		if (step + 1 < steps) fetch(step + 1);
		tile.step(memory[step % 2][0], memory[step % 2][1]);
		if (step + 1 < steps) keep(step + 1);
	}
	__syncthreads();
	tile.each(memory[0][0], [&](int i, int j, float sum) {
		if (i0 + i < windows && j0 + j < v.n) store_output(v, i0 + i, j0 + j, sum);
	});
}

// conv_f32: exact products; tiles of 64 windows × 64 channels in blocks of 128 threads. conv_tf32 and conv_bf16 round both operands
// on the way into tensor cores; _t32, _t64 and _t128 have tiles of so many windows and channels in blocks of 64, 128 and 256. (The
// second numbers, blocks of a multiprocessor, hold ptxas to so many registers; for conv_tf32_t32, to no fewer than it needs.)
extern "C" __global__ void __launch_bounds__(128) conv_f32(Convolution v) { convolve<FloatTile>(v); }
extern "C" __global__ void __launch_bounds__(64, 6) conv_tf32_t32(Convolution v) { convolve<MmaTile<TF32, 32, 2, 2>>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_tf32_t64(Convolution v) { convolve<MmaTile<TF32, 64, 2, 4>>(v); }
extern "C" __global__ void __launch_bounds__(256) conv_tf32_t128(Convolution v) { convolve<MmaTile<TF32, 128, 4, 4>>(v); }
extern "C" __global__ void __launch_bounds__(64) conv_bf16_t32(Convolution v) { convolve<MmaTile<BF16, 32, 2, 2>>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_t64(Convolution v) { convolve<MmaTile<BF16, 64, 2, 4>>(v); }
extern "C" __global__ void __launch_bounds__(256, 2) conv_bf16_t128(Convolution v) { convolve<MmaTile<BF16, 128, 4, 4>>(v); }

// few_windows is convolve for the small maps at the beginning of a generator, where reading the weights takes the time.
template <class Format, int groups> void few_windows(const Convolution &v) {
	int k = v.size * v.size * v.c, windows = v.images * v.oh * v.ow;
	Window window[2 * groups];
#pragma unroll
	for (int r = 0; r < 2 * groups; r++) window[r] = Window(v, 8 * r + lane() / 4);
	const char *weights = (const char *)v.weights + u64(blockIdx.z) * v.n * k * 4 / Format::per_word;
	skinny<Format, groups>(weights, k, v.n, k, [&](int r, int p) {
		float value[4 * Format::per_word];
		load(value, v, window[r], p);
		return pack(value);
	}, [&](int i, int j, float sum) {
		if (i < windows) store_output(v, i, j, sum);
	});
}

// conv_bf16_m16, _m32 and _m64 are for at most so many windows. Grid: x = ceil(n/8), z as above; blocks of 128.
extern "C" __global__ void __launch_bounds__(128) conv_bf16_m16(Convolution v) { few_windows<BF16, 1>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_m32(Convolution v) { few_windows<BF16, 2>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_m64(Convolution v) { few_windows<BF16, 4>(v); }

// conv_maxpool: the largest of each 2×2 pixels of x, [images][h][w] pixels of c channels with ldx values from one to the next;
// dst is [images][h/2][w/2][c]. h and w are even. Grid: x = images·h/2·w/2, y = ceil(c/128); blocks of 128.
extern "C" __global__ void __launch_bounds__(128) conv_maxpool(float *dst, const float *x, int ldx, int h, int w, int c) {
	int channel = blockIdx.y * blockDim.x + threadIdx.x, pixel = blockIdx.x;
	if (channel >= c) return;
	int row = pixel / (w / 2), column = pixel % (w / 2); // rows count through the images
	x += (u64(2 * row) * w + 2 * column) * ldx + channel;
	float top = larger(x[0], x[ldx]);
	x += u64(w) * ldx;
	dst[u64(pixel) * c + channel] = larger(top, larger(x[0], x[ldx]));
}
