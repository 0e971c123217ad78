package nn

import (
	"fmt"
	"math"
	"slices"

	"netfusion/nn/safetensors"
)

// Storage is how an expert file stores matrices: "f32" (also ""), "f16", "bf16", or "int8" with a scale per row.
type Storage string

// Store collects the tensors of an expert file from the checkpoint that a Weights reads. Failures are those of the
// Weights: after the first, nothing is added.
type Store struct {
	from    Weights
	storage Storage
	tensors []safetensors.Tensor
}

// NewStore makes an empty Store of what is read from w.
func NewStore(w Weights, storage Storage) *Store {
	if !slices.Contains([]Storage{"", "f32", "f16", "bf16", "int8"}, storage) {
		w.Fail(fmt.Errorf("storage %q: wanted f32, f16, bf16 or int8", storage))
	}
	return &Store{from: w, storage: storage}
}

// Tensors are those that were added, in that order.
func (s *Store) Tensors() []safetensors.Tensor { return s.tensors }

// Matrix adds a tensor in the storage type; int8 has a scale for each of its shape[0] rows.
func (s *Store) Matrix(name string, v []float32, shape ...int) {
	if !s.usable(name, v) {
		return
	}
	switch s.storage {
	case "f16":
		for _, x := range v {
			if math.Abs(float64(x)) >= 65520 {
				s.from.Fail(fmt.Errorf("tensor %q holds %v, too large for f16", name, x))
				return
			}
		}
		s.tensors = append(s.tensors, safetensors.NewF16(name, shape, v))
	case "bf16":
		s.tensors = append(s.tensors, safetensors.NewBF16(name, shape, v))
	case "int8":
		q, scale := safetensors.NewI8Rows(name, shape, v)
		s.tensors = append(s.tensors, q, scale)
	default:
		s.Put(name, v, shape...)
	}
}

// Put adds a tensor in float32.
func (s *Store) Put(name string, v []float32, shape ...int) {
	if s.usable(name, v) {
		s.tensors = append(s.tensors, safetensors.NewF32(name, shape, v))
	}
}

func (s *Store) usable(name string, v []float32) bool {
	if s.from.Err() != nil {
		return false
	}
	for _, x := range v {
		if x-x != 0 {
			s.from.Fail(fmt.Errorf("tensor %q holds %v", name, x))
			return false
		}
	}
	return true
}

// Transpose returns xᵀ [cols][rows] of x [rows][cols]; nil, what a failed Weights reads, stays nil.
func Transpose(x []float32, rows, cols int) []float32 { return ChannelsLast(x, 1, rows, cols) }

// ChannelsLast returns x [n][channels][pixels] as [n][pixels][channels]: with n outputs it turns a filter from OIHW to
// OHWI, and the rows of a layer that reads a flattened map from CHW to HWC. nil stays nil.
func ChannelsLast(x []float32, n, channels, pixels int) []float32 {
	if x == nil {
		return nil
	}
	y := make([]float32, len(x))
	for i := range n {
		from, to := x[i*channels*pixels:], y[i*channels*pixels:]
		for c := range channels {
			for p := range pixels {
				to[p*channels+c] = from[c*pixels+p]
			}
		}
	}
	return y
}
