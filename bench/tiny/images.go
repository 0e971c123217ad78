package tiny

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"netfusion/nn/npz"
)

// Images writes the folder of a data set, as cinn pairs reads it: three images of 32 pixels, one of them in a second style.
func Images(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "emoji.json"), []byte(`{"classes": ["a", "b", "c"],
		"captions": [{"name": "red heart", "class": "b"}, {"name": "w1", "class": "c"}]}`), 0o644))
	pixels := make([]byte, 3*32*32*3)
	for i := range pixels {
		pixels[i] = byte(i * i >> 4)
	}
	arrays := Keys()
	arrays["image"] = npz.Array{Type: "u1", Shape: []int{3, 32, 32, 3}, Data: pixels}
	NPZ(t, filepath.Join(dir, "emoji64.npz"), arrays)
}

// Keys are the arrays that say what the images show.
func Keys() map[string]npz.Array {
	return map[string]npz.Array{
		"emoji": {Type: "u1", Shape: []int{3}, Data: []byte{0, 1, 0}},
		"style": {Type: "u1", Shape: []int{3}, Data: []byte{0, 0, 4}},
		"label": {Type: "u1", Shape: []int{3}, Data: []byte{1, 2, 1}},
	}
}

// Floats is an array of f4.
func Floats(shape []int, values []float32) npz.Array {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, values)
	return npz.Array{Type: "f4", Shape: shape, Data: b.Bytes()}
}

// NPZ writes arrays as NumPy does.
func NPZ(t testing.TB, path string, arrays map[string]npz.Array) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, a := range arrays {
		shape := ""
		for _, n := range a.Shape {
			shape += fmt.Sprintf("%d,", n)
		}
		header := fmt.Sprintf("{'descr': '<%s', 'fortran_order': False, 'shape': (%s), }\n", a.Type, shape)
		w, err := z.Create(name + ".npy")
		must(t, err)
		_, err = fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s%s", byte(len(header)), 0, header, a.Data)
		must(t, err)
	}
	must(t, z.Close())
	must(t, os.WriteFile(path, b.Bytes(), 0o644))
}
