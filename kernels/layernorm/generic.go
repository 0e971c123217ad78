package layernorm

import "math"

// normaliseGeneric is F32 in plain Go and the definition of right.
func normaliseGeneric(dst, x, residual, gamma, beta []float32, rows, n int, eps float64) {
	for i := range rows {
		out, y := dst[i*n:][:n], x[i*n:][:n]
		if residual != nil {
			for j, r := range residual[i*n:][:n] {
				out[j] = y[j] + r
			}
			y = out
		}
		row(out, y, gamma[:n], beta[:n], eps)
	}
}

// row normalises one row. The mean is subtracted in two float32 parts, which is as exact as one float64 subtraction
// and spares a conversion each way. The conversions of products keep a compiler from fusing them.
func row(dst, x, gamma, beta []float32, eps float64) {
	mean, variance := statistics(x)
	scale := float32(1 / math.Sqrt(variance+eps))
	high := float32(mean)
	low := float32(mean - float64(high))
	dst, gamma, beta = dst[:len(x)], gamma[:len(x)], beta[:len(x)]
	for j, v := range x {
		dst[j] = float32((v-high-low)*scale*gamma[j]) + beta[j]
	}
}

// statistics returns mean and biased variance in one pass over x - x[0]. Being one of the row, x[0] is at most √n
// standard deviations from the mean, so the difference of squares at the end loses at most log2(n) of float64's bits.
func statistics(x []float32) (mean, variance float64) {
	var s0, s1, s2, s3, q0, q1, q2, q3 float64
	n, shift := float64(len(x)), float64(x[0])
	for ; len(x) >= 4; x = x[4:] {
		d0, d1, d2, d3 := float64(x[0])-shift, float64(x[1])-shift, float64(x[2])-shift, float64(x[3])-shift
		s0 += d0
		s1 += d1
		s2 += d2
		s3 += d3
		q0 += float64(d0 * d0)
		q1 += float64(d1 * d1)
		q2 += float64(d2 * d2)
		q3 += float64(d3 * d3)
	}
	for _, v := range x {
		d := float64(v) - shift
		s0 += d
		q0 += float64(d * d)
	}
	d := ((s0 + s1) + (s2 + s3)) / n
	return shift + d, max(((q0+q1)+(q2+q3))/n-float64(d*d), 0)
}
