package biggan

import (
	"math"

	"netfusion/tensor"
)

// gateRows is how many pixels a tile of a gateJob has. It doesn't depend on the workers, and so neither do the sums.
const gateRows = 128

// gateSums is the room that a gateJob over so many pixels needs for its sums.
func gateSums(pixels, channels int) int { return (pixels + gateRows - 1) / gateRows * 2 * channels }

// gateJob works back through y = max(0, scale·x + offset): d, the gradient of y, becomes that of x, in place. Each tile leaves its
// sums, those of the gradients of scale and of offset.
type gateJob struct {
	d, x          tensor.Tensor
	scale, offset []float32
	sums          tensor.Tensor // [1][…], for each tile [2·channels]
}

func (j *gateJob) Tile(i int) {
	p0, p1 := i*gateRows, min((i+1)*gateRows, j.d.Rows)
	n := j.d.Cols
	sums := j.sums.Data[i*2*n:][:2*n]
	clear(sums)
	dscale, doffset := sums[:n], sums[n:]
	scale, offset := j.scale[:n], j.offset[:n]
	for p := p0; p < p1; p++ {
		d, x := j.d.Row(p)[:n], j.x.Row(p)[:n]
		for c, v := range x {
			// All ones where the ReLU had a negative input. Signs are as good as random: a branch would be taken wrongly half the time.
			closed := uint32(int32(math.Float32bits(float32(scale[c]*v)+offset[c])) >> 31)
			g := math.Float32frombits(math.Float32bits(d[c]) &^ closed)
			dscale[c] += float32(g * v)
			doffset[c] += g
			d[c] = g * scale[c]
		}
	}
}

// pass runs the gate over d, and writes the gradients of scale and offset to dscale and doffset.
func (g *Gradient) pass(d, x tensor.Tensor, a tensor.Affine, dscale, doffset []float32) {
	j, n := &g.gate, d.Cols
	j.d, j.x, j.scale, j.offset = d, x, a.Scale.Row(0), a.Offset.Row(0)
	tiles := (d.Rows + gateRows - 1) / gateRows
	g.s.dev.Run(j, tiles)
	clear(dscale)
	clear(doffset)
	for i := range tiles {
		sums := j.sums.Data[i*2*n:][:2*n]
		for c, v := range sums[:n] {
			dscale[c] += v
		}
		for c, v := range sums[n:] {
			doffset[c] += v
		}
	}
}

// foldJob sums squares of 2×2 pixels of a map, one row of the result to a tile: the way back through an upsampling.
type foldJob struct {
	dst, src tensor.Tensor // [size·size][…], [2size·2size][…]
	size     int
	add      bool // to the first channels of dst
}

func (j *foldJob) Tile(y int) {
	w, c := 2*j.size, j.src.Cols
	for x := range j.size {
		at := 2*y*w + 2*x
		a, b, d, e := j.src.Row(at), j.src.Row(at + 1)[:c], j.src.Row(at + w)[:c], j.src.Row(at + w + 1)[:c]
		to := j.dst.Row(y*j.size + x)[:c]
		if !j.add {
			clear(to)
		}
		for i, v := range a {
			to[i] += (v + b[i]) + (d[i] + e[i])
		}
	}
}

// halve sums squares of 2×2 pixels of src into dst, size×size pixels; with add it adds them.
func (g *Gradient) halve(dst, src tensor.Tensor, size int, add bool) {
	g.fold = foldJob{dst, src, size, add}
	g.s.dev.Run(&g.fold, size)
}
