package tensor

import (
	"netfusion/kernels/attention"
	"netfusion/kernels/matmul"
)

// PooledAttention is the memory that one attention over images with 2×2-pooled keys and values needs.
type PooledAttention struct {
	pixels, width int // of an image; of a query or key and of a value
	depth         int
	h, w          int
	pooled        Tensor // [images][keys·(depth+width)]: keys, then values
	keys, values  Tensor // [images][packed]
}

// queries is the height of a tile: their scores over all keys stay in the second-level cache.
func (p *PooledAttention) queries() int {
	const scores = 1 << 16 // values
	return min(max(scores/(p.pixels/4)/24*24, 24), p.pixels)
}

// NewPooledAttention plans for up to so many images of h×w pixels, both even, whose queries and keys have depth
// channels and whose values have width.
func NewPooledAttention(a *Arena, images, h, w, depth, width int) PooledAttention {
	if h%2 != 0 || w%2 != 0 {
		panic("tensor: pooled attention over an odd size")
	}
	p := PooledAttention{pixels: h * w, depth: depth, width: width, h: h, w: w}
	n := p.pixels / 4
	p.pooled = a.Take(images, n*(depth+width))
	p.keys = a.Take(images, matmul.PackedLen(n, depth))
	p.values = a.Take(images, matmul.PackedLen(width, n))
	return p
}

// Scratch is how much a Device must Reserve to run p.
func (p *PooledAttention) Scratch() int { return p.queries() * p.pixels / 4 }

type poolKeysJob struct {
	x Tensor
	p *PooledAttention
}

type pooledJob struct {
	dev    *Device
	dst, x Tensor
	p      *PooledAttention
	rows   int // of a tile
	down   int // tiles of an image
}

// PooledAttention computes dst [N·h·w][width] from x [N·h·w][2·depth+width], the queries, keys and values of every
// pixel: see attention.Pooled. p.Scratch() must have been reserved.
func (d *Device) PooledAttention(dst, x Tensor, p *PooledAttention) {
	images := x.Rows / p.pixels
	if x.Cols != 2*p.depth+p.width || dst.Cols != p.width || dst.Rows != x.Rows || x.Rows != images*p.pixels || images > p.keys.Rows {
		panic("tensor: PooledAttention shapes differ")
	}
	d.poolKeys = poolKeysJob{x, p}
	d.pool.Run(&d.poolKeys, images)
	j := &d.pooled
	*j = pooledJob{dev: d, dst: dst, x: x, p: p, rows: p.queries()}
	j.down = (p.pixels + j.rows - 1) / j.rows
	d.pool.Run(j, images*j.down)
	*j, d.poolKeys = pooledJob{}, poolKeysJob{}
}

// Tile pools and packs the keys and values of one image.
func (j *poolKeysJob) Tile(i int) {
	p, n := j.p, j.p.pixels/4
	x := j.x.Data[i*p.pixels*j.x.Cols:]
	pooled := p.pooled.Row(i)
	keys, values := pooled[:n*p.depth], pooled[n*p.depth:]
	attention.MaxPool(keys, x[p.depth:], j.x.Cols, p.h, p.w, p.depth)
	attention.MaxPool(values, x[2*p.depth:], j.x.Cols, p.h, p.w, p.width)
	matmul.Pack(p.keys.Row(i), keys, n, p.depth)
	matmul.PackT(p.values.Row(i), values, p.width, n)
}

// Tile computes some queries of one image.
func (j *pooledJob) Tile(i int) {
	p, image, q := j.p, i/j.down, i%j.down*j.rows
	m := min(j.rows, p.pixels-q)
	at := image*p.pixels + q
	scores := j.dev.Scratch(p.Scratch())
	attention.Pooled(j.dst.Data[at*p.width:], p.width, j.x.Data[at*j.x.Cols:], j.x.Cols,
		p.keys.Row(image), p.values.Row(image), scores, m, p.pixels/4, p.depth, p.width)
	j.dev.Return(scores)
}
