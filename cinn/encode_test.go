package cinn_test

import (
	"errors"
	"image"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
	"netfusion/nn/npz"
)

// The golden is what PyTorch made of the image: see bench/golden/autoencoder.py.
func TestEncodeGivesTheLatentsOfTheReference(t *testing.T) {
	golden, err := npz.Open(filepath.Join(tiny.ImageEncoder(t), "golden.npz"))
	if err != nil {
		t.Fatal(err)
	}
	wantMean, err1 := golden["mean"].Float32s()
	wantLog, err2 := golden["log_variance"].Float32s()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	m, s := open(t, tiny.Pack(t), 2)
	z := m.Info().Z
	mean, std := make([]float32, z), make([]float32, z)
	sheet := image.NewNRGBA(image.Rect(0, 0, 20, 20))
	img := sheet.SubImage(image.Rect(3, 1, 19, 17)).(*image.NRGBA)
	for i := range golden["image"].Shape[0] {
		for p := range 256 {
			to := img.Pix[img.PixOffset(3+p%16, 1+p/16):]
			copy(to[:3], golden["image"].Data[(i*256+p)*3:])
			to[3] = 255
		}
		if err := s.Encode(mean, std, img); err != nil {
			t.Fatal(err)
		}
		for j := range z {
			wantStd := math.Exp(float64(wantLog[i*z+j]) / 2)
			if d, e := float64(mean[j]-wantMean[i*z+j]), float64(std[j])/wantStd-1; !(math.Abs(d) < 1e-4 && math.Abs(e) < 1e-4) {
				t.Errorf("image %d dimension %d: %v ± %v, want %v ± %v", i, j, mean[j], std[j], wantMean[i*z+j], wantStd)
			}
		}
	}
	if n := testing.AllocsPerRun(10, func() { s.Encode(mean, std, img) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func TestWhatIsTransparentIsWhite(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	var got [3][]float32
	for i, c := range []uint8{255, 0, 100} {
		img := image.NewNRGBA(m.Bounds())
		for p := range img.Pix {
			img.Pix[p] = c
			if p%4 == 3 {
				img.Pix[p] = []uint8{255, 0, 255}[i]
			}
		}
		mean, std := make([]float32, m.Info().Z), make([]float32, m.Info().Z)
		if err := s.Encode(mean, std, img); err != nil {
			t.Fatal(err)
		}
		got[i] = append(mean, std...)
	}
	if !slices.Equal(got[0], got[1]) || slices.Equal(got[0], got[2]) {
		t.Errorf("white %v, transparent %v, grey %v", got[0], got[1], got[2])
	}
}

func TestEncodeRefuses(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	v, img := make([]float32, m.Info().Z), image.NewNRGBA(m.Bounds())
	for name, err := range map[string]error{
		"short mean": s.Encode(v[1:], v, img), "short std": s.Encode(v, v[1:], img), "no image": s.Encode(v, v, nil),
		"large image": s.Encode(v, v, image.NewNRGBA(image.Rect(0, 0, 17, 16))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s.Close()
	if err := s.Encode(v, v, img); !errors.Is(err, cinn.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A pack opens without reading its image encoder: what is wrong with one is told by the first Encode.
func TestTheEncoderIsOptionalAndLoadedWhenUsed(t *testing.T) {
	parts := tiny.Experts(t)
	for name, test := range map[string]struct {
		encoder cinn.Part
		has     bool
		want    string
	}{
		"none":    {cinn.Part{}, false, cinn.ErrEncoder.Error()},
		"damaged": {without(parts.Encoder, "head.bias"), true, "head.bias"},
	} {
		p := parts
		p.Encoder = test.encoder
		path := filepath.Join(t.TempDir(), "some.pack")
		if err := cinn.WritePack(path, tiny.About(), p); err != nil {
			t.Fatal(err)
		}
		m, s := open(t, path, 1)
		if m.Info().Encoder != test.has {
			t.Errorf("%s: %+v", name, m.Info())
		}
		draw(t, s, m.Bounds(), cinn.Request{Prompt: "red heart"})
		v := make([]float32, m.Info().Z)
		for range 2 {
			if err := s.Encode(v, v, image.NewNRGBA(m.Bounds())); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q", name, err, test.want)
			}
		}
	}
}
