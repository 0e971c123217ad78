package tensor

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"netfusion/kernels/matmul"
)

func normals(rows, cols int, seed uint64) Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	t := New(rows, cols)
	for i := range t.Data {
		t.Data[i] = float32(r.NormFloat64())
	}
	return t
}

func TestMatMulIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	for _, s := range []struct{ m, n, k int }{{1, 1, 1}, {1, 384, 1536}, {5, 95, 128}, {17, 1536, 384}, {300, 24, 216}, {257, 130, 64}} {
		x, w, res := normals(s.m, s.k, 1), normals(s.n, s.k, 2), normals(s.m, s.n, 3)
		bias := normals(1, s.n, 4).Data
		var want []float32
		for _, workers := range []int{1, 2, 7} {
			d := CPU(workers)
			dst := New(s.m, s.n)
			d.MatMul(dst, x, NewWeight(w.Data, s.n, s.k), matmul.Epilogue{Bias: bias, Act: matmul.GELU, Residual: res.Data, LdRes: s.n})
			d.Close()
			if want == nil {
				want = dst.Data
			} else if !slices.Equal(want, dst.Data) {
				t.Errorf("%+v: %d workers give other bits than 1", s, workers)
			}
		}
	}
}

func TestMatMulDoesNotAllocate(t *testing.T) {
	d := CPU(2)
	defer d.Close()
	x, w, dst := normals(64, 256, 1), NewWeight(normals(256, 256, 2).Data, 256, 256), New(64, 256)
	if n := testing.AllocsPerRun(20, func() { d.MatMul(dst, x, w, matmul.Epilogue{}) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

type tally []atomic.Int32

func (t tally) Tile(i int) { t[i].Add(1) }

func TestPoolRunsEveryTileOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 7} {
		p := NewPool(workers)
		for _, n := range []int{0, 1, 2, 3, 100} {
			done := make(tally, n)
			p.Run(done, n)
			for i := range done {
				if got := done[i].Load(); got != 1 {
					t.Fatalf("%d workers, tile %d of %d ran %d times", workers, i, n, got)
				}
			}
		}
		p.Close()
	}
}

func TestPlanLaysOutTensorsSideBySideInOneSlab(t *testing.T) {
	var a, b Tensor
	passes, allocations := 0, 0.0
	allocations = testing.AllocsPerRun(1, func() {
		Plan(func(m *Arena) {
			passes++
			a, b = m.Take(3, 5), m.Take(100, 7)
		})
	})
	if passes != 4 || allocations > 3 { // AllocsPerRun runs twice; the slab and the arenas
		t.Errorf("%d passes, %v allocations", passes, allocations)
	}
	if a.Rows != 3 || a.Cols != 5 || len(a.Data) != 15 || cap(a.Data) != 15 || len(b.Data) != 700 {
		t.Errorf("a is [%d][%d] of %d values, b has %d", a.Rows, a.Cols, len(a.Data), len(b.Data))
	}
	for i := range a.Data {
		a.Data[i] = 1
	}
	for i, v := range b.Data {
		if v != 0 {
			t.Fatalf("b[%d] lies in a", i)
		}
	}
}

func TestMatMulRefusesWrongShapes(t *testing.T) {
	d := CPU(2)
	defer d.Close()
	w := NewWeight(make([]float32, 15), 3, 5)
	for name, call := range map[string]func(){
		"x":            func() { d.MatMul(New(2, 3), New(2, 4), w, matmul.Epilogue{}) },
		"dst":          func() { d.MatMul(New(2, 4), New(2, 5), w, matmul.Epilogue{}) },
		"rows":         func() { d.MatMul(New(1, 3), New(2, 5), w, matmul.Epilogue{}) },
		"bias":         func() { d.MatMul(New(2, 3), New(2, 5), w, matmul.Epilogue{Bias: make([]float32, 2)}) },
		"residual":     func() { d.MatMul(New(2, 3), New(2, 5), w, matmul.Epilogue{Residual: make([]float32, 5), LdRes: 3}) },
		"residual row": func() { d.MatMul(New(2, 3), New(2, 5), w, matmul.Epilogue{Residual: make([]float32, 6), LdRes: 2}) },
		"groups":       func() { d.GroupedMatMul(New(2, 6), New(2, 5), []Weight{w, w}, matmul.Epilogue{}) },
		"group": func() {
			d.GroupedMatMul(New(2, 6), New(2, 10), []Weight{w, NewWeight(make([]float32, 15), 5, 3)}, matmul.Epilogue{})
		},
		"group bias": func() {
			d.GroupedMatMul(New(2, 6), New(2, 10), []Weight{w, w}, matmul.Epilogue{Bias: make([]float32, 3)})
		},
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
