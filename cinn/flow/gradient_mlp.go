package flow

import (
	"netfusion/kernels/activation"
	kernel "netfusion/kernels/dense"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// mlpTrace is what a forward pass through an mlp leaves for the way back: one entry per hidden layer.
type mlpTrace struct {
	hidden []tensor.Tensor // [width][ld], after activation and dropout
	xhat   []tensor.Tensor // [width][ld], normalised; empty without norms
	rstd   [][]float32     // 1/σ of each feature or each sample; empty without norms
	mask   []tensor.Tensor // [width][ld], 0 or 1/(1-p); empty without dropout
}

func (n *mlp) trace(a *tensor.Arena, g *Gradient) (t mlpTrace) {
	for i := range len(n.layers) - 1 {
		width := n.layers[i].out
		t.hidden = append(t.hidden, a.Take(width, g.ld))
		if n.norms != nil {
			t.xhat = append(t.xhat, a.Take(width, g.ld))
			t.rstd = append(t.rstd, a.Take(1, max(width, g.ld)).Data)
		}
		if g.regularisation.Dropout > 0 {
			t.mask = append(t.mask, a.Take(width, g.ld))
		}
	}
	return t
}

// forward computes y [out][ld] from x [in][ld] and leaves in t what backward needs.
func (n *mlp) forward(g *Gradient, y, x tensor.Tensor, t *mlpTrace) {
	for i := range n.layers {
		l := &n.layers[i]
		j := &g.layer
		*j = layerJob{g: g, layer: l, phase: layerForward, x: x, y: y}
		if i < len(n.layers)-1 {
			j.y = t.hidden[i]
			if t.mask != nil && !g.frozen {
				j.mask, j.stream = t.mask[i], dropoutStream|n.id<<4|uint32(i)
			}
			if n.norms != nil {
				dropped := *j
				j.y, j.mask = t.xhat[i], tensor.Tensor{}
				g.dev.Run(j, strips(l.out))
				n.norms[i].normalise(g, t.hidden[i], t.xhat[i], t.rstd[i])
				*j = dropped
				j.phase = layerActivate
			}
			j.leaky = true
		}
		g.dev.Run(j, strips(l.out))
		x = j.y
	}
}

// backward writes the gradients of all parameters, and dx [in][ld] unless dx is empty, from dy [out][ld] and what forward left in
// t; with add it adds to dx.
func (n *mlp) backward(g *Gradient, dx, dy, x tensor.Tensor, t *mlpTrace, add bool) {
	for i := len(n.layers) - 1; i >= 0; i-- {
		j := &g.layer
		*j = layerJob{g: g, layer: &n.layers[i], phase: layerBack, x: x, y: dy, dx: dx, add: add}
		if i > 0 {
			j.x, j.dx, j.add = t.hidden[i-1], g.hidden[i%2].Front(j.layer.in, g.ld), false
			j.leaky = true
			if t.mask != nil {
				j.mask = t.mask[i-1]
			}
		}
		j.split()
		g.dev.Run(j, j.turns+j.across)
		if i > 0 && n.norms != nil {
			back := *j
			n.norms[i-1].backward(g, j.dx, t.xhat[i-1], t.rstd[i-1])
			*j = back
		}
		j.phase = layerWeights
		g.dev.Run(j, strips(j.layer.out))
		dy = j.dx
	}
}

// layerJob is a linear layer, some of its features to a tile.
type layerJob struct {
	g     *Gradient
	layer *dense
	phase layerPhase

	x, y, dx tensor.Tensor // [in][ld], [out][ld], [in][ld]; on the way back y is its gradient
	leaky    bool          // forwards: LeakyReLU follows the layer; backwards: it precedes it
	mask     tensor.Tensor // of the dropout beside that, or empty
	stream   uint32        // of the mask
	add      bool          // to dx

	turns, across, cols int // tiles that turn x, and tiles of dx with so many features
}

type layerPhase uint8

const (
	layerForward  layerPhase = iota // x → y
	layerActivate                   // LeakyReLU and dropout of y, where a norm stands before them
	layerBack                       // ∂y → ∂x, and x as the last phase reads it
	layerWeights                    // ∂y, x → ∂W, ∂b
)

// turnFeatures is how many features a turned x has side by side.
const turnFeatures = 64

// split cuts what layerBack does into tiles; it may depend on the number of workers, since it does not change the result.
func (j *layerJob) split() {
	const widest = 1024 // so that a tile's part of ∂x and of W stays in the second-level cache
	in, workers := j.layer.in, j.g.dev.Workers()
	j.turns = (in + turnFeatures - 1) / turnFeatures
	if j.dx.Data == nil {
		return
	}
	parts := (in + widest - 1) / widest
	if workers > 1 {
		parts = max(parts, 2*workers)
	}
	j.cols = ((in+parts-1)/parts + kernel.Width - 1) / kernel.Width * kernel.Width
	j.across = (in + j.cols - 1) / j.cols
}

func (j *layerJob) Tile(tile int) {
	g, l := j.g, j.layer
	w, b := g.flow.values[l.w:][:l.in*l.out], g.flow.values[l.b:][:l.out]
	ld := g.ld
	switch j.phase {
	case layerForward:
		o0, o1 := strip(tile, l.out)
		kernel.Forward(j.y.Data, w, b, j.x.Data, l.out, l.in, ld, o0, o1, j.leaky, g.ahead(g.flow.values, l, o0, o1))
		if j.mask.Data != nil {
			j.drop(o0, o1)
		}
	case layerActivate:
		o0, o1 := strip(tile, l.out)
		h := j.y.Data[o0*ld : o1*ld]
		activation.LeakyReLU(h, h)
		if j.mask.Data != nil {
			j.drop(o0, o1)
		}
	case layerBack:
		if tile < j.turns {
			i0 := tile * turnFeatures
			kernel.Turn(g.turned[i0*g.m:], j.x.Data[i0*ld:], min(turnFeatures, l.in-i0), ld, g.m)
			return
		}
		i0 := (tile - j.turns) * j.cols
		i1 := min(i0+j.cols, l.in)
		var h []float32
		if j.leaky {
			h = j.x.Data
		}
		kernel.Inputs(j.dx.Data, w, j.y.Data, h, j.mask.Data, l.out, l.in, ld, i0, i1, j.add)
	case layerWeights:
		o0, o1 := strip(tile, l.out)
		dw, db := g.values[l.w:][:l.in*l.out], g.values[l.b:][:l.out]
		kernel.Weights(dw, j.y.Data, g.turned, l.out, l.in, ld, g.m, o0, o1, false, g.ahead(g.values, l, o0, o1))
		for o := o0; o < o1; o++ {
			db[o] = sum(j.y.Row(o)[:g.m])
		}
		g.squares[l.strip+tile] = optimizer.SumSquares(dw[o0*l.in : o1*l.in]) // while they are in the cache
	}
}

// ahead is the part of values that a worker comes to next, most likely, when it is done with outputs o0 to o1 of l: as many strips
// further as there are workers. After the last output of a layer lies the next layer.
func (g *Gradient) ahead(values []float32, l *dense, o0, o1 int) []float32 {
	from := min(l.w+(o0+stripRows*g.dev.Workers())*l.in, len(values))
	return values[from:min(from+(o1-o0)*l.in, len(values))]
}

// drop applies a fresh mask to features o0 to o1 of y; it is indexed by step, feature and sample.
func (j *layerJob) drop(o0, o1 int) {
	g := j.g
	cut := uint32(g.regularisation.Dropout * 256)
	for o := o0; o < o1; o++ {
		random.Dropout(j.y.Row(o), j.mask.Row(o), cut, g.seed, j.stream, g.step<<16|uint64(o))
	}
}

// sum adds up x in four interleaved sums.
func sum(x []float32) float32 {
	var s0, s1, s2, s3 float32
	for ; len(x) >= 4; x = x[4:] {
		s0, s1, s2, s3 = s0+x[0], s1+x[1], s2+x[2], s3+x[3]
	}
	for _, v := range x {
		s0 += v
	}
	return (s0 + s1) + (s2 + s3)
}
