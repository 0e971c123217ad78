//go:build amd64 && !purego

package roofline

import "netfusion/kernels/cpu"

// multiplyAdd is multiplyAddGeneric with lanes() values to each accumulator.
func multiplyAdd(acc *[192]float32, x, y float32, steps int) {
	switch {
	case cpu.AVX512:
		multiplyAddAVX512(acc, x, y, steps)
	case cpu.AVX2:
		multiplyAddAVX2(acc, x, y, steps)
	default:
		multiplyAddGeneric(acc, x, y, steps)
	}
}

// dotBF16 adds products of pairs of bfloat16 to acc, steps times, and returns how many operations that were; 0 means that the
// form has no instruction for it.
func dotBF16(acc *[256]float32, x, y uint32, steps int) int {
	if !cpu.AVX512BF16 {
		return 0
	}
	dotBF16AVX512(acc, x, y, steps)
	return 16 * 16 * 2 * 2 * steps
}

// dotI8 is dotBF16 for int8: four products of uint8 by int8, or two of int16, which int8 is widened to.
func dotI8(acc *[256]int32, x, y uint32, steps int) int {
	switch {
	case cpu.AVX512VNNI:
		dotI8AVX512(acc, x, y, steps)
		return 16 * 16 * 4 * 2 * steps
	case cpu.AVX2:
		dotI16AVX2(acc, x, y, steps)
		return 12 * 8 * 2 * 2 * steps
	}
	return 0
}

// sum is sumGeneric, in another order.
func sum(src []float32) float32 {
	var lanes [16]float32
	switch {
	case cpu.AVX512:
		sumAVX512(&lanes, &src[0], len(src))
	case cpu.AVX2:
		sumAVX2(&lanes, &src[0], len(src))
	default:
		return sumGeneric(src)
	}
	total := float32(0)
	for _, v := range lanes {
		total += v
	}
	return total
}

//go:noescape
func multiplyAddAVX512(acc *[192]float32, x, y float32, steps int)

//go:noescape
func multiplyAddAVX2(acc *[192]float32, x, y float32, steps int)

//go:noescape
func sumAVX512(lanes *[16]float32, src *float32, n int)

//go:noescape
func sumAVX2(lanes *[16]float32, src *float32, n int)

//go:noescape
func dotBF16AVX512(acc *[256]float32, x, y uint32, steps int)

//go:noescape
func dotI8AVX512(acc *[256]int32, x, y uint32, steps int)

//go:noescape
func dotI16AVX2(acc *[256]int32, x, y uint32, steps int)
