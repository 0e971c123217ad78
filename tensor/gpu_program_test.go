package tensor_test

import (
	"testing"

	"netfusion/kernels/matmul"
	"netfusion/kernels/program"
	"netfusion/tensor"
)

// Two layers in one launch are those of two launches, and of the CPU, however often they are replayed.
func TestPTXProgram(t *testing.T) {
	const m, n, hidden, k = 3, 21, 40, 33
	for _, p := range []tensor.Precision{tensor.BF16, tensor.Int8} {
		r := newRig(t, usual)
		x, w, w2, bias := normals(m, k, 1), normals(hidden, k, 2), normals(n, hidden, 3), normals(1, hidden, 4)
		gw, gw2, gbias := r.g.NewWeight(p, w.Data, hidden, k), r.g.NewWeight(p, w2.Data, n, hidden), vector(r, bias.Data)
		in, out := r.KeepBuffer(m, k), r.KeepBuffer(m, n)
		from, builds := r.put(x), 0
		record := func() {
			f, ok := tensor.ProgramFormat(p)
			if !ok {
				t.Fatal("no format")
			}
			layers := tensor.Kept(r.Queue, p, func() *tensor.GPUProgram {
				builds++
				l := &program.Program{Format: f}
				h := l.Hidden(m, hidden)
				l.Add(&program.MatMul{M: m, N: hidden, K: k, X: in.Program(), Weights: gw.Program(), Bias: gbias.Address(), Act: matmul.LeakyReLU, Out: h},
					&program.MatMul{M: m, N: n, K: hidden, X: h, Weights: gw2.Program(), Out: out.Program()})
				return r.NewProgram(l)
			})
			r.Copy(in, from)
			r.Execute(layers)
		}
		graph, err := r.Capture(record)
		if err != nil {
			t.Fatal(err)
		}
		h, want := tensor.New(m, hidden), tensor.New(m, n)
		dev, cw, cw2 := cpu(t), tensor.NewWeightIn(p, w.Data, hidden, k), tensor.NewWeightIn(p, w2.Data, n, hidden)
		cw.Reserve(dev, m)
		cw2.Reserve(dev, m)
		dev.MatMul(h, x, cw, matmul.Epilogue{Bias: bias.Data, Act: matmul.LeakyReLU})
		dev.MatMul(want, h, cw2, matmul.Epilogue{})
		for range 2 {
			r.Replay(graph)
			if err := r.Wait(); err != nil {
				t.Fatal(err)
			}
			r.near(out, want, 0.05) // a hidden value that is rounded to its other neighbour moves all
		}
		r.run(record)
		r.near(out, want, 0.05)
		if builds != 1 {
			t.Errorf("%d programs were built", builds)
		}
	}
}
