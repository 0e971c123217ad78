//go:build amd64 && !purego

package matmul

func multiply(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, j0, j1 int, e *Epilogue) {
	multiplyGeneric(dst, ldd, x, ldx, w, m, k, j0, j1, e)
}
