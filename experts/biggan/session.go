package biggan

import (
	"fmt"

	"netfusion/kernels/affine"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// Session is the memory for generating up to a fixed number of images at a time. It serves one caller at a time.
type Session struct {
	// Stage, if set, is shown activations as they are made: "gen_z"; "layers.l.bn_1", "…bn_2" and "…bn_3" after their
	// ReLU and before any upsampling; "layers.l", the output of a block or of the attention; "image". l counts as in
	// the checkpoint. Tensors are NHWC and may be overwritten after the call.
	Stage func(name string, t tensor.Tensor)

	m     *Model
	dev   *tensor.Device
	batch int

	truncation   Truncation // that mean and invStd are of
	mean, invStd []float32  // [channels + Width]

	cond     tensor.Tensor    // [batch][cond]
	linear   tensor.Tensor    // [batch][2·channels]: gains and shifts, linear in cond
	scale    tensor.Tensor    // [batch·channels], for each normalisation [images][C]
	offset   tensor.Tensor    // like scale
	last     tensor.Affine    // [batch][Width]
	streams  [2]tensor.Tensor // inputs and outputs of blocks and of the attention, in turn
	inner    tensor.Tensor    // maps inside a block that cannot be in the stream of its output; queries, keys and values
	attended tensor.Tensor
	pooled   tensor.PooledAttention
	image    tensor.Tensor
}

// NewSession plans the memory for up to batch images on dev, which the Session uses from then on. It panics if batch is
// less than 1.
func (m *Model) NewSession(dev *tensor.Device, batch int) *Session {
	if batch < 1 {
		panic("biggan: a session for no images")
	}
	s := &Session{m: m, dev: dev, batch: batch}
	s.mean, s.invStd = make([]float32, m.channels+m.Width), make([]float32, m.channels+m.Width)
	tensor.Plan(s.layout)
	dev.Reserve(s.scratch())
	m.norms.Reserve(dev, batch)
	m.first.Reserve(dev, batch)
	s.normalise(Truncation{})
	return s
}

// scratch is what each worker needs beside the maps.
func (s *Session) scratch() int {
	m := s.m
	n := m.rgb.Scratch(m.rgb.H, m.rgb.W)
	for i := range m.blocks {
		for k := range m.blocks[i].filters {
			f := &m.blocks[i].filters[k]
			n = max(n, f.Scratch(f.H, f.W))
		}
	}
	if a := m.attention; a != nil {
		n = max(n, a.projections.Scratch(0, 0), a.output.Scratch(0, 0), s.pooled.Scratch())
	}
	return n
}

func (s *Session) layout(a *tensor.Arena) {
	m, n := s.m, s.batch
	s.cond = a.Take(n, m.cond())
	s.linear = a.Take(n, 2*m.channels)
	s.scale, s.offset = a.Take(n, m.channels), a.Take(n, m.channels)
	s.last = tensor.Affine{Scale: a.Take(n, m.Width), Offset: a.Take(n, m.Width)}
	size, pixels := firstSize, n*firstSize*firstSize
	streams, inner := [2]int{pixels * firstMult * m.Width}, 0
	to := 1
	for i := range m.blocks {
		b := &m.blocks[i]
		in := b.In * m.Width
		if m.hasAttention(i) {
			streams[to] = max(streams[to], pixels*in)
			to = 1 - to
			inner = max(inner, pixels*(in/8+in/8+in/2))
			s.attended = a.Take(pixels, in/2)
			s.pooled = tensor.NewPooledAttention(a, m.attention.precision, n, size, size, in/8, in/2)
		}
		if b.Up {
			size, pixels = 2*size, 4*pixels
		}
		inner = max(inner, pixels*in/reduction)
		streams[to] = max(streams[to], pixels*b.Out*m.Width)
		to = 1 - to
	}
	for i := range 2 {
		s.streams[i] = a.Take(1, streams[i])
	}
	s.inner = a.Take(1, inner)
	s.image = a.Take(pixels, 3)
}

// Generate makes one image for each row of z [images][ZDim] and class [images][ClassDim], at most the Session's batch:
// z is drawn from N(0, 1) and multiplied by the truncation; class holds rows of Model.Class, Model.Mix or any others.
// The result, [images·Resolution·Resolution][3] in (-1, 1), is overwritten by the next call.
func (s *Session) Generate(z, class tensor.Tensor, t Truncation) (tensor.Tensor, error) {
	m, n := s.m, z.Rows
	if n < 1 || n > s.batch || class.Rows != n {
		return tensor.Tensor{}, fmt.Errorf("biggan: %d latents and %d classes, wanted as many of each, 1 to %d", n, class.Rows, s.batch)
	}
	if z.Cols != m.ZDim || class.Cols != m.ClassDim {
		return tensor.Tensor{}, fmt.Errorf("biggan: latents of %d and classes of %d values, wanted %d and %d", z.Cols, class.Cols, m.ZDim, m.ClassDim)
	}
	if v := t.value(); !(v > 0 && v <= 1) {
		return tensor.Tensor{}, fmt.Errorf("biggan: truncation %v, wanted above 0 and at most 1", v)
	}
	if t != s.truncation {
		s.normalise(t)
	}
	s.condition(z, class)

	size := firstSize
	x := s.streams[0].Front(n*size*size, firstMult*m.Width)
	m.first.Forward(s.dev, x.Reshape(n, x.Cols*size*size), s.cond.Slice(0, n), matmul.None)
	s.show("gen_z", x)
	to := 1
	for i := range m.blocks {
		b := &m.blocks[i]
		if m.hasAttention(i) {
			x = s.attend(s.streams[to], x, size)
			to = 1 - to
			s.show("layers.%d", x, i)
		}
		x, size = s.block(b, s.streams[to], x, n, size, m.key(i))
		to = 1 - to
	}
	last := tensor.Affine{Scale: s.last.Scale.Slice(0, n), Offset: s.last.Offset.Slice(0, n)}
	image := s.image.Slice(0, n*size*size)
	s.dev.Conv(image, x, size, size, &m.rgb, tensor.ConvEpilogue{Before: last, Bias: m.rgbBias, Act: matmul.Tanh})
	s.show("image", image)
	return image, nil
}

// normalise prepares the statistics of truncation t, and the last normalisation.
func (s *Session) normalise(t Truncation) {
	m := s.m
	m.statistics(s.mean, s.invStd, t)
	s.truncation = t
	mean, invStd := s.mean[m.channels:], s.invStd[m.channels:]
	for i := range s.batch {
		lastNorm(s.last.Scale.Row(i), s.last.Offset.Row(i), m.gain, m.shift, mean, invStd)
	}
}

// lastNorm folds the last normalisation, which depends on nothing but the truncation.
func lastNorm(scale, offset, gain, shift, mean, invStd []float32) {
	for j := range scale {
		scale[j] = gain[j] * invStd[j]
		offset[j] = shift[j] - float32(mean[j]*scale[j])
	}
}

// condition joins z and class, and computes what the normalisations of all blocks multiply by and add.
func (s *Session) condition(z, class tensor.Tensor) {
	m, n := s.m, z.Rows
	cond, linear := s.cond.Slice(0, n), s.linear.Slice(0, n)
	for i := range n {
		copy(cond.Row(i), z.Row(i))
		copy(cond.Row(i)[m.ZDim:], class.Row(i))
	}
	s.dev.MatMul(linear, cond, m.norms, matmul.Epilogue{})
	for b := range m.blocks {
		for _, norm := range m.blocks[b].norms {
			a, at, c := s.affine(norm, n), norm.at, norm.channels
			for i := range n {
				scale, offset := a.Scale.Row(i), a.Offset.Row(i)
				copy(scale, linear.Row(i)[at:][:c])
				copy(offset, linear.Row(i)[m.channels+at:][:c])
				affine.Fold(scale, offset, s.mean[at:][:c], s.invStd[at:][:c], m.biases[at:][:c])
			}
		}
	}
}

// affine is the place of one normalisation of n images.
func (s *Session) affine(b norm, n int) tensor.Affine {
	at, size := b.at*s.batch, n*b.channels
	return tensor.Affine{
		Scale:  tensor.Of(n, b.channels, s.scale.Data[at:][:size]),
		Offset: tensor.Of(n, b.channels, s.offset.Data[at:][:size]),
	}
}

// block computes block b from x, n maps of size×size pixels, into the stream to; it returns the result and its size.
func (s *Session) block(b *block, to, x tensor.Tensor, n, size, key int) (tensor.Tensor, int) {
	mid := b.In * s.m.Width / reduction
	f := &b.filters

	h := s.inner.Front(x.Rows, mid)
	s.dev.Conv(h, x, size, size, &f[0], tensor.ConvEpilogue{Before: s.affine(b.norms[0], n), After: s.affine(b.norms[1], n)})
	s.show("layers.%d.bn_1", h, key)

	large := size
	if b.Up {
		large *= 2
	}
	pixels := n * large * large
	g := to.Front(pixels, mid) // gone when the output of the block is made
	s.dev.Conv(g, h, size, size, &f[1], tensor.ConvEpilogue{After: s.affine(b.norms[2], n)})
	s.show("layers.%d.bn_2", g, key)

	h = s.inner.Front(pixels, mid)
	s.dev.Conv(h, g, large, large, &f[2], tensor.ConvEpilogue{After: s.affine(b.norms[3], n)})
	s.show("layers.%d.bn_3", h, key)

	y := to.Front(pixels, b.Out*s.m.Width)
	s.dev.Conv(y, h, large, large, &f[3], tensor.ConvEpilogue{Bias: b.bias, Skip: x, SkipUp: b.Up})
	s.show("layers.%d", y, key)
	return y, large
}

// attend adds self-attention to x, maps of size×size pixels, into the stream to.
func (s *Session) attend(to, x tensor.Tensor, size int) tensor.Tensor {
	a, y := s.m.attention, to.Front(x.Rows, x.Cols)
	projected, attended := s.inner.Front(x.Rows, x.Cols/8+x.Cols/8+x.Cols/2), s.attended.Slice(0, x.Rows)
	s.dev.Conv(projected, x, size, size, &a.projections, tensor.ConvEpilogue{})
	s.dev.PooledAttention(attended, projected, &s.pooled)
	s.dev.Conv(y, attended, size, size, &a.output, tensor.ConvEpilogue{Skip: x})
	return y
}

func (s *Session) show(name string, t tensor.Tensor, layer ...int) {
	if s.Stage == nil {
		return
	}
	for _, l := range layer {
		name = fmt.Sprintf(name, l)
	}
	s.Stage(name, t)
}
