package flow

import (
	"math"

	"netfusion/kernels/activation"
	kernel "netfusion/kernels/dense"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// mapGradient is what a Gradient has for a condition that is a map. A batch of maps lies [pixel][channel][ld]: so a pixel is a batch of
// its channels, a patch is a few runs of channels, and a convolution is a linear layer for each pixel.
type mapGradient struct {
	rows    tensor.Tensor // [rows][Cond], the standardised maps with noise
	given   tensor.Tensor // [Cond][ld], the same
	traces  []mapTrace
	turned  tensor.Tensor    // [pixels][…], patches as the gradient of their weights reads them
	patches tensor.Tensor    // [pixels·16·channels][ld], the gradient of patches
	maps    [2]tensor.Tensor // [pixels·channels][ld], gradients of maps, in turn
	job     mapJob
	blur    mapBlurJob
}

// mapTrace is what a forward pass through a convolution leaves for the way back.
type mapTrace struct {
	patches tensor.Tensor // [pixels·16·in][ld]
	shifted tensor.Tensor // [pixels·out][ld], W∗x + loc
	y       tensor.Tensor // [pixels·out][ld], what comes out
}

// layout takes the memory, but for the last map: join says where that is.
func (s *mapGradient) layout(a *tensor.Arena, g *Gradient) {
	f := g.flow
	c := &f.Config
	s.rows, s.given = a.Take(g.rows, c.Cond), a.Take(c.Cond, g.ld)
	s.traces = s.traces[:0]
	var turned, patches, most int
	for i := range f.maps.convolutions {
		v := &f.maps.convolutions[i]
		pixels := v.side * v.side
		t := mapTrace{patches: a.Take(pixels*v.in, g.ld), shifted: a.Take(pixels*v.out, g.ld)}
		if i < c.Convs-1 {
			t.y = a.Take(pixels*v.out, g.ld)
			most = max(most, pixels*v.out)
		}
		if i > 0 {
			patches = max(patches, pixels*v.in)
		}
		turned = max(turned, pixels*kernel.TurnedLen(v.in, g.ld))
		s.traces = append(s.traces, t)
	}
	s.turned, s.patches = a.Take(1, turned), a.Take(patches, g.ld)
	s.maps = [2]tensor.Tensor{a.Take(most, g.ld), a.Take(most, g.ld)}
}

// join makes the last convolution leave its output where the embedder reads it.
func (s *mapGradient) join(g *Gradient) {
	if n := len(s.traces); n > 0 {
		s.traces[n-1].y = g.given.Slice(0, s.traces[n-1].shifted.Rows)
	}
}

// look runs the maps c [m][Cond] to what the embedder reads of them, the first rows of g.given.
func (g *Gradient) look(c tensor.Tensor) {
	g.standardiseMaps(c)
	for i := range g.maps.traces {
		j := g.convolution(i)
		j.run(mapForward, j.pixels)
	}
}

// standardiseMaps leaves them in g.maps.given, or where there are no convolutions in g.given.
func (g *Gradient) standardiseMaps(c tensor.Tensor) {
	s := &g.maps
	s.blur = mapBlurJob{g, c}
	g.dev.Run(&s.blur, tiles(g.m))
	to := s.given
	if len(s.traces) == 0 {
		to = g.given.Slice(0, to.Rows)
	}
	g.turn(to, s.rows.Slice(0, g.m))
}

// mapBlurJob standardises maps, and adds noise to them, some rows to a tile.
type mapBlurJob struct {
	g *Gradient
	c tensor.Tensor
}

func (j *mapBlurJob) Tile(tile int) {
	g := j.g
	m, noise := &g.flow.maps, g.regularisation.Noise
	r0, r1 := span(tile, g.m)
	for r := r0; r < r1; r++ {
		row, c := g.maps.rows.Row(r), j.c.Row(r)
		if noise == 0 || g.frozen {
			m.standardise(row, c)
			continue
		}
		random.Normal(row, g.seed, blurStream, g.step<<16|uint64(r), 0)
		for i, v := range row {
			row[i] = (c[i]-m.mean[i])*m.inverse[i%len(m.inverse)] + float32(noise*v)
		}
	}
}

// convolution prepares the job for convolution i.
func (g *Gradient) convolution(i int) *mapJob {
	s, v := &g.maps, &g.flow.maps.convolutions[i]
	j := &s.job
	*j = mapJob{g: g, layer: v, trace: s.traces[i], x: s.given, pixels: v.side * v.side, channels: v.in / kernelPixels}
	if i > 0 {
		j.x = s.traces[i-1].y
	}
	return j
}

// lookBack goes back through the convolutions from d, the gradient of what the embedder reads, [features][ld].
func (g *Gradient) lookBack(d tensor.Tensor) {
	s := &g.maps
	for i := len(s.traces) - 1; i >= 0; i-- {
		j := g.convolution(i)
		j.d = d
		j.run(mapActivateBack, j.layer.out)
		j.run(mapTurn, j.pixels)
		j.run(mapWeights, strips(j.layer.out))
		if i == 0 {
			return
		}
		j.dpatches = s.patches.Front(j.pixels*j.layer.in, g.ld)
		j.dx = s.maps[i%2].Front(4*j.pixels*j.channels, g.ld)
		j.run(mapInputs, j.pixels)
		j.run(mapScatter, 4*j.pixels)
		d = j.dx
	}
}

// initialiseMaps sets the convolutions' ActNorms from the maps c: zero mean, unit variance.
func (g *Gradient) initialiseMaps(c tensor.Tensor) {
	g.m = c.Rows
	g.standardiseMaps(c)
	for i := range g.maps.traces {
		j := g.convolution(i)
		loc, scale := g.flow.values[j.layer.loc:][:j.layer.out], g.flow.values[j.layer.scale:][:j.layer.out]
		clear(loc)
		j.run(mapForward, j.pixels)
		n := float64(j.pixels * g.m)
		for k := range loc {
			var sum, squares float64
			for p := range j.pixels {
				for _, v := range j.trace.shifted.Row(p*j.layer.out + k)[:g.m] {
					sum += float64(v)
					squares += float64(float64(v) * float64(v))
				}
			}
			mean := sum / n
			loc[k] = float32(-mean)
			scale[k] = float32(1 / (math.Sqrt(max(squares/n-mean*mean, 0)) + 1e-6))
		}
		j.run(mapForward, j.pixels)
	}
}

// mapJob is a convolution.
type mapJob struct {
	g     *Gradient
	layer *convolution
	trace mapTrace
	phase mapPhase

	pixels   int           // of what comes out
	channels int           // of x
	x        tensor.Tensor // [4·pixels·channels][ld], what it reads

	d        tensor.Tensor // [pixels·out][ld], the gradient of y, then of W∗x
	dpatches tensor.Tensor // [pixels·16·channels][ld]
	dx       tensor.Tensor // [4·pixels·channels][ld]
}

type mapPhase uint8

const (
	mapForward      mapPhase = iota // x → patches → W∗x + loc → y, a pixel to a tile
	mapActivateBack                 // ∂y → ∂(W∗x), ∂loc, ∂scale, a channel to a tile
	mapTurn                         // patches as mapWeights reads them, a pixel to a tile
	mapWeights                      // ∂(W∗x), patches → ∂W, some outputs to a tile
	mapInputs                       // ∂(W∗x) → ∂patches, a pixel to a tile
	mapScatter                      // ∂patches → ∂x, a pixel of x to a tile
)

func (j *mapJob) run(phase mapPhase, tiles int) {
	j.phase = phase
	j.g.dev.Run(j, tiles)
}

func (j *mapJob) Tile(tile int) {
	g, l := j.g, j.layer
	w := g.flow.values[l.w:][:l.in*l.out]
	switch j.phase {
	case mapForward:
		j.gather(tile)
		patch, shifted := j.pixel(j.trace.patches, tile, l.in), j.pixel(j.trace.shifted, tile, l.out)
		kernel.Forward(shifted, w, g.flow.values[l.loc:][:l.out], patch, l.out, l.in, g.ld, 0, l.out, false, nil)
		j.activate(j.pixel(j.trace.y, tile, l.out), shifted)
	case mapActivateBack:
		j.activateBack(tile)
	case mapTurn:
		kernel.Turn(j.turned(tile), j.pixel(j.trace.patches, tile, l.in), l.in, g.ld, g.m)
	case mapWeights:
		o0, o1 := strip(tile, l.out)
		dw := g.values[l.w:][:l.in*l.out]
		for p := range j.pixels {
			kernel.Weights(dw, j.pixel(j.d, p, l.out), j.turned(p), l.out, l.in, g.ld, g.m, o0, o1, p > 0, nil)
		}
		g.squares[l.strip+tile] = optimizer.SumSquares(dw[o0*l.in : o1*l.in])
	case mapInputs:
		kernel.Inputs(j.pixel(j.dpatches, tile, l.in), w, j.pixel(j.d, tile, l.out), nil, nil, l.out, l.in, g.ld, 0, l.in, false)
	case mapScatter:
		j.scatter(tile)
	}
}

// pixel is the part [channels][ld] of a map that belongs to pixel p.
func (j *mapJob) pixel(t tensor.Tensor, p, channels int) []float32 {
	n := channels * j.g.ld
	return t.Data[p*n:][:n]
}

// turned is where the patch of pixel p is turned.
func (j *mapJob) turned(p int) []float32 {
	n := kernel.TurnedLen(j.layer.in, j.g.m)
	return j.g.maps.turned.Data[p*n:][:n]
}

// activate writes y = LeakyReLU(scale·x) of a pixel, both [out][ld].
func (j *mapJob) activate(y, x []float32) {
	ld := j.g.ld
	for o, scale := range j.g.flow.values[j.layer.scale:][:j.layer.out] {
		row := y[o*ld:][:ld]
		for k, v := range x[o*ld:][:ld] {
			row[k] = scale * v
		}
	}
	activation.PReLU(y, y, mapSlope)
}

// activateBack turns channel o of j.d from the gradient of y into that of W∗x, and works out those of loc and scale.
func (j *mapJob) activateBack(o int) {
	g, l := j.g, j.layer
	scale := g.flow.values[l.scale+o]
	var dloc, dscale float32
	for p := range j.pixels {
		d, shifted := j.d.Row(p*l.out+o), j.trace.shifted.Row(p*l.out+o)
		for k, v := range shifted {
			if scale*v < 0 {
				d[k] *= mapSlope
			}
		}
		for k, v := range d[:g.m] {
			dloc += v
			dscale += float32(v * shifted[k])
		}
		for k := range d {
			d[k] *= scale
		}
	}
	g.values[l.loc+o], g.values[l.scale+o] = dloc*scale, dscale
}

// tap returns the pixel of x under tap ky, kx of output pixel p, if there is one.
func (j *mapJob) tap(p, ky, kx int) (at int, inside bool) {
	side := 2 * j.layer.side
	y, x := 2*(p/j.layer.side)-1+ky, 2*(p%j.layer.side)-1+kx
	return y*side + x, y >= 0 && y < side && x >= 0 && x < side
}

// gather fills the patch of output pixel p.
func (j *mapJob) gather(p int) {
	patch, n := j.pixel(j.trace.patches, p, j.layer.in), j.channels*j.g.ld
	for k := range kernelPixels {
		to := patch[k*n:][:n]
		if at, inside := j.tap(p, k/kernelSide, k%kernelSide); inside {
			copy(to, j.x.Data[at*n:])
		} else {
			clear(to)
		}
	}
}

// scatter adds up the gradient of pixel q of x from those of the patches that it is in: one in each direction on either side.
func (j *mapJob) scatter(q int) {
	side := j.layer.side
	d, n := j.pixel(j.dx, q, j.channels), j.channels*j.g.ld
	clear(d)
	row, col := q/(2*side), q%(2*side)
	for y := max(0, (row-1)/2); y <= min(side-1, (row+1)/2); y++ {
		for x := max(0, (col-1)/2); x <= min(side-1, (col+1)/2); x++ {
			ky, kx := row+1-2*y, col+1-2*x
			add(d, j.pixel(j.dpatches, y*side+x, j.layer.in)[(ky*kernelSide+kx)*n:][:n])
		}
	}
}
