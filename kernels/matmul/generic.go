package matmul

import "math"

// multiplyF32Generic is F32 in plain Go and the definition of right, up to the rounding of the products.
func multiplyF32Generic(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, j0, j1 int, e *Epilogue) {
	var tile [2][4]float32
	for j := j0; j < j1; j += 4 {
		cols := min(4, j1-j)
		var panel []float32 // from column j of its panel on, in rows of Width
		if k > 0 {
			panel = w[j/Width*Width*k+j%Width:]
		}
		for i := 0; i < m; i += 2 {
			rows := min(2, m-i)
			for r := range tile {
				tile[r] = [4]float32{}
				if e.Bias != nil {
					copy(tile[r][:], e.Bias[j:j+cols])
				}
			}
			// An odd last row is computed twice.
			tile2x4(&tile, x[i*ldx:][:k], x[(i+rows-1)*ldx:][:k], panel)
			for r := range rows {
				e.store(dst[(i+r)*ldd+j:][:cols], tile[r][:cols], i+r, j)
			}
		}
	}
}

// tile2x4 adds to c the products of two rows of x and four columns of a panel. The conversions keep the
// compiler from fusing, so that a result does not depend on GOAMD64 or on the architecture.
func tile2x4(c *[2][4]float32, x0, x1, panel []float32) {
	c00, c01, c02, c03 := c[0][0], c[0][1], c[0][2], c[0][3]
	c10, c11, c12, c13 := c[1][0], c[1][1], c[1][2], c[1][3]
	x1 = x1[:len(x0)]
	for p, a0 := range x0 {
		a1 := x1[p]
		b := panel[p*Width : p*Width+4 : p*Width+4]
		b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
		c00 += float32(a0 * b0)
		c01 += float32(a0 * b1)
		c02 += float32(a0 * b2)
		c03 += float32(a0 * b3)
		c10 += float32(a1 * b0)
		c11 += float32(a1 * b1)
		c12 += float32(a1 * b2)
		c13 += float32(a1 * b3)
	}
	c[0] = [4]float32{c00, c01, c02, c03}
	c[1] = [4]float32{c10, c11, c12, c13}
}

// multiplyBF16Generic is BF16 in plain Go and the definition of right.
func multiplyBF16Generic(dst []float32, ldd int, x []uint16, ldx int, w []uint16, m, k, j0, j1 int, e *Epilogue) {
	for j := j0; j < j1; j += Width {
		cols := min(Width, j1-j)
		panel := w[j*even(k):][:Width*even(k)]
		for i := range m {
			var sum [Width]float32
			if e.Bias != nil {
				copy(sum[:], e.Bias[j:j+cols])
			}
			for p, v := range x[i*ldx:][:even(k)] {
				a := widen(v)
				for c := range cols {
					sum[c] += float32(a * widen(panel[p/2*2*Width+2*c+p%2]))
				}
			}
			e.store(dst[i*ldd+j:][:cols], sum[:cols], i, j)
		}
	}
}

func widen(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// multiplyI8Generic is I8 in plain Go and the definition of right.
func multiplyI8Generic(dst []float32, ldd int, x *Uint8, w *Int8, m, k, j0, j1 int, e *Epilogue) {
	for j := j0; j < j1; j += Width {
		cols := min(Width, j1-j)
		panel := w.Panels[j*four(k):][:Width*four(k)]
		for i := range m {
			var sum [Width]int32
			for p, a := range x.Q[i*x.Ld:][:k] {
				for c := range cols {
					sum[c] += int32(a) * int32(panel[p/4*4*Width+4*c+p%4])
				}
			}
			var y [Width]float32
			for c := range cols {
				v := float32(sum[c]-x.Zero[i]*w.Sum[j+c]) * float32(x.Scale[i]*w.Scale[j+c])
				if e.Bias != nil {
					v = float32(v) + e.Bias[j+c]
				}
				y[c] = v
			}
			e.store(dst[i*ldd+j:][:cols], y[:cols], i, j)
		}
	}
}
