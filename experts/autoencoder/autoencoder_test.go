package autoencoder

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"netfusion/nn"
	"netfusion/nn/npz"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

const tiny = "testdata/tiny"

func open(t testing.TB, path string) *Model {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func arrays(t testing.TB, path string) map[string]npz.Array {
	t.Helper()
	a, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func floats(t testing.TB, a npz.Array) []float32 {
	t.Helper()
	v, err := a.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pictures is what m sees of n pictures of bytes.
func pictures(t testing.TB, m *Model, bytes []uint8, n int) tensor.Tensor {
	x := tensor.New(n*m.Resolution*m.Resolution, 3)
	in, out := len(bytes)/n, len(x.Data)/n
	for i := range n {
		if err := Pixels(x.Data[i*out:][:out], bytes[i*in:][:in], m.Resolution); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// worst is the largest difference relative to the largest magnitude.
func worst(t testing.TB, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	difference, largest := 0.0, 0.0
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - float64(w)); !(d <= difference) {
			difference = d
		}
		largest = max(largest, math.Abs(float64(w)))
	}
	return difference / largest
}

// The golden is what PyTorch computed in float64: see bench/golden/autoencoder.py.
func TestStagesEqualTheReference(t *testing.T) {
	m, golden := open(t, tiny), arrays(t, filepath.Join(tiny, "golden.npz"))
	dev := tensor.CPU(2)
	defer dev.Close()
	n := golden["image"].Shape[0]
	s, seen := m.NewSession(dev, n), 0
	compare := func(name string, got []float32) {
		seen++
		d := worst(t, got, floats(t, golden[name]))
		t.Logf("%-14s %.2g", name, d)
		if !(d <= 4e-6) {
			t.Errorf("%s differs by %v of its largest value", name, d)
		}
	}
	s.Stage = func(name string, x tensor.Tensor) {
		const step = 29
		var some []float32
		for i := 0; i < len(x.Data); i += step {
			some = append(some, x.Data[i])
		}
		compare(name, some)
	}
	mean, logVariance, err := s.Encode(pictures(t, m, golden["image"].Data, n))
	if err != nil {
		t.Fatal(err)
	}
	compare("mean", mean.Data)
	compare("log_variance", logVariance.Data)
	if want := len(golden) - 1; seen != want {
		t.Errorf("saw %d of %d stages", seen, want)
	}
	if slices.Min(logVariance.Data) != minLogVariance || slices.Max(logVariance.Data) != maxLogVariance {
		t.Errorf("no log-variance is clamped: %v", logVariance.Data)
	}
}

// The trained encoders: EMOJI_EXPERT names a folder with config.json, encoder.npz and latents.npz, EMOJI_IMAGES the
// images that the latents are of.
func TestEmojiExpertReproducesItsLatents(t *testing.T) {
	dir, images := os.Getenv("EMOJI_EXPERT"), os.Getenv("EMOJI_IMAGES")
	if dir == "" || images == "" {
		t.Skip("EMOJI_EXPERT or EMOJI_IMAGES is not set")
	}
	latents, data := arrays(t, filepath.Join(dir, "latents.npz")), arrays(t, images)
	want := [2][]float32{floats(t, latents["mean"]), floats(t, latents["std"])}
	ints := func(a npz.Array) []int {
		v, err := a.Ints()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	key := func(a map[string]npz.Array) [][2]int {
		var keys [][2]int
		style := ints(a["style"])
		for i, e := range ints(a["emoji"]) {
			keys = append(keys, [2]int{e, style[i]})
		}
		return keys
	}
	keys, rows := key(data), key(latents)
	dev := tensor.CPU(2)
	defer dev.Close()
	for _, c := range []struct {
		storage nn.Storage
		most    float64 // difference of a mean or a standard deviation
		rms     float64
	}{{"f32", 2e-3, 2e-4}, {"f16", 2e-3, 2e-4}, {"bf16", 0.02, 2e-3}, {"int8", 0.1, 1e-2}} {
		meta, ts, err := Convert(dir, c.storage)
		if err != nil {
			t.Fatal(err)
		}
		m, err := LoadExpert(nn.Memory(dir, ts), meta)
		if err != nil {
			t.Fatal(err)
		}
		s, most, square, values := m.NewSession(dev, 1), 0.0, 0.0, 0
		size := len(data["image"].Data) / len(keys)
		for i := 0; i < len(rows); i += len(rows)/20 + 1 {
			row := slices.Index(keys, rows[i])
			mean, std, err := s.Encode(pictures(t, m, data["image"].Data[row*size:][:size], 1))
			if err != nil {
				t.Fatal(err)
			}
			Std(std.Data, std.Data)
			for k, got := range [2][]float32{mean.Data, std.Data} {
				for j, g := range got {
					d := math.Abs(float64(g - want[k][i*m.Latent+j]))
					most, square, values = max(most, d), square+d*d, values+1
				}
			}
		}
		bytes, rms := 0, math.Sqrt(square/float64(values))
		for _, x := range ts {
			bytes += len(x.Data)
		}
		t.Logf("%-4s %8d bytes: latents differ by at most %.2g, RMS %.2g", c.storage, bytes, most, rms)
		if !(most <= c.most && rms <= c.rms) {
			t.Errorf("%s: differs by %v, RMS %v, want at most %v and %v", c.storage, most, rms, c.most, c.rms)
		}
	}
}

func TestExpertFileGivesTheBitsOfItsCheckpoint(t *testing.T) {
	meta, ts, err := Convert(tiny, "f16") // as the checkpoint is
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "expert.safetensors")
	if err := safetensors.WriteFile(path, meta, ts); err != nil {
		t.Fatal(err)
	}
	if a, b := open(t, path), open(t, tiny); !reflect.DeepEqual(a.stages, b.stages) || !reflect.DeepEqual(a.head, b.head) {
		t.Error("the expert file holds other weights than the checkpoint folder")
	}
}

func TestSameBitsForAnyNumberOfWorkersAndAnyBatch(t *testing.T) {
	m, golden := open(t, tiny), arrays(t, filepath.Join(tiny, "golden.npz"))
	n := golden["image"].Shape[0]
	x := pictures(t, m, golden["image"].Data, n)
	var want [2][]float32
	for _, workers := range []int{1, 2, 7} {
		dev := tensor.CPU(workers)
		s := m.NewSession(dev, 4)
		mean, logVariance, err := s.Encode(x)
		if err != nil {
			t.Fatal(err)
		}
		if want[0] == nil {
			want = [2][]float32{slices.Clone(mean.Data), slices.Clone(logVariance.Data)}
		} else if !slices.Equal(mean.Data, want[0]) || !slices.Equal(logVariance.Data, want[1]) {
			t.Errorf("%d workers give other bits than 1", workers)
		}
		for i := range n {
			rows := x.Rows / n
			mean, logVariance, err := s.Encode(x.Slice(i*rows, (i+1)*rows))
			if err != nil {
				t.Fatal(err)
			}
			if at := i * m.Latent; !slices.Equal(mean.Data, want[0][at:][:m.Latent]) || !slices.Equal(logVariance.Data, want[1][at:][:m.Latent]) {
				t.Errorf("%d workers: image %d alone has other bits than in a batch", workers, i)
			}
		}
		dev.Close()
	}
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	m := open(t, tiny)
	dev := tensor.CPU(2)
	defer dev.Close()
	s, x := m.NewSession(dev, 2), tensor.New(2*16*16, 3)
	n := testing.AllocsPerRun(20, func() {
		if _, _, err := s.Encode(x); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func TestEncodeRefusesWrongImages(t *testing.T) {
	m := open(t, tiny)
	dev := tensor.CPU(1)
	defer dev.Close()
	s := m.NewSession(dev, 2)
	for name, x := range map[string]tensor.Tensor{
		"none": tensor.New(0, 3), "too many": tensor.New(3*256, 3), "half": tensor.New(256+128, 3), "four colours": tensor.New(256, 4),
	} {
		if _, _, err := s.Encode(x); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPixelsAveragesSquares(t *testing.T) {
	picture := make([]uint8, 4*4*3)
	for i, v := range []uint8{255, 255, 0, 1} { // the top right square, green
		picture[((i/2)*4+2+i%2)*3+1] = v
	}
	dst := make([]float32, 2*2*3)
	if err := Pixels(dst, picture, 2); err != nil {
		t.Fatal(err)
	}
	for i, v := range dst {
		want := -1.0
		if i == 3+1 {
			want = 511.0/4/127.5 - 1
		}
		if math.Abs(float64(v)-want) > 1e-7 {
			t.Errorf("[%d] = %v, want %v", i, v, want)
		}
	}
	if err := Pixels(dst[:3], []uint8{0, 255, 51}, 1); err != nil || dst[0] != -1 || dst[1] != 1 || math.Abs(float64(dst[2])+0.6) > 1e-7 {
		t.Errorf("got %v, %v", dst[:3], err)
	}
	for side, resolution := range map[int]int{0: 2, 1: 2, 3: 2, 2: 0} {
		if Pixels(make([]float32, 3*resolution*resolution), make([]uint8, 3*side*side), resolution) == nil {
			t.Errorf("a picture of side %d for resolution %d: accepted", side, resolution)
		}
	}
	if Pixels(dst, make([]uint8, 4*4*3+1), 2) == nil {
		t.Error("no square: accepted")
	}
}

func TestLoadRefusesWhatIsNotThisEncoder(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*Config, []safetensors.Tensor) []safetensors.Tensor
		want   []string
	}{
		"missing": {func(_ *Config, ts []safetensors.Tensor) []safetensors.Tensor { return ts[1:] }, []string{"stages.0.conv_0.weight", "missing"}},
		"shape": {func(_ *Config, ts []safetensors.Tensor) []safetensors.Tensor {
			ts[0].Shape = []int{8, 9, 1, 3}
			return ts
		}, []string{"stages.0.conv_0.weight", "[8 9 1 3]", "[8 3 3 3]"}},
		"unknown": {func(_ *Config, ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.NewF32("extra", []int{1}, []float32{1}))
		}, []string{"extra"}},
		"latent": {func(c *Config, ts []safetensors.Tensor) []safetensors.Tensor { c.Latent = 6; return ts }, []string{"head.weight", "[12 384]"}},
		"config": {func(c *Config, ts []safetensors.Tensor) []safetensors.Tensor { c.Resolution = 18; return ts }, []string{"18"}},
	} {
		meta, ts, err := Convert(tiny, "f32")
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := ParseConfig("config", []byte(meta["config"]))
		if err != nil {
			t.Fatal(err)
		}
		ts = c.damage(&cfg, ts)
		_, err = Load(nn.Memory("some file", ts), cfg)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, w := range append(c.want, "some file") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not name %q", name, err, w)
			}
		}
	}
}

func TestConvertNamesTheFileThatIsWrong(t *testing.T) {
	config, err1 := os.ReadFile(filepath.Join(tiny, "config.json"))
	weights, err2 := os.ReadFile(filepath.Join(tiny, "encoder.npz"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config, weights []byte
		want            string
	}{
		"no config":        {nil, weights, "config.json"},
		"not json":         {[]byte("{"), weights, "config.json"},
		"no weights":       {config, nil, "encoder.npz"},
		"truncated":        {config, weights[:len(weights)-100], "encoder.npz"},
		"other resolution": {[]byte(`{"output_dim": 32}`), weights, "head.weight"},
		"odd resolution":   {[]byte(`{"output_dim": 18}`), weights, "halved"},
		"no resolution":    {[]byte(`{}`), weights, "resolution"},
	} {
		dir := t.TempDir()
		for file, data := range map[string][]byte{"config.json": c.config, "encoder.npz": c.weights} {
			if data == nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := Convert(dir, ""); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q named", name, err, c.want)
		}
	}
	if _, _, err := Convert(tiny, "int4"); err == nil {
		t.Error("storage int4 is accepted")
	}
	path := filepath.Join(t.TempDir(), "other.safetensors")
	if err := safetensors.WriteFile(path, map[string]string{"arch": "bert"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".absent"} {
		if _, err := Open(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestConfigSurvivesItsJSON(t *testing.T) {
	want := Config{Resolution: 64, Latent: 128, Widths: []int{32, 64, 128, 192, 256}, Groups: 8}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseConfig("config", data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"not json": "{", "no widths": `{"resolution":16,"latent":5,"groups":8}`,
		"zero width": `{"resolution":16,"latent":5,"widths":[0],"groups":8}`, "groups": `{"resolution":16,"latent":5,"widths":[12],"groups":8}`,
		"huge": `{"resolution":16,"latent":1152921504606846976,"widths":[8],"groups":8}`, "negative": `{"resolution":-16,"latent":5,"widths":[8],"groups":8}`,
		"huge maps": `{"resolution":2048,"latent":5,"widths":[64],"groups":8}`,
		"too deep":  `{"resolution":2,"latent":5,"widths":[8,8,8],"groups":8}`,
	} {
		if _, err := ParseConfig("the file", []byte(text)); err == nil || !strings.Contains(err.Error(), "the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"resolution":64,"latent":128,"widths":[32,64,128,192,256],"groups":8}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig("config", data); err == nil {
			if n := c.features(); n <= 0 || n > 1<<34 || c.Latent <= 0 || c.Latent > 1<<12 {
				t.Errorf("%d features of %+v", n, c)
			}
		}
	})
}
