package tensor

import "netfusion/kernels/matmul"

// GPUAffine is Affine on a GPU: one row for each image, [images][C], one right behind the other. The zero GPUAffine does nothing.
type GPUAffine struct{ Scale, Offset Buffer }

func (a *GPUAffine) fits(rows, channels int) bool {
	return a.Scale.None() || a.Scale.Cols == channels && a.Offset.same(a.Scale.Rows, channels) && a.Scale.Rows > 0 &&
		rows%a.Scale.Rows == 0 && a.Scale.packed() && a.Offset.packed()
}

// pixels is how many of so many rows belong to one image.
func (a *GPUAffine) pixels(rows int) int { return max(1, rows/max(1, a.Scale.Rows)) }

// GPUEpilogue is what a product does to its sums, in this order. Zero values are left out.
type GPUEpilogue struct {
	Bias     Array[float32] // [N]
	Act      matmul.Act
	After    GPUAffine // and ReLU
	Residual Buffer    // [m][N], may be dst
}

func (e *GPUEpilogue) args() []any {
	return []any{e.Bias, e.After.Scale, e.After.Offset, e.Residual, e.Residual.Ld, int(e.Act)}
}

// MatMul computes dst = epilogue(x·Wᵀ): x [m][K], dst [m][N]. Rows of x begin at multiples of 16 bytes, as those of Take. dst must
// not overlap x. Rows are rounded to w's precision, in memory that is taken for the time.
func (q *Queue) MatMul(dst, x Buffer, w GPUWeight, e GPUEpilogue) {
	m, n, k := x.Rows, w.N, w.K
	if x.Cols != k || !dst.same(m, n) {
		panic("tensor: MatMul shapes differ")
	}
	if e.Bias.Len != 0 && e.Bias.Len < n || !e.After.fits(m, n) || !e.Residual.None() && !e.Residual.same(m, n) {
		panic("tensor: MatMul cannot apply this GPUEpilogue")
	}
	if m == 0 {
		return
	}
	if !x.aligned() {
		panic("tensor: MatMul of rows that do not begin at multiples of 16 bytes")
	}
	defer q.Release(q.Taken())
	entry, few := q.g.product(w.Precision, m, n, k)
	args := make([]any, 0, 24)
	switch {
	case w.Precision == Int8:
		r := q.roundInt8(x)
		args = append(args, r.q, r.ld, w.ptr, w.ld, k, r.scale, r.zero, w.scale, w.sum)
	case w.Precision == BF16 && few == 0:
		r := q.roundBF16(x)
		args = append(args, r.Ptr, r.Ld, w.ptr, w.ld, k)
	default:
		args = append(args, x, x.Ld, w.ptr, w.ld, k)
	}
	args = append(append(args, dst, dst.Ld, m, n, e.After.pixels(m)), e.args()...)
	extent := [3]int{m, n, 1}
	if few > 0 {
		extent = [3]int{n, 1, 1}
	}
	q.launch(entry, extent, args...)
}

// GroupedMatMul is len(w) products side by side: group g reads columns [g·K, (g+1)·K) of x [m][len(w)·K] and writes columns [g·N,
// (g+1)·N) of dst [m][len(w)·N], of the bias and of the residual. All weights have one shape and precision. K is a multiple of 4
// if there are several.
func (q *Queue) GroupedMatMul(dst, x Buffer, w []GPUWeight, e GPUEpilogue) {
	n, k := w[0].N, w[0].K
	if x.Cols != len(w)*k || dst.Cols != len(w)*n {
		panic("tensor: MatMul shapes differ")
	}
	for i := range w {
		if w[i].N != n || w[i].K != k || w[i].Precision != w[0].Precision {
			panic("tensor: MatMul of groups that differ")
		}
		one := GPUEpilogue{Act: e.Act}
		if e.Bias.Len > 0 {
			one.Bias = e.Bias.Slice(i*n, (i+1)*n)
		}
		if !e.Residual.None() {
			one.Residual = e.Residual.Columns(i*n, (i+1)*n)
		}
		if !e.After.Scale.None() {
			panic("tensor: GroupedMatMul cannot apply this GPUEpilogue")
		}
		q.MatMul(dst.Columns(i*n, (i+1)*n), x.Columns(i*k, (i+1)*k), w[i], one)
	}
}

// roundBF16 takes memory for x in bfloat16, zero behind its columns.
func (q *Queue) roundBF16(x Buffer) Buffer {
	r := q.TakeIn(BF16, x.Rows, x.Cols)
	q.launch("quantize_bf16", [3]int{x.Rows, r.Ld, 1}, r.Ptr, r.Ld, x, x.Ld, x.Cols)
	return r
}

// uint8Rows are rows in uint8, with a scale and a zero point each.
type uint8Rows struct {
	q     Array[uint8]
	ld    int
	scale Array[float32]
	zero  Array[int32]
}

// roundInt8 takes memory for x in uint8, zero behind its columns.
func (q *Queue) roundInt8(x Buffer) uint8Rows {
	ld := roundUp(x.Cols, Int8.unit())
	r := uint8Rows{TakeArray[uint8](q, x.Rows*ld), ld, TakeArray[float32](q, x.Rows), TakeArray[int32](q, x.Rows)}
	q.launch("quantize_u8_rows", [3]int{x.Rows, 1, 1}, r.q, ld, r.scale, r.zero, x, x.Ld, x.Rows, x.Cols)
	return r
}
