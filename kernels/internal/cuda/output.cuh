// Where a product's results go, for all sources of the families matmul and conv.
#pragma once
#include "epilogue.cuh"

// Output is where a product's results go: [m][n] in float32 with row stride ldd, unless dst is null, and Next. Row i belongs to image
// i/pixels.
struct Output {
	float *dst;
	int ldd, m, n, pixels;
	Epilogue e;
	Next next;
	Ahead ahead;

	// store finishes the sum of output (i, j), whose residual is in row r, and writes it.
	void store(int i, int j, float sum, int r) const {
		int image = i / pixels;
		float v = e.finish(sum, j, image, r);
		if (dst) dst[u64(i) * ldd + j] = v;
		next.store(i, j, image, v);
	}
	void store(int i, int j, float sum) const { store(i, j, sum, i); }
};
