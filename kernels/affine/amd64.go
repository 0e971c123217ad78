//go:build amd64 && !purego

package affine

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// The functions on *float32 are the loops of generic.go, with a fused multiply-add, over at least one row and one column.

//go:noescape
func reluAVX512(dst *float32, ldd int, x *float32, ldx int, scale, offset *float32, rows, cols int)

//go:noescape
func reluAVX2(dst *float32, ldd int, x *float32, ldx int, scale, offset *float32, rows, cols int)

//go:noescape
func addAVX512(dst *float32, ldd int, x *float32, ldx int, rows, cols int)

//go:noescape
func addAVX2(dst *float32, ldd int, x *float32, ldx int, rows, cols int)

//go:noescape
func scaleAVX512(dst *float32, ldd int, by *float32, rows, cols int)

//go:noescape
func scaleAVX2(dst *float32, ldd int, by *float32, rows, cols int)

func relu(dst []float32, ldd int, x []float32, ldx int, scale, offset []float32, rows, cols int) {
	if cpu.AVX512 {
		reluAVX512(&dst[0], ldd, &x[0], ldx, &scale[0], &offset[0], rows, cols)
	} else if cpu.AVX2 {
		reluAVX2(&dst[0], ldd, &x[0], ldx, &scale[0], &offset[0], rows, cols)
	} else {
		reluGeneric(dst, ldd, x, ldx, scale, offset, rows, cols)
	}
}

func add(dst []float32, ldd int, x []float32, ldx int, rows, cols int) {
	if cpu.AVX512 {
		addAVX512(&dst[0], ldd, &x[0], ldx, rows, cols)
	} else if cpu.AVX2 {
		addAVX2(&dst[0], ldd, &x[0], ldx, rows, cols)
	} else {
		addGeneric(dst, ldd, x, ldx, rows, cols)
	}
}

func scale(dst []float32, ldd int, by []float32, cols int) {
	if cpu.AVX512 {
		scaleAVX512(&dst[0], ldd, &by[0], len(by), cols)
	} else if cpu.AVX2 {
		scaleAVX2(&dst[0], ldd, &by[0], len(by), cols)
	} else {
		scaleGeneric(dst, ldd, by, cols)
	}
}
