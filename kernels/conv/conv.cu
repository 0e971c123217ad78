// Package conv on the GPU: convolutions as products of implicit matrices. A row of the left matrix is a window of the input,
// gathered as it is copied to shared memory; nothing is written between. What normalises an input is the product that made it: see
// Next.
#include "convolution.cuh"
#include "skinny.cuh"
#include "tile.cuh"

// Window is where one output's pixels lie.
struct Window {
	int image, y, x; // the first pixel, which may lie outside
	bool real;

	Window() {}
	Window(const Convolution &v, int p) {
		image = p / (v.oh * v.ow);
		y = p / v.ow % v.oh;
		x = p % v.ow;
		real = p < v.windows();
		int up_y = v.up ? int(blockIdx.z) / 2 : 0, up_x = v.up ? int(blockIdx.z) % 2 : 0;
		y = y * v.stride - v.size / 2 + up_y;
		x = x * v.stride - v.size / 2 + up_x;
	}

	// at is where pixel (ky, kx) of the window begins, or null outside.
	const char *at(const Convolution &v, int ky, int kx, int bytes) const {
		int row = y + ky, column = x + kx;
		if (!real || row < 0 || row >= v.h || column < 0 || column >= v.w) return nullptr;
		return (const char *)v.x + ((u64(image) * v.h + row) * v.w + column) * v.ldx * bytes;
	}
};

// Place is a place in a window: a channel of the pixel (ky, kx).
struct Place {
	int channel, ky, kx;

	// forward goes on by so many values.
	void forward(const Convolution &v, int values) {
		channel += values;
		while (channel >= v.c) {
			channel -= v.c;
			if (++kx == v.size) {
				kx = 0;
				ky++;
			}
		}
	}
};

// convolve computes one tile.
template <class Tile, int slices = 1> void convolve(const Convolution &v) {
	constexpr int per_word = Tile::Format::per_word, bytes = 4 / per_word, step_values = step_words * per_word;
	constexpr int mine = Tile::size * chunks / Tile::threads; // the windows of which a thread copies a chunk
	int i0 = blockIdx.x * Tile::size, j0 = blockIdx.y * Tile::size, k = v.k();
	int slice = threadIdx.x / Tile::threads, first = threadIdx.x % Tile::threads, chunk = first % chunks;
	const char *weights = (const char *)v.weights + (u64(blockIdx.z) * v.out.n + j0) * k * bytes;
	Window window[mine];
#pragma unroll
	for (int i = 0; i < mine; i++) window[i] = Window(v, i0 + (first + i * Tile::threads) / chunks);
	Place place = {};
	place.forward(v, slice * step_values + 4 * chunk * per_word);
	v.out.ahead.fetch();
	multiply<Tile, slices>((k * bytes + step_bytes - 1) / step_bytes, [&](int step, int thread, u32 *a, u32 *b) {
		copy_rows<Tile::size, Tile::threads>(b, weights, u64(k) * bytes, v.out.n - j0, step * step_bytes, k * bytes, thread);
#pragma unroll
		for (int i = 0; i < mine; i++) {
			const char *from = place.ky < v.size ? window[i].at(v, place.ky, place.kx, bytes) : nullptr;
			copy_async(chunk_at(a, (thread + i * Tile::threads) / chunks, chunk), from ? from + place.channel * bytes : v.x, from ? 16 : 0);
		}
		place.forward(v, slices * step_values);
	}, [&](int i, int j, float sum) {
		if (i0 + i < v.windows() && j0 + j < v.out.n) store(v, i0 + i, j0 + j, sum);
	});
}

