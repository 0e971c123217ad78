package npz

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
)

// npy builds a version 1 file as NumPy does.
func npy(descr, order, shape string, data ...byte) []byte {
	h := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr, order, shape)
	h += strings.Repeat(" ", 63-(10+len(h))%64) + "\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(h)), byte(len(h)>>8))
	return append(append(b, h...), data...)
}

func archive(t testing.TB, method uint16, files map[string][]byte) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestParseReadsEveryType(t *testing.T) {
	for _, c := range []struct {
		descr string
		data  []byte
		ints  []int
		reals []float32
	}{
		{"|u1", []byte{7, 255}, []int{7, 255}, nil},
		{"|i1", []byte{7, 255}, []int{7, -1}, nil},
		{"<i2", []byte{1, 1, 254, 255}, []int{257, -2}, nil},
		{"<i4", []byte{1, 0, 1, 0, 255, 255, 255, 255}, []int{65537, -1}, nil},
		{"<i8", append([]byte{5, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{255}, 8)...), []int{5, -1}, nil},
		{"<f2", []byte{0, 0x3c, 0, 0xc0}, nil, []float32{1, -2}},
		{"<f4", []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}, nil, []float32{1, -2}},
		{"<f8", []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0}, nil, []float32{1, -2}},
	} {
		for _, method := range []uint16{zip.Store, zip.Deflate} {
			arrays, err := Parse(archive(t, method, map[string][]byte{"x.npy": npy(c.descr, "False", "(2,)", c.data...)}))
			if err != nil {
				t.Fatalf("%s: %v", c.descr, err)
			}
			ints, intErr := arrays["x"].Ints()
			reals, realErr := arrays["x"].Float32s()
			if (intErr == nil) != (c.ints != nil) || (realErr == nil) != (c.reals != nil) {
				t.Errorf("%s: errors %v and %v", c.descr, intErr, realErr)
			}
			if c.ints != nil && !slices.Equal(ints, c.ints) || c.reals != nil && !slices.Equal(reals, c.reals) {
				t.Errorf("%s: got %v %v", c.descr, ints, reals)
			}
		}
	}
}

func TestTensorsAreSortedFloats(t *testing.T) {
	arrays, err := Parse(archive(t, zip.Store, map[string][]byte{
		"c.npy": npy("<f2", "False", "(2, 1)", 0, 0x3c, 0, 0xc0), "a.npy": npy("<f4", "False", "()", 0, 0, 0x80, 0x3f),
		"b.npy": npy("<f8", "False", "(1,)", 0, 0, 0, 0, 0, 0, 0xf0, 0xbf),
	}))
	if err != nil {
		t.Fatal(err)
	}
	ts, err := Tensors(arrays)
	if err != nil || len(ts) != 3 {
		t.Fatalf("%v, %v", ts, err)
	}
	for i, want := range []struct {
		name   string
		dtype  safetensors.DType
		shape  []int
		values []float32
	}{{"a", safetensors.F32, []int{}, []float32{1}}, {"b", safetensors.F32, []int{1}, []float32{-1}}, {"c", safetensors.F16, []int{2, 1}, []float32{1, -2}}} {
		v, err := ts[i].Float32s()
		if err != nil || ts[i].Name != want.name || ts[i].DType != want.dtype || !slices.Equal(ts[i].Shape, want.shape) || !slices.Equal(v, want.values) {
			t.Errorf("%+v, %v, want %+v", ts[i], err, want)
		}
	}
	arrays["d"] = Array{Type: "i2", Shape: []int{1}, Data: []byte{0, 0}}
	if _, err := Tensors(arrays); err == nil || !strings.Contains(err.Error(), "array d") {
		t.Errorf("integers: %v", err)
	}
}

