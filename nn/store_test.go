package nn

import (
	"math"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
)

func TestStoreKeepsMatricesInItsType(t *testing.T) {
	v := []float32{1, -2, 0.5, 127, -127, 0}
	for storage, want := range map[Storage][]safetensors.DType{
		"": {safetensors.F32}, "f32": {safetensors.F32}, "f16": {safetensors.F16}, "bf16": {safetensors.BF16},
		"int8": {safetensors.I8, safetensors.F32},
	} {
		w := Load(Memory("some file", nil))
		s := NewStore(w, storage)
		s.Matrix("m", v, 2, 3)
		s.Put("bias", v[:2], 2)
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		ts := s.Tensors()
		for i, d := range append(slices.Clone(want), safetensors.F32) {
			if ts[i].DType != d {
				t.Errorf("%q: tensor %q is %v, want %v", storage, ts[i].Name, ts[i].DType, d)
			}
		}
		if storage == "int8" {
			continue // rounded; NewI8Rows has its own tests
		}
		if got := Load(Memory("the store", ts)).F32("m", 2, 3); !slices.Equal(got, v) {
			t.Errorf("%q: read back %v, want %v", storage, got, v)
		}
	}
}

func TestStoreRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		storage Storage
		value   float32
		want    string
	}{
		"storage":   {"int4", 1, `"int4"`},
		"NaN":       {"f32", float32(math.NaN()), `tensor "m" holds NaN`},
		"infinity":  {"int8", float32(math.Inf(1)), `tensor "m" holds +Inf`},
		"too large": {"f16", 65520, `tensor "m" holds 65520`},
	} {
		w := Load(Memory("some file", nil))
		s := NewStore(w, c.storage)
		s.Matrix("m", []float32{c.value}, 1, 1)
		s.Put("later", []float32{1}, 1)
		if err := w.Err(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "some file") {
			t.Errorf("%s: %v", name, err)
		}
		if len(s.Tensors()) != 0 {
			t.Errorf("%s: kept %d tensors", name, len(s.Tensors()))
		}
	}
}

func TestChannelsLast(t *testing.T) {
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12} // two of three channels, two pixels
	if got := ChannelsLast(x, 2, 3, 2); !slices.Equal(got, []float32{1, 3, 5, 2, 4, 6, 7, 9, 11, 8, 10, 12}) {
		t.Errorf("got %v", got)
	}
	if got := Transpose(x[:6], 2, 3); !slices.Equal(got, []float32{1, 4, 2, 5, 3, 6}) {
		t.Errorf("transposed: %v", got)
	}
	if ChannelsLast(nil, 2, 3, 2) != nil {
		t.Error("nil does not stay nil")
	}
}
