package tensor

import (
	"sort"

	"netfusion/kernels/attention"
)

type attentionJob struct {
	dev            *Device
	dst, qkv       Tensor
	starts         []int32
	heads          int
	groups, height int // groups of heads, and how many heads are in one
}

// ReserveAttention prepares d for Attention over heads of width channels.
func (d *Device) ReserveAttention(width int) { d.Reserve(attention.WorkLen(width)) }

// Attention computes self-attention over packed sequences: qkv [tokens][3·C] has the queries, keys and values of every token,
// each [heads][C/heads], and sequence s is the tokens starts[s] to starts[s+1], counted from where starts[0] counts from; dst
// is [tokens][C]. See attention.F32, which does not scale by 1/√(C/heads). The width of a head must have been reserved.
func (d *Device) Attention(dst, qkv Tensor, starts []int32, heads int) {
	if heads < 1 || dst.Cols%heads != 0 || qkv.Cols != 3*dst.Cols || qkv.Rows != dst.Rows ||
		len(starts) == 0 || int(starts[len(starts)-1]-starts[0]) != dst.Rows {
		panic("tensor: Attention shapes differ")
	}
	if dst.Rows == 0 {
		return
	}
	j := &d.attention
	*j = attentionJob{dev: d, dst: dst, qkv: qkv, starts: starts, heads: heads}
	blocks := (dst.Rows + attention.Queries - 1) / attention.Queries
	j.split(blocks)
	d.pool.Run(j, blocks*j.groups)
	*j = attentionJob{}
}

// split cuts the heads into groups, so that a tile, which is one group for one block of tokens, is about a microsecond's work.
func (j *attentionJob) split(blocks int) {
	j.groups, j.height = 1, j.heads
	if j.dev.Workers() == 1 {
		return
	}
	const work = 1 << 15 // multiply-adds
	pairs := 0
	for s := 1; s < len(j.starts); s++ {
		n := int(j.starts[s] - j.starts[s-1])
		pairs += n * n
	}
	j.groups = min(j.heads, 1+2*pairs*j.dst.Cols/blocks/work)
	j.height = (j.heads + j.groups - 1) / j.groups
	j.groups = (j.heads + j.height - 1) / j.height
}

// Tile computes a group of heads for a block of tokens, which may be of several sequences.
func (j *attentionJob) Tile(i int) {
	c := j.dst.Cols
	width := c / j.heads
	row := i / j.groups * attention.Queries
	end := min(row+attention.Queries, j.dst.Rows)
	first := i % j.groups * j.height
	last := min(first+j.height, j.heads)
	origin := int(j.starts[0])
	s := sort.Search(len(j.starts), func(s int) bool { return int(j.starts[s])-origin > row }) // the end of the sequence of row
	work := j.dev.Scratch(attention.WorkLen(width))
	for ; row < end; s++ {
		begin, stop := int(j.starts[s-1])-origin, int(j.starts[s])-origin
		m, n := min(end, stop)-row, stop-begin
		for h := first; h < last; h++ {
			q, k := j.qkv.Data[row*3*c+h*width:], j.qkv.Data[begin*3*c+h*width:]
			attention.F32(j.dst.Data[row*c+h*width:], c, q, k[c:], k[2*c:], 3*c, m, n, width, work)
		}
		row += m
	}
	j.dev.Return(work)
}
