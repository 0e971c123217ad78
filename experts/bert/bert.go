// Package bert is a text expert: post-LayerNorm BERT encoders (Devlin et al. 2018) of any size, the small sentence
// encoders among them (Reimers and Gurevych 2019). Open reads a checkpoint folder or an expert file into a Model, which
// never changes; a Session holds the buffers of one caller:
//
//	m, err := bert.Open("all-MiniLM-L6-v2", tensor.F32)
//	s, err := m.NewSession(tensor.CPU(0), bert.SessionOptions{})
//	err = s.Embed(ctx, dst, "a red heart")
//
// Decisions. Texts of a batch are packed one behind the other without padding, so there is no attention mask, and a
// text's embedding does not depend on its neighbours. The four matrices of a layer are kept and multiplied in the
// tensor.Precision that the Model is opened in, whatever they are stored in; all between them is float32. The word table
// is half of a small encoder, but a text reads a few rows of it: int8 rows stay as they lie in the file, and anything
// else becomes float32. The classification heads and the pooler of a checkpoint are not read.
package bert

import (
	"errors"
	"fmt"
	"math"

	"netfusion/kernels/matmul"
	"netfusion/nn"
	"netfusion/tensor"
)

// Model is an encoder's weights and its tokenizer. It never changes: Sessions of many goroutines share it.
type Model struct {
	Config    Config
	Tokenizer *Tokenizer

	words     nn.Table  // [Vocab][Hidden]
	positions []float32 // [MaxPositions][Hidden]
	types     []float32 // [Types][Hidden]
	norm      norm
	layers    []layer
	close     func() error // ends the mapping that words may point into
}

// layer is one transformer block.
type layer struct {
	qkv      nn.Linear // Hidden → queries, keys, values; the queries are divided by √(Hidden/Heads)
	out      nn.Linear // Hidden → Hidden
	outNorm  norm
	up, down nn.Linear // Hidden → Intermediate → Hidden
	downNorm norm
}

// norm is the affine part of a layer normalisation.
type norm struct{ gamma, beta []float32 } // [Hidden]

// activations by the names that config.json has for them.
var activations = map[string]nonlinearity{
	"gelu":              {act: matmul.GELU},
	"relu":              {act: matmul.ReLU},
	"gelu_new":          {tanhGELU: true},
	"gelu_pytorch_tanh": {tanhGELU: true},
}

// nonlinearity is one that the matrix product applies by itself, or GELU by tanh after it.
type nonlinearity struct {
	act      matmul.Act
	tanhGELU bool
}

// Load builds an encoder from a checkpoint's weights, under any of the names that libraries give them (see dialect).
// Its products are computed in precision p. It fails on a tensor that is missing, misshapen, or of no known use. The
// Model may refer to the source's memory.
func Load(source nn.Source, c Config, t *Tokenizer, p tensor.Precision) (*Model, error) {
	w, err := begin(source, c, p)
	if err != nil {
		return nil, err
	}
	if err := fits(t, c, source); err != nil {
		return nil, err
	}
	e := w.In("embeddings")
	m := &Model{
		Config:    c,
		Tokenizer: t,
		words:     e.Table("word_embeddings.weight", c.Vocab, c.Hidden),
		positions: e.F32("position_embeddings.weight", c.MaxPositions, c.Hidden),
		types:     e.F32("token_type_embeddings.weight", c.Types, c.Hidden),
		norm:      readNorm(e, c),
	}
	for i := range c.Layers {
		if w.Err() != nil {
			break // before the sizes of a broken file are believed any further
		}
		m.layers = append(m.layers, readLayer(w.In(fmt.Sprintf("encoder.layer.%d", i)), c))
	}
	if err := complete(w, source); err != nil {
		return nil, err
	}
	m.chain()
	return m, nil
}

// begin reads source, an encoder of c, under the plain names, for products in precision p.
func begin(source nn.Source, c Config, p tensor.Precision) (nn.Weights, error) {
	if err := c.check(); err != nil {
		return nn.Weights{}, fmt.Errorf("%s: %w", source.Origin(), err)
	}
	d, err := translate(source)
	if err != nil {
		return nn.Weights{}, err
	}
	return nn.Load(d).As(p), nil
}

// chain tells each matrix which one is multiplied next, and the last one the first, for the text after this one.
func (m *Model) chain() {
	var matrices []*tensor.Weight
	for i := range m.layers {
		l := &m.layers[i]
		matrices = append(matrices, &l.qkv.W, &l.out.W, &l.up.W, &l.down.W)
	}
	for i, w := range matrices {
		w.Then(*matrices[(i+1)%len(matrices)])
	}
}

// fits tells whether every token of the vocabulary has a row in the word table.
func fits(t *Tokenizer, c Config, source nn.Source) error {
	if t.Size() > c.Vocab {
		return fmt.Errorf("%s: vocabulary has %d tokens, the word table only %d", source.Origin(), t.Size(), c.Vocab)
	}
	return nil
}

// complete tells whether w found what was asked of it in source, and nothing else is there.
func complete(w nn.Weights, source nn.Source) error {
	if err := w.Err(); err != nil {
		return err
	}
	if rest := w.Unused(); len(rest) > 0 {
		return fmt.Errorf("%s: %d tensors are no part of this encoder, the first is %q", source.Origin(), len(rest), rest[0])
	}
	return nil
}

func readLayer(w nn.Weights, c Config) layer {
	a, o := w.In("attention"), w.In("output")
	weights, bias := readQKV(a.In("self"), c)
	return layer{
		qkv:      nn.Linear{W: w.Pack(weights...), Bias: bias},
		out:      a.Linear("output.dense", c.Hidden, c.Hidden),
		outNorm:  readNorm(a.In("output"), c),
		up:       w.Linear("intermediate.dense", c.Hidden, c.Intermediate),
		down:     o.Linear("dense", c.Intermediate, c.Hidden),
		downNorm: readNorm(o, c),
	}
}

func readNorm(w nn.Weights, c Config) norm {
	return norm{w.F32("LayerNorm.weight", c.Hidden), w.F32("LayerNorm.bias", c.Hidden)}
}

// readQKV reads three projections, which joined into one [3·Hidden][Hidden] are one product, and folds the 1/√d of the attention
// into the first.
func readQKV(w nn.Weights, c Config) (weights []nn.Matrix, bias []float32) {
	for _, name := range []string{"query", "key", "value"} {
		weights = append(weights, w.Matrix(name+".weight", c.Hidden, c.Hidden))
		bias = append(bias, w.F32(name+".bias", c.Hidden)...)
	}
	if w.Err() != nil {
		return nil, nil
	}
	scale := float32(1 / math.Sqrt(float64(c.Hidden/c.Heads)))
	weights[0].Factor = scale
	for i := range c.Hidden {
		bias[i] *= scale
	}
	return weights, bias
}

// Width is the length of an embedding.
func (m *Model) Width() int { return m.Config.Hidden }

// Close gives back the file that the Model was opened from. No Session may be in use.
func (m *Model) Close() error {
	if m.close == nil {
		return nil
	}
	err := m.close()
	m.close = nil
	return err
}

// ErrTooLong is returned for token ids that do not fit the encoder's positions or the Session's buffers. Texts are cut.
var ErrTooLong = errors.New("bert: more tokens than fit")
