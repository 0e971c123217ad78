package nn

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
)

func f32(name string, values []float32, shape ...int) safetensors.Tensor {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: shape, Data: data}
}

func sample() []safetensors.Tensor {
	return []safetensors.Tensor{
		f32("a.weight", []float32{1, 2, 3, 4, 5, 6}, 2, 3),
		f32("a.bias", []float32{7, 8}, 2),
		{Name: "table", DType: safetensors.I8, Shape: []int{2, 2}, Data: []byte{1, 0xff, 2, 0x80}},
		f32("table.scale", []float32{0.5, 2}, 2),
	}
}

func TestWeightsAreFoundUnderTheirPrefix(t *testing.T) {
	w := Load(Under(Memory("model.safetensors", prefixed("x.", sample())), "x."))
	if got := w.In("a").F32("weight", 2, 3); !slices.Equal(got, []float32{1, 2, 3, 4, 5, 6}) {
		t.Errorf("a.weight = %v", got)
	}
	if l := w.Linear("a", 3, 2); l.W.N != 2 || l.W.K != 3 || !slices.Equal(l.Bias, []float32{7, 8}) {
		t.Errorf("linear a = %+v", l)
	}
	if err := w.Err(); err != nil {
		t.Error(err)
	}
	if got := w.Unused(); !slices.Equal(got, []string{"table", "table.scale"}) {
		t.Errorf("unused: %q", got)
	}
}

func prefixed(p string, m []safetensors.Tensor) []safetensors.Tensor {
	for i := range m {
		m[i].Name = p + m[i].Name
	}
	return m
}

func TestInt8RowsAreScaledOrKept(t *testing.T) {
	w := Load(Memory("model.safetensors", sample()))
	if got := w.F32("table", 2, 2); !slices.Equal(got, []float32{0.5, -0.5, 4, -256}) {
		t.Errorf("table = %v", got)
	}
	if tab := w.Table("table", 2, 2); !slices.Equal(tab.I8, []int8{1, -1, 2, -128}) || !slices.Equal(tab.Scale, []float32{0.5, 2}) {
		t.Errorf("table = %+v", tab)
	}
	if got := w.Unused(); len(got) != 2 || w.Err() != nil {
		t.Errorf("unused %q, error %v", got, w.Err())
	}
}

func TestTheFirstFailureSticksAndNamesFileTensorWantedAndFound(t *testing.T) {
	for _, c := range []struct {
		read func(Weights)
		want []string
	}{
		{func(w Weights) { w.In("a").F32("wait", 2) }, []string{"a.wait", "missing"}},
		{func(w Weights) { w.F32("a.bias", 3) }, []string{"a.bias", "[2]", "[3]"}},
		{func(w Weights) { w.Linear("a", 2, 3) }, []string{"a.weight", "[2 3]", "[3 2]"}},
		{func(w Weights) { w.F32("bytes", 2) }, []string{"bytes", "U8", "F32, F16 or BF16"}},
		{func(w Weights) { w.F32("unscaled", 2) }, []string{"unscaled.scale", "missing"}},
		{func(w Weights) { w.Table("unscaled2", 2, 1) }, []string{"unscaled2.scale", "missing"}},
		{func(w Weights) { w.Conv("conv", 3, 2, 1, 4) }, []string{"conv.weight", "[2 3 3 4]", "[2 3 3 3]"}},
		{func(w Weights) { w.GroupNorm("a", 2, 1, 1e-5) }, []string{"a.weight", "[2 3]", "[2]"}},
	} {
		w := Load(Memory("model.safetensors", append(sample(),
			safetensors.Tensor{Name: "bytes", DType: safetensors.U8, Shape: []int{2}, Data: make([]byte, 2)},
			safetensors.Tensor{Name: "unscaled", DType: safetensors.I8, Shape: []int{2}, Data: make([]byte, 2)},
			safetensors.Tensor{Name: "unscaled2", DType: safetensors.I8, Shape: []int{2, 1}, Data: make([]byte, 2)},
			f32("conv.weight", make([]float32, 72), 2, 3, 3, 4))))
		c.read(w)
		first := w.Err()
		if first == nil {
			t.Fatalf("%v: no error", c.want)
		}
		for _, part := range append(c.want, "model.safetensors") {
			if !strings.Contains(first.Error(), part) {
				t.Errorf("%q does not name %q", first, part)
			}
		}
		if w.F32("nothing", 1); w.Err() != first {
			t.Errorf("a later failure replaced %q by %q", first, w.Err())
		}
	}
}
