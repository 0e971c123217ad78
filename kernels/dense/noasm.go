//go:build !amd64 || purego

package dense

func (t *task) multiply() { t.multiplyGeneric() }

func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	transposeGeneric(dst, ldd, src, lds, rows, cols)
}
