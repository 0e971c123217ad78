package affine

func reluGeneric(dst []float32, ldd int, x []float32, ldx int, scale, offset []float32, rows, cols int) {
	scale, offset = scale[:cols], offset[:cols]
	for i := range rows {
		d, s := dst[i*ldd:][:cols], x[i*ldx:][:cols]
		for j, v := range s {
			d[j] = max(0, float32(scale[j]*v)+offset[j])
		}
	}
}

func addGeneric(dst []float32, ldd int, x []float32, ldx int, rows, cols int) {
	for i := range rows {
		d := dst[i*ldd:][:cols]
		for j, v := range x[i*ldx:][:cols] {
			d[j] += v
		}
	}
}

func scaleGeneric(dst []float32, ldd int, by []float32, cols int) {
	for i, b := range by {
		d := dst[i*ldd:][:cols]
		for j := range d {
			d[j] *= b
		}
	}
}
