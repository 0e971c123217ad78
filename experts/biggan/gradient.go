package biggan

import (
	"fmt"

	"netfusion/kernels/matmul"
	"netfusion/nn"
	"netfusion/tensor"
)

// Gradient draws one image and works its way back from it to what it was drawn from, by hand: from the gradient of a loss with
// respect to the pixels to that with respect to z and to the class embedding. The weights stay as they are. It keeps what each
// normalisation read: no more is needed, since a convolution's input matters to its weights' gradient only. A Gradient serves one
// goroutine at a time; a step allocates nothing.
type Gradient struct {
	s *Session // its condition and normalisations; its maps and its image are used, too

	norms, first tensor.Weight // transposed: [cond][2·channels], [cond][4·4·16·Width]
	blocks       [][4]tensor.Filter
	attention    *attentionGradient // nil without attention
	rgb          tensor.Filter

	inputs  []tensor.Tensor    // of each block
	convs   [][3]tensor.Tensor // of each block, what the first three convolutions leave
	last    tensor.Tensor      // what the last normalisation reads
	work    [2]tensor.Tensor   // gradients inside a block, or a map on the way forward
	stream  [2]tensor.Tensor   // of the inputs and outputs of blocks, in turn
	pixels  tensor.Tensor      // before the tanh
	dlinear tensor.Tensor      // [1][2·channels], of gains and shifts
	dcond   tensor.Tensor      // [1][cond]
	unused  []float32          // [2·Width], sums that the last normalisation has no use for

	gate gateJob
	fold foldJob
}

// NewGradient returns a Gradient of m, whose weights it reads again from s, where m came from: the way back multiplies with their
// transposes, in float32.
func NewGradient(s nn.Source, m *Model, dev *tensor.Device) (*Gradient, error) {
	g := &Gradient{s: m.NewSession(dev, 1)}
	w := nn.Load(s)
	cond := m.cond()
	g.norms = transposed(cond, w.F32("norms.scale.weight", m.channels, cond), w.F32("norms.offset.weight", m.channels, cond))
	g.first = transposed(cond, w.F32("gen_z.weight", 16*firstMult*m.Width, cond))
	size := firstSize
	for i, l := range m.Layers {
		b := w.In(fmt.Sprintf("blocks.%d", i))
		var filters [4]tensor.Filter
		for k, shape := range m.shapes(l, size) {
			filters[k] = adjoint(b, fmt.Sprintf("conv_%d", k), shape)
		}
		g.blocks = append(g.blocks, filters)
		if m.hasAttention(i) {
			g.attention = newAttentionGradient(w.In("attention"), l.In*m.Width, size)
		}
		if l.Up {
			size *= 2
		}
	}
	g.rgb = adjoint(w, "conv_to_rgb", m.Config.rgb())
	if err := w.Err(); err != nil {
		return nil, err
	}
	g.unused = make([]float32, 2*m.Width)
	g.convs, g.inputs = make([][3]tensor.Tensor, len(m.blocks)), make([]tensor.Tensor, len(m.blocks))
	tensor.Plan(g.layout)
	g.reserve(dev)
	return g, nil
}

// transposed packs the transpose of matrices [n][k], one below the other: [k][Σ n].
func transposed(k int, matrices ...[]float32) tensor.Weight {
	n := 0
	for _, m := range matrices {
		if m == nil {
			return tensor.Weight{}
		}
		n += len(m) / k
	}
	t, at := make([]float32, k*n), 0
	for _, m := range matrices {
		for i := 0; i < len(m); i += k {
			for j, v := range m[i : i+k] {
				t[j*n+at] = v
			}
			at++
		}
	}
	return tensor.NewWeight(t, k, n)
}

// adjoint reads the filter name.weight as the way back convolves with it: inputs and outputs change places, and the window turns
// round. Where the convolution upsamples, this one reads the large map.
func adjoint(w nn.Weights, name string, s tensor.ConvShape) tensor.Filter {
	if s.Size == 1 {
		v := w.F32(name+".weight", s.Out, s.In)
		if v == nil {
			return tensor.Filter{}
		}
		return tensor.PointFilter(transposed(s.In, v))
	}
	v := w.F32(name+".weight", s.Out, 3, 3, s.In)
	if v == nil {
		return tensor.Filter{}
	}
	turned := make([]float32, len(v))
	for o := range s.Out {
		for tap := range 9 {
			for i := range s.In {
				turned[(i*9+8-tap)*s.Out+o] = v[(o*9+tap)*s.In+i]
			}
		}
	}
	if s.Up {
		s.Up, s.H, s.W = false, 2*s.H, 2*s.W
	}
	s.Out, s.In = s.In, s.Out
	return tensor.NewFilter(tensor.F32, turned, s)
}

