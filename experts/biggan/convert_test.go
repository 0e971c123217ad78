package biggan

import (
	"encoding/json"
	"image"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

const tiny = "testdata/tiny"

// draw makes the golden's images at truncation 0.4 with m.
func draw(t testing.TB, m *Model, dir string) []float32 {
	t.Helper()
	g := readGolden(t, dir)
	dev := tensor.CPU(1)
	defer dev.Close()
	img, err := m.NewSession(dev, g.z.Rows).Generate(g.z, g.classes(m), Truncation{Value: 0.4})
	if err != nil {
		t.Fatal(err)
	}
	return img.Data
}

func TestExpertFileGivesTheBitsOfItsCheckpoint(t *testing.T) {
	meta, ts, err := Convert(tiny, "f32")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "expert.safetensors")
	if err := safetensors.WriteFile(path, meta, ts); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(draw(t, open(t, path), tiny), draw(t, open(t, tiny), tiny)) {
		t.Error("the expert file draws other images than the checkpoint folder")
	}
}

func TestStorage(t *testing.T) {
	want := draw(t, open(t, tiny), tiny)
	size := map[nn.Storage]int{}
	for _, c := range []struct {
		storage nn.Storage
		most    float64 // root mean square difference of the image, in (-1, 1)
	}{{"f32", 0}, {"f16", 4e-3}, {"bf16", 3e-2}, {"int8", 0.1}} {
		meta, ts, err := Convert(tiny, c.storage)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range ts {
			size[c.storage] += len(x.Data)
		}
		cfg, err := ParseConfig("config", []byte(meta["config"]))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Load(nn.Memory("memory", ts), cfg, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, v := range draw(t, m, tiny) {
			d := float64(v - want[i])
			sum += d * d
		}
		rms := math.Sqrt(sum / float64(len(want)))
		t.Logf("%s: %d bytes, RMS difference %.2g", c.storage, size[c.storage], rms)
		if !(rms <= c.most) {
			t.Errorf("%s: RMS difference %v, want at most %v", c.storage, rms, c.most)
		}
	}
	if !(size["int8"] < size["bf16"] && size["bf16"] == size["f16"] && size["f16"] < size["f32"]) {
		t.Errorf("sizes %v", size)
	}
	if _, _, err := Convert(tiny, "int4"); err == nil {
		t.Error("int4 is accepted")
	}
}

// editable is the tiny expert in memory, to be damaged.
func editable(t testing.TB) (Config, []safetensors.Tensor) {
	t.Helper()
	meta, ts, err := Convert(tiny, "f32")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseConfig("config", []byte(meta["config"]))
	if err != nil {
		t.Fatal(err)
	}
	return cfg, ts
}

func find(t testing.TB, ts []safetensors.Tensor, name string) *safetensors.Tensor {
	t.Helper()
	for i := range ts {
		if ts[i].Name == name {
			return &ts[i]
		}
	}
	t.Fatalf("no tensor %q", name)
	return nil
}

func TestEqualStatisticsAreStoredOnce(t *testing.T) {
	cfg, ts := editable(t)
	if cfg.StatsRows != 0 {
		t.Fatalf("stats_rows is %d of a checkpoint with different rows", cfg.StatsRows)
	}
	// Every row the one of truncation 0.4, stored once: the image of 0.4 at any truncation.
	_, channels := cfg.norms()
	n := channels + cfg.Width
	for _, name := range []string{"norms.means", "norms.vars"} {
		x := find(t, ts, name)
		x.Data, x.Shape = x.Data[20*4*n:21*4*n], []int{1, n}
	}
	cfg.StatsRows = 1
	m, err := Load(nn.Memory("memory", ts), cfg, tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	want := draw(t, open(t, tiny), tiny)
	if !slices.Equal(draw(t, m, tiny), want) {
		t.Error("one row of statistics gives another image")
	}
	g := readGolden(t, tiny)
	dev := tensor.CPU(1)
	defer dev.Close()
	for _, linear := range []bool{false, true} {
		img, err := m.NewSession(dev, 2).Generate(g.z, g.classes(m), Truncation{Value: 0.93, Linear: linear})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(img.Data, want) {
			t.Error("one row of statistics depends on the truncation")
		}
	}
	if !repeats([]float32{1, 2, 1, 2, 1, 2}, 2) || repeats([]float32{1, 2, 1, 2, 1, 3}, 2) {
		t.Error("repeats is wrong")
	}
}

func TestLoadRefusesWhatIsNotThisGenerator(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*Config, *[]safetensors.Tensor)
		want   []string // in the error
	}{
		"missing": {func(_ *Config, ts *[]safetensors.Tensor) {
			*ts = slices.DeleteFunc(*ts, func(x safetensors.Tensor) bool { return x.Name == "blocks.2.conv_1.bias" })
		}, []string{"blocks.2.conv_1.bias", "missing"}},
		"renamed": {func(_ *Config, ts *[]safetensors.Tensor) {
			find(t, *ts, "attention.key.weight").Name = "attention.kay.weight"
		},
			[]string{"attention.key.weight", "missing"}},
		"shape": {func(_ *Config, ts *[]safetensors.Tensor) {
			x := find(t, *ts, "conv_to_rgb.weight")
			x.Shape = []int{3, 9, 1, 4}
		}, []string{"conv_to_rgb.weight", "[3 9 1 4]", "[3 3 3 4]"}},
		"type": {func(_ *Config, ts *[]safetensors.Tensor) {
			x := find(t, *ts, "bn.bias")
			x.DType = safetensors.I32
		}, []string{"bn.bias", "I32"}},
		"unknown": {func(_ *Config, ts *[]safetensors.Tensor) {
			*ts = append(*ts, safetensors.NewF32("extra", []int{1}, []float32{1}))
		}, []string{"extra"}},
		"variance": {func(_ *Config, ts *[]safetensors.Tensor) {
			x := find(t, *ts, "norms.vars")
			*x = safetensors.NewF32(x.Name, x.Shape, slices.Repeat([]float32{-1}, x.Elements()))
		}, []string{"norms.vars", "-1"}},
		"config": {func(c *Config, _ *[]safetensors.Tensor) { c.Resolution = 32 }, []string{"16 pixels", "32"}},
		"other width": {func(c *Config, _ *[]safetensors.Tensor) { c.Width = 8 },
			[]string{"norms.scale.weight", "want"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, ts := editable(t)
			c.damage(&cfg, &ts)
			_, err := Load(nn.Memory("some file", ts), cfg, tensor.F32)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range append(c.want, "some file") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %q", err, w)
				}
			}
		})
	}
}

