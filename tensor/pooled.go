package tensor

import (
	"unsafe"

	"netfusion/kernels/attention"
	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
)

// PooledAttention is the memory that one attention over images with 2×2-pooled keys and values needs.
type PooledAttention struct {
	pixels, width int // of an image; of a query or key and of a value
	depth         int
	h, w          int
	pooled        Tensor // keys [images·h/2·w/2][depth]
	keys          Tensor // [images][packed]
	values        Tensor // [images·h/2·w/2][width]
	packed        Tensor // values in bfloat16 [images][packed], if what they are multiplied by is
}

func (p *PooledAttention) bf16() bool { return p.packed.Cols > 0 }

// bf16Values is the packed values of one image.
func (p *PooledAttention) bf16Values(image int) []uint16 {
	row := p.packed.Row(image)
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(row))), 2*len(row))
}

// queries is the height of a tile.
const queries = 96

// NewPooledAttention plans for up to so many images of h×w pixels, both even, whose queries and keys have depth
// channels and whose values have width. Unless precision is F32, values are multiplied in bfloat16.
func NewPooledAttention(a *Arena, precision Precision, images, h, w, depth, width int) PooledAttention {
	if h%2 != 0 || w%2 != 0 {
		panic("tensor: pooled attention over an odd size")
	}
	p := PooledAttention{pixels: h * w, depth: depth, width: width, h: h, w: w}
	n := p.pixels / 4
	p.pooled = a.Take(images*n, depth)
	p.keys = a.Take(images, attention.KeysLen(n, depth))
	p.values = a.Take(images*n, width)
	if precision != F32 {
		p.packed = a.Take(images, matmul.PackedLenBF16(width, n)/2)
	}
	return p
}

// Scratch is how much a Device must Reserve to run p.
func (p *PooledAttention) Scratch() int {
	if p.bf16() {
		return attention.PooledWorkBF16(p.pixels / 4)
	}
	return attention.PooledWork(p.pixels / 4)
}

type poolKeysJob struct {
	x    Tensor
	p    *PooledAttention
	rows int // of the pooled map, of a tile
	down int // tiles of an image
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
	pool := &d.poolKeys
	*pool = poolKeysJob{x: x, p: p, rows: p.h / 2, down: 1}
	if p.w%32 == 0 { // keys are packed by 16
		pool.rows = min(4, p.h/2)
		pool.down = (p.h/2 + pool.rows - 1) / pool.rows
	}
	d.pool.Run(pool, images*pool.down)
	j := &d.pooled
	*j = pooledJob{dev: d, dst: dst, x: x, p: p, rows: min(queries, p.pixels)}
	j.down = (p.pixels + j.rows - 1) / j.rows
	d.pool.Run(j, images*j.down)
	*j, *pool = pooledJob{}, poolKeysJob{}
}

// Tile pools some rows of one image, and packs their keys.
func (j *poolKeysJob) Tile(i int) {
	p, image, y := j.p, i/j.down, i%j.down*j.rows
	h := min(j.rows, p.h/2-y)
	n, first := h*p.w/2, y*p.w/2 // keys, and the first one's place in the image
	x := j.x.Data[(image*p.pixels+2*y*p.w)*j.x.Cols:]
	at := image*p.pixels/4 + first
	keys, values := p.pooled.Slice(at, at+n).Data, p.values.Slice(at, at+n).Data
	conv.MaxPool(keys, x[p.depth:], j.x.Cols, 2*h, p.w, p.depth)
	conv.MaxPool(values, x[2*p.depth:], j.x.Cols, 2*h, p.w, p.width)
	attention.PackKeys(p.keys.Row(image)[attention.KeysLen(first, p.depth):], keys, n, p.depth)
	if p.bf16() {
		attention.PackValues(p.bf16Values(image), values, first, n, p.pixels/4, p.width)
	}
}

// Tile computes some queries of one image.
func (j *pooledJob) Tile(i int) {
	p, image, q := j.p, i/j.down, i%j.down*j.rows
	m, n := min(j.rows, p.pixels-q), p.pixels/4
	at := image*p.pixels + q
	work := j.dev.Scratch(p.Scratch())
	dst, x, keys := j.dst.Data[at*p.width:], j.x.Data[at*j.x.Cols:], p.keys.Row(image)
	if p.bf16() {
		attention.PooledBF16(dst, p.width, x, j.x.Cols, keys, p.bf16Values(image), work, m, n, p.depth, p.width)
	} else {
		attention.Pooled(dst, p.width, x, j.x.Cols, keys, p.values.Slice(image*n, image*n+n).Data, work, m, n, p.depth, p.width)
	}
	j.dev.Return(work)
}
