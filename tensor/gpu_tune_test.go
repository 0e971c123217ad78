package tensor_test

import (
	"fmt"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
	"netfusion/tensor/ptx"
)

// What is measured is fast enough, computes the same, is not measured twice, and where it cannot be measured all goes on.
func TestTune(t *testing.T) {
	if testing.Short() {
		t.Skip("the interpreter takes its time")
	}
	const m, k, n, side = 20, 64, 24, 2
	x := kerneltest.Normals(1, m*k, 1)
	w, filter := kerneltest.Normals(2, n*k, 0.1), kerneltest.Normals(3, 9*n*8, 0.1)
	var want []float32
	for _, c := range []struct {
		tune   bool
		refuse int // the stream that is not opened
	}{{false, 0}, {true, 0}, {true, 4}} {
		opened := 0
		fail := func(call string) error {
			if call == "OpenStream" {
				if opened++; opened == c.refuse {
					return fmt.Errorf("no more streams: %w", tensor.ErrOutOfMemory)
				}
			}
			return nil
		}
		g, err := tensor.OpenGPU(ptx.Open(ptx.Options{Fail: fail}), tensor.GPUOptions{Tune: c.tune})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		weight := g.NewWeight(tensor.BF16, w, n, k)
		conv := g.NewFilter(tensor.BF16, filter, tensor.ConvShape{Out: n, In: 8, Size: 3, Stride: 1})
		for range 2 {
			before := opened
			q, err := g.NewQueue(1 << 16)
			if err != nil {
				t.Fatal(err)
			}
			in, out := tensor.Stage[float32](q, m*k), tensor.Stage[float32](q, (m+side*side)*n)
			copy(in.Host, x)
			if err := q.Run(func() {
				q.Upload(in)
				from := tensor.Matrix(in.Array, m, k)
				q.MatMul(tensor.Matrix(out.Array.Slice(0, m*n), m, n), from, weight, tensor.GPUEpilogue{})
				pixels := tensor.Matrix(in.Array.Slice(0, side*side*8), side*side, 8)
				q.Conv(tensor.Matrix(out.Array.Slice(m*n, out.Len), side*side, n), pixels, side, side, &conv, tensor.GPUConvEpilogue{})
				q.Download(out)
			}); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = append(want, out.Host...)
			}
			kerneltest.Near(t, out.Host, func(i int) (float64, float64) { return float64(want[i]), 1e-5 })
			measured := opened - before - 1
			switch first := before == 1; {
			case c.tune && first && c.refuse == 0 && measured < 4:
				t.Errorf("%d kernels were measured", measured)
			case !(c.tune && first) && measured > 0:
				t.Errorf("%d kernels were measured, where none should be", measured)
			}
		}
	}
}
