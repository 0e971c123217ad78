package bert

import (
	"fmt"
	"testing"

	"netfusion/nn"
	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// openGPU loads a tiny encoder of the goldens on a device that is not there.
func openGPU(t *testing.T, name string, p tensor.Precision, o tensor.GPUOptions) (tiny, *GPUModel) {
	t.Helper()
	g, err := tensor.OpenGPU(ptx.Open(ptx.Options{}), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	m := openTinyIn(t, name, p)
	d, err := LoadGPU(nn.Under(m.golden, "checkpoint/"), m.Config, p, g)
	if err != nil {
		t.Fatal(err)
	}
	return m, d
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
		copy(s.types.Host[n:], types[i])
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

// The embeddings and the last layer's state of four packed sequences, in each activation, precision and way of multiplying float32, agrees with the
// reference as the CPU's do.
func TestPTXLayersAgreeWithTheReference(t *testing.T) {
	for _, c := range []struct {
		name  string
		p     tensor.Precision
		o     tensor.GPUOptions
		bound float64
	}{
		{"plain", tensor.F32, tensor.GPUOptions{}, 1e-5}, {"legacy", tensor.F32, tensor.GPUOptions{}, 1e-5}, {"nested", tensor.F32, tensor.GPUOptions{}, 1e-5},
		{"plain", tensor.F32, tensor.GPUOptions{TF32: true}, 0.01},
		{"plain", tensor.BF16, tensor.GPUOptions{}, 0.08}, {"legacy", tensor.BF16, tensor.GPUOptions{}, 0.08},
		{"plain", tensor.Int8, tensor.GPUOptions{}, 0.25}, {"nested", tensor.Int8, tensor.GPUOptions{}, 0.25},
	} {
		t.Run(fmt.Sprintf("%s %v %v", c.name, c.p, c.o), func(t *testing.T) {
			m, d := openGPU(t, c.name, c.p, c.o)
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
