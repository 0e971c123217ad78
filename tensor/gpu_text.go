package tensor

// LayerNormNext computes dst = (y - mean)/√(variance + eps)·gamma + beta with the statistics of each row of y = x + residual, as
// LayerNorm does, and leaves in next, unless it is the zero Buffer, what Round would make of it. The weights ahead come into the
// second-level cache meanwhile.
func (q *Queue) LayerNormNext(dst, next, x, residual Buffer, gamma, beta Array[float32], eps float32, ahead GPUWeight) {
	if !dst.same(x.Rows, x.Cols) || gamma.Len != x.Cols || beta.Len != x.Cols || !residual.None() && !residual.same(x.Rows, x.Cols) {
		panic("tensor: LayerNormNext shapes differ")
	}
	wantPacked(dst, x, residual)
	args := []any{dst, x, residual, gamma, beta, x.Cols, eps}
	q.launch("layernorm_next", [3]int{x.Rows, 1, 1}, append(args, roundedArgs(next, dst, ahead)...)...)
}

// roundedArgs are the kernels' Rounded, a copy of dst, and Ahead.
func roundedArgs(next, dst Buffer, ahead GPUWeight) []any {
	if !next.None() && (next.Precision == F32 || !next.same(dst.Rows, dst.Cols)) {
		panic("tensor: the copy of a matrix has another shape, or is not rounded")
	}
	return []any{next.Ptr, next.scale, next.zero, next.Ld, 0, ahead.ptr, ahead.bytes(), 0}
}

// TextTables are what a text encoder's tokens begin with.
type TextTables struct {
	Words            GPUTable
	Positions, Types Array[float32] // [·][Words.Cols]
	Gamma, Beta      Array[float32] // [Words.Cols]
	Eps              float32
}

// Text is the rows of TextTables that each token is made of. The host has checked that they are there.
type Text struct {
	IDs, Places, Types Array[int32] // [tokens]
}

// EmbedText sets each row of dst to its token's word + position + type, normalised: see LayerNormNext.
func (q *Queue) EmbedText(dst, next Buffer, t *TextTables, x Text, ahead GPUWeight) {
	n := t.Words.Cols
	if !dst.same(x.IDs.Len, n) || x.Places.Len != dst.Rows || x.Types.Len != dst.Rows || t.Positions.Len%n != 0 || t.Types.Len%n != 0 ||
		t.Gamma.Len != n || t.Beta.Len != n {
		panic("tensor: EmbedText shapes differ")
	}
	wantPacked(dst)
	words := t.Words.F32.Ptr
	if t.Words.I8.Len > 0 {
		words = t.Words.I8.Ptr
	}
	args := []any{dst, words, t.Words.Scale, t.Positions, t.Types, x.IDs, x.Places, x.Types, t.Gamma, t.Beta, n, t.Eps}
	q.launch("layernorm_text", [3]int{dst.Rows, 1, 1}, append(args, roundedArgs(next, dst, ahead)...)...)
}