func TestParseArrayReadsEveryVersionAndRank(t *testing.T) {
	a, err := ParseArray(npy("|u1", "False", "()", 9))
	if err != nil || a.Elements() != 1 {
		t.Errorf("scalar: %v %v", a, err)
	}
	a, err = ParseArray(npy("|u1", "False", "(2, 0, 3)"))
	if err != nil || a.Elements() != 0 {
		t.Errorf("empty: %v %v", a, err)
	}
	header := "{'shape': (2, 1), 'descr': '<u1', 'fortran_order': False}\n"
	for version := byte(2); version <= 3; version++ {
		b := append([]byte("\x93NUMPY"), version, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
		b = append(append(b, header...), 4, 5)
		a, err := ParseArray(b)
		if err != nil || !slices.Equal(a.Shape, []int{2, 1}) || !bytes.Equal(a.Data, []byte{4, 5}) {
			t.Errorf("version %d: %v %v", version, a, err)
		}
	}
}

func TestParseArrayRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"too few values":  {npy("<f4", "False", "(2,)", 0, 0, 0, 0), "f4 [2] takes 8 bytes, file has 4"},
		"too many values": {npy("|u1", "False", "(2,)", 0, 0, 0), "u1 [2] takes 2 bytes, file has 3"},
		"Fortran order":   {npy("|u1", "True", "(2,)", 0, 0), "Fortran order"},
		"big-endian":      {npy(">i4", "False", "(1,)", 0, 0, 0, 0), `type ">i4"`},
		"objects":         {npy("|O", "False", "(1,)", 0), `type "|O"`},
		"huge":            {npy("|u1", "False", "(1152921504606846976,)", 0), "malformed"},
		"overflow":        {npy("<f8", "False", "(65536, 65536, 65536, 65536)", 0), "takes more than 1073741824 bytes"},
		"negative":        {npy("|u1", "False", "(-1,)", 0), "malformed"},
		"structure":       {npy("|u1', 'x': 'y", "False", "(1,)", 0), "malformed"},
		"rank":            {npy("|u1", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 1)", 0), "malformed"},
		"version":         {append([]byte("\x93NUMPY\x04\x00"), make([]byte, 20)...), "version 4"},
		"header length":   {[]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), "header of 2147483647 bytes"},
		"nothing":         {nil, "not a .npy file"},
	} {
		if _, err := ParseArray(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", what, err, c.want)
		}
	}
	good := npy("|u1", "False", "(3,)", 1, 2, 3)
	for n := range good {
		if _, err := ParseArray(good[:n]); err == nil {
			t.Errorf("read a file cut to %d of %d bytes", n, len(good))
		}
	}
}

func TestParseRefusesDamageAndBombs(t *testing.T) {
	good := archive(t, zip.Store, map[string][]byte{"x.npy": npy("|u1", "False", "(3,)", 1, 2, 3)})
	damaged := slices.Clone(good)
	damaged[bytes.Index(damaged, []byte{1, 2, 3})]++
	// The central directory claims 2^30 bytes: field 24 of its entry is the uncompressed size.
	bomb := slices.Clone(good)
	at := bytes.Index(bomb, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(bomb[at+24:], maxBytes)
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"damaged": {damaged, `entry "x.npy": `}, "bomb": {bomb, `entry "x.npy" claims 1073741824 bytes`}, "cut": {good[:len(good)-1], "zip"},
		"other file": {archive(t, zip.Store, map[string][]byte{"x.txt": nil}), `entry "x.txt"`},
	} {
		if _, err := Parse(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", what, err, c.want)
		}
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.npz")
	if err := os.WriteFile(path, []byte("no zip"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseArray(f *testing.F) {
	f.Add(npy("<f4", "False", "(2,)", 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(npy("<i8", "False", "(0, 3)"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseArray(data)
		if err != nil {
			return
		}
		_, intErr := a.Ints()
		_, realErr := a.Float32s()
		if intErr == nil && realErr == nil {
			t.Fatalf("%v is both", a)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(archive(f, zip.Deflate, map[string][]byte{"x.npy": npy("|u1", "False", "(3,)", 1, 2, 3)}))
	f.Fuzz(func(t *testing.T, data []byte) { Parse(data) })
}
