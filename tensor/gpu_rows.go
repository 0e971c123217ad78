package tensor

import "netfusion/kernels/matmul"

// LayerNorm computes dst = act((y - mean)/√(variance + eps)·gamma + beta) with the statistics of each row of y = x + residual: dst, x
// and residual are [rows][C], gamma and beta [C]. The zero Buffer as residual stands for zeros; dst may be x or residual.
func (q *Queue) LayerNorm(dst, x, residual Buffer, gamma, beta Array[float32], eps float32, act matmul.Act) {
	if !dst.same(x.Rows, x.Cols) || gamma.Len != x.Cols || beta.Len != x.Cols || !residual.None() && !residual.same(x.Rows, x.Cols) {
		panic("tensor: LayerNorm shapes differ")
	}
	wantPacked(dst, x, residual)
	q.launch("layernorm_f32", [3]int{x.Rows, 1, 1}, dst, x, residual, gamma, beta, x.Rows, x.Cols, eps, int(act))
}

// GroupNorm computes dst = (x - mean)/√(variance + eps)·gamma + beta as Device.GroupNorm does; slope multiplies what is negative
// after that, 1 leaves it as it is.
func (q *Queue) GroupNorm(dst, x Buffer, gamma, beta Array[float32], images, groups int, eps, slope float32) {
	if !dst.same(x.Rows, x.Cols) || gamma.Len != x.Cols || beta.Len != x.Cols ||
		images < 1 || x.Rows%images != 0 || groups < 1 || x.Cols%groups != 0 {
		panic("tensor: GroupNorm shapes differ")
	}
	wantPacked(dst, x)
	q.launch("groupnorm_f32", [3]int{groups, images, 1}, dst, x, gamma, beta, x.Rows/images, x.Cols, groups, eps, slope)
}

// ReLUAffine computes dst = max(0, scale·x + offset) with one row of a per image: x and dst are [N·pixels][C]; dst may be x.
func (q *Queue) ReLUAffine(dst, x Buffer, a GPUAffine) {
	if !dst.same(x.Rows, x.Cols) || a.Scale.None() || !a.fits(x.Rows, x.Cols) {
		panic("tensor: ReLUAffine shapes differ")
	}
	q.launch("affine_relu", [3]int{x.Rows, x.Cols, 1}, dst, dst.Ld, x, x.Ld, a.Scale, a.Offset, a.Scale.Ld, x.Cols, a.pixels(x.Rows))
}

// Fold turns y = (x + bias - mean)·invStd·(1 + gain) + shift into scale·x + offset, in place, for each image: gain [images][C] becomes
// scale and shift [images][C] offset; their rows lie alike. mean, invStd and bias are [C]; without a bias it is 0.
func (q *Queue) Fold(gain, shift Buffer, mean, invStd, bias Array[float32]) {
	if !shift.same(gain.Rows, gain.Cols) || mean.Len != gain.Cols || invStd.Len != gain.Cols || bias.Len != 0 && bias.Len != gain.Cols || gain.Ld != shift.Ld {
		panic("tensor: Fold shapes differ")
	}
	q.launch("affine_fold", [3]int{gain.Rows, gain.Cols, 1}, gain, shift, gain.Ld, mean, invStd, bias, gain.Cols)
}

// ColumnMap is what Columns does to each row: dst[j] = (x[From[j]] + Before[j])·Scale[j] + After[j]. Without From it is j; what else is
// left out is 0, 1 and 0.
type ColumnMap struct {
	From                 Array[int32]
	Before, Scale, After Array[float32]
}

// Columns applies m to every row of x: dst [rows][cols], x [rows][at least cols without From]. dst may be x only without From. The
// values of From are columns of x.
func (q *Queue) Columns(dst, x Buffer, m ColumnMap) {
	n := dst.Cols
	fits := func(length int) bool { return length == 0 || length == n }
	if dst.Rows != x.Rows || m.From.Len == 0 && x.Cols != n || !fits(m.From.Len) || !fits(m.Before.Len) || !fits(m.Scale.Len) || !fits(m.After.Len) {
		panic("tensor: Columns shapes differ")
	}
	q.launch("affine_columns", [3]int{x.Rows, n, 1}, dst, dst.Ld, x, x.Ld, m.From, m.Before, m.Scale, m.After, n)
}

// Copy sets dst to x.
func (q *Queue) Copy(dst, x Buffer) { q.Columns(dst, x, ColumnMap{}) }

// Mix computes dst = base + factor·(dst - base), with the factor from memory; without a base that is 0. Rows of both lie alike.
func (q *Queue) Mix(dst, base Buffer, factor Array[float32]) {
	if !base.None() && (!base.same(dst.Rows, dst.Cols) || base.Ld != dst.Ld) || factor.Len != 1 {
		panic("tensor: Mix shapes differ")
	}
	q.launch("affine_mix", [3]int{dst.span(), 1, 1}, dst, base, factor, dst.span())
}

