package tensor

import (
	"fmt"

	"netfusion/kernels/matmul"
)

// GPUAffine is Affine on a GPU: one row for each image, [images][C]. The zero GPUAffine does nothing.
type GPUAffine struct{ Scale, Offset Buffer }

func (a *GPUAffine) none() bool { return a.Scale.None() }

func (a *GPUAffine) fits(rows, channels int) bool {
	return a.none() || a.Scale.Cols == channels && a.Offset.same(a.Scale.Rows, channels) && a.Scale.Ld == a.Offset.Ld && a.Scale.Rows > 0 &&
		rows%a.Scale.Rows == 0
}

// pixels is how many of so many rows belong to one image.
func (a *GPUAffine) pixels(rows int) int { return max(1, rows/max(1, a.Scale.Rows)) }

// GPUNext is a second copy of a product's outputs, for the product that follows: normalised, and in the precision of To. The zero
// GPUNext is none.
type GPUNext struct {
	To   Buffer    // [m][N], float32 or bfloat16
	Norm GPUAffine // and ReLU
}

// GPUEpilogue is what a product does to its sums, in this order. Zero values are left out.
type GPUEpilogue struct {
	Bias     Array[float32] // [N]
	Act      matmul.Act
	After    GPUAffine // and ReLU
	Residual Buffer    // [m][N], may be dst
	Next     GPUNext   // instead of dst, if that is the zero Buffer
	// Ahead is the weights of a later product, which come into the second-level cache meanwhile. It changes no result.
	Ahead GPUWeight
}

// fits tells whether e can be applied to m rows of n outputs.
func (e *GPUEpilogue) fits(dst Buffer, m, n int) bool {
	images := func(a GPUAffine) int { return a.Scale.Rows }
	if !e.After.none() && !e.Next.Norm.none() && images(e.After) != images(e.Next.Norm) {
		return false
	}
	to := e.Next.To
	return (dst.same(m, n) || dst.None() && !to.None()) && (to.None() && e.Next.Norm.none() || to.same(m, n)) && dst.Precision == F32 &&
		e.After.fits(m, n) && e.Next.Norm.fits(m, n) && (e.Bias.Len == 0 || e.Bias.Len >= n)
}

// output is the kernels' Output (output.cuh) for m rows of n outputs; skip is the residual.
func (e *GPUEpilogue) output(args []any, dst Buffer, m, n int, skip Buffer) []any {
	images, to := &e.After, e.Next.To
	if images.none() {
		images = &e.Next.Norm
	}
	return append(args, dst, dst.Ld, m, n, images.pixels(m),
		e.Bias, e.After.Scale, e.After.Offset, skip, skip.Ld, int(e.Act), e.After.Scale.Ld,
		to.Ptr, e.Next.Norm.Scale, e.Next.Norm.Offset, to.Ld, e.Next.Norm.Scale.Ld, number(to.Precision == BF16),
		e.Ahead.ptr, e.Ahead.bytes(), 0)
}

// MatMul computes dst = epilogue(x·Wᵀ): x [m][K], dst [m][N]. Rows of x begin at multiples of 16 bytes, as those of Take. dst must
// not overlap x. Rows are rounded to w's precision, in memory that is taken for the time, unless they are in that already.
func (q *Queue) MatMul(dst, x Buffer, w GPUWeight, e GPUEpilogue) {
	choose := q.g.product
	if q.g.options.Tune {
		choose = func(p, xp Precision, m, n, k int) choice {
			key := tuning{weights: p, rows: xp, sizes: [3]int{m, n, k}}
			return q.g.tune(key, q.g.product(p, xp, m, n, k), q.g.products(p, xp, m, k), func(q *Queue, c choice) {
				q.matMul(func(p, xp Precision, m, n, k int) choice { return c }, q.Take(m, n), q.TakeIn(xp, m, k), w, GPUEpilogue{})
			})
		}
	}
	q.matMul(choose, dst, x, w, e)
}

