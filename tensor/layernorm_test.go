package tensor

import (
	"slices"
	"testing"
)

func TestLayerNormIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	const eps = 1e-12
	for _, s := range []struct{ rows, cols int }{{1, 1}, {5, 384}, {300, 384}, {40, 1000}, {3, 20000}} {
		x, residual := normals(s.rows, s.cols, 1), normals(s.rows, s.cols, 2)
		gamma, beta := normals(1, s.cols, 3).Data, normals(1, s.cols, 4).Data
		for _, add := range []Tensor{{}, residual} {
			want := New(s.rows, s.cols)
			one := CPU(1)
			for i := range s.rows { // row by row
				var r Tensor
				if add.Data != nil {
					r = add.Slice(i, i+1)
				}
				one.LayerNorm(want.Slice(i, i+1), x.Slice(i, i+1), r, gamma, beta, eps)
			}
			one.Close()
			for _, workers := range []int{1, 2, 7} {
				d := CPU(workers)
				dst := New(s.rows, s.cols)
				if n := testing.AllocsPerRun(20, func() { d.LayerNorm(dst, x, add, gamma, beta, eps) }); n != 0 {
					t.Errorf("%+v: %v allocations", s, n)
				}
				d.Close()
				if !slices.Equal(dst.Data, want.Data) {
					t.Errorf("%+v, %d workers: not the same bits as row by row", s, workers)
				}
			}
		}
	}
}

func TestLayerNormRefusesWrongShapes(t *testing.T) {
	d := CPU(1)
	defer d.Close()
	x, five := New(2, 5), make([]float32, 5)
	for name, call := range map[string]func(){
		"dst":      func() { d.LayerNorm(New(2, 4), x, Tensor{}, five, five, 1) },
		"residual": func() { d.LayerNorm(New(2, 5), x, New(1, 5), five, five, 1) },
		"gamma":    func() { d.LayerNorm(New(2, 5), x, Tensor{}, five[1:], five, 1) },
		"beta":     func() { d.LayerNorm(New(2, 5), x, Tensor{}, five, five[1:], 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}
