package flow

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/nn/torchbin"
	"netfusion/tensor"
)

// publishedGolden is what bench/golden/net2net.py, with the paper's own code, wrote of its flow beside the checkpoint.
type publishedGolden struct {
	C      [][]float32 `json:"c"`
	Z      [][]float32 `json:"z"`
	V      [][]float32 `json:"v"`
	LogDet []float32   `json:"logdet"`
	Noise  [][]float32 `json:"noise"`
	Sample [][]float32 `json:"sample"`
}

func rowsOf(rows [][]float32) tensor.Tensor {
	t := tensor.New(len(rows), len(rows[0]))
	for i, row := range rows {
		copy(t.Row(i), row)
	}
	return t
}

func TestAPublishedFlowComputesTheSame(t *testing.T) {
	f, err := Convert("testdata/net2net.ckpt")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Dialect: Net2Net, Latent: 10, Cond: 7, Blocks: 3, Hidden: 16, Depth: 2, Clamp: 1, Embed: 6, EmbedWidth: 20, EmbedDepth: 2}
	if f.Config != want {
		t.Fatalf("config %+v, want %+v", f.Config, want)
	}
	data, err := os.ReadFile("testdata/net2net.json")
	if err != nil {
		t.Fatal(err)
	}
	var g publishedGolden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	s, err := f.NewSession(dev, len(g.C))
	if err != nil {
		t.Fatal(err)
	}
	c, n := rowsOf(g.C), len(g.C)
	v, logdet := tensor.New(n, 10), make([]float32, n)
	s.Forward(v, logdet, rowsOf(g.Z), c)
	x := tensor.New(n, 10)
	s.Inverse(x, rowsOf(g.Noise), c)
	const bound = 1e-5
	near := func(what string, got, want float32) {
		t.Helper()
		if d := math.Abs(float64(got - want)); !(d <= bound*max(1, math.Abs(float64(want)))) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	for i := range n {
		near("log-determinant", logdet[i], g.LogDet[i])
		for j := range 10 {
			near("residual", v.Row(i)[j], g.V[i][j])
			near("sample", x.Row(i)[j], g.Sample[i][j])
		}
	}

	// In the published code the density of a sample in training depends on the other samples of its batch. A Session's does not.
	alone, logdet1 := tensor.New(1, 10), make([]float32, 1)
	s.Forward(alone, logdet1, rowsOf(g.Z[2:3]), rowsOf(g.C[2:3]))
	if logdet1[0] != logdet[2] || alone.Data[4] != v.Row(2)[4] {
		t.Errorf("alone, sample 2 has log-determinant %v and not %v", logdet1[0], logdet[2])
	}
}

// altered is a checkpoint with one tensor changed.
type altered struct {
	nn.Source
	name   string
	change func(t safetensors.Tensor) (safetensors.Tensor, bool) // false takes it away
}

func (a altered) Lookup(name string) (safetensors.Tensor, bool) {
	t, ok := a.Source.Lookup(name)
	if name == a.name {
		return a.change(t)
	}
	return t, ok
}

func (a altered) Names() []string {
	names := a.Source.Names()
	if _, ok := a.Source.Lookup(a.name); !ok {
		names = append(names, a.name)
	}
	return names
}

func TestWhatIsNotAPublishedFlowIsRefused(t *testing.T) {
	file, err := torchbin.Open("testdata/net2net.ckpt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	remove := func(t safetensors.Tensor) (safetensors.Tensor, bool) { return t, false }
	zeros := func(t safetensors.Tensor) (safetensors.Tensor, bool) {
		t.Data = make([]byte, len(t.Data))
		return t, true
	}
	flat := func(t safetensors.Tensor) (safetensors.Tensor, bool) {
		t.Shape = []int{t.Elements()}
		return t, true
	}
	for _, c := range []struct {
		name   string
		change func(t safetensors.Tensor) (safetensors.Tensor, bool)
		want   string
	}{
		{"sub_layers.1.coupling.t.0.main.2.bias", remove, `"sub_layers.1.coupling.t.0.main.2.bias" is missing`},
		{"embedder.main.9.weight", flat, `"embedder.main.9.weight" has shape [120], want a matrix`},
		{"embedder.main.1.running_mean", remove, "has no BatchNorm"},
		{"conditioning_layers.0.weight", zeros, `"conditioning_layers.0.weight" is not part of such a flow`},
		{"sub_layers.2.norm_layer.initialized", zeros, "has not begun its training"},
		{"sub_layers.2.shuffle.forward_shuffle_idx", zeros, "is not a permutation"},
		{"sub_layers.2.shuffle.backward_shuffle_idx", func(t safetensors.Tensor) (safetensors.Tensor, bool) {
			back := slices.Clone(t.Data)
			copy(back, t.Data[8:16])
			copy(back[8:], t.Data[:8])
			t.Data = back
			return t, true
		}, "does not undo"},
	} {
		_, err := convert(altered{file, "state_dict.flow." + c.name, c.change})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "net2net.ckpt") {
			t.Errorf("%s: the error is %v", c.name, err)
		}
	}
	none := nn.Memory("weights.bin", []safetensors.Tensor{safetensors.NewF32("layer.weight", []int{1}, []float32{1})})
	if _, err := convert(none); err == nil || !strings.Contains(err.Error(), "not a flow of net2net") {
		t.Errorf("other weights: the error is %v", err)
	}
	if _, err := Convert("testdata/none"); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}
