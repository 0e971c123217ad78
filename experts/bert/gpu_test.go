package bert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"netfusion/nn"
	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
)

// openGPU opens a device for one test.
func openGPU(t *testing.T, o tensor.GPUOptions) *tensor.GPU {
	t.Helper()
	if testing.Short() {
		t.Skip("the interpreter takes its time")
	}
	g, err := tensor.OpenGPU(kerneltest.Open(t.Name()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// load puts the encoder of a golden on a device.
func (m tiny) load(t *testing.T, p tensor.Precision, g *tensor.GPU) *GPUModel {
	t.Helper()
	d, err := LoadGPU(nn.Under(m.golden, "checkpoint/"), m.Config, p, g)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// gpuSession is what a caller of a GPUModel has: a graph of so many tokens and texts, and the memory around it.
type gpuSession struct {
	q                          *tensor.Queue
	ids, places, types, starts tensor.Staged[int32]
	out                        tensor.Staged[float32]
	graph                      tensor.Graph
}

// capture records record's result, [rows][Hidden], for so many tokens and texts.
func capture(t *testing.T, m *GPUModel, tokens, texts, rows int, record func(q *tensor.Queue, dst tensor.Buffer, x GPUTokens)) *gpuSession {
	t.Helper()
	q, err := m.g.NewQueue(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	h := m.Config.Hidden
	s := &gpuSession{q: q, ids: tensor.Stage[int32](q, tokens), places: tensor.Stage[int32](q, tokens),
		types: tensor.Stage[int32](q, tokens), starts: tensor.Stage[int32](q, texts+1), out: tensor.Stage[float32](q, rows*h)}
	x := GPUTokens{tensor.Text{IDs: s.ids.Array, Places: s.places.Array, Types: s.types.Array}, s.starts.Array, tokens}
	s.graph, err = q.Capture(func() {
		q.Upload(s.ids, s.places, s.types, s.starts)
		record(q, tensor.Matrix(s.out.Array, rows, h), x)
		q.Download(s.out)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run fills in texts, one behind the other, and replays the graph.
func (s *gpuSession) run(t *testing.T, ids, types [][]int32) []float32 {
	t.Helper()
	n := 0
	for i := range ids {
		copy(s.ids.Host[n:], ids[i])
		clear(s.types.Host[n:])
		if types != nil {
			copy(s.types.Host[n:], types[i])
		}
		for place := range ids[i] {
			s.places.Host[n+place] = int32(place)
		}
		n += len(ids[i])
		s.starts.Host[i+1] = int32(n)
	}
	s.q.Replay(s.graph)
	if err := s.q.Wait(); err != nil {
		t.Fatal(err)
	}
	return s.out.Host
}

// goldenTexts are those of a golden: four of different lengths.
func (m tiny) goldenTexts(t *testing.T) (ids, types [][]int32, tokens int) {
	for i := range 4 {
		ids, types = append(ids, m.ints(t, fmt.Sprintf("%d.ids", i))), append(types, m.ints(t, fmt.Sprintf("%d.types", i)))
		tokens += len(ids[i])
	}
	return ids, types, tokens
}

// The embeddings and the last layer's state of four packed sequences, in each activation, precision and way of multiplying float32,
// agree with the reference as the CPU's do.
func TestPTXLayersAgreeWithTheReference(t *testing.T) {
	exact, tf32 := openGPU(t, tensor.GPUOptions{}), openGPU(t, tensor.GPUOptions{TF32: true})
	for _, c := range []struct {
		name   string
		p      tensor.Precision
		device *tensor.GPU
		bound  float64
	}{
		{"plain", tensor.F32, exact, 1e-5}, {"legacy", tensor.F32, exact, 1e-5}, {"nested", tensor.F32, exact, 1e-5},
		{"plain", tensor.F32, tf32, 0.01},
		{"plain", tensor.BF16, exact, 0.08}, {"legacy", tensor.BF16, exact, 0.08}, {"nested", tensor.BF16, exact, 0.08},
		{"plain", tensor.Int8, exact, 0.25}, {"nested", tensor.Int8, exact, 0.25},
	} {
		t.Run(fmt.Sprintf("%s %v tf32=%v", c.name, c.p, c.device == tf32), func(t *testing.T) {
			m := openTinyIn(t, c.name, c.p)
			d := m.load(t, c.p, c.device)
			ids, types, tokens := m.goldenTexts(t)
			worst := 0.0
			for _, layer := range []int{0, m.Config.Layers} {
				s := capture(t, d, tokens, 4, tokens, func(q *tensor.Queue, dst tensor.Buffer, x GPUTokens) {
					q.Copy(dst, d.states(q, x, layer))
				})
				var want []float32
				for i := range 4 {
					want = append(want, m.floats(t, fmt.Sprintf("%d.state.%d", i, layer))...)
				}
				worst = max(worst, maxDifference(s.run(t, ids, types), want))
			}
			t.Logf("max difference %.3g", worst)
			if !(worst <= c.bound) {
				t.Errorf("max difference %.3g, want at most %g", worst, c.bound)
			}
			if c.p != tensor.F32 && !(worst > 1e-4) {
				t.Errorf("max difference %.3g: the products were float32", worst)
			}
		})
	}
}

// One graph embeds texts of any lengths that fit, each as if it were alone, and as a Session does.
func TestPTXEmbeddingsAreTheSessions(t *testing.T) {
	g := openGPU(t, tensor.GPUOptions{})
	texts := [][]int32{{2, 5, 3}, {2, 10, 11, 12, 13, 14, 15, 3}, {2, 3}, {2, 30, 31, 32, 3}}
	for p, bound := range map[tensor.Precision]float64{tensor.F32: 1e-5, tensor.BF16: 0.03, tensor.Int8: 0.06} {
		m := openTinyIn(t, "nested", p)
		m.Config.Representation.Normalize = true
		cpu := newSession(t, m.Model, 1, SessionOptions{})
		d := m.load(t, p, g)
		d.Config.Representation = m.Config.Representation
		s := capture(t, d, 20, 3, 3, d.Forward)
		h := m.Width()
		var alone []float32
		for _, batch := range [][][]int32{{texts[1], texts[0], texts[3]}, {texts[0], texts[2], texts[1]}} {
			got := s.run(t, batch, nil)
			for i, ids := range batch {
				want := make([]float32, h)
				if err := cpu.EmbedTokens(context.Background(), want, ids, nil); err != nil {
					t.Fatal(err)
				}
				if d := maxDifference(got[i*h:][:h], want); !(d <= bound) {
					t.Errorf("%v: text %d of %d tokens is %.3g from the CPU's", p, i, len(ids), d)
				}
				if len(ids) == len(texts[1]) {
					if alone == nil {
						alone = slices.Clone(got[i*h:][:h])
					} else if !slices.Equal(alone, got[i*h:][:h]) {
						t.Errorf("%v: an embedding depends on the texts beside it", p)
					}
				}
			}
		}
	}
}

func TestPTXLoadRefuses(t *testing.T) {
	g := openGPU(t, tensor.GPUOptions{})
	m := openTiny(t, "plain")
	c := m.Config
	c.Heads = 1
	c.Hidden = 96
	if _, err := LoadGPU(nn.Under(m.golden, "checkpoint/"), c, tensor.F32, g); err == nil || !strings.Contains(err.Error(), "heads of 96") {
		t.Errorf("heads that no kernel attends with: %v", err)
	}
	c = m.Config
	c.Layers++
	if _, err := LoadGPU(nn.Under(m.golden, "checkpoint/"), c, tensor.F32, g); err == nil || !strings.Contains(err.Error(), "encoder.layer.2") {
		t.Errorf("a layer that is not there: %v", err)
	}
	c.Layers, c.Representation.Layer = 1, 1
	if _, err := LoadGPU(nn.Under(m.golden, "checkpoint/"), c, tensor.F32, g); err == nil || !strings.Contains(err.Error(), "encoder.layer.1") {
		t.Errorf("a layer too many: %v", err)
	}
}

// A real encoder, BERT_MODEL, on a GPU and on the CPU. (In the interpreter a few seconds each.)
func TestPTXCheckpointAgreesWithTheCPU(t *testing.T) {
	dir := checkpointDir(t)
	g := openGPU(t, tensor.GPUOptions{TF32: true})
	for p, bound := range map[tensor.Precision]float64{tensor.F32: 1e-5, tensor.BF16: 1e-4, tensor.Int8: 5e-3} {
		m, err := Open(dir, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		d, err := LoadGPU(f.weights, f.config, p, g)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"a red heart", "a cat with tears of joy, a red apple and two mountains behind the house with the garden"} {
			ids := m.Tokenizer.Encode(nil, text, m.Config.MaxTokens)
			s := capture(t, d, len(ids), 1, 1, d.Forward)
			want := make([]float32, m.Width())
			if err := newSession(t, m, 1, SessionOptions{}).EmbedTokens(context.Background(), want, ids, nil); err != nil {
				t.Fatal(err)
			}
			apart := 1 - cosine(s.run(t, [][]int32{ids}, nil), want)
			t.Logf("%v, %d tokens: cosine 1 - %.2g; %+v", p, len(ids), apart, s.q.Work())
			if !(apart <= bound) {
				t.Errorf("%v, %d tokens: cosine 1 - %.2g, want at most %g", p, len(ids), apart, bound)
			}
		}
		if err := errors.Join(f.weights.Close(), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
