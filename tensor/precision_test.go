package tensor

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/matmul"
)

// The error of a product of random rows, relative to the lengths of row and weights: rounding errors are nearly independent.
var precisionError = map[Precision]float64{F32: 1e-6, BF16: 4e-3, Int8: 1.2e-2}

func TestMatMulInEveryPrecision(t *testing.T) {
	for precision, bound := range precisionError {
		for _, s := range []struct{ m, n, k int }{{1, 1, 1}, {1, 384, 1536}, {5, 95, 127}, {17, 1536, 384}, {257, 130, 66}} {
			x, w, bias := normals(s.m, s.k, 1), normals(s.n, s.k, 2), normals(1, s.n, 4).Data
			var first []float32
			for _, workers := range []int{1, 2, 7} {
				d := CPU(workers)
				weight := NewWeightIn(precision, w.Data, s.n, s.k)
				weight.Reserve(d, s.m)
				dst := New(s.m, s.n)
				for i := range dst.Data {
					dst.Data[i] = float32(math.NaN())
				}
				call := func() { d.MatMul(dst, x, weight, matmul.Epilogue{Bias: bias}) }
				if n := testing.AllocsPerRun(10, call); n != 0 {
					t.Errorf("%v %+v: %v allocations", precision, s, n)
				}
				d.Close()
				if first == nil {
					first = dst.Data
				} else if !slices.Equal(first, dst.Data) {
					t.Errorf("%v %+v: %d workers give other bits than 1", precision, s, workers)
				}
			}
			var square, size float64
			for i := range s.m {
				for j := range s.n {
					want := float64(bias[j])
					for p, v := range x.Row(i) {
						want += float64(v) * float64(w.Row(j)[p])
					}
					d := float64(first[i*s.n+j]) - want
					square += d * d
				}
			}
			size = float64(s.m * s.n * s.k) // of standard normal values
			if e := math.Sqrt(square / size); !(e <= bound) {
				t.Errorf("%v %+v: RMS error %.2g of the product's size, want at most %g", precision, s, e, bound)
			}
		}
	}
}

func TestMatMulRefusesAWeightThatWasNotReserved(t *testing.T) {
	for _, p := range []Precision{BF16, Int8} {
		d := CPU(1)
		w := NewWeightIn(p, make([]float32, 12), 3, 4)
		w.Reserve(d, 1)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: no panic", p)
				}
			}()
			d.MatMul(New(2, 3), New(2, 4), w, matmul.Epilogue{})
		}()
		d.Close()
	}
}

// What comes next is a matter of speed alone, whatever its shape and however many workers there are.
func TestThenChangesNoResult(t *testing.T) {
	shapes := []struct{ n, k int }{{1, 1}, {70, 300}, {1024, 134}, {16, 2100}}
	for precision := range precisionError {
		for _, m := range []int{1, 9, 100} {
			for _, s := range shapes {
				x := normals(m, 2*s.k, 1)
				w := []Weight{NewWeightIn(precision, normals(s.n, s.k, 2).Data, s.n, s.k), NewWeightIn(precision, normals(s.n, s.k, 3).Data, s.n, s.k)}
				want := New(m, 2*s.n)
				for _, workers := range []int{1, 2, 7} {
					d := CPU(workers)
					w[0].Reserve(d, 2*m)
					for i, next := range shapes {
						dst := New(m, 2*s.n)
						d.GroupedMatMul(dst, x, w, matmul.Epilogue{})
						if workers == 1 && i == 0 {
							want = dst
						}
						if !slices.Equal(dst.Data, want.Data) {
							t.Fatalf("%v, %d rows of %+v, %d workers, before %+v: not the same", precision, m, s, workers, next)
						}
						after := NewWeightIn(precision, make([]float32, next.n*next.k), next.n, next.k)
						w[0].Then([]Weight{after, after, after}[:1+i%3]...)
					}
					d.Close()
					w[0].Then()
				}
			}
		}
	}
}

func TestParsePrecision(t *testing.T) {
	for _, p := range []Precision{F32, BF16, Int8} {
		if got, err := ParsePrecision(p.String()); got != p || err != nil {
			t.Errorf("%v is read as %v, %v", p, got, err)
		}
	}
	if _, err := ParsePrecision("fp8"); err == nil {
		t.Error("fp8 was accepted")
	}
}

// Side by side or one after the other: the same bits.
func TestGroupedMatMulIsAProductForEachGroup(t *testing.T) {
	for precision := range precisionError {
		for _, s := range []struct{ groups, m, n, k int }{{2, 1, 67, 33}, {2, 5, 134, 1024}, {3, 26, 96, 200}} {
			x, residual := normals(s.m, s.groups*s.k, 1), normals(s.m, s.groups*s.n, 2)
			bias := normals(1, s.groups*s.n, 3).Data
			weights := make([]Weight, s.groups)
			want := New(s.m, s.groups*s.n)
			one := CPU(1)
			for g := range weights {
				weights[g] = NewWeightIn(precision, normals(s.n, s.k, uint64(4+g)).Data, s.n, s.k)
				weights[g].Reserve(one, s.m)
				xg, rg, dst := New(s.m, s.k), New(s.m, s.n), New(s.m, s.n)
				for i := range s.m {
					copy(xg.Row(i), x.Row(i)[g*s.k:])
					copy(rg.Row(i), residual.Row(i)[g*s.n:])
				}
				one.MatMul(dst, xg, weights[g], matmul.Epilogue{Bias: bias[g*s.n:][:s.n], Act: matmul.Tanh, Residual: rg.Data, LdRes: s.n})
				for i := range s.m {
					copy(want.Row(i)[g*s.n:], dst.Row(i))
				}
			}
			one.Close()
			for _, workers := range []int{1, 2, 7} {
				d := CPU(workers)
				weights[0].Reserve(d, s.groups*s.m)
				dst := New(s.m, s.groups*s.n)
				call := func() {
					d.GroupedMatMul(dst, x, weights, matmul.Epilogue{Bias: bias, Act: matmul.Tanh, Residual: residual.Data, LdRes: residual.Cols})
				}
				if n := testing.AllocsPerRun(10, call); n != 0 {
					t.Errorf("%v %+v: %v allocations", precision, s, n)
				}
				d.Close()
				if !slices.Equal(dst.Data, want.Data) {
					t.Errorf("%v %+v, %d workers: not the products of the groups", precision, s, workers)
				}
			}
		}
	}
}