func (g *Gradient) layout(a *tensor.Arena) {
	m := g.s.m
	size, stream, work, sums := firstSize, 0, 0, 0
	for i, b := range m.blocks {
		in, mid, large := b.In*m.Width, b.In*m.Width/reduction, size
		if b.Up {
			large *= 2
		}
		if m.hasAttention(i) {
			g.attention.layout(a)
			stream = max(stream, size*size*in)
		}
		g.inputs[i] = a.Take(size*size, in)
		g.convs[i] = [3]tensor.Tensor{a.Take(size*size, mid), a.Take(large*large, mid), a.Take(large*large, mid)}
		stream = max(stream, size*size*in, large*large*b.Out*m.Width)
		work = max(work, large*large*mid)
		sums = max(sums, gateSums(size*size, in), gateSums(large*large, mid))
		size = large
	}
	g.last = a.Take(size*size, m.Width)
	for i := range 2 {
		g.work[i], g.stream[i] = a.Take(1, work), a.Take(1, stream)
	}
	g.pixels = a.Take(size*size, 3)
	g.dlinear, g.dcond = a.Take(1, 2*m.channels), a.Take(1, m.cond())
	g.gate.sums = a.Take(1, max(sums, gateSums(size*size, m.Width)))
}

func (g *Gradient) reserve(dev *tensor.Device) {
	m, size := g.s.m, firstSize
	for i := range g.blocks {
		if m.blocks[i].Up {
			size *= 2
		}
		for k := range g.blocks[i] {
			f := &g.blocks[i][k]
			dev.Reserve(f.Scratch(size, size))
		}
	}
	dev.Reserve(g.rgb.Scratch(size, size))
	if g.attention != nil {
		dev.Reserve(g.attention.scratch())
	}
}

// Forward draws the image of z [ZDim] and class [ClassDim], [Resolution·Resolution][3] in (-1, 1), as Session.Generate does up to
// rounding, and keeps what Backward needs. The result is overwritten by the next call.
func (g *Gradient) Forward(z, class []float32, t Truncation) tensor.Tensor {
	s, m := g.s, g.s.m
	if t != s.truncation {
		s.normalise(t)
	}
	s.condition(tensor.Of(1, m.ZDim, z), tensor.Of(1, m.ClassDim, class))
	size := firstSize
	x := g.input(0)
	m.first.Forward(s.dev, x.Reshape(1, len(x.Data)), s.cond, matmul.None)
	for i := range m.blocks {
		b, f, c := &m.blocks[i], &m.blocks[i].filters, &g.convs[i]
		if m.hasAttention(i) {
			g.attention.forward(s, g.inputs[i], x, size)
			x = g.inputs[i]
		}
		s.dev.Conv(c[0], x, size, size, &f[0], tensor.ConvEpilogue{Before: s.affine(b.norms[0], 1)})
		h := g.work[0].Front(c[0].Rows, c[0].Cols)
		s.dev.ReLUAffine(h, c[0], s.affine(b.norms[1], 1))
		s.dev.Conv(c[1], h, size, size, &f[1], tensor.ConvEpilogue{})
		if b.Up {
			size *= 2
		}
		h = g.work[0].Front(c[1].Rows, c[1].Cols)
		s.dev.ReLUAffine(h, c[1], s.affine(b.norms[2], 1))
		s.dev.Conv(c[2], h, size, size, &f[2], tensor.ConvEpilogue{})
		s.dev.ReLUAffine(h, c[2], s.affine(b.norms[3], 1))
		y := g.input(i + 1)
		s.dev.Conv(y, h, size, size, &f[3], tensor.ConvEpilogue{Bias: b.bias, Skip: x, SkipUp: b.Up})
		x = y
	}
	image := s.image
	s.dev.Conv(image, x, size, size, &m.rgb, tensor.ConvEpilogue{Before: s.last, Bias: m.rgbBias, Act: matmul.Tanh})
	return image
}

