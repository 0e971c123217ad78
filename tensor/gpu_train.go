package tensor

// With x [m][k], W [n][k] and y = x·Wᵀ the way back is two products of what Transpose makes:
//
//	∂L/∂x = ∂L/∂y·(Wᵀ)ᵀ    ∂L/∂W = (∂L/∂y)ᵀ·(xᵀ)ᵀ

// Transpose sets dst [cols][rows] to x [rows][cols] with rows as columns, and what is behind them in dst's rows to 0: AsWeight(dst)
// is a weight.
func (q *Queue) Transpose(dst, x Buffer) {
	if !dst.same(x.Cols, x.Rows) {
		panic("tensor: Transpose shapes differ")
	}
	q.launch("dense_transpose", [3]int{dst.Ld, dst.Rows, 1}, dst, dst.Ld, x, x.Ld, x.Rows, x.Cols)
}

// LeakyReLUBack multiplies d by 0.01 where h, which LeakyReLU left, has a negative sign. Rows of both lie alike.
func (q *Queue) LeakyReLUBack(d, h Buffer) {
	if !d.same(h.Rows, h.Cols) || d.Ld != h.Ld {
		panic("tensor: LeakyReLUBack shapes differ")
	}
	q.launch("dense_leaky_back", [3]int{d.span(), 1, 1}, d, h, d.span())
}

// ColumnSums sets sums [n] to Σ_i d[i][j]·x[i][j], or to Σ_i d[i][j] without x. d and x are [rows][n].
func (q *Queue) ColumnSums(sums Array[float32], d, x Buffer) {
	if sums.Len != d.Cols || !x.None() && !x.same(d.Rows, d.Cols) {
		panic("tensor: ColumnSums shapes differ")
	}
	q.launch("dense_sums", [3]int{d.Cols, 1, 1}, sums, d, d.Ld, x, x.Ld, d.Rows, d.Cols)
}

// LayerNormBack goes back through LayerNorm without an activation: of x, which that read, it makes x̂ in place, of d = ∂L/∂dst it makes
// ∂L/∂x, and old keeps what d was: ColumnSums(old, x̂) and ColumnSums(old) are the gradients of gamma and beta.
func (q *Queue) LayerNormBack(d, x, old Buffer, gamma Array[float32], eps float32) {
	if !x.same(d.Rows, d.Cols) || !old.same(d.Rows, d.Cols) || gamma.Len != d.Cols {
		panic("tensor: LayerNormBack shapes differ")
	}
	wantPacked(d, x, old)
	q.launch("dense_norm_back", [3]int{d.Rows, 1, 1}, d, x, old, gamma, d.Rows, d.Cols, eps)
}

// AdamStep is how many float32 a step of Adam is in memory: beta1, beta2, 1-beta1, 1-beta2, keep, rate, root, epsilon and the
// gradient's scale (optimizer.cu).
const AdamStep = 9

// Adam updates p, m, v and, unless it is none, peak from the gradient g.
func (q *Queue) Adam(p, g, m, v, peak, step Array[float32]) {
	if g.Len != p.Len || m.Len != p.Len || v.Len != p.Len || peak.Len != 0 && peak.Len != p.Len || step.Len != AdamStep {
		panic("tensor: Adam shapes differ")
	}
	q.launch("optimizer_adam", [3]int{p.Len, 1, 1}, p, g, m, v, peak, step, p.Len)
}

// Average moves ema by rest = 1 - decay of the way to p.
func (q *Queue) Average(ema, p Array[float32], rest float32) {
	if ema.Len != p.Len {
		panic("tensor: Average shapes differ")
	}
	q.launch("optimizer_average", [3]int{p.Len, 1, 1}, ema, p, rest, p.Len)
}

// SumSquares sets partial to shares of Σ g², which the host adds: their number decides which values are whose.
func (q *Queue) SumSquares(partial Array[float64], g Array[float32]) {
	q.launch("optimizer_sum_squares", [3]int{partial.Len * 256, 1, 1}, partial, g, g.Len)
}
