//go:build amd64 && !purego

package affine

import "netfusion/kernels/cpu"

// The functions on *float32 compute rows >= 1 rows of 1 <= cols <= 16 channels, with a fused multiply-add.

//go:noescape
func reluAVX512(dst *float32, ldd int, x *float32, ldx int, scale, offset *float32, rows, cols int)

//go:noescape
func reluAVX2(dst *float32, ldd int, x *float32, ldx int, scale, offset *float32, rows, cols int)

func relu(dst []float32, ldd int, x []float32, ldx int, scale, offset []float32, rows, cols int) {
	const width = 16 // channels are one cache line
	switch {
	case cpu.AVX512:
		for j := 0; j < cols; j += width {
			reluAVX512(&dst[j], ldd, &x[j], ldx, &scale[j], &offset[j], rows, min(width, cols-j))
		}
	case cpu.AVX2:
		for j := 0; j < cols; j += width {
			reluAVX2(&dst[j], ldd, &x[j], ldx, &scale[j], &offset[j], rows, min(width, cols-j))
		}
	default:
		reluGeneric(dst, ldd, x, ldx, scale, offset, rows, cols)
	}
}

func add(dst []float32, ldd int, x []float32, ldx int, rows, cols int) {
	addGeneric(dst, ldd, x, ldx, rows, cols)
}
