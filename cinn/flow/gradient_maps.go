package flow

import (
	"math"

	"netfusion/kernels/activation"
	kernel "netfusion/kernels/dense"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// mapGradient is what a Gradient has for a condition that is a map. A batch of maps lies [channel][pixel·ld + sample], so that one
// row is a channel, and a convolution is a linear layer of pixels·ld columns. Columns of samples that nobody asked for are zero
// here: sums run over them.
type mapGradient struct {
	rows    tensor.Tensor // [rows][Cond], the standardised maps with noise
	given   tensor.Tensor // the same [pixel][channel][ld], the one map whose pixels come first
	traces  []mapTrace
	patches tensor.Tensor    // [16·channels][pixels·ld], the gradient of a convolution's patches
	maps    [2]tensor.Tensor // [channels][pixels·ld], gradients of maps, in turn
	job     mapJob
	blur    mapBlurJob
}

// mapTrace is what a forward pass through a convolution leaves for the way back.
type mapTrace struct {
	patches tensor.Tensor // [16·in][pixels·ld]
	shifted tensor.Tensor // [out][pixels·ld], W∗x + loc
	y       tensor.Tensor // [out][pixels·ld], what comes out
}

// layout takes the memory, but for the last map: join says where that is.
func (s *mapGradient) layout(a *tensor.Arena, g *Gradient) {
	f := g.flow
	c := &f.Config
	s.rows, s.given = a.Take(g.rows, c.Cond), a.Take(c.Cond, g.ld)
	s.traces = s.traces[:0]
	var patches, most int
	for i := range f.maps.convolutions {
		v := &f.maps.convolutions[i]
		cols := v.side * v.side * g.ld
		t := mapTrace{patches: a.Take(v.in, cols), shifted: a.Take(v.out, cols)}
		if i < c.Convs-1 {
			t.y = a.Take(v.out, cols)
			most = max(most, v.out*cols)
		}
		if i > 0 {
			patches = max(patches, v.in*cols)
		}
		s.traces = append(s.traces, t)
	}
	s.patches = a.Take(1, patches)
	s.maps = [2]tensor.Tensor{a.Take(1, most), a.Take(1, most)}
}

// join makes the last convolution leave its output where the embedder reads it.
func (s *mapGradient) join(g *Gradient) {
	if n := len(s.traces); n > 0 {
		last := s.traces[n-1].shifted
		s.traces[n-1].y = g.given.Front(last.Rows, last.Cols)
	}
}

// turnedLen is how much of Gradient.turned the convolutions use.
func (m *maps) turnedLen(ld int) (n int) {
	for i := range m.convolutions {
		v := &m.convolutions[i]
		n = max(n, kernel.TurnedLen(v.in, v.side*v.side*ld))
	}
	return n
}

// look runs the maps c [m][Cond] to what the embedder reads of them, the first rows of g.given.
func (g *Gradient) look(c tensor.Tensor) {
	g.standardiseMaps(c)
	for i := range g.maps.traces {
		g.convolve(i)
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
	for i := range to.Rows {
		clear(to.Row(i)[g.m:])
	}
}

// mapBlurJob standardises maps, and adds noise to them, some rows to a tile.
type mapBlurJob struct {
	g *Gradient
	c tensor.Tensor
}

func (j *mapBlurJob) Tile(tile int) {
	g := j.g
	r0, r1 := span(tile, g.m)
	for r := r0; r < r1; r++ {
		row := g.maps.rows.Row(r)
		noise := g.regularisation.Noise
		if noise == 0 || g.frozen {
			g.flow.maps.standardise(row, j.c.Row(r))
			continue
		}
		random.Normal(row, g.seed, blurStream, g.step<<16|uint64(r), 0)
		m := &g.flow.maps
		for i, v := range row {
			k := i % len(m.inverse)
			row[i] = (j.c.Row(r)[i]-m.mean[i])*m.inverse[k] + float32(noise*v)
		}
	}
}

// convolve runs convolution i forwards.
func (g *Gradient) convolve(i int) {
	j := g.convolution(i)
	j.run(mapGather, strips(j.layer.in))
	j.run(mapProduct, strips(j.layer.out))
	j.run(mapActivate, j.layer.out)
}

// convolution prepares the job for convolution i.
func (g *Gradient) convolution(i int) *mapJob {
	s, v := &g.maps, &g.flow.maps.convolutions[i]
	j := &s.job
	*j = mapJob{g: g, layer: v, trace: s.traces[i], cols: v.side * v.side * g.ld, channels: v.in / kernelPixels}
	j.x, j.pixel, j.channel = s.given, j.channels*g.ld, g.ld
	if i > 0 {
		j.x = s.traces[i-1].y
		j.pixel, j.channel = g.ld, 4*j.cols
	}
	return j
}

// lookBack goes back through the convolutions from d, the gradient of what the embedder reads, [features][ld].
func (g *Gradient) lookBack(d tensor.Tensor) {
	s := &g.maps
	for i := len(s.traces) - 1; i >= 0; i-- {
		j := g.convolution(i)
		j.d = tensor.Of(j.layer.out, j.cols, d.Data)
		j.run(mapActivateBack, j.layer.out)
		j.run(mapTurn, (j.layer.in+turnFeatures-1)/turnFeatures)
		j.run(mapWeights, strips(j.layer.out))
		if i == 0 {
			return
		}
		j.dpatches = s.patches.Front(j.layer.in, j.cols)
		d = s.maps[i%2].Front(j.channels, 4*j.cols)
		j.dx = d
		j.run(mapInputs, (j.layer.in+turnFeatures-1)/turnFeatures)
		j.run(mapScatter, j.channels)
	}
}

// initialiseMaps sets the convolutions' ActNorms from the maps c: zero mean, unit variance.
func (g *Gradient) initialiseMaps(c tensor.Tensor) {
	g.m = c.Rows
	g.standardiseMaps(c)
	for i := range g.maps.traces {
		v := &g.flow.maps.convolutions[i]
		loc, scale := g.flow.values[v.loc:][:v.out], g.flow.values[v.scale:][:v.out]
		clear(loc)
		g.convolve(i)
		n := float64(v.side * v.side * g.m)
		for k := range loc {
			var sum, squares float64
			row := g.maps.traces[i].shifted.Row(k)
			for at := 0; at < len(row); at += g.ld {
				for _, x := range row[at:][:g.m] {
					sum += float64(x)
					squares += float64(float64(x) * float64(x))
				}
			}
			mean := sum / n
			loc[k] = float32(-mean)
			scale[k] = float32(1 / (math.Sqrt(max(squares/n-mean*mean, 0)) + 1e-6))
		}
		g.convolve(i)
	}
}

// mapJob is a convolution.
type mapJob struct {
	g     *Gradient
	layer *convolution
	trace mapTrace
	phase mapPhase

	cols           int           // of what comes out, side²·ld
	channels       int           // of x
	x              tensor.Tensor // what it reads
	pixel, channel int           // strides of that

	d        tensor.Tensor // [out][side²·ld], the gradient of y, then of W∗x
	dpatches tensor.Tensor // [16·in][side²·ld]
	dx       tensor.Tensor // [in][4·side²·ld]
}

type mapPhase uint8

const (
	mapGather       mapPhase = iota // x → patches
	mapProduct                      // patches → W∗x + loc
	mapActivate                     // that → y
	mapActivateBack                 // ∂y → ∂(W∗x), ∂loc, ∂scale
	mapTurn                         // patches as mapWeights reads them
	mapWeights                      // ∂(W∗x), patches → ∂W
	mapInputs                       // ∂(W∗x) → ∂patches
	mapScatter                      // ∂patches → ∂x
)

func (j *mapJob) run(phase mapPhase, tiles int) {
	j.phase = phase
	j.g.dev.Run(j, tiles)
}

func (j *mapJob) Tile(tile int) {
	g, l := j.g, j.layer
	w := g.flow.values[l.w:][:l.in*l.out]
	switch j.phase {
	case mapGather:
		i0, i1 := strip(tile, l.in)
		for i := i0; i < i1; i++ {
			j.gather(i)
		}
	case mapProduct:
		o0, o1 := strip(tile, l.out)
		kernel.Forward(j.trace.shifted.Data, w, g.flow.values[l.loc:][:l.out], j.trace.patches.Data, l.out, l.in, j.cols, o0, o1, false, nil)
	case mapActivate:
		scale := g.flow.values[l.scale+tile]
		y := j.trace.y.Row(tile)
		for k, v := range j.trace.shifted.Row(tile) {
			y[k] = scale * v
		}
		activation.PReLU(y, y, mapSlope)
		j.clearRest(y)
	case mapActivateBack:
		j.activateBack(tile)
	case mapTurn:
		i0 := tile * turnFeatures
		kernel.Turn(g.turned[i0*j.cols:], j.trace.patches.Data[i0*j.cols:], min(turnFeatures, l.in-i0), j.cols, j.cols)
	case mapWeights:
		o0, o1 := strip(tile, l.out)
		dw := g.values[l.w:][:l.in*l.out]
		kernel.Weights(dw, j.d.Data, g.turned, l.out, l.in, j.cols, j.cols, o0, o1, nil)
		g.squares[l.strip+tile] = optimizer.SumSquares(dw[o0*l.in : o1*l.in])
	case mapInputs:
		i0 := tile * turnFeatures
		kernel.Inputs(j.dpatches.Data, w, j.d.Data, nil, nil, l.out, l.in, j.cols, i0, min(i0+turnFeatures, l.in), false)
	case mapScatter:
		j.scatter(tile)
	}
}

// clearRest clears the columns of samples that nobody asked for.
func (j *mapJob) clearRest(row []float32) {
	g := j.g
	if g.m == g.ld {
		return
	}
	for at := 0; at < len(row); at += g.ld {
		clear(row[at+g.m : at+g.ld])
	}
}

// tap returns where entry i of a patch lies: its channel, and its place from the first pixel of the patch.
func (j *mapJob) tap(i int) (channel, dy, dx int) {
	at := i / j.channels
	return i % j.channels, at/kernelSide - 1, at%kernelSide - 1
}

// inside returns the pixels o of the output, [first, end), whose 2·o + d is a pixel of x.
func (j *mapJob) inside(d int) (first, end int) {
	side := j.layer.side
	return max(0, (1-d)/2), min(side, (2*side-d+1)/2)
}

// gather fills row i of the patches.
func (j *mapJob) gather(i int) {
	side, ld := j.layer.side, j.g.ld
	dst := j.trace.patches.Row(i)
	channel, dy, dx := j.tap(i)
	top, bottom := j.inside(dy)
	left, right := j.inside(dx)
	for y := range side {
		row := dst[y*side*ld:][:side*ld]
		if y < top || y >= bottom {
			clear(row)
			continue
		}
		clear(row[:left*ld])
		clear(row[right*ld:])
		for x := left; x < right; x++ {
			at := channel*j.channel + ((2*y+dy)*2*side+2*x+dx)*j.pixel
			copy(row[x*ld:][:ld], j.x.Data[at:])
		}
	}
}

// scatter adds up the gradient of channel k of x from those of the patches that it is in.
func (j *mapJob) scatter(k int) {
	side, ld := j.layer.side, j.g.ld
	d := j.dx.Row(k)
	clear(d)
	for i := k; i < j.layer.in; i += j.channels {
		_, dy, dx := j.tap(i)
		from := j.dpatches.Row(i)
		top, bottom := j.inside(dy)
		left, right := j.inside(dx)
		for y := top; y < bottom; y++ {
			for x := left; x < right; x++ {
				at := ((2*y+dy)*2*side + 2*x + dx) * ld
				add(d[at:], from[(y*side+x)*ld:][:ld])
			}
		}
	}
}

// activateBack turns row o of j.d from the gradient of y into that of W∗x, and works out those of loc and scale.
func (j *mapJob) activateBack(o int) {
	g, l := j.g, j.layer
	d, scale := j.d.Row(o), g.flow.values[l.scale+o]
	j.clearRest(d)
	var dloc, dscale float32
	for k, v := range j.trace.shifted.Row(o) {
		if scale*v < 0 {
			d[k] *= mapSlope
		}
		dloc += d[k]
		dscale += float32(d[k] * v)
		d[k] *= scale
	}
	g.values[l.loc+o], g.values[l.scale+o] = dloc*scale, dscale
}
