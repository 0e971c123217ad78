//go:build !amd64 || purego

package matmul

func columns(m int) int { return Width }

func multiplyF32(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, j0, j1 int, e *Epilogue) {
	multiplyF32Generic(dst, ldd, x, ldx, w, m, k, j0, j1, e)
}

func multiplyBF16(dst []float32, ldd int, x []uint16, ldx int, w []uint16, m, k, j0, j1 int, e *Epilogue) {
	multiplyBF16Generic(dst, ldd, x, ldx, w, m, k, j0, j1, e)
}

func multiplyI8(dst []float32, ldd int, x *Uint8, w *Int8, m, k, j0, j1 int, e *Epilogue) {
	multiplyI8Generic(dst, ldd, x, w, m, k, j0, j1, e)
}
