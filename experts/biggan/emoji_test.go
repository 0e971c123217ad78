package biggan

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"netfusion/nn"
	"netfusion/tensor"
)

// The emoji expert: EMOJI_EXPERT names its folder, with config.json, pytorch_model.bin and golden.npz. The storage types
// state what they cost on a trained generator.
func TestEmojiExpertDrawsItsGoldenImages(t *testing.T) {
	dir := os.Getenv("EMOJI_EXPERT")
	if dir == "" {
		t.Skip("EMOJI_EXPERT is not set")
	}
	arrays := readNPZ(t, filepath.Join(dir, "golden.npz"))
	z, label, want := arrays["z"], arrays["label"], arrays["image"]
	dev := tensor.CPU(2)
	defer dev.Close()
	for _, c := range []struct {
		storage    Storage
		worst, rms float64 // of the images, in (-1, 1)
	}{{"f32", 1e-4, 1e-5}, {"f16", 0.05, 1e-3}, {"bf16", 0.3, 1e-2}, {"int8", 1, 2e-2}} {
		meta, ts, err := Convert(dir, c.storage)
		if err != nil {
			t.Fatal(err)
		}
		m, err := load(nn.Memory(dir, ts), meta)
		if err != nil {
			t.Fatal(err)
		}
		if m.StatsRows != 1 {
			t.Errorf("%d rows of statistics, all of which are equal", m.StatsRows)
		}
		n, size := z.shape[0], m.Resolution
		classes := tensor.New(n, m.ClassDim)
		for i, k := range label.values {
			copy(classes.Row(i), m.Class(int(k)))
		}
		image, err := m.NewSession(dev, n).Generate(tensor.Of(n, m.ZDim, z.values), classes, Truncation{})
		if err != nil {
			t.Fatal(err)
		}
		if len(want.values) != len(image.Data) {
			t.Fatalf("%d values, want %d", len(image.Data), len(want.values))
		}
		worst, square := 0.0, 0.0
		for p := range image.Rows {
			for channel, got := range image.Row(p) {
				i, pixel := p/(size*size), p%(size*size)
				d := math.Abs(float64(got - want.values[(i*3+channel)*size*size+pixel])) // NCHW
				worst = max(worst, d)
				square += d * d
			}
		}
		rms, bytes := math.Sqrt(square/float64(len(image.Data))), 0
		for _, x := range ts {
			bytes += len(x.Data)
		}
		t.Logf("%-4s %8d bytes: %d images differ by at most %.2g, RMS %.2g", c.storage, bytes, n, worst, rms)
		if !(worst <= c.worst && rms <= c.rms) {
			t.Errorf("%s: differs by at most %v, RMS %v, want %v and %v", c.storage, worst, rms, c.worst, c.rms)
		}
	}
}

type array struct {
	shape  []int
	values []float32
}

var (
	npyDType = regexp.MustCompile(`'descr': '([^']+)'`)
	npyShape = regexp.MustCompile(`'shape': \(([^)]*)\)`)
)

// readNPZ reads the numeric arrays of a NumPy archive as float32.
func readNPZ(t testing.TB, path string) map[string]array {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	arrays := map[string]array{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		in.Close()
		if err != nil {
			t.Fatal(err)
		}
		a, err := parseNPY(data)
		if err != nil {
			t.Fatalf("%s: %s: %v", path, f.Name, err)
		}
		arrays[strings.TrimSuffix(f.Name, ".npy")] = a
	}
	return arrays
}

func parseNPY(data []byte) (array, error) {
	var a array
	n := 10 + int(binary.LittleEndian.Uint16(data[8:]))
	header := string(data[:n])
	dtype, shape := npyDType.FindStringSubmatch(header), npyShape.FindStringSubmatch(header)
	if dtype == nil || shape == nil || !strings.Contains(header, "'fortran_order': False") {
		return a, fmt.Errorf("header %q", header)
	}
	total := 1
	for _, s := range strings.FieldsFunc(shape[1], func(r rune) bool { return r == ',' || r == ' ' }) {
		d, err := strconv.Atoi(s)
		if err != nil {
			return a, err
		}
		a.shape = append(a.shape, d)
		total *= d
	}
	a.values = make([]float32, total)
	body := bytes.NewReader(data[n:])
	switch dtype[1] {
	case "<f4":
		return a, binary.Read(body, binary.LittleEndian, a.values)
	case "<i8":
		v := make([]int64, total)
		err := binary.Read(body, binary.LittleEndian, v)
		for i, x := range v {
			a.values[i] = float32(x)
		}
		return a, err
	}
	return a, fmt.Errorf("type %q", dtype[1])
}
