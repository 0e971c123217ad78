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
