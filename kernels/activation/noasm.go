//go:build !amd64 || purego

package activation

func exp(dst, src []float32)       { expGeneric(dst, src) }
func tanh(dst, src []float32)      { tanhGeneric(dst, src) }
func gelu(dst, src []float32)      { geluGeneric(dst, src) }
func relu(dst, src []float32)      { reluGeneric(dst, src) }
func leakyReLU(dst, src []float32) { leakyReLUGeneric(dst, src) }
func softmax(row []float32)        { softmaxGeneric(row) }

func softmaxSums(x []float32, rows, cols, ld int, sum []float32) {
	softmaxSumsGeneric(x, rows, cols, ld, sum)
}

func softmaxPart(x []float32, rows, cols, ld int, peak, sum, keep []float32) {
	softmaxPartGeneric(x, rows, cols, ld, peak, sum, keep)
}
