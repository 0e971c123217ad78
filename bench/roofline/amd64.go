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