func TestConvertNamesTheFileThatIsWrong(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(tiny, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(filepath.Join(tiny, "pytorch_model.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config, weights []byte
		want            string
	}{
		"no config":       {nil, weights, "config.json"},
		"no weights":      {config, nil, "pytorch_model.bin"},
		"truncated":       {config, weights[:len(weights)-5000], "pytorch_model.bin"},
		"other config":    {[]byte(strings.Replace(string(config), `"num_classes": 3`, `"num_classes": 4`, 1)), weights, "embeddings.weight"},
		"without block":   {[]byte(strings.Replace(string(config), `"attention_layer_position": 1`, `"attention_layer_position": 9`, 1)), weights, "pytorch_model.bin"},
		"not json":        {[]byte("{"), weights, "config.json"},
		"huge":            {[]byte(strings.Replace(string(config), `"num_classes": 3`, `"num_classes": 1152921504606846976`, 1)), weights, "num_classes"},
		"negative":        {[]byte(strings.Replace(string(config), `"z_dim": 2`, `"z_dim": -2`, 1)), weights, "z_dim"},
		"layer of two":    {[]byte(strings.Replace(string(config), `true,`, ``, 1)), weights, "config.json"},
		"layers disagree": {[]byte(strings.Replace(string(config), `"channel_width": 4`, `"channel_width": 3`, 1)), weights, "config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range map[string][]byte{"config.json": c.config, "pytorch_model.bin": c.weights} {
				if data == nil {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := Convert(dir, "")
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q does not name %q", err, c.want)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nothing"), tensor.F32); err == nil {
		t.Error("a path that does not exist is opened")
	}
	path := filepath.Join(t.TempDir(), "other.safetensors")
	if err := safetensors.WriteFile(path, map[string]string{"arch": "bert"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, tensor.F32); err == nil || !strings.Contains(err.Error(), "bert") {
		t.Errorf("an expert of another kind: %v", err)
	}
}

// A config.json of a few bytes must not make us allocate what it claims before the weights bear it out.
func TestConvertAllocatesLittleForAHugeConfig(t *testing.T) {
	dir := t.TempDir()
	config := Config{Resolution: 4, ZDim: 1 << 12, ClassDim: 1 << 12, Width: 1 << 10, Classes: 1 << 20, Attention: -1, Eps: 1e-4, Stats: 1 << 12,
		Layers: []Layer{{false, 16, 8}, {false, 8, 4}, {false, 4, 2}, {false, 2, 1}}}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile(filepath.Join(tiny, "pytorch_model.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"config.json": data, "pytorch_model.bin": weights} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := Convert(dir, ""); err == nil || !strings.Contains(err.Error(), `"embeddings.weight" has shape`) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d bytes allocated", n)
	}
}

// sigma is u·(W v) as stored, whatever u and v are.
func TestFoldDividesByTheStoredNorm(t *testing.T) {
	ts := []safetensors.Tensor{
		safetensors.NewF32("x.weight_orig", []int{2, 3, 1, 1}, []float32{1, 2, 3, 4, 5, 6}),
		safetensors.NewF32("x.weight_u", []int{2}, []float32{0.5, 2}),
		safetensors.NewF32("x.weight_v", []int{3}, []float32{1, 0, -2}),
	}
	w := nn.Load(nn.Memory("memory", ts))
	const sigma = 0.5*(1-6) + 2*(4-12)
	got := fold(w, "x", 2, 3, 1, 1)
	for i, v := range got {
		if want := float32(float64(i+1) / sigma); v != want {
			t.Errorf("[%d] = %v, want %v", i, v, want)
		}
	}
	ts[2] = safetensors.NewF32("x.weight_v", []int{3}, make([]float32, 3))
	w = nn.Load(nn.Memory("memory", ts))
	if fold(w, "x", 2, 3, 1, 1); w.Err() == nil || !strings.Contains(w.Err().Error(), "x.weight_orig") {
		t.Errorf("a norm of zero: %v", w.Err())
	}
}

func TestConfigSurvivesItsJSON(t *testing.T) {
	for _, s := range shapes {
		want := s.Config
		want.ZDim, want.ClassDim, want.Eps, want.Stats = 128, 128, 1e-4, 51
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseConfig(s.name, data)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Layers, want.Layers) || got.Attention != want.Attention || got.Eps != want.Eps {
			t.Errorf("%s: %+v, want %+v", s.name, got, want)
		}
	}
	var l Layer
	for text, want := range map[string]Layer{"[1, 4, 2]": {true, 4, 2}, "[0, 4, 4]": {false, 4, 4}, "[true, 2, 1]": {true, 2, 1}} {
		if err := json.Unmarshal([]byte(text), &l); err != nil || l != want {
			t.Errorf("%s: %+v, %v", text, l, err)
		}
	}
	for _, text := range []string{"[]", "[2, 4, 4]", "[null, 4, 4]", "[true, 4]", "[true, 4, 2, 1]", `["x", 4, 2]`, "4"} {
		if json.Unmarshal([]byte(text), &l) == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func TestConfigRefusesByName(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"eps is 0":                      func(c *Config) { c.Eps = 0 },
		"stats_rows is 7":               func(c *Config) { c.StatsRows = 7 },
		"layer 1 has 16 input channels": func(c *Config) { c.Layers[1].In = 16 },
		"layer 0 has 4 output channels": func(c *Config) { c.Layers[0].Out = 4 },
		"attention over 36 channels":    func(c *Config) { c.Width, c.Attention = 9, 4 },
		"layer 5 has 18 channels":       func(c *Config) { c.Width, c.Attention = 9, -1 },
		"number of layers is 0":         func(c *Config) { c.Layers = nil },
		"the layers end at 16 pixels":   func(c *Config) { c.Layers[0].Up = false },
		"layer 4 reaches 32 pixels":     func(c *Config) { c.Resolution = 16 },
		"layer 8 takes maps of 268435456 values": func(c *Config) {
			c.Resolution, c.Width, c.Attention, c.Layers = 2048, 4, -1, nil
			for range 9 {
				c.Layers = append(c.Layers, Layer{true, 16, 16})
			}
			c.Layers = append(c.Layers, Layer{false, 16, 8}, Layer{false, 8, 4}, Layer{false, 4, 2}, Layer{false, 2, 1})
		},
	} {
		c := shapes[0].Config
		c.ZDim, c.ClassDim, c.Eps, c.Stats, c.Layers = 2, 2, 1e-4, 51, slices.Clone(c.Layers)
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	config, err := os.ReadFile(filepath.Join(tiny, "config.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(config)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig("config", data); err == nil {
			if _, channels := c.norms(); channels <= 0 || channels > 1<<24 {
				t.Errorf("%d channels of %+v", channels, c)
			}
		}
	})
}

func TestGenerateRefusesWrongRequests(t *testing.T) {
	m := open(t, tiny)
	dev := tensor.CPU(1)
	defer dev.Close()
	s := m.NewSession(dev, 2)
	for name, c := range map[string]struct {
		z, class   tensor.Tensor
		truncation float64
	}{
		"too many":        {tensor.New(3, 2), tensor.New(3, 2), 1},
		"none":            {tensor.New(0, 2), tensor.New(0, 2), 1},
		"different":       {tensor.New(2, 2), tensor.New(1, 2), 1},
		"latent size":     {tensor.New(1, 3), tensor.New(1, 2), 1},
		"class size":      {tensor.New(1, 2), tensor.New(1, 3), 1},
		"truncation 1.01": {tensor.New(1, 2), tensor.New(1, 2), 1.01},
		"truncation -1":   {tensor.New(1, 2), tensor.New(1, 2), -1},
		"truncation NaN":  {tensor.New(1, 2), tensor.New(1, 2), math.NaN()},
	} {
		if _, err := s.Generate(c.z, c.class, Truncation{Value: c.truncation}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := s.Generate(tensor.New(1, 2), tensor.New(1, 2), Truncation{}); err != nil {
		t.Errorf("the zero truncation: %v", err)
	}
}

func TestMix(t *testing.T) {
	m := open(t, tiny)
	e := make([]float32, m.ClassDim)
	m.Mix(e, []float32{0, 1, 0})
	if !slices.Equal(e, m.Class(1)) {
		t.Errorf("one-hot gives %v, the class is %v", e, m.Class(1))
	}
	m.Mix(e, []float32{0.5, 0, 0.25})
	for i, v := range e {
		if want := 0.5*m.Class(0)[i] + 0.25*m.Class(2)[i]; math.Abs(float64(v-want)) > 1e-6 {
			t.Errorf("[%d] = %v, want %v", i, v, want)
		}
	}
}

func TestByteTruncates(t *testing.T) {
	for x, want := range map[float32]byte{-1: 0, -2: 0, -0.9922: 0, -0.992: 1, 0: 128, 0.9921: 254, 0.9922: 255, 1: 255, 7: 255} {
		if got := Byte(x); got != want {
			t.Errorf("%v gives %d, want %d", x, got, want)
		}
	}
	if Byte(float32(math.NaN())) != 0 {
		t.Error("NaN is not black")
	}
}

func TestDraw(t *testing.T) {
	sheet := image.NewNRGBA(image.Rect(0, 0, 5, 4))
	Draw(sheet.SubImage(image.Rect(2, 1, 4, 3)).(*image.NRGBA), []float32{-1, 0, 1, 1, -1, 0, 0, 1, -1, 0.5, 0.5, 0.5})
	for y := range 4 {
		for x := range 5 {
			got := sheet.NRGBAAt(x, y)
			inside := x >= 2 && x < 4 && y >= 1 && y < 3
			if inside != (got.A == 255) {
				t.Errorf("pixel %d,%d is %v", x, y, got)
			}
		}
	}
	if c := sheet.NRGBAAt(3, 1); c.R != 255 || c.G != 0 || c.B != 128 {
		t.Errorf("pixel 3,1 is %v", c)
	}
}
