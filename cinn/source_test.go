package cinn_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
)

// noise is a picture of side×side pixels.
func noise(side int, seed uint64) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range m.Pix {
		m.Pix[i] = uint8(r.Uint32())
	}
	return m
}

// aSource is a source of every kind but text, with two conditions for it and one that it refuses.
type aSource struct {
	config       string
	width, side  int
	one, another cinn.Request
	refused      cinn.Request
	want         string // in the message
}

func sources(t *testing.T) map[string]aSource {
	encoder := tiny.Experts(t).Encoder
	return map[string]aSource{
		cinn.Picture: {`{"kind": "picture", "transform": "shrink", "side": 4}`, 48, 4,
			cinn.Request{Image: noise(8, 1)}, cinn.Request{Image: noise(4, 2)}, cinn.Request{Image: noise(6, 2)}, "6×6"},
		cinn.Label: {`{"kind": "label", "groups": [{"name": "style", "labels": ["flat", "round"]}, {"name": "size", "labels": ["big", "small"]}]}`, 4, 0,
			cinn.Request{Prompt: "flat, big"}, cinn.Request{Prompt: "Small,round"}, cinn.Request{Prompt: "flat, purple"}, `"purple"`},
		cinn.Layer: {fmt.Sprintf(`{"kind": "layer", "layer": "stages.0", "side": 4, "encoder": %s}`, encoder.Meta["config"]), 0, 4,
			cinn.Request{Image: noise(16, 1)}, cinn.Request{Image: noise(32, 2)}, cinn.Request{Image: noise(8, 2)}, "8×8"},
		cinn.Vector: {`{"kind": "vector", "dimension": 3}`, 3, 0,
			cinn.Request{Vector: []float32{1, 0, 0}}, cinn.Request{Vector: []float32{0, 2, 0}}, cinn.Request{Prompt: "red"}, "3 dimensions"},
	}
}

func TestEverySourceDrawsItsConditions(t *testing.T) {
	for kind, s := range sources(t) {
		part := cinn.Part{Meta: map[string]string{"config": s.config}}
		if kind == cinn.Layer {
			encoder := tiny.Experts(t).Encoder
			var config struct{ Widths []int }
			if err := json.Unmarshal([]byte(encoder.Meta["config"]), &config); err != nil {
				t.Fatal(err)
			}
			part.Tensors, s.width = encoder.Tensors, 16*config.Widths[0]
		}
		m, session := open(t, tiny.PackOf(t, part, s.width, s.side), 1)
		if got := m.Info().Kind; got != kind {
			t.Errorf("%s: a pack of kind %q", kind, got)
		}
		for _, r := range []*cinn.Request{&s.one, &s.another} {
			r.Seed, r.Guidance = 1, 2
		}
		one := draw(t, session, m.Bounds(), s.one)
		if slices.Equal(draw(t, session, m.Bounds(), s.another), one) {
			t.Errorf("%s: two conditions draw the same", kind)
		}
		if !slices.Equal(draw(t, session, m.Bounds(), s.one), one) {
			t.Errorf("%s: the first condition draws something else after the second", kind)
		}
		dst := image.NewNRGBA(m.Bounds())
		if err := session.Generate(t.Context(), dst, s.refused); err == nil || !strings.Contains(err.Error(), s.want) {
			t.Errorf("%s: %v, want words about %s", kind, err, s.want)
		}
		wrong := cinn.Request{Prompt: "flat"}
		if kind == cinn.Label {
			wrong = cinn.Request{Image: noise(16, 1)}
		}
		if err := session.Generate(t.Context(), dst, wrong); !errors.Is(err, cinn.ErrSource) {
			t.Errorf("%s: a condition of another kind: %v", kind, err)
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := session.Generate(t.Context(), dst, s.one); err != nil {
				t.Fatal(err)
			}
			if err := session.Generate(t.Context(), dst, s.another); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: two calls allocate %v times", kind, n)
		}
	}
}

func TestASourceOfNoKindIsRefused(t *testing.T) {
	for config, want := range map[string]string{
		`{"kind": "smell"}`: `"smell"`,
		`{"kind": "picture", "transform": "shrink", "side": 0}`: "side is 0",
		`{"kind": "label", "groups": []}`:                       "0 labels",
		`{"kind": "vector", "dimension": 4}`:                    "4 dimensions",
	} {
		path := tiny.PackOf(t, cinn.Part{Meta: map[string]string{"config": config}}, 3, 0)
		if _, err := cinn.Open(path, cinn.Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
