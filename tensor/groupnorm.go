package tensor

import "netfusion/kernels/groupnorm"

type groupNormJob struct {
	dst, x      Tensor
	gamma, beta []float32
	pixels      int // per image
	groups      int
	eps         float32
}

// GroupNorm computes dst = (x - mean)/√(variance + eps)·gamma + beta with the statistics of each of the groups of
// channels of each image: x and dst are [images·pixels][C], gamma and beta [C], and groups divides C; dst may be x.
func (d *Device) GroupNorm(dst, x Tensor, gamma, beta []float32, images, groups int, eps float32) {
	if dst.Rows != x.Rows || dst.Cols != x.Cols || len(gamma) != x.Cols || len(beta) != x.Cols ||
		images < 1 || x.Rows%images != 0 || groups < 1 || x.Cols%groups != 0 {
		panic("tensor: GroupNorm shapes differ")
	}
	j := &d.groupNorm
	*j = groupNormJob{dst, x, gamma, beta, x.Rows / images, groups, eps}
	d.pool.Run(j, images*groups)
	*j = groupNormJob{}
}

// Tile normalises one group of one image.
func (j *groupNormJob) Tile(i int) {
	image, g, c := i/j.groups, i%j.groups, j.x.Cols
	at := image * j.pixels * c
	groupnorm.F32(j.dst.Data[at:], j.x.Data[at:], j.gamma, j.beta, j.pixels, c, j.groups, g, j.eps)
}
