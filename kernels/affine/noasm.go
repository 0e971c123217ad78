//go:build !amd64 || purego

package affine

func relu(dst []float32, ldd int, x []float32, ldx int, scale, offset []float32, rows, cols int) {
	reluGeneric(dst, ldd, x, ldx, scale, offset, rows, cols)
}

func add(dst []float32, ldd int, x []float32, ldx int, rows, cols int) {
	addGeneric(dst, ldd, x, ldx, rows, cols)
}

func scale(dst []float32, ldd int, by []float32, cols int) { scaleGeneric(dst, ldd, by, cols) }
