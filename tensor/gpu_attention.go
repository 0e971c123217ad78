package tensor

// AttentionDepth is the most channels that a head of Queue.Attention can have, and a query or key of Queue.PooledAttention.
const AttentionDepth = 64

// AttentionUnit is what the channels of a head must be a multiple of for Queue.Attention in bfloat16.
const AttentionUnit = 8

// Attention computes self-attention over packed sequences as Device.Attention does: sequence s is the tokens starts[s] to starts[s+1],
// and none is longer than longest; what makes queries has scaled them by 1/√(C/heads). A head has at most AttentionDepth channels.
// Where dst and qkv are bfloat16, so is what is multiplied, and heads have a multiple of AttentionUnit channels. Otherwise tensor cores
// multiply in tf32 unless p is F32, or heads have no multiple of 4 channels. The weights ahead come into the second-level cache
// meanwhile.
func (q *Queue) Attention(dst, qkv Buffer, starts Array[int32], longest, heads int, p Precision, ahead GPUWeight) {
	c := dst.Cols
	if heads < 1 || c%heads != 0 || !qkv.same(dst.Rows, 3*c) || starts.Len < 2 || c/heads > AttentionDepth || longest > dst.Rows ||
		dst.Precision != qkv.Precision || dst.Precision == Int8 || dst.Precision == BF16 && c/heads%AttentionUnit != 0 {
		panic("tensor: Attention shapes differ")
	}
	depth := c / heads
	entry := "attention_"
	switch {
	case dst.Precision == BF16:
		entry += "bf16_"
	case (p != F32 || q.g.options.TF32) && depth%F32.unit() == 0 && qkv.Ld%F32.unit() == 0:
		entry += "tf32_"
	}
	if depth <= 32 {
		entry += "text_32"
	} else {
		entry += "text_64"
	}
	q.worked(2*float64(dst.Rows)*float64(longest)*float64(c), 0, qkv, dst)
	part := func(i int) DevicePtr { return qkv.at(0, i*c) }
	q.launch(entry, [3]int{longest, heads, starts.Len - 1}, dst.Ptr, dst.Ld, part(0), part(1), part(2), qkv.Ld, starts, depth,
		ahead.ptr, ahead.bytes(), 0)
}

// PooledAttention computes dst [N·h·w][width] from x [N·h·w][2·depth+width], the queries, keys and values of every pixel, where keys
// and values are those of the largest of each 2×2 pixels: see attention.Pooled. p as in Attention.
func (q *Queue) PooledAttention(dst, x Buffer, h, w, depth int, p Precision) {
	width := dst.Cols
	if x.Cols != 2*depth+width || dst.Rows != x.Rows || x.Rows%(h*w) != 0 || depth > AttentionDepth {
		panic("tensor: PooledAttention shapes differ")
	}
	defer q.Release(q.Taken())
	queries, keys := h*w, h/2*(w/2)
	images := x.Rows / queries
	pooled := Matrix(TakeArray[float32](q, images*keys*(depth+width)), images*keys, depth+width)
	q.MaxPool(pooled, x.Columns(depth, 2*depth+width), h, w)
	k, v := pooled.Columns(0, depth), pooled.Columns(depth, depth+width)
	entry := "attention_pooled"
	if (p != F32 || q.g.options.TF32) && depth%F32.unit() == 0 && width%F32.unit() == 0 {
		if entry = "attention_tf32_pooled"; depth <= 32 {
			entry += "_32"
		}
	}
	q.worked(float64(x.Rows)*float64(keys)*float64(depth+width), 0, x, dst)
	q.launch(entry, [3]int{queries, width, images}, dst, dst.Ld, x.Columns(0, depth), x.Ld, k, k.Ld, v, v.Ld, queries, keys, depth, width)
}
