package biggan

import (
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// Generate records in q the images of x [images][ZDim+ClassDim], a latent times the truncation and a class embedding each, side by
// side. pixels [images·Resolution·Resolution] gets red, green, blue and 255 as bytes of one word.
func (m *GPUModel) Generate(q *tensor.Queue, pixels tensor.Array[uint32], x tensor.Buffer) {
	if x.Cols != m.cond() || pixels.Len != x.Rows*m.Resolution*m.Resolution {
		panic("biggan: conditions or pixels of another shape")
	}
	s := m.take(q, x.Rows)
	s.condition(x)
	for i := range m.blocks {
		if m.hasAttention(i) {
			s.attend(i)
		}
		s.block(i)
	}
	q.ConvPixels(pixels, s.normed, m.Resolution, m.Resolution, &m.rgb, tensor.GPUConvEpilogue{
		GPUEpilogue: tensor.GPUEpilogue{Bias: m.rgbBias, Act: matmul.Tanh, Ahead: s.ahead.Multiply()}})
}

// gpuState is a Generate under way, and its memory.
type gpuState struct {
	*GPUModel
	q      *tensor.Queue
	images int
	linear tensor.Buffer // [images][2·channels]: scales and offsets of all normalisations
	ahead  tensor.Ahead

	x       tensor.Buffer // the map under way, float32
	normed  tensor.Buffer // the same, normalised for the convolution that follows
	streams [2][2]slab    // of x and normed, in turn
	turn    int
	inner   [2]slab // maps inside of a block, in turn
}

// slab is memory for one map at a time.
type slab struct {
	at    tensor.DevicePtr
	bytes int
}

// view is a matrix in the slab's memory.
func (s slab) view(p tensor.Precision, rows, cols int) tensor.Buffer {
	if rows*cols*valueBytes(p) > s.bytes {
		panic("biggan: a map that does not fit its memory")
	}
	return tensor.Buffer{Ptr: s.at, Rows: rows, Cols: cols, Ld: cols, Precision: p}
}

// valueBytes is the size of a map's values.
func valueBytes(p tensor.Precision) int {
	if p == tensor.F32 {
		return 4
	}
	return 2
}

// take takes memory for so many images.
func (m *GPUModel) take(q *tensor.Queue, images int) *gpuState {
	s := &gpuState{GPUModel: m, q: q, images: images, linear: q.Take(images, 2*m.channels), ahead: m.g.NewAhead(m.weights)}
	x, normed, inner := 0, 0, 0
	room := func(bytes *int, p tensor.Precision, rows, cols int) { *bytes = max(*bytes, rows*cols*valueBytes(p)) }
	for i := range m.blocks {
		b := &m.blocks[i]
		f, pixels := &b.filters, b.pixels(images)
		room(&x, tensor.F32, pixels, f[0].In)
		room(&normed, b.precision, pixels, f[0].In)
		room(&inner, b.precision, pixels*b.grows(), f[0].Out)
		if m.hasAttention(i) {
			room(&inner, tensor.F32, pixels, m.attention.projections.Out)
		}
		if i == len(m.blocks)-1 {
			room(&normed, m.rgbPrecision, pixels*b.grows(), f[3].Out)
		}
	}
	get := func(bytes int) slab { return slab{tensor.TakeArray[uint8](q, bytes).Ptr, bytes} }
	for i := range 2 {
		s.streams[i] = [2]slab{get(x), get(normed)}
		s.inner[i] = get(inner)
	}
	return s
}

// pixels is how many b's input has, and grows how many times as many its output.
func (b *gpuBlock) pixels(images int) int { return images * b.size * b.size }

func (b *gpuBlock) grows() int {
	if b.up {
		return 4
	}
	return 1
}

// affine is one normalisation, of each image.
func (s *gpuState) affine(n norm) tensor.GPUAffine {
	at := s.channels + n.at
	return tensor.GPUAffine{Scale: s.linear.Columns(n.at, n.at+n.channels), Offset: s.linear.Columns(at, at+n.channels)}
}

// condition computes what all normalisations multiply by and add, and the first map.
func (s *gpuState) condition(x tensor.Buffer) {
	q, first := s.q, &s.blocks[0]
	q.MatMul(s.linear, x, s.norms, tensor.GPUEpilogue{Ahead: s.ahead.Multiply()})
	q.Fold(s.linear.Columns(0, s.channels), s.linear.Columns(s.channels, 2*s.channels), s.mean, s.invStd, s.biases)
	rows, cols := first.pixels(s.images), first.filters[0].In
	s.x = s.streams[0][0].view(tensor.F32, rows, cols)
	q.MatMul(s.x.Reshape(s.images, rows/s.images*cols), x, s.first.W, tensor.GPUEpilogue{Bias: s.first.Bias, Ahead: s.ahead.Multiply()})
	if !s.hasAttention(0) {
		s.normed = s.streams[0][1].view(first.precision, rows, cols)
		q.ReLUAffine(s.normed, s.x, s.affine(first.norms[0]))
	}
}

// block computes block i from s.x and s.normed.
func (s *gpuState) block(i int) {
	b := &s.blocks[i]
	size, rows := b.size, b.pixels(s.images)
	h := s.inside(0, b, size, rows, s.normed)
	if b.up {
		size, rows = 2*size, 4*rows
	}
	g := s.inside(1, b, b.size, rows, h)
	h = s.inside(2, b, size, rows, g)

	e := tensor.GPUConvEpilogue{Skip: s.x, SkipUp: b.up}
	e.Bias = b.bias
	p, norm := s.rgbPrecision, s.last
	last := i == len(s.blocks)-1
	if !last {
		next := &s.blocks[i+1]
		p, norm = next.precision, s.affine(next.norms[0])
	}
	s.leave(h, size, rows, &b.filters[3], e, !last, !s.hasAttention(i+1), p, norm)
}

// inside computes what convolution k of a block, which reads maps of size×size pixels, leaves for the one that follows.
func (s *gpuState) inside(k int, b *gpuBlock, size, rows int, x tensor.Buffer) tensor.Buffer {
	f := &b.filters[k]
	to := s.inner[k%2].view(b.precision, rows, f.Out)
	s.q.Conv(tensor.Buffer{}, x, size, size, f, tensor.GPUConvEpilogue{GPUEpilogue: tensor.GPUEpilogue{
		After: s.affine(b.norms[k+1]), Next: tensor.GPUNext{To: to}, Ahead: s.ahead.Multiply()}})
	return to
}

// leave computes f of x, maps of size×size pixels, as the map under way: plain and normalised in precision p, either if wanted.
func (s *gpuState) leave(x tensor.Buffer, size, rows int, f *tensor.GPUFilter, e tensor.GPUConvEpilogue, plain, normed bool,
	p tensor.Precision, norm tensor.GPUAffine) {
	s.turn = 1 - s.turn
	s.x, s.normed = tensor.Buffer{}, tensor.Buffer{}
	if plain {
		s.x = s.streams[s.turn][0].view(tensor.F32, rows, f.Out)
	}
	if normed {
		s.normed = s.streams[s.turn][1].view(p, rows, f.Out)
		e.Next = tensor.GPUNext{To: s.normed, Norm: norm}
	}
	e.Ahead = s.ahead.Multiply()
	s.q.Conv(s.x, x, size, size, f, e)
}

// attend adds self-attention to s.x, and normalises it for block i.
func (s *gpuState) attend(i int) {
	a, b, x := s.attention, &s.blocks[i], s.x
	projected := s.inner[0].view(tensor.F32, x.Rows, a.projections.Out)
	s.q.Conv(projected, x, b.size, b.size, &a.projections, tensor.GPUConvEpilogue{GPUEpilogue: tensor.GPUEpilogue{Ahead: s.ahead.Multiply()}})
	attended := s.inner[1].view(tensor.F32, x.Rows, a.output.In)
	s.q.PooledAttention(attended, projected, b.size, b.size, x.Cols/8, a.precision)
	s.leave(attended, b.size, x.Rows, &a.output, tensor.GPUConvEpilogue{Skip: x}, true, true, b.precision, s.affine(b.norms[0]))
}