// input is where the output of what comes before block i goes: the attention's input, or the block's, or the last normalisation's.
func (g *Gradient) input(i int) tensor.Tensor {
	switch {
	case i == len(g.inputs):
		return g.last
	case g.s.m.hasAttention(i):
		return g.attention.input
	}
	return g.inputs[i]
}

// Backward computes from dimage, the gradient of a loss with respect to the image that Forward drew last, those with respect to its
// z [ZDim] and to its class embedding [ClassDim]. They are overwritten by the next call.
func (g *Gradient) Backward(dimage tensor.Tensor) (dz, dclass []float32) {
	s, m := g.s, g.s.m
	size := m.Resolution
	for i, v := range s.image.Data {
		g.pixels.Data[i] = dimage.Data[i] * (1 - float32(v*v))
	}
	to := 0
	dy := g.stream[to].Front(size*size, m.Width)
	s.dev.Conv(dy, g.pixels, size, size, &g.rgb, tensor.ConvEpilogue{})
	g.pass(dy, g.last, s.last, g.unused[:m.Width], g.unused[m.Width:])
	for i := len(m.blocks) - 1; i >= 0; i-- {
		b := &m.blocks[i]
		to = 1 - to
		dx := g.stream[to].Front(g.inputs[i].Rows, g.inputs[i].Cols)
		size = g.block(i, dx, dy, size)
		dy = dx
		if m.hasAttention(i) {
			to = 1 - to
			dx = g.stream[to].Front(dy.Rows, dy.Cols)
			g.attention.backward(s, dx, dy, size)
			dy = dx
		}
		for _, n := range b.norms {
			g.unfold(n)
		}
	}
	s.dev.MatMul(g.dcond, g.dlinear, g.norms, matmul.Epilogue{})
	s.dev.MatMul(g.dcond, dy.Reshape(1, len(dy.Data)), g.first, matmul.Epilogue{Residual: g.dcond.Data, LdRes: g.dcond.Cols})
	return g.dcond.Data[:m.ZDim], g.dcond.Data[m.ZDim:]
}

// block works back through block i, from dy, the gradient of its output of size×size pixels, to dx; it returns the size of dx.
func (g *Gradient) block(i int, dx, dy tensor.Tensor, size int) int {
	s, b, f, c := g.s, &g.s.m.blocks[i], &g.blocks[i], &g.convs[i]
	mid := c[0].Cols
	d := g.work[0].Front(size*size, mid)
	s.dev.Conv(d, dy, size, size, &f[3], tensor.ConvEpilogue{})
	g.norm(d, c[2], b.norms[3])
	e := g.work[1].Front(size*size, mid)
	s.dev.Conv(e, d, size, size, &f[2], tensor.ConvEpilogue{})
	g.norm(e, c[1], b.norms[2])
	s.dev.Conv(d, e, size, size, &f[1], tensor.ConvEpilogue{})
	skip := dy
	if b.Up {
		size /= 2
		small := g.work[1].Front(size*size, mid)
		g.halve(small, d, size, false)
		d = small
	}
	g.norm(d, c[0], b.norms[1])
	s.dev.Conv(dx, d, size, size, &f[0], tensor.ConvEpilogue{})
	g.norm(dx, g.inputs[i], b.norms[0])
	if b.Up {
		g.halve(dx, skip, size, true)
		return size
	}
	for p := range dx.Rows { // the skip takes the first channels
		row := dx.Row(p)
		for j, v := range skip.Row(p) {
			row[j] += v
		}
	}
	return size
}

// norm works back through one of a block's normalisations and its ReLU: see pass.
func (g *Gradient) norm(d, x tensor.Tensor, n norm) {
	g.pass(d, x, g.s.affine(n, 1), g.dlinear.Data[n.at:][:n.channels], g.dlinear.Data[g.s.m.channels+n.at:][:n.channels])
}

// unfold turns the gradients of a folded scale and offset, which are in dlinear, into those of the gain and the shift: see
// affine.Fold.
func (g *Gradient) unfold(n norm) {
	m := g.s.m
	gain, shift := g.dlinear.Data[n.at:][:n.channels], g.dlinear.Data[m.channels+n.at:][:n.channels]
	for i, d := range shift {
		centre := g.s.mean[n.at+i] - m.biases[n.at+i]
		gain[i] = (gain[i] - float32(centre*d)) * g.s.invStd[n.at+i]
	}
}