func (q *Queue) matMul(choose func(p, x Precision, m, n, k int) choice, dst, x Buffer, w GPUWeight, e GPUEpilogue) {
	m, n, k := x.Rows, w.N, w.K
	if x.Cols != k || !dst.None() && !dst.same(m, n) {
		panic("tensor: MatMul shapes differ")
	}
	if !e.fits(dst, m, n) || !e.Residual.None() && !e.Residual.same(m, n) {
		panic("tensor: MatMul cannot apply this GPUEpilogue")
	}
	if m == 0 {
		return
	}
	if !x.aligned() || x.Precision != F32 && x.Precision != w.Precision {
		panic("tensor: MatMul of rows that do not begin at multiples of 16 bytes, or in another precision")
	}
	defer q.Release(q.Taken())
	p := choose(w.Precision, x.Precision, m, n, k)
	if x.Precision != w.Precision && (w.Precision == Int8 || p.few == 0) {
		x = q.rounded(x, w.Precision)
	}
	args := make([]any, 0, 40)
	switch {
	case p.maps:
		args = append(args, boxes(x.Ptr, m, k, x.Ld), boxes(w.ptr, n, k, w.ld), k)
	case w.Precision == Int8:
		args = append(args, x.Ptr, x.Ld, w.ptr, w.ld, k, x.scale, x.zero, w.scale, w.sum)
	default:
		args = append(args, x.Ptr, x.Ld, w.ptr, w.ld, k)
	}
	extent := [3]int{m, n, 1}
	if p.few > 0 {
		extent = [3]int{n, 1, 1}
	}
	q.worked(float64(m)*float64(n)*float64(k), w.bytes(), x, dst, e.Residual, e.Next.To)
	q.launch(p.entry, extent, e.output(args, dst, m, n, e.Residual)...)
}

// boxes describes a matrix of bfloat16 for compute capability 9.0: see hopper.cu.
func boxes(p DevicePtr, rows, cols, ld int) TensorMap {
	return TensorMap{Ptr: p, Element: 2, Dims: []int{cols, rows}, Strides: []int{2 * ld}, Box: []int{64, 64}, Swizzle: 128}
}

// choice is an entry. few is its limit of rows, if it is one of those that are bound by reading the weights; 0 if it computes tiles.
// maps tells that tensor maps describe its operands.
type choice struct {
	entry string
	few   int
	maps  bool
}

// From so many steps of 64 bytes on, a product of few tiles is cut along k among four parts of a block, and among eight.
const (
	longStep   = 8
	longerStep = 48
)

// tiled chooses the tile for a product of so many rows, columns and phases whose rows have so many bytes. Large tiles read less, small
// ones fill the device; where even those of 32 hardly do, k is cut among the parts of a block.
func (g *GPU) tiled(rows, cols, phases, bytes int) string {
	blocks := func(tile int) int { return roundUp(rows, tile) / tile * (roundUp(cols, tile) / tile) * phases }
	for _, tile := range []int{128, 64} {
		if blocks(tile) >= g.attributes.Multiprocessors {
			return fmt.Sprintf("t%d", tile)
		}
	}
	if bytes >= 64*longerStep && blocks(32) <= g.attributes.Multiprocessors {
		return "x32"
	}
	if bytes >= 64*longStep && blocks(32) <= 4*g.attributes.Multiprocessors {
		return "s32"
	}
	return "t32"
}

// fills tells whether tiles of 32 make a block for each multiprocessor.
func (g *GPU) fills(rows, cols, phases int) bool {
	return roundUp(rows, 32)/32*(roundUp(cols, 32)/32)*phases >= g.attributes.Multiprocessors
}

// product chooses the entry for m rows, n outputs and k inputs with weights in precision p, rows in precision x. The entries for few
// rows of float32 or bfloat16 read whole chunks of them.
func (g *GPU) product(p, x Precision, m, n, k int) choice {
	kind, suffix, limits, unit := "bf16", "m", []int{16, 32, 64}, F32.unit()
	switch {
	case p == Int8:
		kind, unit = "int8", 1
	case p == F32:
		kind, limits = "f32", []int{1, 2, 4, 8, 16}
	case x == BF16:
		suffix, unit = "b", BF16.unit()
	}
	for _, few := range limits {
		if m <= few && (m <= 16 || !g.fills(m, n, 1)) && k%unit == 0 {
			return choice{entry: fmt.Sprintf("matmul_%s_%s%d", kind, suffix, few), few: few}
		}
	}
	if p == F32 {
		if !g.options.TF32 {
			return choice{entry: "matmul_f32"}
		}
		kind = "tf32"
	}
	if entry, ok := g.warpgroups("matmul", m, n, 1); ok && p == BF16 {
		return choice{entry: entry, maps: true}
	}
	return choice{entry: "matmul_" + kind + "_" + g.tiled(m, n, 1, k*p.bytes())}
}

