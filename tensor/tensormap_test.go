package tensor_test

import (
	"strings"
	"testing"

	"netfusion/tensor"
)

func TestTensorMapsThatNoDeviceTakes(t *testing.T) {
	good := func() tensor.TensorMap {
		return tensor.TensorMap{At: 64, Ptr: 4096, Element: 2, Dims: []int{70, 9}, Strides: []int{160}, Box: []int{64, 8}, Swizzle: 128}
	}
	m := good()
	if err := m.Check(192); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(m *tensor.TensorMap){
		"cannot be at byte": func(m *tensor.TensorMap) { m.At = 32 },
		"at byte 128":       func(m *tensor.TensorMap) { m.At = 128 },
		"address":           func(m *tensor.TensorMap) { m.Ptr += 8 },
		"elements":          func(m *tensor.TensorMap) { m.Element = 8 },
		"rank 3":            func(m *tensor.TensorMap) { m.Dims = []int{70, 9, 2} },
		"rank 2":            func(m *tensor.TensorMap) { m.Box = []int{64} },
		"dimension 0":       func(m *tensor.TensorMap) { m.Dims[1] = 0 },
		"stride 162":        func(m *tensor.TensorMap) { m.Strides[0] = 162 },
		"box of 257":        func(m *tensor.TensorMap) { m.Box[1] = 257 },
		"bytes 144":         func(m *tensor.TensorMap) { m.Box[0] = 72 },
		"bytes 34":          func(m *tensor.TensorMap) { m.Box[0] = 17 },
		"swizzle":           func(m *tensor.TensorMap) { m.Swizzle = 16 },
	} {
		m := good()
		change(&m)
		if err := m.Check(192); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
