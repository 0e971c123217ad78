package tensor

import "netfusion/kernels/matmul"

type matmulJob struct {
	dst, x       Tensor
	w            Weight
	epilogue     matmul.Epilogue
	rows, cols   int // of a tile
	across, down int // tiles
}

// MatMul computes dst = act(x·Wᵀ + bias) + residual: x [m][K], dst [m][N]; e may ask for bias [N], an activation and
// a residual [m][N], which may be dst. dst must not overlap x.
func (d *Device) MatMul(dst, x Tensor, w Weight, e matmul.Epilogue) {
	if x.Cols != w.K || dst.Cols != w.N || dst.Rows != x.Rows {
		panic("tensor: MatMul shapes differ")
	}
	if e.Bias != nil && len(e.Bias) < w.N || e.Residual != nil && (e.LdRes < w.N || len(e.Residual) < (x.Rows-1)*e.LdRes+w.N) {
		panic("tensor: MatMul cannot apply this Epilogue")
	}
	j := &d.matmul
	*j = matmulJob{dst: dst, x: x, w: w, epilogue: e, rows: x.Rows, cols: w.N}
	j.split(d.pool.Workers())
	d.pool.Run(j, j.across*j.down)
	*j = matmulJob{}
}

// split cuts the product into tiles: enough of them to keep the workers evenly busy, none so small that starting it
// costs more than computing it. It may depend on the worker count, since tiling never changes a result.
func (j *matmulJob) split(workers int) {
	const work = 1 << 17 // multiply-adds worth a tile of its own: a few microseconds
	m, n, k := j.x.Rows, j.w.N, j.w.K
	j.across, j.down = 1, 1
	if workers == 1 || m*n*k < 2*work {
		return
	}
	tiles := min(4*workers, m*n*k/work)
	panels := (n + 63) / 64
	j.across = min(tiles, panels)
	j.cols = (panels + j.across - 1) / j.across * 64
	j.across = (n + j.cols - 1) / j.cols
	if rest := tiles / j.across; rest > 1 && m >= 48 {
		j.rows = max(24, (m+rest-1)/rest)
		j.rows = (j.rows + 11) / 12 * 12
		j.down = (m + j.rows - 1) / j.rows
	}
}

// Tile computes one block of rows and panels.
func (j *matmulJob) Tile(i int) {
	r, c := i/j.across*j.rows, i%j.across*j.cols
	m := min(j.rows, j.x.Rows-r)
	e := j.epilogue
	if e.Residual != nil {
		e.Residual = e.Residual[r*e.LdRes:]
	}
	matmul.F32(j.dst.Data[r*j.dst.Cols:], j.dst.Cols, j.x.Data[r*j.x.Cols:], j.x.Cols, j.w.Panels,
		m, j.w.N, j.w.K, c, min(c+j.cols, j.w.N), &e)
}
