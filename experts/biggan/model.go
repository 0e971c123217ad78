// Package biggan is the generator of BigGAN-deep (Brock, Donahue and Simonyan 2019, appendix B), as the public
// checkpoints of pytorch-pretrained-biggan define it: any channel width, resolution, classes and layers.
//
// A condition is c = [z; e], z from a normal distribution times a truncation t, and e the embedding of a class. The
// first map, 4×4, is linear in c. Each residual block normalises four times, with statistics that were recorded for t
// and with a gain and a shift that are linear in c. One layer of self-attention sits between two blocks.
//
// Decisions. Images are NHWC. All gains and shifts of an image come from one product at the start; after that a
// normalisation is one multiply-add per value, applied where the convolution beside it reads or writes, and the bias of
// the convolution before it is folded in. Upsampling is never stored: the convolution and the skip that follow it read
// the small map. Only the three rows of the last convolution that make colours are kept.
package biggan

import (
	"fmt"

	"netfusion/nn"
	"netfusion/tensor"
)

// Model is the weights of a generator, ready to run. It does not change: many Sessions share one.
type Model struct {
	Config
	classes     []float32     // [Classes][ClassDim]
	norms       tensor.Weight // [2·channels][cond]: the gains of all blocks, then the shifts
	channels    int           // of the conditional normalisations of all blocks
	biases      []float32     // [channels]: of the convolution before each normalisation, 0 where there is none
	recorded                  // statistics
	first       nn.Linear     // c to [4][4][16·Width]
	blocks      []block
	attention   *attention // before block Attention, or nil
	gain, shift []float32  // [Width], of the last normalisation
	rgb         tensor.Filter
	rgbBias     []float32 // [3]
}

type block struct {
	Layer
	norms   [4]norm
	filters [4]tensor.Filter
	bias    []float32 // of the last convolution
}

type attention struct {
	projections tensor.Filter // queries, keys and values [c/8 + c/8 + c/2][c]
	output      tensor.Filter // [c][c/2]
	precision   tensor.Precision
}

// Open reads a checkpoint folder (see Convert) or an expert file, to be multiplied in precision p.
func Open(path string, p tensor.Precision) (*Model, error) {
	return nn.OpenExpert(path, Convert, func(s nn.Source, meta map[string]string) (*Model, error) { return load(s, meta, p) })
}

func load(s nn.Source, meta map[string]string, p tensor.Precision) (*Model, error) {
	if arch := meta["arch"]; arch != Arch {
		return nil, fmt.Errorf("%s: arch is %q, wanted %q", s.Origin(), arch, Arch)
	}
	cfg, err := ParseConfig(s.Origin(), []byte(meta["config"]))
	if err != nil {
		return nil, err
	}
	return Load(s, cfg, p)
}

// Load builds the generator of a configuration from the tensors of an expert file. Its matrices are kept and multiplied in
// precision p, where that does not show.
func Load(s nn.Source, cfg Config, p tensor.Precision) (*Model, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Origin(), err)
	}
	w := nn.Load(s)
	norms, channels := cfg.norms()
	m := &Model{Config: cfg, channels: channels, biases: make([]float32, channels)}
	ch, cond := cfg.Width, cfg.cond()

	m.classes = w.F32("classes.weight", cfg.Classes, cfg.ClassDim)
	w.As(tensor.F32)
	m.norms = stack(w.In("norms"), cond, part{"scale", channels}, part{"offset", channels})
	m.recorded = readRecorded(w, &cfg)
	m.first = w.As(p).Linear("gen_z", cond, 16*firstMult*ch)
	size := firstSize
	for i, l := range cfg.Layers {
		w.As(precision(p, size))
		if cfg.hasAttention(i) {
			n, a := l.In*ch, w.In("attention")
			m.attention = &attention{
				projections: tensor.PointFilter(stack(a, n, part{"query", n / 8}, part{"key", n / 8}, part{"value", n / 2})),
				output:      tensor.PointFilter(stack(a, n/2, part{"output", n})),
				precision:   precision(p, size),
			}
		}
		m.blocks = append(m.blocks, m.block(w.In(fmt.Sprintf("blocks.%d", i)), l, norms[i], size))
		if l.Up {
			size *= 2
		}
	}
	m.gain, m.shift = w.F32("bn.weight", ch), w.F32("bn.bias", ch)
	m.rgb = filter(w, "conv_to_rgb", cfg.rgb())
	m.rgbBias = w.F32("conv_to_rgb.bias", 3)

	if err := complete(w, s); err != nil {
		return nil, err
	}
	return m, nil
}

