package tensor

// What training needs beside the operations of the way forth. A batch is [rows][n], a sample to a row; what is behind the end of a
// row, up to the next multiple of 16 bytes, is zero in weights and in what they multiply.

// LinearBack is the way back through y = x·Wᵀ + b, W [N][K] in float32, from dy [rows][N].
type LinearBack struct {
	DX      Buffer         // [rows][K], becomes dy·W, or gets it added; or none
	Add     bool           // to DX
	H       Buffer         // [rows][K], what LeakyReLU left and the layer read: DX is times 0.01 where it has a negative sign; or none
	DW      Buffer         // [N][K] becomes dyᵀ·x; its rows lie as W's
	DB      Array[float32] // [N] becomes Σ dy
	Squares Array[float64] // [SquaresOf(N, K)] becomes parts of the sum of the squares of DW
	DY, W   Buffer
	X       Buffer // [rows][K]
}

// The parts of a LinearBack that one block does: rows and inputs of DX, inputs and outputs of DW.
const (
	backRows, backInputs                = 16, 16
	backWeightInputs, backWeightOutputs = 64, 128
)

// SquaresOf is how many sums of squares a LinearBack makes of a weight [n][k].
func SquaresOf(n, k int) int {
	return (n + backWeightOutputs - 1) / backWeightOutputs * ((k + backWeightInputs - 1) / backWeightInputs)
}

// LinearBack goes back through one layer, or through two that do not depend on each other.
func (q *Queue) LinearBack(layers ...LinearBack) {
	if len(layers) < 1 || len(layers) > 2 {
		panic("tensor: LinearBack of one layer or two")
	}
	var args []any
	var blocks [2]int
	for i := range 2 {
		var l LinearBack
		inputs := 0
		if i < len(layers) {
			l = layers[i]
			inputs, blocks[i] = l.blocks()
			madds, size, n := float64(l.X.Rows)*float64(l.W.Rows)*float64(l.W.Cols), 4*l.W.Rows*l.W.Cols, 1
			if !l.DX.None() {
				n = 2
			}
			q.worked(float64(n)*madds, n*size, l.DY, l.X, l.DX)
		}
		args = append(args, l.DX, l.DY, l.W, l.H, l.X, l.DW, l.DB, l.Squares,
			l.DX.Ld, l.DY.Ld, l.W.Ld, l.H.Ld, l.X.Ld, l.X.Rows, l.W.Cols, l.W.Rows, number(l.Add), inputs)
	}
	q.launch("dense_back", [3]int{blocks[0] + blocks[1], 1, 1}, append(args, blocks[0])...)
}

// blocks checks l and returns how many do inputs, and how many there are.
func (l *LinearBack) blocks() (inputs, all int) {
	rows, n, k := l.X.Rows, l.W.Rows, l.W.Cols
	if !l.DY.same(rows, n) || l.X.Cols != k || !l.DW.alike(l.W) || l.DB.Len != n || l.Squares.Len != SquaresOf(n, k) ||
		!l.DX.None() && !l.DX.same(rows, k) || !l.H.None() && !l.H.same(rows, k) {
		panic("tensor: LinearBack shapes differ")
	}
	wantAligned(l.DY, l.W, l.X, l.DW)
	if !l.DX.None() {
		inputs = (rows + backRows - 1) / backRows * ((k + backInputs - 1) / backInputs)
	}
	return inputs, inputs + l.Squares.Len
}

// wantAligned panics unless the rows of all begin at multiples of 16 bytes.
func wantAligned(all ...Buffer) {
	for _, b := range all {
		if !b.aligned() {
			panic("tensor: rows that do not begin at multiples of 16 bytes")
		}
	}
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
	if !x.alike(d) || !old.alike(d) || gamma.Len != d.Cols {
		panic("tensor: LayerNormBack shapes differ")
	}
	q.launch("dense_norm_back", [3]int{d.Rows, 1, 1}, d, x, old, d.Ld, gamma, d.Rows, d.Cols, eps)
}

// alike tells whether rows and columns of both lie alike.
func (b Buffer) alike(c Buffer) bool { return b.same(c.Rows, c.Cols) && b.Ld == c.Ld }

