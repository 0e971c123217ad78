// Package groupnorm normalises groups of an image's channels to mean 0 and variance 1 (Group Normalization, Wu and He
// 2018).
//
// For the CPU there is only the plain Go form: in an image encoder the convolutions take the time. The GPU form is
// groupnorm.cu.
package groupnorm

import "math"

// F32 normalises group g of one image, the channels [g·n, (g+1)·n) with n = channels/groups, over all pixels of
// x [pixels][channels]:
//
//	dst[p][c] = (x[p][c] - mean_g)/√(var_g + eps)·gamma[c] + beta[c]
//
// with the biased variance of the group. The statistics are float64, so that the error is that of the last float32
// roundings, however large the image and however far its mean from zero. The other groups of dst are left as they are;
// dst may be x.
func F32(dst, x, gamma, beta []float32, pixels, channels, groups, g int, eps float32) {
	if pixels < 0 || channels < 1 || groups < 1 || channels%groups != 0 || g < 0 || g >= groups {
		panic("groupnorm: bad size")
	}
	if len(dst) < pixels*channels || len(x) < pixels*channels {
		panic("groupnorm: dst or x too short")
	}
	if len(gamma) < channels || len(beta) < channels {
		panic("groupnorm: gamma or beta too short")
	}
	if pixels == 0 {
		return
	}
	n := channels / groups
	dst, x, gamma, beta = dst[g*n:], x[g*n:], gamma[g*n:][:n], beta[g*n:][:n]
	mean, variance := statistics(x, pixels, channels, n)
	// The mean is subtracted in two float32 parts, which is as exact as one float64 subtraction.
	scale := float32(1 / math.Sqrt(variance+float64(eps)))
	high := float32(mean)
	low := float32(mean - float64(high))
	for p := range pixels {
		d := dst[p*channels:][:n]
		for c, v := range x[p*channels:][:n] {
			d[c] = float32((v-high-low)*scale*gamma[c]) + beta[c]
		}
	}
}

// statistics returns mean and biased variance of the n values at the start of each row of x [rows][ld], in one pass over
// x - x[0]. Being one of the k = rows·n values, x[0] is at most √k standard deviations from the mean, so the difference of
// squares at the end loses at most log2(k) of float64's bits.
func statistics(x []float32, rows, ld, n int) (mean, variance float64) {
	shift, k := float64(x[0]), float64(rows*n)
	var sum, squares float64
	for p := range rows {
		for _, v := range x[p*ld:][:n] {
			d := float64(v) - shift
			sum += d
			squares += float64(d * d)
		}
	}
	d := sum / k
	return shift + d, max(squares/k-float64(d*d), 0)
}
