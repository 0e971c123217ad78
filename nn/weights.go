// Package nn is layers: weights, and a Forward that runs them on a tensor.Device. Weights reads them from a Source by names
// that mirror the network; Store collects what a converter writes.
package nn

import (
	"fmt"
	"slices"

	"netfusion/kernels/quantize"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Weights reads a checkpoint by names that mirror the network, w.In("encoder.layer.0").Linear("output.dense", …).
// The first failure sticks: every later call returns zero values, and Err tells what went wrong, once.
type Weights struct {
	prefix string
	file   *file
}

type file struct {
	source Source
	used   map[string]bool
	err    error

	precision tensor.Precision
}

// Load starts reading s.
func Load(s Source) Weights {
	return Weights{file: &file{source: s, used: map[string]bool{}}}
}

// As makes the matrices that are read from now on, in all parts of the checkpoint, multiply in precision p. Without it that is
// float32.
func (w Weights) As(p tensor.Precision) Weights {
	w.file.precision = p
	return w
}

// Precision is what As chose.
func (w Weights) Precision() tensor.Precision { return w.file.precision }

// In returns the part of the checkpoint under prefix.
func (w Weights) In(prefix string) Weights {
	return Weights{w.prefix + prefix + ".", w.file}
}

// Err is the first failure: a missing tensor, a shape or a type that is not what the network needs.
func (w Weights) Err() error { return w.file.err }

// Fail records err as the reason why this checkpoint cannot be used, unless there is one already.
func (w Weights) Fail(err error) {
	if w.file.err == nil {
		w.file.err = fmt.Errorf("%s: %w", w.file.source.Origin(), err)
	}
}

// Unused lists the tensors that nobody asked for. A loader that is done expects none.
func (w Weights) Unused() []string {
	var names []string
	for _, n := range w.file.source.Names() {
		if !w.file.used[n] {
			names = append(names, n)
		}
	}
	return names
}

// Raw returns the tensor name as it is stored, after checking its shape; false after a failure, this one or an earlier.
func (w Weights) Raw(name string, shape ...int) (safetensors.Tensor, bool) {
	full := w.prefix + name
	if w.file.err != nil {
		return safetensors.Tensor{}, false
	}
	t, ok := w.file.source.Lookup(full)
	if !ok {
		w.Fail(fmt.Errorf("tensor %q is missing", full))
		return t, false
	}
	if !slices.Equal(t.Shape, shape) {
		w.Fail(fmt.Errorf("tensor %q has shape %v, want %v", full, t.Shape, shape))
		return t, false
	}
	w.file.used[full] = true
	return t, true
}

// F32 returns the tensor name as float32, whatever type it is stored in; a tensor of int8 [n][…] is multiplied by its
// row scales, name.scale [n].
func (w Weights) F32(name string, shape ...int) []float32 { return w.F32Into(nil, name, shape...) }

// F32Into is F32 with memory for the values: they are in dst if it has room for them.
func (w Weights) F32Into(dst []float32, name string, shape ...int) []float32 {
	t, ok := w.Raw(name, shape...)
	if !ok {
		return nil
	}
	if n := t.Elements(); n <= cap(dst) {
		dst = dst[:n]
	} else {
		dst = make([]float32, n)
	}
	if t.DType == safetensors.I8 && len(shape) > 0 && shape[0] > 0 {
		scale := w.F32(name+".scale", shape[0])
		if scale == nil {
			return nil
		}
		quantize.I8RowsToF32(dst, t.Int8s(), scale, shape[0], len(dst)/shape[0])
		return dst
	}
	if err := t.Float32(dst); err != nil {
		w.Fail(err)
		return nil
	}
	return dst
}

// Table is a matrix [Rows][Cols] that is read a row at a time, as an embedding is, in float32 or in the int8 that it
// is stored in.
type Table struct {
	Rows, Cols int
	F32        []float32 // [Rows][Cols], or nil
	I8         []int8    // [Rows][Cols], or nil
	Scale      []float32 // [Rows], with I8
}

// Table returns the tensor name [rows][cols]; int8 stays int8.
func (w Weights) Table(name string, rows, cols int) Table {
	t, ok := w.Raw(name, rows, cols)
	if ok && t.DType == safetensors.I8 {
		return Table{Rows: rows, Cols: cols, I8: t.Int8s(), Scale: w.F32(name+".scale", rows)}
	}
	return Table{Rows: rows, Cols: cols, F32: w.F32(name, rows, cols)}
}