// BatchNorm computes y = LeakyReLU(gamma·x̂ + beta), x̂ being x normalised by the moments of its columns, which move the running mean
// and variance by momentum; or, if frozen, by those. x becomes x̂, and rstd [n] keeps 1/σ. Rows of x and y lie alike.
func (q *Queue) BatchNorm(y, x Buffer, gamma, beta, mean, variance, rstd Array[float32], momentum, eps float32, frozen bool) {
	if !y.alike(x) {
		panic("tensor: BatchNorm shapes differ")
	}
	wantLength(x.Cols, gamma, beta, mean, variance, rstd)
	q.launch("dense_batch_norm", [3]int{x.Cols, 1, 1}, y, x, x.Ld, gamma, beta, mean, variance, rstd, x.Rows, x.Cols, momentum, eps, number(frozen))
}

func wantLength(n int, all ...Array[float32]) {
	for _, a := range all {
		if a.Len != n {
			panic("tensor: an Array of another length than there are columns")
		}
	}
}

// BatchNormBack goes back through BatchNorm that was not frozen, but for its LeakyReLU: d becomes ∂L/∂x. x̂ and rstd are as that left them.
func (q *Queue) BatchNormBack(d, xhat Buffer, gamma, rstd, dgamma, dbeta Array[float32]) {
	if !xhat.alike(d) {
		panic("tensor: BatchNormBack shapes differ")
	}
	wantLength(d.Cols, gamma, rstd, dgamma, dbeta)
	q.launch("dense_batch_norm_back", [3]int{d.Cols, 1, 1}, d, xhat, d.Ld, gamma, rstd, dgamma, dbeta, d.Rows, d.Cols)
}

// ColumnsBack goes back through Columns with a scale: dst[j] = d[from[j]]·scale[which[j]], or 0 where from[j] is negative. dst is not d.
func (q *Queue) ColumnsBack(dst, d Buffer, from Array[int32], scale Array[float32], which Array[int32]) {
	if dst.Rows != d.Rows || from.Len != dst.Cols || which.Len != dst.Cols {
		panic("tensor: ColumnsBack shapes differ")
	}
	q.launch("affine_columns_back", [3]int{dst.Rows, dst.Cols, 1}, dst, dst.Ld, d, d.Ld, from, scale, which, dst.Cols)
}

// Gather sets dst [rows][n] to Σ_k d[from[k][j]] with from [count][n], where a negative column is left out. dst is not d.
func (q *Queue) Gather(dst, d Buffer, from Array[int32], count int) {
	if dst.Rows != d.Rows || from.Len != count*dst.Cols {
		panic("tensor: Gather shapes differ")
	}
	q.launch("affine_columns_gather", [3]int{dst.Rows, dst.Cols, 1}, dst, dst.Ld, d, d.Ld, from, count, dst.Cols)
}

// PReLUBack multiplies d by slope where y, which PReLU left, has a negative sign. Rows of both lie alike.
func (q *Queue) PReLUBack(d, y Buffer, slope float32) {
	if !d.alike(y) {
		panic("tensor: PReLUBack shapes differ")
	}
	q.launch("activation_prelu_back", [3]int{d.span(), 1, 1}, d, y, d.span(), slope)
}

// ColumnsSums are the gradients of an ActNorm y = scale·(x + loc), -log|scale| included, from the columns from[j] of d = ∂L/∂y and
// which[j] of y; 0 where from[j] is negative.
func (q *Queue) ColumnsSums(dloc, dscale Array[float32], d Buffer, from Array[int32], y Buffer, which Array[int32], scale Array[float32]) {
	if d.Rows != y.Rows || from.Len != scale.Len || which.Len != scale.Len {
		panic("tensor: ColumnsSums shapes differ")
	}
	wantLength(scale.Len, dloc, dscale)
	q.launch("affine_columns_sums", [3]int{scale.Len, 1, 1}, dloc, dscale, d, d.Ld, from, y, y.Ld, which, scale, d.Rows, scale.Len)
}

// CoupleLoss ends a flow: with v = the columns from[j] of y, less the negative ones, loss = ½·Σ v² - logdet for each row, and d [rows][n],
// unless it is none, becomes weight·v, and 0 where from[j] is negative.
func (q *Queue) CoupleLoss(loss Array[float32], d, y Buffer, from Array[int32], logdet Array[float32], weight float32) {
	if loss.Len != y.Rows || logdet.Len != y.Rows || !d.None() && !d.same(y.Rows, from.Len) {
		panic("tensor: CoupleLoss shapes differ")
	}
	q.launch("coupling_loss", [3]int{y.Rows, 1, 1}, loss, d, d.Ld, y, y.Ld, from, logdet, y.Rows, from.Len, weight)
}

