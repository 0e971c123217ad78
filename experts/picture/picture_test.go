package picture

import (
	"image"
	"image/color"
	"math"
	"strings"
	"testing"
)

// half is a picture whose left half is black and whose right half is white, or transparent, which is the same.
func half(side int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			c := color.NRGBA{A: 255}
			if x >= side/2 {
				c = color.NRGBA{R: 7, A: 0}
				if y%2 == 0 {
					c = color.NRGBA{255, 255, 255, 255}
				}
			}
			m.SetNRGBA(x, y, c)
		}
	}
	return m
}

func encode(t *testing.T, c Config, src *image.NRGBA) []float32 {
	t.Helper()
	dst := make([]float32, c.Width())
	if err := c.NewSession().Encode(dst, src); err != nil {
		t.Fatal(err)
	}
	return dst
}

func TestTransforms(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   func(y, x, k int) float64
	}{
		"shrink": {Config{Transform: Shrink, Side: 4}, func(y, x, k int) float64 { return float64(x/2*2) - 1 }},
		"mask": {Config{Transform: Mask, Side: 8, Mask: 4}, func(y, x, k int) float64 {
			if x >= 2 && x < 6 && y >= 2 && y < 6 {
				return 0
			}
			return float64(x/4*2) - 1
		}},
		"grey": {Config{Transform: Grey, Side: 4}, func(y, x, k int) float64 { return float64(x/2*2) - 1 }},
		"edges": {Config{Transform: Edges, Side: 8}, func(y, x, k int) float64 { // (1 + 2 + 1)·2/8 on both sides of the edge
			if x == 3 || x == 4 {
				return 1
			}
			return 0
		}},
	} {
		c.config.Kind = Kind
		if err := c.config.check(); err != nil {
			t.Fatal(name, err)
		}
		v := encode(t, c.config, half(16))
		n, channels := c.config.Side, c.config.Channels()
		for i, got := range v {
			if want := c.want(i/channels/n, i/channels%n, i%channels); math.Abs(float64(got)-want) > 1e-6 {
				t.Errorf("%s: %v at %d, want %v", name, got, i, want)
			}
		}
		shown := c.config.Show(v)
		if shown.Rect.Dx() != n || shown.NRGBAAt(n-1, 0) != (color.NRGBA{255, 255, 255, 255}) {
			t.Errorf("%s: shown as %v in the corner", name, shown.NRGBAAt(n-1, 0))
		}
	}
}

// BT.601: green is brighter than red, red brighter than blue.
func TestGreyIsBrightness(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 3, 3))
	for x, c := range []color.NRGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}} {
		m.SetNRGBA(x, 0, c)
	}
	v := encode(t, Config{Transform: Grey, Side: 3}, m)
	for x, want := range []float64{2*0.299 - 1, 2*0.587 - 1, 2*0.114 - 1} {
		if math.Abs(float64(v[x])-want) > 1e-6 {
			t.Errorf("pixel %d is %v, want %v", x, v[x], want)
		}
	}
}

func TestWhatIsNoSquareOfTheRightSizeIsRefused(t *testing.T) {
	s := Config{Transform: Shrink, Side: 8}.NewSession()
	dst := make([]float32, s.Width())
	for _, m := range []*image.NRGBA{nil, half(4), half(12), image.NewNRGBA(image.Rect(0, 0, 8, 16))} {
		if err := s.Encode(dst, m); err == nil {
			t.Errorf("%v was read", m)
		}
	}
	if err := s.Encode(dst[1:], half(8)); err == nil {
		t.Error("wrote to less room than there must be")
	}
}

func TestConfigsAreChecked(t *testing.T) {
	for config, want := range map[string]string{
		`{"transform": "blur", "side": 8}`:            `"blur"`,
		`{"transform": "shrink", "side": 65}`:         "side is 65",
		`{"transform": "mask", "side": 8}`:            "mask is 0",
		`{"transform": "mask", "side": 8, "mask": 3}`: "mask is 3",
		`{"transform": "grey", "side": 8, "mask": 4}`: "mask is 4",
		`[]`: "some.pack",
	} {
		if _, err := ParseConfig("some.pack", []byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
	if _, err := ParseConfig("", []byte(`{"transform": "mask", "side": 8, "mask": 4}`)); err != nil {
		t.Error(err)
	}
}