// AddScaled computes dst += factor·x, with the factor from memory. Rows of both lie alike.
func (q *Queue) AddScaled(dst, x Buffer, factor Array[float32]) {
	if !x.same(dst.Rows, dst.Cols) || x.Ld != dst.Ld || factor.Len != 1 {
		panic("tensor: AddScaled shapes differ")
	}
	q.launch("affine_add", [3]int{dst.span(), 1, 1}, dst, x, factor, dst.span())
}

// Exp, Tanh, GELU, TanhGELU, ReLU and PReLU set dst to a function of x, value by value; dst may be x. Rows of both lie alike.
func (q *Queue) Exp(dst, x Buffer)      { q.each("activation_exp", dst, x) }
func (q *Queue) Tanh(dst, x Buffer)     { q.each("activation_tanh", dst, x) }
func (q *Queue) GELU(dst, x Buffer)     { q.each("activation_gelu", dst, x) }
func (q *Queue) TanhGELU(dst, x Buffer) { q.each("activation_gelu_tanh", dst, x) } // the approximation by tanh
func (q *Queue) ReLU(dst, x Buffer)     { q.each("activation_relu", dst, x) }
func (q *Queue) PReLU(dst, x Buffer, slope float32) {
	q.each("activation_prelu", dst, x, slope)
}

func (q *Queue) each(entry string, dst, x Buffer, more ...any) {
	if !dst.same(x.Rows, x.Cols) || dst.Ld != x.Ld {
		panic("tensor: shapes differ")
	}
	q.launch(entry, [3]int{x.span(), 1, 1}, append([]any{dst, x, x.span()}, more...)...)
}

// Softmax replaces each row of x by exp(x)/Σ exp(x).
func (q *Queue) Softmax(x Buffer) {
	q.launch("activation_softmax", [3]int{x.Rows, 1, 1}, x, x.Rows, x.Cols, x.Ld)
}

// Pick draws a class for each row of logits [rows][classes] from softmax(logits/temperature) with the uniform u[row]; see
// activation_pick. The temperature lies in memory; 0 is the most probable class.
func (q *Queue) Pick(picked Array[int32], logits Buffer, u, temperature Array[float32]) {
	if picked.Len != logits.Rows || u.Len != logits.Rows || temperature.Len != 1 {
		panic("tensor: Pick shapes differ")
	}
	wantPacked(logits)
	q.launch("activation_pick", [3]int{logits.Rows, 1, 1}, picked, logits, u, temperature, logits.Rows, logits.Cols)
}

// Couple computes y = x·exp(s) + t with s = α·tanh(raw/α), and adds the sums of the rows of s to logdet. All matrices are [rows][n],
// raw and t with the same row stride; s [rows][n], for CoupleBack, may be left out. y may be x.
func (q *Queue) Couple(y, x, raw, t, s Buffer, logdet Array[float32], alpha float32) {
	if !y.same(x.Rows, x.Cols) || !raw.same(x.Rows, x.Cols) || !t.same(x.Rows, x.Cols) || raw.Ld != t.Ld || logdet.Len != x.Rows ||
		!s.None() && !s.same(x.Rows, x.Cols) {
		panic("tensor: Couple shapes differ")
	}
	wantPacked(s)
	q.launch("coupling_forward", [3]int{x.Rows, 1, 1}, y, y.Ld, x, x.Ld, raw, t, raw.Ld, s, logdet, x.Rows, x.Cols, alpha)
}

// Uncouple computes x = (y - t)·exp(-s): Couple backwards. x may be y.
func (q *Queue) Uncouple(x, y, raw, t Buffer, alpha float32) {
	if !x.same(y.Rows, y.Cols) || !raw.same(y.Rows, y.Cols) || !t.same(y.Rows, y.Cols) || raw.Ld != t.Ld {
		panic("tensor: Uncouple shapes differ")
	}
	q.launch("coupling_inverse", [3]int{y.Rows, 1, 1}, x, x.Ld, y, y.Ld, raw, t, raw.Ld, y.Rows, y.Cols, alpha)
}

// CoupleBack turns d = ∂L/∂y into ∂L/∂x in place and writes draw = ∂L/∂raw and dt = ∂L/∂t, which have the same row stride. x and s
// are those of Couple; dlogdet is ∂L/∂logdet, the same for every row.
func (q *Queue) CoupleBack(d, draw, dt, x, s Buffer, dlogdet, alpha float32) {
	for _, b := range []Buffer{draw, dt, x, s} {
		if !b.same(d.Rows, d.Cols) {
			panic("tensor: CoupleBack shapes differ")
		}
	}
	if draw.Ld != dt.Ld {
		panic("tensor: CoupleBack shapes differ")
	}
	wantPacked(s)
	q.launch("coupling_backward", [3]int{d.Rows, 1, 1}, d, d.Ld, draw, dt, draw.Ld, x, x.Ld, s, d.Rows, d.Cols, dlogdet, alpha)
}