// LogScales sets sum [1] to Σ log|scale|.
func (q *Queue) LogScales(sum Array[float64], scale Array[float32]) {
	if sum.Len != 1 {
		panic("tensor: LogScales shapes differ")
	}
	q.launch("coupling_log_scales", [3]int{1, 1, 1}, sum, scale, scale.Len)
}

// MixtureLoss is that of p = softmax(logits) when scores are the log-likelihoods of the parts of a mixture: loss = log Σ exp(logits) -
// log Σ exp(logits + scores) for each row, and logits [rows][classes] become weight times its gradient.
func (q *Queue) MixtureLoss(loss Array[float32], logits, scores Buffer, weight float32) {
	if loss.Len != logits.Rows || !scores.same(logits.Rows, logits.Cols) {
		panic("tensor: MixtureLoss shapes differ")
	}
	wantPacked(scores)
	q.launch("activation_mixture", [3]int{logits.Rows, 1, 1}, loss, logits, logits.Ld, scores, logits.Rows, logits.Cols, weight)
}

// PairList is what batches are drawn from, a pair as likely as its weight says.
type PairList struct {
	Members Array[int32]   // [pairs][Columns], what pairs are made of
	Sums    Array[float64] // [pairs], of the weights up to a pair's own
	Columns int
	Drop    float32 // probability that the first member is Null instead
	Null    int
}

// Pairs draws ids [Columns][rows] of a batch; row i is sample draw[1]+i under the seed draw[0].
func (q *Queue) Pairs(ids Array[int32], l *PairList, draw Array[uint64], stream uint32) {
	if draw.Len != 2 || l.Columns < 1 || ids.Len%l.Columns != 0 || l.Members.Len != l.Columns*l.Sums.Len || l.Sums.Len == 0 {
		panic("tensor: Pairs shapes differ")
	}
	rows := ids.Len / l.Columns
	q.launch("random_pairs", [3]int{rows, 1, 1}, ids, rows, l.Members, l.Columns, l.Sums, l.Sums.Len, draw, stream, l.Drop, l.Null)
}

// EmbedDraw makes samples of Gaussians out of noise: dst[i] = table[ids[i]] + spread[ids[i]]·dst[i], table and spread [·][n]; without a
// spread it is noise everywhere.
func (q *Queue) EmbedDraw(dst Buffer, table, spread Array[float32], noise float32, ids Array[int32]) {
	if ids.Len != dst.Rows || table.Len%dst.Cols != 0 || spread.Len != 0 && spread.Len != table.Len {
		panic("tensor: EmbedDraw shapes differ")
	}
	q.launch("embedding_draw", [3]int{dst.Rows, dst.Cols, 1}, dst, dst.Ld, table, spread, noise, ids, dst.Cols)
}

// AdamStep is how many float32 a step of Adam is in memory: beta1, beta2, 1-beta1, 1-beta2, keep, rate, root, epsilon, the gradient's
// scale and 1 less the decay of the average of the weights (optimizer.cu).
const AdamStep = 10

// Adam updates p, m, v and, unless it is none, peak from the gradient g; and, unless it is none, ema from p.
func (q *Queue) Adam(p, g, m, v, peak, ema, step Array[float32]) {
	if g.Len != p.Len || m.Len != p.Len || v.Len != p.Len || peak.Len != 0 && peak.Len != p.Len || ema.Len != 0 && ema.Len != p.Len || step.Len != AdamStep {
		panic("tensor: Adam shapes differ")
	}
	q.worked(0, 4*(7*p.Len+2*peak.Len+2*ema.Len))
	q.launch("optimizer_adam", [3]int{p.Len, 1, 1}, p, g, m, v, peak, ema, step, p.Len)
}

// SumSquares sets partial to shares of Σ g²: their number decides which values are whose.
func (q *Queue) SumSquares(partial Array[float64], g Array[float32]) {
	q.launch("optimizer_sum_squares", [3]int{partial.Len * 256, 1, 1}, partial, g, g.Len)
}

// Clip sets norm [1] to the root of the sum of partial, and in each of steps the gradient's scale to what brings the norm down to bound;
// a bound of 0 is none.
func (q *Queue) Clip(norm Array[float64], steps Array[float32], partial Array[float64], bound float32) {
	if norm.Len != 1 || steps.Len%AdamStep != 0 || steps.Len > 256*AdamStep {
		panic("tensor: Clip shapes differ")
	}
	q.launch("optimizer_clip", [3]int{1, 1, 1}, norm, steps, steps.Len/AdamStep, partial, partial.Len, bound)
}
