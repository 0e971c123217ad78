// Package layernorm normalises rows to mean 0 and variance 1 (Layer Normalization, Ba et al. 2016).
//
// The statistics are float64 and taken of the row less its first value, so that the error is that of the last float32
// roundings, however long the row and however far its mean from zero. The vector forms add over more lanes than the
// plain Go form and fuse, so the last bit may differ between forms, never the stated error.
//
// The GPU form is layernorm.cu, with float32 statistics.
package layernorm

// F32 computes, for each of the rows of y = x + residual [rows][n],
//
//	dst[i][j] = (y[i][j] - mean_i)/√(var_i + eps)·gamma[j] + beta[j]
//
// with the biased variance of the row. residual may be nil, for zeros; dst may be x or residual. The error, besides the
// rounding of y, is at most 5.01·2⁻²⁴ of the product with gamma and half an ulp of the result.
func F32(dst, x, residual, gamma, beta []float32, rows, n int, eps float32) {
	if rows < 0 || n < 0 {
		panic("layernorm: bad size")
	}
	if len(dst) < rows*n || len(x) < rows*n || residual != nil && len(residual) < rows*n {
		panic("layernorm: dst, x or residual too short")
	}
	if len(gamma) < n || len(beta) < n {
		panic("layernorm: gamma or beta too short")
	}
	if n == 0 || rows == 0 {
		return
	}
	normalise(dst, x, residual, gamma, beta, rows, n, float64(eps))
}