// conv_f32: exact products; tiles of 64 windows × 64 channels in blocks of 128 threads. conv_tf32 rounds both operands on the way into
// tensor cores, those of conv_bf16 are bfloat16; _t32, _t64 and _t128 have tiles of so many windows and channels in blocks of 64, 128
// and 256, _s32 those of _t32 with a window cut among four parts of a block, of 256 threads, for few tiles, and _x32 among eight, of
// 512, with 98304 bytes of dynamic shared memory. Grid: x = ceil(windows/tile), y = ceil(n/tile), z = 4 with up, else 1.
extern "C" __global__ void __launch_bounds__(128) conv_f32(Convolution v) { convolve<FloatTile>(v); }
extern "C" __global__ void __launch_bounds__(64) conv_tf32_t32(Convolution v) { convolve<MmaTile<TF32, 32, 2, 2>>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_tf32_t64(Convolution v) { convolve<MmaTile<TF32, 64, 2, 4>>(v); }
extern "C" __global__ void __launch_bounds__(256) conv_tf32_t128(Convolution v) { convolve<MmaTile<TF32, 128, 4, 4>>(v); }
extern "C" __global__ void __launch_bounds__(256) conv_tf32_s32(Convolution v) { convolve<MmaTile<TF32, 32, 2, 2>, 4>(v); }
extern "C" __global__ void __launch_bounds__(512, 1) conv_tf32_x32(Convolution v) { convolve<MmaTile<TF32, 32, 2, 2>, 8>(v); }
extern "C" __global__ void __launch_bounds__(64) conv_bf16_t32(Convolution v) { convolve<MmaTile<BF16, 32, 2, 2>>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_t64(Convolution v) { convolve<MmaTile<BF16, 64, 2, 4>>(v); }
extern "C" __global__ void __launch_bounds__(256) conv_bf16_t128(Convolution v) { convolve<MmaTile<BF16, 128, 4, 4>>(v); }
extern "C" __global__ void __launch_bounds__(256) conv_bf16_s32(Convolution v) { convolve<MmaTile<BF16, 32, 2, 2>, 4>(v); }
extern "C" __global__ void __launch_bounds__(512, 1) conv_bf16_x32(Convolution v) { convolve<MmaTile<BF16, 32, 2, 2>, 8>(v); }

// few computes 16·groups windows × 8 channels: for the small maps at the beginning of a generator, where reading the weights takes the
// time, and for few channels.
template <class Format, int groups, class Store> void few(const Convolution &v, Store store) {
	constexpr int bytes = 4 / Format::per_word;
	int k = v.k(), i0 = blockIdx.y * 16 * groups;
	Window window[2 * groups];
#pragma unroll
	for (int r = 0; r < 2 * groups; r++) window[r] = Window(v, i0 + 8 * r + lane() / 4);
	v.out.ahead.fetch();
	const char *weights = (const char *)v.weights + u64(blockIdx.z) * v.out.n * k * bytes;
	skinny<Format, groups>(weights, k, v.out.n, k, [&](int r, int p) {
		int tap = p / v.c, ky = tap / v.size;
		const char *from = ky < v.size ? window[r].at(v, ky, tap % v.size, bytes) : nullptr;
		return from ? *(const uint4 *)(from + p % v.c * bytes) : make_uint4(0, 0, 0, 0);
	}, [&](int i, int j, float sum) {
		if (i0 + i < v.windows()) store(i0 + i, j, sum);
	});
}

template <class Format, int groups> void few_windows(const Convolution &v) {
	few<Format, groups>(v, [&](int p, int j, float sum) { store(v, p, j, sum); });
}

// conv_tf32_m16 … conv_bf16_m64: blocks of 128 threads have so many windows and 8 channels. Grid: x = ceil(n/8), y = ceil(windows/16,
// 32 or 64), z as above.
extern "C" __global__ void __launch_bounds__(128) conv_tf32_m16(Convolution v) { few_windows<TF32, 1>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_tf32_m32(Convolution v) { few_windows<TF32, 2>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_tf32_m64(Convolution v) { few_windows<TF32, 4>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_m16(Convolution v) { few_windows<BF16, 1>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_m32(Convolution v) { few_windows<BF16, 2>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_m64(Convolution v) { few_windows<BF16, 4>(v); }

// pixels is few_windows for the last convolution of a generator, with n = 3 and without up: dst is red, green, blue and 255 of each
// pixel, bytes in the place of float32, each 128·(y + 1) of the output y clipped to [0, 255] and truncated; NaN is 0.
template <class Format> void pixels(const Convolution &v) {
	few<Format, 4>(v, [&](int p, int j, float sum) {
		u8 *pixel = (u8 *)v.out.dst + 4 * u64(p);
		pixel[j] = u8(fminf(fmaxf(128 * (v.out.e.finish(sum, j, p / v.out.pixels, p) + 1), 0), 255));
		if (j == 0) pixel[3] = 255;
	});
}

// conv_tf32_pixels and conv_bf16_pixels are launched as _m64.
extern "C" __global__ void __launch_bounds__(128) conv_tf32_pixels(Convolution v) { pixels<TF32>(v); }
extern "C" __global__ void __launch_bounds__(128) conv_bf16_pixels(Convolution v) { pixels<BF16>(v); }

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
