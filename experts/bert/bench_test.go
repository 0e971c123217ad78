package bert

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// shapes are public encoders, with a small vocabulary: a text reads few rows of it.
var shapes = []struct {
	name string
	Config
}{
	{"minilm", Config{Hidden: 384, Layers: 6, Intermediate: 1536}}, // all-MiniLM-L6-v2
	{"base", Config{Hidden: 768, Layers: 12, Intermediate: 3072}},  // bert-base-uncased
}

// randomModel returns an encoder of c's size whose weights are random.
func randomModel(t testing.TB, c Config, p tensor.Precision) *Model {
	t.Helper()
	c.ModelType, c.Heads, c.MaxPositions, c.MaxTokens, c.Types, c.Vocab = "bert", 12, 512, 512, 2, 100
	c.Activation, c.Epsilon, c.Positions = "gelu", 1e-12, "absolute"
	c.Representation = Representation{Layer: c.Layers, Pooling: Mean}
	r := rand.New(rand.NewPCG(1, 2))
	var tensors []safetensors.Tensor
	for _, n := range c.tensors() {
		x := safetensors.Tensor{Name: n.name, DType: safetensors.F32, Shape: n.shape}
		x.Data = make([]byte, 4*x.Elements())
		for i := range x.Elements() {
			binary.LittleEndian.PutUint32(x.Data[4*i:], math.Float32bits(float32(r.Float64()-0.5)/8))
		}
		tensors = append(tensors, x)
	}
	m, err := Load(nn.Memory("random", tensors), c, tinyTokenizer(t), p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// BenchmarkEncode is one pass over texts of equal length. The part of the roof counts the operations of the products and of
// attention at the peak of the precision, although attention is float32 in all, and the weights' bytes once: as read from
// memory where they are more than 32 MiB, which is much for a cache, and else from the last cache.
func BenchmarkEncode(b *testing.B) {
	peak := map[tensor.Precision]func(roofline.Roof) roofline.Roof{
		tensor.F32: func(r roofline.Roof) roofline.Roof { return r }, tensor.BF16: roofline.Roof.InBF16, tensor.Int8: roofline.Roof.InI8,
	}
	size := map[tensor.Precision]int{tensor.F32: 4, tensor.BF16: 2, tensor.Int8: 1}
	for _, shape := range shapes {
		b.Run("model="+shape.name, func(b *testing.B) {
			for _, p := range precisions {
				b.Run("precision="+p.String(), func(b *testing.B) {
					m := randomModel(b, shape.Config, p)
					for _, batch := range [][2]int{{1, 8}, {1, 16}, {1, 32}, {1, 128}, {32, 32}} {
						for _, workers := range []int{1, 2} {
							texts, tokens := batch[0], batch[1]
							b.Run(fmt.Sprintf("texts=%d,tokens=%d/workers=%d", texts, tokens, workers), func(b *testing.B) {
								roof := peak[p](roofline.Measure(workers))
								encode := encoder(b, m, workers, texts, tokens)
								for b.Loop() {
									encode()
								}
								c := m.Config
								weights := c.Layers * c.Hidden * (4*c.Hidden + 2*c.Intermediate)
								pairs := texts * tokens * tokens * c.Hidden * c.Layers
								level := roofline.L3
								if weights*size[p] > 32<<20 {
									level = roofline.DRAM
								}
								roof.Report(b, 2*float64(texts*tokens*weights)+4*float64(pairs), float64(weights*size[p]), level)
							})
						}
					}
				})
			}
		})
	}
}

// encoder returns a function that embeds so many texts of so many tokens each in one pass.
func encoder(t testing.TB, m *Model, workers, texts, tokens int) func() {
	s := newSession(t, m, workers, SessionOptions{Tokens: texts * tokens, Texts: texts})
	dst := make([]float32, texts*m.Width())
	return func() {
		s.reset()
		for range texts {
			for range tokens {
				s.ids = append(s.ids, int32(len(s.ids)%m.Config.Vocab))
			}
			s.end()
		}
		if err := s.flush(context.Background(), dst); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing is allocated in a pass, at any precision and however the work is shared.
func TestPassesDoNotAllocate(t *testing.T) {
	c := Config{Hidden: 48, Layers: 2, Intermediate: 100}
	for _, p := range precisions {
		m := randomModel(t, c, p)
		for _, workers := range []int{1, 2, 7} {
			if n := testing.AllocsPerRun(10, encoder(t, m, workers, 5, 17)); n != 0 {
				t.Errorf("%v, %d workers: %v allocations", p, workers, n)
			}
		}
	}
}
