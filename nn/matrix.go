package nn

import (
	"fmt"

	"netfusion/kernels/quantize"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Matrix is a matrix of a checkpoint that is decoded some rows at a time, where it is needed: packing one takes no memory of
// its size. The zero Matrix is what a failure leaves.
type Matrix struct {
	Rows, Cols int
	Factor     float32 // times what is stored; Weights sets it to 1

	stored safetensors.Tensor
	scale  []float32 // of each row, where int8 is stored
}

// Matrix finds the tensor name [rows][cols], of any type that F32 decodes.
func (w Weights) Matrix(name string, rows, cols int) Matrix {
	t, ok := w.Raw(name, rows, cols)
	if !ok {
		return Matrix{}
	}
	m := Matrix{Rows: rows, Cols: cols, Factor: 1, stored: t}
	switch t.DType {
	case safetensors.F32, safetensors.F16, safetensors.BF16:
	case safetensors.I8:
		m.scale = w.F32(name+".scale", rows)
	default:
		w.Fail(fmt.Errorf("tensor %q: is %v, wanted F32, F16, BF16 or I8", t.Name, t.DType))
	}
	if w.Err() != nil {
		return Matrix{}
	}
	return m
}

// Read decodes rows from i on into dst, as many as it has room for: [len(dst)/Cols][Cols].
func (m Matrix) Read(dst []float32, i int) {
	n, k := len(dst)/m.Cols, m.Cols
	t := m.stored
	size := len(t.Data) / (m.Rows * k)
	t.Shape, t.Data = []int{n, k}, t.Data[i*k*size:(i+n)*k*size]
	if m.scale != nil {
		quantize.I8RowsToF32(dst, t.Int8s(), m.scale[i:i+n], n, k)
	} else if err := t.Float32(dst); err != nil {
		panic(err) // Matrix has checked it
	}
	if m.Factor != 1 {
		for j := range dst {
			dst[j] *= m.Factor
		}
	}
}

// Pack packs matrices of as many columns, one below the other, in the precision of As.
func (w Weights) Pack(parts ...Matrix) tensor.Weight {
	if w.Err() != nil {
		return tensor.Weight{}
	}
	rows, cols, read := below(parts)
	return tensor.NewWeightFrom(w.file.precision, rows, cols, read)
}

// below is matrices of as many columns, one below the other, as a reader of rows.
func below(parts []Matrix) (rows, cols int, read func(dst []float32, i int)) {
	for _, p := range parts {
		rows += p.Rows
	}
	return rows, parts[0].Cols, func(dst []float32, i int) {
		for _, p := range parts {
			if i < p.Rows {
				n := min(p.Rows-i, len(dst)/p.Cols)
				p.Read(dst[:n*p.Cols], i)
				dst, i = dst[n*p.Cols:], i+n
			}
			i -= p.Rows
			if len(dst) == 0 {
				return
			}
		}
	}
}
