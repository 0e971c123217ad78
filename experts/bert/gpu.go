package bert

import (
	"fmt"

	"netfusion/nn"
	"netfusion/tensor"
)

// GPUModel is an encoder's weights on a GPU, in whose Queues it computes what a Session computes. It never changes.
type GPUModel struct {
	Config    Config
	g         *tensor.GPU
	precision tensor.Precision
	tables    tensor.TextTables
	layers    []gpuLayer
	matrices  []tensor.GPUWeight // of all layers, in the order in which they are multiplied
}

// gpuLayer is a layer on a GPU.
type gpuLayer struct {
	qkv, out nn.GPULinear
	outNorm  gpuNorm
	up, down nn.GPULinear
	downNorm gpuNorm
}

type gpuNorm struct{ gamma, beta tensor.Array[float32] } // [Hidden]

// LoadGPU is Load onto a GPU. It needs no tokenizer: what the model gets is tokens.
func LoadGPU(source nn.Source, c Config, p tensor.Precision, g *tensor.GPU) (*GPUModel, error) {
	w, err := begin(source, c, p)
	if err != nil {
		return nil, err
	}
	if depth := c.Hidden / c.Heads; depth > tensor.AttentionDepth {
		return nil, fmt.Errorf("%s: heads of %d values, on a GPU at most %d are supported", source.Origin(), depth, tensor.AttentionDepth)
	}
	d := w.On(g)
	e := d.In("embeddings")
	norm := readGPUNorm(e, c)
	m := &GPUModel{
		Config:    c,
		g:         g,
		precision: p,
		tables: tensor.TextTables{
			Words:     e.Table("word_embeddings.weight", c.Vocab, c.Hidden),
			Positions: e.F32("position_embeddings.weight", c.MaxPositions, c.Hidden),
			Types:     e.F32("token_type_embeddings.weight", c.Types, c.Hidden),
			Gamma:     norm.gamma,
			Beta:      norm.beta,
			Eps:       c.Epsilon,
		},
	}
	for i := range c.Layers {
		if d.Err() != nil {
			break // before the sizes of a broken file are believed any further
		}
		l := readGPULayer(d.In(fmt.Sprintf("encoder.layer.%d", i)), c)
		m.layers = append(m.layers, l)
		m.matrices = append(m.matrices, l.qkv.W, l.out.W, l.up.W, l.down.W)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	if err := complete(w, source); err != nil {
		return nil, err
	}
	return m, nil
}

func readGPULayer(w nn.GPUWeights, c Config) gpuLayer {
	a, o := w.In("attention"), w.In("output")
	weights, bias := readQKV(w.Weights.In("attention").In("self"), c)
	return gpuLayer{
		qkv:      nn.GPULinear{W: w.Pack(weights...), Bias: tensor.Put(w.GPU(), bias)},
		out:      a.Linear("output.dense", c.Hidden, c.Hidden),
		outNorm:  readGPUNorm(a.In("output"), c),
		up:       w.Linear("intermediate.dense", c.Hidden, c.Intermediate),
		down:     o.Linear("dense", c.Intermediate, c.Hidden),
		downNorm: readGPUNorm(o, c),
	}
}

func readGPUNorm(w nn.GPUWeights, c Config) gpuNorm {
	return gpuNorm{w.F32("LayerNorm.weight", c.Hidden), w.F32("LayerNorm.bias", c.Hidden)}
}

// GPUTokens are texts on a GPU, one behind the other. The host has checked that all are of the encoder's Config.
type GPUTokens struct {
	tensor.Text
	Starts  tensor.Array[int32] // [texts+1] where each text begins among the tokens, and the last one ends; no text is empty
	Longest int                 // text, in tokens, or more
}

// Forward records the embeddings of texts, dst [texts][Hidden], in q: so many tokens, texts and no text longer than x.Longest. Which
// tokens, and how many of them each text has, is read when it runs.
func (m *GPUModel) Forward(q *tensor.Queue, dst tensor.Buffer, x GPUTokens) {
	if chain := m.chain(q, x); chain != nil {
		q.Execute(chain.program)
		q.Copy(dst, chain.out)
		return
	}
	r := m.Config.Representation
	q.PoolTokens(dst, m.states(q, x, r.Layer), x.Starts, r.Pooling == Mean, r.Normalize)
}

// states records the hidden state [tokens][Hidden] of a layer, 0 being the embeddings.
func (m *GPUModel) states(q *tensor.Queue, x GPUTokens, last int) tensor.Buffer {
	s := m.take(q, x)
	s.ahead = m.g.NewAhead(m.matrices[:4*last])
	q.EmbedText(s.x, s.rounded, &m.tables, x.Text, s.ahead.Next())
	for i := range m.layers[:last] {
		s.layer(q, &m.layers[i])
	}
	return s.x
}

// gpuState is the memory of a Forward. Where the weights are bfloat16, what lies between two products is that, too, and in uint8 what
// a normalisation leaves; MatMul rounds the rest.
type gpuState struct {
	m       *GPUModel
	tokens  GPUTokens
	x       tensor.Buffer // [tokens][Hidden]
	rounded tensor.Buffer // x in the precision of the weights, or none where that is float32
	qkv     tensor.Buffer // [tokens][3·Hidden]
	a       tensor.Buffer // [tokens][Hidden]
	inner   tensor.Buffer // [tokens][Intermediate]
	y       tensor.Buffer // [tokens][Hidden]
	ahead   tensor.Ahead
}

func (m *GPUModel) take(q *tensor.Queue, x GPUTokens) *gpuState {
	n, c := x.IDs.Len, m.Config
	s := &gpuState{m: m, tokens: x, x: q.Take(n, c.Hidden), y: q.Take(n, c.Hidden)}
	attended, inner := tensor.F32, tensor.F32
	if m.precision != tensor.F32 {
		s.rounded = q.TakeIn(m.precision, n, c.Hidden)
	}
	if m.precision == tensor.BF16 {
		if c.Hidden/c.Heads%tensor.AttentionUnit == 0 {
			attended = tensor.BF16
		}
		if !activations[c.Activation].tanhGELU {
			inner = tensor.BF16
		}
	}
	s.qkv, s.a, s.inner = q.TakeIn(attended, n, 3*c.Hidden), q.TakeIn(attended, n, c.Hidden), q.TakeIn(inner, n, c.Intermediate)
	return s
}

// product sets dst, of float32 or bfloat16, to a layer's outputs.
func (s *gpuState) product(q *tensor.Queue, dst, x tensor.Buffer, l *nn.GPULinear, e tensor.GPUEpilogue) {
	e.Bias, e.Ahead = l.Bias, s.ahead.Multiply()
	if dst.Precision != tensor.F32 {
		dst, e.Next.To = tensor.Buffer{}, dst
	}
	q.MatMul(dst, x, l.W, e)
}

// input is what the products of a layer's first half and of its second half read.
func (s *gpuState) input() tensor.Buffer {
	if s.rounded.None() {
		return s.x
	}
	return s.rounded
}

// layer applies l to the states s.x.
func (s *gpuState) layer(q *tensor.Queue, l *gpuLayer) {
	c := s.m.Config
	act := activations[c.Activation]
	s.product(q, s.qkv, s.input(), &l.qkv, tensor.GPUEpilogue{})
	q.Attention(s.a, s.qkv, s.tokens.Starts, s.tokens.Longest, c.Heads, s.m.precision, s.ahead.Next())
	s.product(q, s.y, s.a, &l.out, tensor.GPUEpilogue{Residual: s.x})
	s.norm(q, l.outNorm)
	s.product(q, s.inner, s.input(), &l.up, tensor.GPUEpilogue{Act: act.act})
	if act.tanhGELU {
		q.TanhGELU(s.inner, s.inner)
	}
	s.product(q, s.y, s.inner, &l.down, tensor.GPUEpilogue{Residual: s.x})
	s.norm(q, l.downNorm)
}

// norm sets s.x to the normalised s.y, which has the residual in it.
func (s *gpuState) norm(q *tensor.Queue, n gpuNorm) {
	q.LayerNormNext(s.x, s.rounded, s.y, tensor.Buffer{}, n.gamma, n.beta, s.m.Config.Epsilon, s.ahead.Next())
}
