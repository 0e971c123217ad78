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

	"netfusion/tensor"
)

// The emoji expert: EMOJI_EXPERT names its folder, with config.json, pytorch_model.bin and golden.npz.
func TestEmojiExpertDrawsItsGoldenImages(t *testing.T) {
	dir := os.Getenv("EMOJI_EXPERT")
	if dir == "" {
		t.Skip("EMOJI_EXPERT is not set")
	}
	m := open(t, dir)
	arrays := readNPZ(t, filepath.Join(dir, "golden.npz"))
	z, label, want := arrays["z"], arrays["label"], arrays["image"]
	n, size := z.shape[0], m.Resolution
	classes := tensor.New(n, m.ClassDim)
	for i, k := range label.values {
		copy(classes.Row(i), m.Class(int(k)))
	}
	dev := tensor.CPU(2)
	defer dev.Close()
	image, err := m.NewSession(dev, n).Generate(tensor.Of(n, m.ZDim, z.values), classes, Truncation{})
	if err != nil {
		t.Fatal(err)
	}
	if len(want.values) != len(image.Data) {
		t.Fatalf("%d values, want %d", len(image.Data), len(want.values))
	}
	worst, largest := 0.0, 0.0
	for p := range image.Rows {
		for c, got := range image.Row(p) {
			i, pixel := p/(size*size), p%(size*size)
			w := want.values[(i*3+c)*size*size+pixel] // NCHW
			worst = max(worst, math.Abs(float64(got-w)))
			largest = max(largest, math.Abs(float64(w)))
		}
	}
	t.Logf("%d images, worst difference %.2g of the largest value, %.3f", n, worst/largest, largest)
	if !(worst <= 1e-4*largest) {
		t.Errorf("differs by %v", worst)
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
