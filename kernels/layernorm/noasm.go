//go:build !amd64 || purego

package layernorm

func normalise(dst, x, residual, gamma, beta []float32, rows, n int, eps float64) {
	normaliseGeneric(dst, x, residual, gamma, beta, rows, n, eps)
}
