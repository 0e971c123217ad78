//go:build amd64 && !purego

package activation

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// The functions on *float32 are the loops of generic.go over n elements.

//go:noescape
func expAVX512(dst, src *float32, n int)

//go:noescape
func expAVX2(dst, src *float32, n int)

//go:noescape
func tanhAVX512(dst, src *float32, n int)

//go:noescape
func tanhAVX2(dst, src *float32, n int)

//go:noescape
func geluAVX512(dst, src *float32, n int)

//go:noescape
func geluAVX2(dst, src *float32, n int)

//go:noescape
func reluAVX512(dst, src *float32, n int)

//go:noescape
func reluAVX2(dst, src *float32, n int)

//go:noescape
func leakyReLUAVX512(dst, src *float32, n int)

//go:noescape
func leakyReLUAVX2(dst, src *float32, n int)

//go:noescape
func softmaxAVX512(row *float32, n int)

//go:noescape
func softmaxAVX2(row *float32, n int)

//go:noescape
func softmaxSumsAVX512(x *float32, rows, cols, ld int, sum *float32)

//go:noescape
func softmaxSumsAVX2(x *float32, rows, cols, ld int, sum *float32)

//go:noescape
func softmaxPartAVX512(x *float32, rows, cols, ld int, peak, sum, keep *float32)

//go:noescape
func softmaxPartAVX2(x *float32, rows, cols, ld int, peak, sum, keep *float32)

func exp(dst, src []float32) {
	if len(src) == 0 {
		return
	}
	if cpu.AVX512 {
		expAVX512(&dst[0], &src[0], len(src))
	} else if cpu.AVX2 {
		expAVX2(&dst[0], &src[0], len(src))
	} else {
		expGeneric(dst, src)
	}
}

func tanh(dst, src []float32) {
	if len(src) == 0 {
		return
	}
	if cpu.AVX512 {
		tanhAVX512(&dst[0], &src[0], len(src))
	} else if cpu.AVX2 {
		tanhAVX2(&dst[0], &src[0], len(src))
	} else {
		tanhGeneric(dst, src)
	}
}

func gelu(dst, src []float32) {
	if len(src) == 0 {
		return
	}
	if cpu.AVX512 {
		geluAVX512(&dst[0], &src[0], len(src))
	} else if cpu.AVX2 {
		geluAVX2(&dst[0], &src[0], len(src))
	} else {
		geluGeneric(dst, src)
	}
}

func relu(dst, src []float32) {
	if len(src) == 0 {
		return
	}
	if cpu.AVX512 {
		reluAVX512(&dst[0], &src[0], len(src))
	} else if cpu.AVX2 {
		reluAVX2(&dst[0], &src[0], len(src))
	} else {
		reluGeneric(dst, src)
	}
}

func leakyReLU(dst, src []float32) {
	if len(src) == 0 {
		return
	}
	if cpu.AVX512 {
		leakyReLUAVX512(&dst[0], &src[0], len(src))
	} else if cpu.AVX2 {
		leakyReLUAVX2(&dst[0], &src[0], len(src))
	} else {
		leakyReLUGeneric(dst, src)
	}
}

func softmax(row []float32) {
	if cpu.AVX512 {
		softmaxAVX512(&row[0], len(row))
	} else if cpu.AVX2 {
		softmaxAVX2(&row[0], len(row))
	} else {
		softmaxGeneric(row)
	}
}

func softmaxSums(x []float32, rows, cols, ld int, sum []float32) {
	if cpu.AVX512 {
		softmaxSumsAVX512(&x[0], rows, cols, ld, &sum[0])
	} else if cpu.AVX2 {
		softmaxSumsAVX2(&x[0], rows, cols, ld, &sum[0])
	} else {
		softmaxSumsGeneric(x, rows, cols, ld, sum)
	}
}

func softmaxPart(x []float32, rows, cols, ld int, peak, sum, keep []float32) {
	var k *float32
	if keep != nil {
		k = &keep[0]
	}
	if cpu.AVX512 {
		softmaxPartAVX512(&x[0], rows, cols, ld, &peak[0], &sum[0], k)
	} else if cpu.AVX2 {
		softmaxPartAVX2(&x[0], rows, cols, ld, &peak[0], &sum[0], k)
	} else {
		softmaxPartGeneric(x, rows, cols, ld, peak, sum, keep)
	}
}