// products lists the entries that product may choose from, unless they are those of exact float32.
func (g *GPU) products(p, x Precision, m, k int) []choice {
	if p == F32 && !g.options.TF32 {
		return nil
	}
	var all []choice
	kind, suffix, unit := tensorFormat(p), "m", F32.unit()
	switch {
	case p == Int8:
		kind, unit = "int8", 1
	case x == BF16:
		suffix, unit = "b", BF16.unit()
	}
	for _, tile := range []string{"t32", "t64", "t128", "s32", "x32"} {
		all = append(all, choice{entry: "matmul_" + kind + "_" + tile})
	}
	for _, few := range []int{16, 32, 64} {
		if p != F32 && m <= few && k%unit == 0 {
			all = append(all, choice{entry: fmt.Sprintf("matmul_%s_%s%d", kind, suffix, few), few: few})
			break
		}
	}
	for _, entry := range []string{"matmul_bf16_w64", "matmul_bf16_w128"} {
		if p == BF16 && g.has(entry) {
			all = append(all, choice{entry: entry, maps: true})
		}
	}
	return all
}

// warpgroups chooses the tile for a product of bfloat16 where warpgroups compute those: the large one, which reads less, unless a third
// of the device would have nothing to do. There are none for so few tiles that half of it would.
func (g *GPU) warpgroups(family string, m, n, phases int) (entry string, ok bool) {
	blocks := func(tile int) int { return roundUp(m, tile) / tile * (roundUp(n, tile) / tile) * phases }
	entry = family + "_bf16_w128"
	if 3*blocks(128) < 2*g.attributes.Multiprocessors {
		entry = family + "_bf16_w64"
	}
	return entry, g.has(entry) && 2*blocks(64) >= g.attributes.Multiprocessors
}

// GroupedMatMul is len(w) products side by side: group g reads columns [g·K, (g+1)·K) of x [m][len(w)·K] and writes columns [g·N,
// (g+1)·N) of dst [m][len(w)·N], of the bias and of the residual. All weights have one shape and precision. K is a multiple of 4
// if there are several.
func (q *Queue) GroupedMatMul(dst, x Buffer, w []GPUWeight, e GPUEpilogue) {
	n, k := w[0].N, w[0].K
	if x.Cols != len(w)*k || dst.Cols != len(w)*n {
		panic("tensor: MatMul shapes differ")
	}
	if !e.After.none() || !e.Next.To.None() {
		panic("tensor: GroupedMatMul cannot apply this GPUEpilogue")
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
		q.MatMul(dst.Columns(i*n, (i+1)*n), x.Columns(i*k, (i+1)*k), w[i], one)
	}
}

// Round sets dst, of bfloat16 or Int8, to x, and what is behind its columns in a row to zero.
func (q *Queue) Round(dst, x Buffer) {
	if !dst.same(x.Rows, x.Cols) || dst.Precision == F32 || x.Precision != F32 {
		panic("tensor: Round shapes differ")
	}
	if dst.Precision == BF16 {
		q.launch("quantize_bf16", [3]int{x.Rows, dst.Ld, 1}, dst.Ptr, dst.Ld, x, x.Ld, x.Cols)
	} else {
		q.launch("quantize_u8_rows", [3]int{x.Rows, 1, 1}, dst.Ptr, dst.Ld, dst.scale, dst.zero, x, x.Ld, x.Rows, x.Cols)
	}
}

// rounded takes memory for x in precision p.
func (q *Queue) rounded(x Buffer, p Precision) Buffer {
	r := q.TakeIn(p, x.Rows, x.Cols)
	q.Round(r, x)
	return r
}
