package npz

import (
	"fmt"
	"maps"
	"slices"

	"netfusion/nn/safetensors"
)

// Tensors returns arrays of f2, f4 or f8 in the order of their names, as nn.Memory takes them; f8 is rounded to F32. f2
// and f4 share the arrays' memory.
func Tensors(arrays map[string]Array) ([]safetensors.Tensor, error) {
	var ts []safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(arrays)) {
		a := arrays[name]
		switch a.Type {
		case "f2":
			ts = append(ts, safetensors.Tensor{Name: name, DType: safetensors.F16, Shape: a.Shape, Data: a.Data})
		case "f4":
			ts = append(ts, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: a.Shape, Data: a.Data})
		default:
			v, err := a.Float32s()
			if err != nil {
				return nil, fmt.Errorf("array %s: %w", name, err)
			}
			ts = append(ts, safetensors.NewF32(name, a.Shape, v))
		}
	}
	return ts, nil
}
