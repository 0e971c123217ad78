//go:build amd64 && !purego

package layernorm

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// rowAVX512 and rowAVX2 normalise one row of n >= 1 values; residual may be nil.
//
//go:noescape
func rowAVX512(dst, x, residual, gamma, beta *float32, n int, eps float64)

//go:noescape
func rowAVX2(dst, x, residual, gamma, beta *float32, n int, eps float64)

func normalise(dst, x, residual, gamma, beta []float32, rows, n int, eps float64) {
	if !cpu.AVX2 {
		normaliseGeneric(dst, x, residual, gamma, beta, rows, n, eps)
		return
	}
	var r *float32
	for i := range rows {
		if residual != nil {
			r = &residual[i*n]
		}
		if cpu.AVX512 {
			rowAVX512(&dst[i*n], &x[i*n], r, &gamma[0], &beta[0], n, eps)
		} else {
			rowAVX2(&dst[i*n], &x[i*n], r, &gamma[0], &beta[0], n, eps)
		}
	}
}
