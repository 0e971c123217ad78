package biggan

import (
	"fmt"

	"netfusion/nn"
	"netfusion/tensor"
)

// LoadGPU is Load onto a GPU, for images of truncation t. Convolutions of an Int8 model are in bfloat16.
func LoadGPU(s nn.Source, cfg Config, p tensor.Precision, t Truncation, g *tensor.GPU) (*GPUModel, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Origin(), err)
	}
	if v := t.value(); !(v > 0 && v <= 1) {
		return nil, fmt.Errorf("biggan: truncation %v, wanted above 0 and at most 1", v)
	}
	m := &GPUModel{Config: cfg, g: g, rgbPrecision: ofMaps(p)}
	l := gpuLoader{nn.Load(s), g, p}
	l.w.Raw("classes.weight", cfg.Classes, cfg.ClassDim) // what the model gets is embeddings
	l.normalisations(m, t)
	l.first(m)
	l.blocks(m)
	rgb := cfg.rgb()
	m.rgb = l.filter(l.w, "conv_to_rgb", rgb, rgb.Out, m.rgbPrecision)
	m.rgbBias = tensor.Put(g, l.w.F32("conv_to_rgb.bias", rgb.Out))
	if err := g.Err(); err != nil {
		l.w.Fail(err)
	}
	if err := complete(l.w, s); err != nil {
		return nil, err
	}
	m.order()
	return m, nil
}

// order lists the weights as Generate multiplies them.
func (m *GPUModel) order() {
	m.weights = []tensor.GPUWeight{m.norms, m.first.W}
	for i := range m.blocks {
		if m.hasAttention(i) {
			m.weights = append(m.weights, m.attention.projections.Weights(), m.attention.output.Weights())
		}
		for k := range m.blocks[i].filters {
			m.weights = append(m.weights, m.blocks[i].filters[k].Weights())
		}
	}
	m.weights = append(m.weights, m.rgb.Weights())
}

// channelUnit is what the channels of a map are a multiple of, so that pixels of bfloat16 begin at multiples of 16 bytes.
const channelUnit = 8

func padded(channels int) int { return (channels + channelUnit - 1) / channelUnit * channelUnit }

// ofMaps is the precision of maps in a part of the model that is in precision p.
func ofMaps(p tensor.Precision) tensor.Precision { return min(p, tensor.BF16) }

// gpuLoader reads a checkpoint onto a GPU, with padded channels. What is read after a failure is not used.
type gpuLoader struct {
	w nn.Weights
	g *tensor.GPU
	p tensor.Precision // of the model
}

// rows uploads the matrices name.weight [·][in], one below the other, in precision p: row i is their row from[i], or zeros where that
// is negative.
func (l *gpuLoader) rows(w nn.Weights, p tensor.Precision, in int, from []int, parts ...part) tensor.GPUWeight {
	var matrices []nn.Matrix
	for _, p := range parts {
		matrices = append(matrices, w.Matrix(p.name+".weight", p.rows, in))
	}
	if w.Err() != nil {
		return tensor.GPUWeight{}
	}
	return l.g.NewWeightFrom(p, len(from), in, func(dst []float32, i int) {
		clear(dst)
		for ; len(dst) > 0; dst, i = dst[in:], i+1 {
			row := from[i]
			if row < 0 {
				continue
			}
			for _, m := range matrices {
				if row < m.Rows {
					m.Read(dst[:in], row)
					break
				}
				row -= m.Rows
			}
		}
	})
}

// spread returns n values, zeros but for v's: value i of v is the one of which from is i.
func spread(v []float32, from []int) []float32 {
	dst := make([]float32, len(from))
	for i, j := range from {
		if j >= 0 && j < len(v) {
			dst[i] = v[j]
		}
	}
	return dst
}

// widen appends n channels from the one on that follows those in from, and such as are always 0.
func widen(from []int, first, n int) []int {
	for i := range padded(n) {
		if i < n {
			from = append(from, first+i)
		} else {
			from = append(from, -1)
		}
	}
	return from
}

