// Package affine applies normalisation layers that were folded to one multiplication and one addition per channel.
//
// Letters: x is [rows][cols], one row per pixel and one column per channel; scale and offset are [cols].
//
// The GPU form is affine.cu.
package affine

// ReLU computes, for 0 <= i < rows and 0 <= j < cols,
//
//	dst[i*ldd+j] = max(0, scale[j]·x[i*ldx+j] + offset[j])
//
// dst may be x, if ldd = ldx. A result does not depend on how rows and columns are split over calls.
func ReLU(dst []float32, ldd int, x []float32, ldx int, scale, offset []float32, rows, cols int) {
	if rows < 0 || cols < 0 || ldd < cols || ldx < cols {
		panic("affine: bad size")
	}
	if rows == 0 || cols == 0 {
		return
	}
	if len(dst) < (rows-1)*ldd+cols {
		panic("affine: dst too short")
	}
	if len(x) < (rows-1)*ldx+cols {
		panic("affine: x too short")
	}
	if len(scale) < cols || len(offset) < cols {
		panic("affine: scale or offset too short")
	}
	relu(dst, ldd, x, ldx, scale, offset, rows, cols)
}

// Add adds x [rows][cols], with row stride ldx, to dst. Where ldx is 0, all rows are one.
func Add(dst []float32, ldd int, x []float32, ldx int, rows, cols int) {
	if rows < 0 || cols < 0 || ldd < cols || ldx < cols && ldx != 0 {
		panic("affine: bad size")
	}
	if rows == 0 || cols == 0 {
		return
	}
	if len(dst) < (rows-1)*ldd+cols {
		panic("affine: dst too short")
	}
	if len(x) < (rows-1)*ldx+cols {
		panic("affine: x too short")
	}
	add(dst, ldd, x, ldx, rows, cols)
}

// Scale multiplies row i of dst, cols values long, by by[i].
func Scale(dst []float32, ldd int, by []float32, cols int) {
	if cols < 0 || ldd < cols {
		panic("affine: bad size")
	}
	if len(by) == 0 || cols == 0 {
		return
	}
	if len(dst) < (len(by)-1)*ldd+cols {
		panic("affine: dst too short")
	}
	scale(dst, ldd, by, cols)
}

// Fold turns a conditional batch normalisation that follows a layer with a bias,
//
//	y = (x + bias - mean)·invStd·(1 + gain) + shift
//
// into y = scale·x + offset, in place: gain becomes scale and shift becomes offset. All are [n]; a nil bias is 0.
func Fold(gain, shift, mean, invStd, bias []float32) {
	n := len(gain)
	if len(shift) != n || len(mean) != n || len(invStd) != n || bias != nil && len(bias) != n {
		panic("affine: lengths differ")
	}
	for i, g := range gain {
		centre := mean[i]
		if bias != nil {
			centre -= bias[i]
		}
		gain[i] = float32((1 + g) * invStd[i])
		shift[i] -= float32(centre * gain[i])
	}
}
