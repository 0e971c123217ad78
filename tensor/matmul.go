package tensor

import (
	"math"

	"netfusion/kernels/matmul"
)

type matmulJob struct {
	dst, x   Tensor
	rounded  *rounded // x in the precision of w
	w        []Weight // of each group
	epilogue matmul.Epilogue
	workers  int
	split
}

// split is how each of the products of a group is cut into tiles.
type split struct {
	rows, cols   int // of a tile
	across, down int // tiles
}

// MatMul computes dst = act(x·Wᵀ + bias) + residual: x [m][K], dst [m][N]; e may ask for bias [N], an activation and
// a residual [m][N], which may be dst. dst must not overlap x. A Weight that is not float32 must have been reserved for m rows.
func (d *Device) MatMul(dst, x Tensor, w Weight, e matmul.Epilogue) {
	d.one[0] = w
	d.GroupedMatMul(dst, x, d.one[:], e)
	d.one[0] = Weight{}
}

// GroupedMatMul is len(w) products side by side, as one operation: group g reads columns [g·K, (g+1)·K) of x [m][len(w)·K] and
// writes columns [g·N, (g+1)·N) of dst [m][len(w)·N], of the bias and of the residual. All weights have one shape and precision.
func (d *Device) GroupedMatMul(dst, x Tensor, w []Weight, e matmul.Epilogue) {
	n, k := len(w)*w[0].N, len(w)*w[0].K
	if x.Cols != k || dst.Cols != n || dst.Rows != x.Rows {
		panic("tensor: MatMul shapes differ")
	}
	for i := range w {
		if w[i].N != w[0].N || w[i].K != w[0].K || w[i].Precision != w[0].Precision {
			panic("tensor: MatMul of groups that differ")
		}
	}
	if e.Bias != nil && len(e.Bias) < n || e.Residual != nil && (e.LdRes < n || len(e.Residual) < (x.Rows-1)*e.LdRes+n) {
		panic("tensor: MatMul cannot apply this Epilogue")
	}
	d.round(x, w)
	j := &d.matmul
	workers := d.pool.Workers()
	*j = matmulJob{dst: dst, x: x, rounded: &d.rounded, w: w, epilogue: e, workers: workers,
		split: splitProduct(x.Rows, &w[0], len(w), workers)}
	d.pool.Run(j, len(w)*j.across*j.down)
	*j = matmulJob{}
}

// splitProduct cuts each of so many products of m rows with such weights into tiles: the split whose busiest worker has the least to do, and of those
// the finest, so that no worker waits for one that started late. It may depend on the worker count, since tiling never changes a
// result.
func splitProduct(m int, w *Weight, groups, workers int) split {
	const (
		least = 1 << 18 // multiply-adds that are worth sharing: one or two microseconds
		tile  = 1 << 20 // and those worth a tile of their own, beyond one a worker
		rows  = 48      // of a tile at least, since each reads its weights anew
	)
	n := w.N
	s := split{rows: m, cols: n, across: 1, down: 1}
	reading := [...]int{F32: 8, BF16: 4, Int8: 1}[w.Precision] // to read a weight takes about as long as so many multiply-adds
	work := groups * max(m, reading) * n * w.K
	if workers == 1 || work < least {
		return s
	}
	tiles := min(max(workers, work/tile), 8*workers)
	if m <= 8 { // the weights come from memory, and each worker reads one part of them in order
		tiles = workers
	}
	unit := matmul.Columns(m)
	units := (n + unit - 1) / unit
	best := math.MaxInt
	for down := 1; down == 1 || down <= tiles/groups && m/down >= rows; down++ {
		t := split{rows: (m + down - 1) / down, down: down}
		for across := 1; across <= units && across*down <= max(1, tiles/groups); across++ {
			t.cols = (units + across - 1) / across * unit
			t.across = (n + t.cols - 1) / t.cols
			busiest := (groups*t.across*t.down + workers - 1) / workers
			if cost := busiest * t.rows * min(t.cols, n); cost <= best {
				best, s = cost, t
			}
		}
	}
	return s
}

// after returns the weights that the worker of tile i likely reads next: workers take tiles in turn.
func (j *matmulJob) after(i int) []byte {
	tiles := j.across * j.down
	if i += j.workers; i < len(j.w)*tiles {
		return j.w[i/tiles].from(i % tiles % j.across * j.cols)
	}
	next := j.w[0].next
	if len(next) == 0 {
		return nil
	}
	i -= len(j.w) * tiles
	s := splitProduct(j.x.Rows, &next[0], len(next), j.workers)
	tiles = s.across * s.down
	if i >= len(next)*tiles {
		return nil
	}
	return next[i/tiles].from(i % tiles % s.across * s.cols)
}

// Tile computes one block of rows and panels of one group.
func (j *matmulJob) Tile(i int) {
	e := j.epilogue
	e.Next = j.after(i)
	g := i / (j.across * j.down)
	w := &j.w[g]
	i -= g * j.across * j.down
	r, c := i/j.across*j.rows, i%j.across*j.cols
	m := min(j.rows, j.x.Rows-r)
	if e.Bias != nil {
		e.Bias = e.Bias[g*w.N:]
	}
	if e.Residual != nil {
		e.Residual = e.Residual[r*e.LdRes+g*w.N:]
	}
	dst, ldd, x := j.dst.Data[r*j.dst.Cols+g*w.N:], j.dst.Cols, j.rounded
	j0, j1 := c, min(c+j.cols, w.N)
	row := g*j.x.Rows + r // in rounded
	switch w.Precision {
	case BF16:
		ld := roundUp(w.K, 2)
		matmul.BF16(dst, ldd, x.bf16[row*ld:], ld, w.bf16, m, w.N, w.K, j0, j1, &e)
	case Int8:
		ld := roundUp(w.K, 4)
		rows := matmul.Uint8{Q: x.u8[row*ld:], Ld: ld, Scale: x.scale[row:], Zero: x.zero[row:]}
		matmul.I8(dst, ldd, rows, w.int8, m, w.N, w.K, j0, j1, &e)
	default:
		matmul.F32(dst, ldd, j.x.Data[r*j.x.Cols+g*w.K:], j.x.Cols, w.Panels, m, w.N, w.K, j0, j1, &e)
	}
}
