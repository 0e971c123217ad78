package tensor

// GPUTable is a matrix [Rows][Cols] on a GPU that is read a row at a time, in float32 or in int8.
type GPUTable struct {
	Rows, Cols int
	F32        Array[float32] // [Rows][Cols], or none
	I8         Array[int8]    // [Rows][Cols], or none
	Scale      Array[float32] // [Rows], with I8
}

// Embed sets each row of dst to the row of table that ids says. The host has checked that ids are rows of it.
func (q *Queue) Embed(dst Buffer, table *GPUTable, ids Array[int32]) {
	if ids.Len != dst.Rows || table.Cols != dst.Cols {
		panic("tensor: Embed shapes differ")
	}
	wantPacked(dst)
	extent := [3]int{dst.Rows, dst.Cols, 1}
	if table.I8.Len > 0 {
		q.launch("embedding_i8", extent, dst, table.I8, table.Scale, ids, dst.Cols)
	} else {
		q.launch("embedding_f32", extent, dst, table.F32, ids, dst.Cols)
	}
}

// EmbedAdd adds to each row of dst the row of table [·][Cols] that ids says.
func (q *Queue) EmbedAdd(dst Buffer, table Array[float32], ids Array[int32]) {
	if ids.Len != dst.Rows || table.Len%dst.Cols != 0 {
		panic("tensor: EmbedAdd shapes differ")
	}
	wantPacked(dst)
	q.launch("embedding_add", [3]int{dst.Rows, dst.Cols, 1}, dst, table, ids, dst.Cols)
}

// PoolTokens makes one row of dst [texts][C] of each text's rows of x [tokens][C], those from starts[i] to starts[i+1]: the first,
// or the mean; normalize divides it by its length.
func (q *Queue) PoolTokens(dst, x Buffer, starts Array[int32], mean, normalize bool) {
	if dst.Cols != x.Cols || starts.Len != dst.Rows+1 {
		panic("tensor: PoolTokens shapes differ")
	}
	wantPacked(dst, x)
	q.launch("embedding_pool", [3]int{dst.Rows, 1, 1}, dst, x, starts, x.Cols, number(mean), number(normalize))
}

// Posterior computes, for each row of e [rows][n] and the table [classes][n], scores[k] = -half·|e - table[k]|² and hat = Σ_k
// softmax_k(scores)·table[k]; scores is [rows][classes], hat [rows][n].
func (q *Queue) Posterior(hat, scores, e, table Buffer, half float32) {
	if !hat.same(e.Rows, e.Cols) || table.Cols != e.Cols || !scores.same(e.Rows, table.Rows) {
		panic("tensor: Posterior shapes differ")
	}
	wantPacked(hat, scores, e, table)
	q.launch("embedding_posterior", [3]int{e.Rows, 1, 1}, hat, scores, e, table, table.Rows, e.Cols, half)
}

// Pixels makes red, green, blue and 255, as bytes of one word, of the first three columns of each row of x in [-1, 1].
func (q *Queue) Pixels(dst Array[uint32], x Buffer) {
	if dst.Len != x.Rows || x.Cols < 3 {
		panic("tensor: Pixels shapes differ")
	}
	q.launch("quantize_pixels", [3]int{x.Rows, 1, 1}, dst, x, x.Ld, x.Rows)
}

// Words, Uniform and Normal fill dst [rows][n] with Philox noise: row i is the dimensions dim0 … dim0+n-1 of sample draw[1]+i under the
// seed draw[0], in a stream; see kernels/random, whose bits these are.
func (q *Queue) Words(dst Array[uint32], draw Array[uint64], stream uint32, dim0 int) {
	q.noise("random_words", 1, dst.Len, dst, dst.Len, draw, stream, dim0)
}
func (q *Queue) Uniform(dst Buffer, draw Array[uint64], stream uint32, dim0 int) {
	q.noise("random_uniform", dst.Rows, dst.Cols, dst, dst.Ld, draw, stream, dim0)
}
func (q *Queue) Normal(dst Buffer, draw Array[uint64], stream uint32, dim0 int) {
	q.noise("random_normal", dst.Rows, dst.Cols, dst, dst.Ld, draw, stream, dim0)
}

func (q *Queue) noise(entry string, rows, n int, dst any, ld int, draw Array[uint64], stream uint32, dim0 int) {
	if draw.Len != 2 {
		panic("tensor: a draw is a seed and a sample")
	}
	fours := (dim0+n+3)/4 - dim0/4
	q.launch(entry, [3]int{rows, fours, 1}, dst, ld, n, draw, stream, dim0)
}

// Dropout sets values of x [rows][n], a batch of samples, to 0 or to keep times themselves, as a byte of noise is below cut or not; see
// random_dropout. The same on the gradient is the way back.
func (q *Queue) Dropout(x Buffer, draw Array[uint64], stream, cut uint32, keep float32) {
	if draw.Len != 2 {
		panic("tensor: a draw is a seed and a sample")
	}
	q.launch("random_dropout", [3]int{x.Rows, x.Cols, 1}, x, x.Ld, x.Rows, x.Cols, draw, stream, cut, keep)
}
