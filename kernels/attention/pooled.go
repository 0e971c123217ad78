package attention

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
)

// Pooled computes for m queries q [m][depth], row stride ldq, the attention of the SAGAN layer (Zhang et al. 2019):
//
//	dst[i] = Σ_j softmax_j(q[i]·key[j])·value[j]
//
// without the usual 1/√depth. keys is the packed form of [n][depth] and values the packed form of valuesᵀ [width][n]
// (matmul.Pack and matmul.PackT); dst is [m][width] with row stride ldd; scores is scratch, [m][n]. Rows of scores are
// whole, so a caller streams a large map by passing few queries at a time.
func Pooled(dst []float32, ldd int, q []float32, ldq int, keys, values, scores []float32, m, n, depth, width int) {
	if m < 0 || n <= 0 || depth <= 0 || width <= 0 {
		panic("attention: bad size")
	}
	if len(scores) < m*n {
		panic("attention: scores too short")
	}
	matmul.F32(scores, n, q, ldq, keys, m, n, depth, 0, n, nil)
	activation.Softmax(scores, m, n, n)
	matmul.F32(dst, ldd, scores, n, values, m, width, n, 0, width, nil)
}

// MaxPool writes the largest of each 2×2 pixels of x, an image [h][w] of c channels with ldx values between pixels:
// dst is [h/2][w/2][c]. h and w must be even.
func MaxPool(dst, x []float32, ldx, h, w, c int) {
	if h <= 0 || w <= 0 || h%2 != 0 || w%2 != 0 || c <= 0 || ldx < c {
		panic("attention: bad size")
	}
	if len(dst) < h/2*w/2*c {
		panic("attention: dst too short")
	}
	if len(x) < (h*w-1)*ldx+c {
		panic("attention: x too short")
	}
	for y := 0; y < h; y += 2 {
		for i := 0; i < w; i += 2 {
			d := dst[(y/2*w/2+i/2)*c:][:c]
			p00, p01 := x[(y*w+i)*ldx:][:c], x[(y*w+i+1)*ldx:][:c]
			p10, p11 := x[((y+1)*w+i)*ldx:][:c], x[((y+1)*w+i+1)*ldx:][:c]
			for j := range d {
				d[j] = max(p00[j], p01[j], p10[j], p11[j])
			}
		}
	}
}
