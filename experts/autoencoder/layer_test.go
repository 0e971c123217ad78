package autoencoder

import (
	"encoding/json"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// converted is the tiny encoder as an expert file's parts.
func converted(t *testing.T) (meta map[string]string, tensors []safetensors.Tensor) {
	t.Helper()
	meta, tensors, err := Convert(tiny, "f32")
	if err != nil {
		t.Fatal(err)
	}
	return meta, tensors
}

func layer(t *testing.T, name string, side int) (*Layer, error) {
	t.Helper()
	meta, tensors := converted(t)
	return LoadLayer(nn.Memory("some.pack", tensors), []byte(fmt.Sprintf(`{"layer": %q, "side": %d, "encoder": %s}`, name, side, meta["config"])))
}

// A layer is what a Session shows of it, whole or averaged.
func TestALayerIsWhatTheEncoderShowsOfIt(t *testing.T) {
	m := open(t, tiny)
	side := m.Resolution
	src := image.NewNRGBA(image.Rect(0, 0, side, side))
	bytes := make([]uint8, 3*side*side)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range side * side {
		for k := range 3 {
			bytes[3*i+k] = uint8(r.Uint32())
		}
		copy(src.Pix[4*i:], bytes[3*i:3*i+3])
		src.Pix[4*i+3] = 255
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	s := m.NewSession(dev, 1)
	shown := map[string][]float32{}
	s.Stage = func(name string, x tensor.Tensor) { shown[name] = slices.Clone(x.Data) }
	mean, _, err := s.Encode(pictures(t, m, bytes, 1))
	if err != nil {
		t.Fatal(err)
	}
	shown["head"] = mean.Data
	for _, name := range m.Layers() {
		l, err := layer(t, name, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, l.Width())
		if err := l.NewSession(dev).Encode(got, src); err != nil {
			t.Fatal(err)
		}
		for i, want := range shown[name] {
			if d := math.Abs(float64(got[i] - want)); len(got) != len(shown[name]) || d > 1e-5 {
				t.Fatalf("%s: %d values, %v at %d; want %d, %v", name, len(got), got[i], i, len(shown[name]), want)
			}
		}
		if name == "head" {
			continue
		}
		small, err := layer(t, name, 1)
		if err != nil {
			t.Fatal(err)
		}
		average := make([]float32, small.Width())
		if err := small.NewSession(dev).Encode(average, src); err != nil {
			t.Fatal(err)
		}
		for k, v := range average {
			var sum float64
			for i := k; i < len(got); i += len(average) {
				sum += float64(got[i])
			}
			if want := sum * float64(len(average)) / float64(len(got)); math.Abs(float64(v)-want) > 1e-5 {
				t.Errorf("%s: the average of channel %d is %v, want %v", name, k, v, want)
			}
		}
	}
}

func TestALayerThatThereIsNotIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		side int
		want string
	}{{"stages.9", 0, "stages.0, stages.1"}, {"head.1", 0, `"head.1"`}, {"stages.0", 3, "a side of 3"}, {"head", 2, "a side of 2"}} {
		if _, err := layer(t, c.name, c.side); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "some.pack") {
			t.Errorf("%s, side %d: %v", c.name, c.side, err)
		}
	}
	l, err := layer(t, "head", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(image.NewNRGBA(image.Rect(0, 0, 8, 9))); err == nil || !strings.Contains(err.Error(), "8×9") {
		t.Errorf("%v", err)
	}
	var c LayerConfig
	if text, err := json.Marshal(l.LayerConfig); err != nil || json.Unmarshal(text, &c) != nil || c.Layer != "head" || c.Encoder.Latent != l.Width() {
		t.Errorf("%s, %v", text, err)
	}
}
