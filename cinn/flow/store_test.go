package flow

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

func TestAFlowSurvivesItsFile(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		f := trained(t, c)
		x, cond := normal(5, c.dims(), 1), normal(5, c.Cond, 2)
		run := func(f *Flow) tensor.Tensor {
			v := tensor.New(5, c.Latent)
			session(t, f, 5, 1).Forward(v, nil, x, cond)
			return v
		}
		path := filepath.Join(t.TempDir(), "flow.safetensors")
		if err := f.Save(path, false); err != nil {
			t.Fatal(err)
		}
		g, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if want, got := run(f), run(g); !slices.Equal(got.Data, want.Data) {
			t.Error("a stored flow gives other residuals")
		}
		if err := f.Save(path, true); err != nil {
			t.Fatal(err)
		}
		if g, err = Open(path); err != nil {
			t.Fatal(err)
		}
		want, got := run(f), run(g)
		for i, v := range want.Data {
			if d := math.Abs(float64(got.Data[i] - v)); d > 0.1*max(1, math.Abs(float64(v))) {
				t.Errorf("bf16 storage moves a residual from %v to %v", v, got.Data[i])
			}
		}
	})
}

func TestABadFileIsRefusedByName(t *testing.T) {
	f := trained(t, small["class"])
	conf, err := json.Marshal(f.Config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(config string, ts []safetensors.Tensor) (full, packed error) {
		path := filepath.Join(t.TempDir(), "flow.safetensors")
		if err := safetensors.WriteFile(path, map[string]string{configKey: config}, ts); err != nil {
			t.Fatal(err)
		}
		_, full = Open(path)
		_, packed = OpenPacked(path, tensor.Int8)
		return full, packed
	}
	at := func(ts []safetensors.Tensor, name string) int {
		i := slices.IndexFunc(ts, func(s safetensors.Tensor) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("no tensor %q", name)
		}
		return i
	}
	for _, c := range []struct {
		name   string
		config string
		change func(ts []safetensors.Tensor) []safetensors.Tensor
	}{
		{"embedder.main.0.weight", "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			i := at(ts, "embedder.main.0.weight")
			return slices.Delete(ts, i, i+1)
		}},
		{"extra", "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.NewF32("extra", []int{1}, []float32{1}))
		}},
		{"sub_layers.0.norm_layer.scale", "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[at(ts, "sub_layers.0.norm_layer.scale")] = safetensors.NewF32("sub_layers.0.norm_layer.scale", []int{4}, []float32{1, 0, 1, 1})
			return ts
		}},
		{"linear.bias", "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[at(ts, "linear.bias")] = safetensors.NewF32("linear.bias", []int{4}, []float32{1, float32(math.NaN()), 1, 1})
			return ts
		}},
		{`"sub_layers.1.coupling.st.0.main.2.weight" has NaN at 40`, "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			name := "sub_layers.1.coupling.st.0.main.2.weight"
			v := make([]float32, 81)
			v[40] = float32(math.NaN())
			ts[at(ts, name)] = safetensors.NewF32(name, []int{9, 9}, v)
			return ts
		}},
		{"linear.cholesky", "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[at(ts, "linear.cholesky")] = safetensors.NewF32("linear.cholesky", []int{4, 4}, make([]float32, 16))
			return ts
		}},
		{permName(1), "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[at(ts, permName(1))] = integers(permName(1), []int{0, 1, 2, 2})
			return ts
		}},
		{permName(1), "", func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[at(ts, permName(1))] = safetensors.NewF32(permName(1), []int{4}, make([]float32, 4))
			return ts
		}},
		{"config", "{", func(ts []safetensors.Tensor) []safetensors.Tensor { return ts }},
		{"linear.weight", strings.Replace(string(conf), `"cond":3`, `"cond":16000`, 1), func(ts []safetensors.Tensor) []safetensors.Tensor { return ts }},
		{"hidden", strings.Replace(string(conf), `"hidden":9`, `"hidden":1000000000`, 1), func(ts []safetensors.Tensor) []safetensors.Tensor { return ts }},
	} {
		config := c.config
		if config == "" {
			config = string(conf)
		}
		full, packed := write(config, c.change(f.Tensors(false)))
		for _, err := range []error{full, packed} {
			if err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), "flow.safetensors") {
				t.Errorf("%s: the error is %v", c.name, err)
			}
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestBadConfigsAreRefused(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"dialect":       func(c *Config) { c.Dialect = "nice" },
		"latent":        func(c *Config) { c.Latent = 1 },
		"clamp":         func(c *Config) { c.Clamp = 0 },
		"class noise":   func(c *Config) { c.ClassNoise = 0 },
		"class":         func(c *Config) { c.Class = 0 },
		"net2net class": func(c *Config) { c.Dialect, c.Clamp = Net2Net, 1 },
		"norm":          func(c *Config) { c.Norm = "group" },
		"net2net odd":   func(c *Config) { *c = small["net2net"]; c.Latent = 7 },
		"net2net empty": func(c *Config) { *c = small["net2net"]; c.Blocks = 0 },
		"blocks":        func(c *Config) { c.Blocks = -1 },
	} {
		c := small["class"]
		change(&c)
		if _, err := New(c, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
