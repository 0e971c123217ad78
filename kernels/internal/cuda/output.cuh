// Where a product's results go, for all sources of the family matmul.
#pragma once
#include "epilogue.cuh"

struct Output {
	float *dst;
	int ldd, m, n, pixels;
	Epilogue e;

	// store finishes the sum of output (i, j) and writes it.
	void store(int i, int j, float sum) const { dst[u64(i) * ldd + j] = e.finish(sum, j, n, i / pixels, i); }
};
