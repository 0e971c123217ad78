package tensor

import "netfusion/kernels/matmul"

type matmulJob struct {
	dst, x       Tensor
	rounded      *rounded // x in the precision of w
	w            Weight
	epilogue     matmul.Epilogue
	rows, cols   int // of a tile
	across, down int // tiles
}

// MatMul computes dst = act(x·Wᵀ + bias) + residual: x [m][K], dst [m][N]; e may ask for bias [N], an activation and
// a residual [m][N], which may be dst. dst must not overlap x. A Weight that is not float32 must have been reserved for m rows.
func (d *Device) MatMul(dst, x Tensor, w Weight, e matmul.Epilogue) {
	if x.Cols != w.K || dst.Cols != w.N || dst.Rows != x.Rows {
		panic("tensor: MatMul shapes differ")
	}
	if e.Bias != nil && len(e.Bias) < w.N || e.Residual != nil && (e.LdRes < w.N || len(e.Residual) < (x.Rows-1)*e.LdRes+w.N) {
		panic("tensor: MatMul cannot apply this Epilogue")
	}
	d.round(x, &w)
	j := &d.matmul
	*j = matmulJob{dst: dst, x: x, rounded: &d.rounded, w: w, epilogue: e, rows: x.Rows, cols: w.N}
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
	w, dst, x := &j.w, j.dst.Data[r*j.dst.Cols:], j.rounded
	j0, j1 := c, min(c+j.cols, w.N)
	switch w.Precision {
	case BF16:
		ld := roundUp(w.K, 2)
		matmul.BF16(dst, j.dst.Cols, x.bf16[r*ld:], ld, w.bf16, m, w.N, w.K, j0, j1, &e)
	case Int8:
		ld := roundUp(w.K, 4)
		rows := matmul.Uint8{Q: x.u8[r*ld:], Ld: ld, Scale: x.scale[r:], Zero: x.zero[r:]}
		matmul.I8(dst, j.dst.Cols, rows, w.int8, m, w.N, w.K, j0, j1, &e)
	default:
		matmul.F32(dst, j.dst.Cols, j.x.Data[r*j.x.Cols:], j.x.Cols, w.Panels, m, w.N, w.K, j0, j1, &e)
	}
}
