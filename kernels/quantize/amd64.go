//go:build amd64 && !purego

package quantize

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// The vector forms give the same bits as generic.go. They take at least vectorLen values.
const vectorLen = 16

func narrowBF16(dst []uint16, src []float32) {
	switch {
	case !cpu.AVX2 || len(src) < vectorLen:
		narrowBF16Generic(dst, src)
	case cpu.AVX512:
		narrowBF16AVX512(&dst[0], &src[0], len(src))
	default:
		narrowBF16AVX2(&dst[0], &src[0], len(src))
	}
}

func widenBF16(dst []float32, src []uint16) {
	switch {
	case !cpu.AVX2 || len(src) < vectorLen:
		widenBF16Generic(dst, src)
	case cpu.AVX512:
		widenBF16AVX512(&dst[0], &src[0], len(src))
	default:
		widenBF16AVX2(&dst[0], &src[0], len(src))
	}
}

func span(src []float32) (low, high, peak float32) {
	switch {
	case !cpu.AVX2 || len(src) < vectorLen:
		return spanGeneric(src)
	case cpu.AVX512:
		return spanAVX512(&src[0], len(src))
	default:
		return spanAVX2(&src[0], len(src))
	}
}

func roundU8(q []uint8, src []float32, inverse float32, zero int32) {
	switch {
	case !cpu.AVX2 || len(src) < vectorLen:
		roundU8Generic(q, src, inverse, zero)
	case cpu.AVX512:
		roundU8AVX512(&q[0], &src[0], len(src), inverse, zero)
	default:
		roundU8AVX2(&q[0], &src[0], len(src), inverse, zero)
	}
}

func peak(src []float32) float32 {
	switch {
	case !cpu.AVX2 || len(src) < vectorLen:
		return peakGeneric(src)
	case cpu.AVX512:
		return peakAVX512(&src[0], len(src))
	default:
		return peakAVX2(&src[0], len(src))
	}
}

func roundI8(q []int8, src []float32, scale float32) {
	switch {
	case !cpu.AVX2 || len(src) < vectorLen:
		roundI8Generic(q, src, scale)
	case cpu.AVX512:
		roundI8AVX512(&q[0], &src[0], len(src), scale)
	default:
		roundI8AVX2(&q[0], &src[0], len(src), scale)
	}
}

func widenI8(dst []float32, q []int8, scale float32) {
	switch {
	case !cpu.AVX2 || len(q) < vectorLen:
		widenI8Generic(dst, q, scale)
	case cpu.AVX512:
		widenI8AVX512(&dst[0], &q[0], len(q), scale)
	default:
		widenI8AVX2(&dst[0], &q[0], len(q), scale)
	}
}

//go:noescape
func narrowBF16AVX512(dst *uint16, src *float32, n int)

//go:noescape
func narrowBF16AVX2(dst *uint16, src *float32, n int)

//go:noescape
func widenBF16AVX512(dst *float32, src *uint16, n int)

//go:noescape
func widenBF16AVX2(dst *float32, src *uint16, n int)

//go:noescape
func spanAVX512(src *float32, n int) (low, high, peak float32)

//go:noescape
func spanAVX2(src *float32, n int) (low, high, peak float32)

//go:noescape
func roundU8AVX512(q *uint8, src *float32, n int, inverse float32, zero int32)

//go:noescape
func roundU8AVX2(q *uint8, src *float32, n int, inverse float32, zero int32)

//go:noescape
func peakAVX512(src *float32, n int) float32

//go:noescape
func peakAVX2(src *float32, n int) float32

//go:noescape
func roundI8AVX512(q *int8, src *float32, n int, scale float32)

//go:noescape
func roundI8AVX2(q *int8, src *float32, n int, scale float32)

//go:noescape
func widenI8AVX512(dst *float32, q *int8, n int, scale float32)

//go:noescape
func widenI8AVX2(dst *float32, q *int8, n int, scale float32)
