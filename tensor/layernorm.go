package tensor

import "netfusion/kernels/layernorm"

type layerNormJob struct {
	dst, x, residual Tensor
	gamma, beta      []float32
	eps              float32
	rows             int // of a tile
}

// LayerNorm computes dst = (y - mean)/√(variance + eps)·gamma + beta with the statistics of each row of y = x + residual:
// dst, x and residual are [rows][C], gamma and beta [C]. The zero Tensor as residual stands for zeros; dst may be x or
// residual.
func (d *Device) LayerNorm(dst, x, residual Tensor, gamma, beta []float32, eps float32) {
	if dst.Rows != x.Rows || dst.Cols != x.Cols || len(gamma) != x.Cols || len(beta) != x.Cols ||
		residual.Data != nil && (residual.Rows != x.Rows || residual.Cols != x.Cols) {
		panic("tensor: LayerNorm shapes differ")
	}
	const values = 1 << 14 // of a tile: some microseconds
	j := &d.layerNorm
	*j = layerNormJob{dst, x, residual, gamma, beta, eps, max(1, values/x.Cols)}
	d.pool.Run(j, (x.Rows+j.rows-1)/j.rows)
	*j = layerNormJob{}
}

func (j *layerNormJob) Tile(i int) {
	c := j.x.Cols
	r := i * j.rows
	m := min(j.rows, j.x.Rows-r)
	var residual []float32
	if j.residual.Data != nil {
		residual = j.residual.Data[r*c:]
	}
	layernorm.F32(j.dst.Data[r*c:], j.x.Data[r*c:], residual, j.gamma, j.beta, m, c, j.eps)
}