// complete tells whether w found what was asked of it in s, and nothing else is there.
func complete(w nn.Weights, s nn.Source) error {
	if err := w.Err(); err != nil {
		return err
	}
	if names := w.Unused(); len(names) > 0 {
		return fmt.Errorf("%s: tensor %q is not one of this generator (nor are %d others)", s.Origin(), names[0], len(names)-1)
	}
	return nil
}

// precision is that of a block whose input has size×size pixels, in a model of precision p. What is rounded early is in every
// pixel of the image: on the first map it stays float32, as gains and shifts do, which costs little.
func precision(p tensor.Precision, size int) tensor.Precision {
	if size == firstSize {
		return tensor.F32
	}
	return p
}

// shapes returns the convolutions of a block whose input has size×size pixels.
func (c *Config) shapes(l Layer, size int) [4]tensor.ConvShape {
	in, mid, out, large := l.In*c.Width, l.In*c.Width/reduction, l.Out*c.Width, size
	if l.Up {
		large *= 2
	}
	return [4]tensor.ConvShape{
		{Out: mid, In: in, Size: 1, Stride: 1, H: size, W: size},
		{Out: mid, In: mid, Size: 3, Stride: 1, Up: l.Up, H: size, W: size},
		{Out: mid, In: mid, Size: 3, Stride: 1, H: large, W: large},
		{Out: out, In: mid, Size: 1, Stride: 1, H: large, W: large},
	}
}

// rgb is the last convolution.
func (c *Config) rgb() tensor.ConvShape {
	return tensor.ConvShape{Out: 3, In: c.Width, Size: 3, Stride: 1, H: c.Resolution, W: c.Resolution}
}

// block reads a block whose input has size×size pixels.
func (m *Model) block(w nn.Weights, l Layer, norms [4]norm, size int) block {
	b := block{Layer: l, norms: norms}
	for k, shape := range m.shapes(l, size) {
		b.filters[k] = filter(w, fmt.Sprintf("conv_%d", k), shape)
	}
	for i, n := range norms[1:] {
		copy(m.biases[n.at:], w.F32(fmt.Sprintf("conv_%d.bias", i), n.channels))
	}
	b.bias = w.F32("conv_3.bias", l.Out*m.Width)
	return b
}

// filter reads name.weight, [out][in] or [out][3][3][in].
func filter(w nn.Weights, name string, s tensor.ConvShape) tensor.Filter {
	if s.Size == 1 {
		return tensor.PointFilter(stack(w, s.In, part{name, s.Out}))
	}
	v := w.F32(name+".weight", s.Out, 3, 3, s.In)
	if v == nil {
		return tensor.Filter{}
	}
	return tensor.NewFilter(w.Precision(), v, s)
}

type part struct {
	name string
	rows int
}

// stack reads the matrices name.weight, [rows][in], and puts one below the other.
func stack(w nn.Weights, in int, parts ...part) tensor.Weight {
	var matrices []nn.Matrix
	for _, p := range parts {
		matrices = append(matrices, w.Matrix(p.name+".weight", p.rows, in))
	}
	return w.Pack(matrices...)
}

// Class returns the embedding of class k, [ClassDim]. It must not be changed.
func (m *Model) Class(k int) []float32 { return m.classes[k*m.ClassDim:][:m.ClassDim:m.ClassDim] }

// Mix writes to dst [ClassDim] the embedding of a soft class: the sum of all embeddings, weighted by weights [Classes].
func (m *Model) Mix(dst, weights []float32) {
	if len(dst) != m.ClassDim || len(weights) != m.Classes {
		panic("biggan: Mix: wrong lengths")
	}
	clear(dst)
	for k, w := range weights {
		if w == 0 {
			continue
		}
		for i, e := range m.Class(k) {
			dst[i] += float32(w * e)
		}
	}
}
