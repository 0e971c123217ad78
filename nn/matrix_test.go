package nn

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"netfusion/kernels/matmul"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Read some rows at a time, stacked, in any type and precision: what the whole matrix gives.
func TestPackedMatricesMultiplyLikeTheWholeOne(t *testing.T) {
	const k = 37
	r := rand.New(rand.NewPCG(1, 2))
	values := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	rows := []int{5, 40, 16, 1, 33}
	x := tensor.Of(3, k, values(3*k))
	for _, storage := range []Storage{"f32", "f16", "bf16", "int8"} {
		s := NewStore(Load(Memory("", nil)), storage)
		names := []string{"a", "b", "c", "d", "e"}
		for i, n := range rows {
			s.Matrix(names[i], values(n*k), n, k)
		}
		for _, precision := range []tensor.Precision{tensor.F32, tensor.BF16, tensor.Int8} {
			w := Load(Memory("file", s.Tensors())).As(precision)
			var parts []Matrix
			var whole []float32
			for i, n := range rows {
				m := w.Matrix(names[i], n, k)
				v := w.F32(names[i], n, k)
				if i == 1 {
					m.Factor = 0.5
					for j := range v {
						v[j] *= 0.5
					}
				}
				parts, whole = append(parts, m), append(whole, v...)
			}
			n := len(whole) / k
			product := func(weight tensor.Weight) []float32 {
				dev := tensor.CPU(1)
				defer dev.Close()
				weight.Reserve(dev, x.Rows)
				dst := tensor.New(x.Rows, n)
				dev.MatMul(dst, x, weight, matmul.Epilogue{})
				return dst.Data
			}
			got, want := product(w.Pack(parts...)), product(tensor.NewWeightIn(precision, whole, n, k))
			if err := w.Err(); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s in %v: %v, or another product", storage, precision, err)
			}
		}
	}
}

func TestAMatrixOfAnotherTypeIsRefused(t *testing.T) {
	w := Load(Memory("file", []safetensors.Tensor{{Name: "m", DType: safetensors.U8, Shape: []int{1, 2}, Data: make([]byte, 2)}}))
	if m := w.Matrix("m", 1, 2); m.Rows != 0 || w.Err() == nil || !strings.Contains(w.Err().Error(), `file: tensor "m": is U8`) {
		t.Errorf("%+v, %v", m, w.Err())
	}
	if p := w.Pack(Matrix{}); p.N != 0 {
		t.Error("packed after a failure")
	}
}