// normalisations reads all that they multiply by and add.
func (l *gpuLoader) normalisations(m *GPUModel, t Truncation) {
	norms, channels := m.Config.norms()
	var from []int
	biases := make([]float32, channels)
	m.blocks = make([]gpuBlock, len(norms))
	for i, block := range norms {
		w := l.w.In(fmt.Sprintf("blocks.%d", i))
		for k, n := range block {
			m.blocks[i].norms[k] = norm{len(from), padded(n.channels)}
			from = widen(from, n.at, n.channels)
			if k > 0 {
				copy(biases[n.at:], w.F32(fmt.Sprintf("conv_%d.bias", k-1), n.channels))
			}
		}
	}
	m.channels = len(from)
	both := from
	for _, i := range from {
		if i >= 0 {
			i += channels
		}
		both = append(both, i)
	}
	m.norms = l.rows(l.w.In("norms"), tensor.F32, m.cond(), both, part{"scale", channels}, part{"offset", channels})

	r := readRecorded(l.w, &m.Config)
	gain, shift := l.w.F32("bn.weight", m.Width), l.w.F32("bn.bias", m.Width)
	if l.w.Err() != nil {
		return
	}
	mean, invStd := make([]float32, channels+m.Width), make([]float32, channels+m.Width)
	r.statistics(mean, invStd, t)
	m.biases, m.mean, m.invStd = tensor.Put(l.g, spread(biases, from)), tensor.Put(l.g, spread(mean, from)), tensor.Put(l.g, spread(invStd, from))
	width := padded(m.Width)
	scale, offset := make([]float32, width), make([]float32, width)
	lastNorm(scale[:m.Width], offset[:m.Width], gain, shift, mean[channels:], invStd[channels:])
	m.last = tensor.GPUAffine{Scale: tensor.Matrix(tensor.Put(l.g, scale), 1, width), Offset: tensor.Matrix(tensor.Put(l.g, offset), 1, width)}
}

// first reads what makes the first map.
func (l *gpuLoader) first(m *GPUModel) {
	channels := firstMult * m.Width
	var from []int
	for pixel := range firstSize * firstSize {
		from = widen(from, pixel*channels, channels)
	}
	n := firstSize * firstSize * channels
	m.first = nn.GPULinear{
		W:    l.rows(l.w, l.p, m.cond(), from, part{"gen_z", n}),
		Bias: tensor.Put(l.g, spread(l.w.F32("gen_z.bias", n), from)),
	}
}

// blocks reads them, and the attention between two.
func (l *gpuLoader) blocks(m *GPUModel) {
	size := firstSize
	for i, layer := range m.Layers {
		b, w, p := &m.blocks[i], l.w.In(fmt.Sprintf("blocks.%d", i)), precision(l.p, size)
		b.up, b.size, b.precision = layer.Up, size, ofMaps(p)
		for k, shape := range m.shapes(layer, size) {
			b.filters[k] = l.filter(w, fmt.Sprintf("conv_%d", k), shape, padded(shape.Out), b.precision)
		}
		bias := w.F32("conv_3.bias", layer.Out*m.Width)
		b.bias = tensor.Put(l.g, spread(bias, widen(nil, 0, layer.Out*m.Width)))
		if m.hasAttention(i) {
			m.attention = l.attention(layer.In*m.Width, p)
		}
		if layer.Up {
			size *= 2
		}
	}
}

// attention reads that of n channels, a multiple of 8, in a part of the model that is in precision p.
func (l *gpuLoader) attention(n int, p tensor.Precision) *gpuAttention {
	w := l.w.In("attention")
	var projections []float32
	for _, part := range []part{{"query", n / 8}, {"key", n / 8}, {"value", n / 2}} {
		projections = append(projections, w.F32(part.name+".weight", part.rows, n)...)
	}
	output := w.F32("output.weight", n, n/2)
	if w.Err() != nil {
		return nil
	}
	return &gpuAttention{
		projections: l.upload(projections, tensor.ConvShape{Out: n/8 + n/8 + n/2, In: n, Size: 1, Stride: 1}, tensor.F32),
		output:      l.upload(output, tensor.ConvShape{Out: n, In: n / 2, Size: 1, Stride: 1}, tensor.F32),
		precision:   p,
	}
}

// filter reads name.weight, of shape s, with padded inputs and out outputs.
func (l *gpuLoader) filter(w nn.Weights, name string, s tensor.ConvShape, out int, p tensor.Precision) tensor.GPUFilter {
	shape := []int{s.Out, s.Size, s.Size, s.In}
	if s.Size == 1 {
		shape = []int{s.Out, s.In}
	}
	v := w.F32(name+".weight", shape...)
	if v == nil {
		return tensor.GPUFilter{}
	}
	in := padded(s.In)
	if in != s.In || out != s.Out {
		wide := make([]float32, out*s.Size*s.Size*in)
		for i := range s.Out * s.Size * s.Size {
			copy(wide[i*in:], v[i*s.In:][:s.In])
		}
		v, s.In, s.Out = wide, in, out
	}
	return l.upload(v, s, p)
}

// upload makes a filter, whose float32 is multiplied in tf32 unless the whole model is float32.
func (l *gpuLoader) upload(v []float32, s tensor.ConvShape, p tensor.Precision) tensor.GPUFilter {
	f := l.g.NewFilter(p, v, s)
	f.TF32 = l.p != tensor.F32
	return f
}
