package biggan

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"netfusion/nn"
	"netfusion/nn/npz"
	"netfusion/tensor"
)

// The emoji expert: EMOJI_EXPERT names its folder, with config.json, pytorch_model.bin and golden.npz. The storage types
// and the precisions state what they cost on a trained generator.
func TestEmojiExpertDrawsItsGoldenImages(t *testing.T) {
	dir := os.Getenv("EMOJI_EXPERT")
	if dir == "" {
		t.Skip("EMOJI_EXPERT is not set")
	}
	arrays, err := npz.Open(filepath.Join(dir, "golden.npz"))
	if err != nil {
		t.Fatal(err)
	}
	z, zErr := arrays["z"].Float32s()
	label, labelErr := arrays["label"].Ints()
	want, wantErr := arrays["image"].Float32s()
	if err := errors.Join(zErr, labelErr, wantErr); err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(2)
	defer dev.Close()
	for _, c := range []struct {
		storage    nn.Storage
		precision  tensor.Precision
		worst, rms float64 // of the images, in (-1, 1)
	}{
		{"f32", tensor.F32, 1e-4, 1e-5}, {"f16", tensor.F32, 0.05, 1e-3}, {"bf16", tensor.F32, 0.3, 1e-2}, {"int8", tensor.F32, 1, 2e-2},
		{"f32", tensor.BF16, 1, 1e-2}, {"f32", tensor.Int8, 2, 5e-2},
	} {
		meta, ts, err := Convert(dir, c.storage)
		if err != nil {
			t.Fatal(err)
		}
		m, err := load(nn.Memory(dir, ts), meta, c.precision)
		if err != nil {
			t.Fatal(err)
		}
		if m.StatsRows != 1 {
			t.Errorf("%d rows of statistics, all of which are equal", m.StatsRows)
		}
		n, size := len(label), m.Resolution
		classes := tensor.New(n, m.ClassDim)
		for i, k := range label {
			copy(classes.Row(i), m.Class(k))
		}
		image, err := m.NewSession(dev, n).Generate(tensor.Of(n, m.ZDim, z), classes, Truncation{})
		if err != nil {
			t.Fatal(err)
		}
		if len(want) != len(image.Data) {
			t.Fatalf("%d values, want %d", len(image.Data), len(want))
		}
		worst, square := 0.0, 0.0
		for p := range image.Rows {
			for channel, got := range image.Row(p) {
				i, pixel := p/(size*size), p%(size*size)
				d := math.Abs(float64(got - want[(i*3+channel)*size*size+pixel])) // NCHW
				worst = max(worst, d)
				square += d * d
			}
		}
		rms, bytes := math.Sqrt(square/float64(len(image.Data))), 0
		for _, x := range ts {
			bytes += len(x.Data)
		}
		t.Logf("%-4s %8d bytes, computed in %v: %d images differ by at most %.2g, RMS %.2g (PSNR %.1f dB)",
			c.storage, bytes, c.precision, n, worst, rms, 20*math.Log10(2/rms))
		if !(worst <= c.worst && rms <= c.rms) {
			t.Errorf("%s: differs by at most %v, RMS %v, want %v and %v", c.storage, worst, rms, c.worst, c.rms)
		}
	}
}
