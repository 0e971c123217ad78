// What a convolution is, for all sources of the family conv.
#pragma once
#include "output.cuh"

// A convolution of NHWC images.
//
// x is [images][h][w] pixels of c channels, ldx values from one pixel to the next. A pixel outside the image counts as 0.
//
// With up = 0 the output is [images][oh][ow], oh = ceil(h/stride): windows of size×size pixels (size 1 or 3, padding size/2). With up
// = 1 the input is first upsampled by 2 to its nearest neighbours, and a 3×3 convolution follows: size is 2, stride 1, oh = h, ow = w,
// the output is [images][2h][2w]. An output pixel (2y+py, 2x+px) of one phase (py, px) sees 2×2 pixels of x, by a filter that is the
// 3×3 one folded: along each axis {k0, k1+k2} in phase 0 and {k0+k1, k2} in phase 1. blockIdx.z is the phase, 2·py+px.
//
// x and weights, [phases][n][size·size·c], are in the entry's format, bfloat16 or float32. c is a multiple of 8 (bf16) or 4 (the
// others), and so is ldx; both are aligned to 16 bytes.
//
// Rows of the Output are pixels. Its residual (skip connection) is a map as large as the output or, with skip_up = 1, half as large,
// upsampled to its nearest neighbours; its images are those of the output.
struct Convolution {
	const void *x, *weights;
	int ldx, h, w, c, oh, ow, size, stride, up, skip_up;
	Output out;

	// windows is the number of rows of the implicit matrix, of one phase.
	int windows() const { return up ? out.m / 4 : out.m; }
	int k() const { return size * size * c; }
};

// store finishes the sum of channel j of window p and writes it.
inline void store(const Convolution &v, int p, int j, float sum) {
	if (!v.up && !v.skip_up) return v.out.store(p, j, sum);
	int image = p / (v.oh * v.ow), y = p / v.ow % v.oh, x = p % v.ow, height = v.oh, width = v.ow;
	if (v.up) {
		height *= 2;
		width *= 2;
		y = 2 * y + int(blockIdx.z) / 2;
		x = 2 * x + int(blockIdx.z) % 2;
	}
	int row = (image * height + y) * width + x;
	v.out.store(row, j, sum, v.skip_up ? (image * (height / 2) + y / 2) * (width / 2) + x / 2 : row);
}
