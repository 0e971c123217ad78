package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// raw builds a file from a header and its data.
func raw(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func sample() []Tensor {
	values := []float32{1, -2, 0.5, 3, 0, 100}
	q, scale := NewI8Rows("q", []int{2, 3}, values)
	return []Tensor{
		NewF32("a", []int{2, 3}, values),
		NewF16("half", []int{6}, values),
		NewBF16("brain", []int{3, 1, 2}, values),
		q, scale,
		{Name: "scalar", DType: I64, Data: []byte{7, 0, 0, 0, 0, 0, 0, 0}},
		{Name: "empty", DType: F32, Shape: []int{0, 4}, Data: []byte{}},
		{Name: `quote " < é`, DType: U8, Shape: []int{3}, Data: []byte("abc")},
	}
}

func written(t *testing.T, meta map[string]string, ts []Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, meta, ts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteThenParse(t *testing.T) {
	meta := map[string]string{"arch": "bert", "config": `{"hidden_size": 384}`, "format": "pt"}
	file := written(t, meta, sample())
	f, err := Parse("x", file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(); err != nil {
		t.Fatal(err)
	}
	m := f.Metadata()
	if m["arch"] != "bert" || m["config"] != meta["config"] || m["format"] != "netfusion-a64" || meta["format"] != "pt" {
		t.Errorf("metadata %v", m)
	}
	want := sample()
	if len(f.Tensors()) != len(want) {
		t.Fatalf("%d tensors, wanted %d", len(f.Tensors()), len(want))
	}
	for i, got := range f.Tensors() {
		w := want[i]
		if got.Name != w.Name || got.DType != w.DType || len(got.Shape) != len(w.Shape) || got.Elements() != w.Elements() || !bytes.Equal(got.Data, w.Data) {
			t.Errorf("tensor %d: got %v, wanted %v", i, got, w)
		}
		if found, ok := f.Lookup(w.Name); !ok || !reflect.DeepEqual(found, got) {
			t.Errorf("Lookup(%q) = %v, %v", w.Name, found, ok)
		}
		if f.Names()[i] != w.Name {
			t.Errorf("name %d is %q", i, f.Names()[i])
		}
	}
	if _, ok := f.Lookup("__pad.0"); ok {
		t.Error("padding is visible")
	}
}

func TestWriteAlignsAndRepeats(t *testing.T) {
	file := written(t, map[string]string{"b": "2", "a": "1"}, sample())
	if n := 8 + binary.LittleEndian.Uint64(file); n%4096 != 0 {
		t.Errorf("data starts at %d", n)
	}
	f, err := Parse("x", file)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range f.offsets {
		if o%64 != 0 {
			t.Errorf("tensor %q starts at %d", f.tensors[i].Name, o)
		}
	}
	for range 5 { // map order would show
		if !bytes.Equal(file, written(t, map[string]string{"a": "1", "b": "2"}, sample())) {
			t.Fatal("same arguments, other bytes")
		}
	}
	// A rewritten file is the same file.
	if !bytes.Equal(file, written(t, f.Metadata(), f.Tensors())) {
		t.Error("rewriting changed the bytes")
	}
}

func TestWriteNothing(t *testing.T) {
	f, err := Parse("x", written(t, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(); err != nil || len(f.Tensors()) != 0 {
		t.Error(err, f.Tensors())
	}
}

func TestWriteRefuses(t *testing.T) {
	one := []byte{1}
	for want, ts := range map[string][]Tensor{
		`tensor "a": two of that name`:              {{"a", U8, []int{1}, one}, {"a", U8, []int{1}, one}},
		`tensor "a": F32 [1] takes 4 bytes, has 1`:  {{"a", F32, []int{1}, one}},
		`tensor "__pad.7": the name is reserved`:    {{"__pad.7", U8, []int{1}, one}},
		`tensor "__metadata__": the name is`:        {{"__metadata__", U8, []int{1}, one}},
		`a tensor has no name`:                      {{"", U8, []int{1}, one}},
		`tensor "\xff": the name is not UTF-8`:      {{"\xff", U8, []int{1}, one}},
		`tensor "a": shape [-1] has a negative`:     {{"a", U8, []int{-1}, one}},
		`tensor "a": shape [1] of F4 does not fill`: {{"a", F4, []int{1}, one}},
		`tensor "a": unknown dtype DType(99)`:       {{"a", 99, []int{1}, one}},
	} {
		var b bytes.Buffer
		if err := Write(&b, nil, ts); err == nil || !strings.Contains(err.Error(), want) || b.Len() > 0 {
			t.Errorf("got %v (%d bytes written), wanted %q", err, b.Len(), want)
		}
	}
	if err := Write(&bytes.Buffer{}, map[string]string{"k": "\xff"}, nil); err == nil {
		t.Error("metadata that is not UTF-8 was written")
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	good := written(t, nil, sample())
	data := 8 + int(binary.LittleEndian.Uint64(good))
	for name, c := range map[string]struct {
		edit func([]byte) []byte
		want string
	}{
		"flipped bit": {func(b []byte) []byte { b[data] ^= 1; return b }, `damaged: tensor "a": sha256 is `},
		"renamed": {func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"half":{`), []byte(`"hulf":{`), 1)
		}, `damaged: tensor "hulf": has no checksum`},
		"format": {func(b []byte) []byte { return bytes.Replace(b, []byte("-a64"), []byte("-a65"), 1) }, `format is "netfusion-a65", wanted "netfusion-a64"`},
	} {
		f, err := Parse("damaged", c.edit(bytes.Clone(good)))
		if err != nil {
			t.Fatal(name, err)
		}
		if err := f.Verify(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, wanted %q", name, err, c.want)
		}
	}
	plain, err := Parse("plain", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 5))
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Verify(); err == nil {
		t.Error("a plain file was verified")
	}
}

func TestVerifyFindsMissingTensorAndBadAlignment(t *testing.T) {
	sums, _ := json.Marshal(map[string]string{"a": checksum([]byte{5}), "b": checksum(nil)})
	text, _ := json.Marshal(string(sums))
	header := `{"__metadata__":{"format":"netfusion-a64","sha256":` + string(text) + `},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`
	f, err := Parse("x", raw(header, 5))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(); err == nil || !strings.Contains(err.Error(), "data starts at") {
		t.Error(err)
	}
	f, err = Parse("x", raw(header+strings.Repeat(" ", 4088-len(header)), 5))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(); err == nil || !strings.Contains(err.Error(), `tensor "b": has a checksum but is missing`) {
		t.Error(err)
	}
}

func TestParseAcceptsWhatTheFormatAllows(t *testing.T) {
	for name, file := range map[string][]byte{
		"empty":             raw(`{}`),
		"leading space":     raw("\n \t{}"),
		"trailing space":    raw("{}   "),
		"scalar":            raw(`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 0, 0, 0, 0),
		"empty tensors":     raw(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[1,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[3,0],"data_offsets":[0,0]}}`, 9),
		"any header order":  raw(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}}`, 1, 2),
		"sub-byte":          raw(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1),
		"escaped name":      raw(`{"\u00e9":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1),
		"metadata at end":   raw(`{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"__metadata__":{"k":"v"}}`, 1),
		"fp8, complex, u64": raw(`{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"C64","shape":[1],"data_offsets":[8,16]},"c":{"dtype":"U64","shape":[1],"data_offsets":[16,24]}}`, make([]byte, 24)...),
	} {
		if _, err := Parse("x", file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	entry := func(dtype, shape, offsets string) string {
		return `{"w":{"dtype":"` + dtype + `","shape":` + shape + `,"data_offsets":` + offsets + `}}`
	}
	long := binary.LittleEndian.AppendUint64(nil, 1<<62)
	for _, c := range []struct {
		file []byte
		want string
	}{
		{nil, "file is 0 bytes"},
		{[]byte{2, 0, 0, 0, 0, 0, 0}, "file is 7 bytes"},
		{long, "header of 4611686018427387904 bytes, at most 100000000"},
		{binary.LittleEndian.AppendUint64(nil, 3), "header of 3 bytes, the file has 0"},
		{raw(``), "header: unexpected EOF"},
		{raw(`[]`), `header: wanted "{", found "["`},
		{raw(`{}x`), "header: data after the closing brace"},
		{raw(`{} {}`), "header: data after the closing brace"},
		{raw(`{"a"`), "header: "},
		{raw("{\"\xff\":1}"), "header is not UTF-8"},
		{raw(`{"w":3}`), `tensor "w": wanted "{", found "3"`},
		{raw(`{"w":{}}`), `tensor "w": wanted the fields`},
		{raw(`{"w":{"dtype":"U8","dtype":"U8","shape":[]}}`), `tensor "w": duplicate key "dtype"`},
		{raw(`{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`), `duplicate key "w"`},
		{raw(`{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0077":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`), `duplicate key "w"`},
		{raw(`{"w":{"dtype":"U8","shape":[0],"strides":[1]}}`), `tensor "w": unknown field "strides"`},
		{raw(`{"__metadata__":{"k":1}}`), `__metadata__: "k": wanted a string, found "1"`},
		{raw(`{"__metadata__":{"k":"1","k":"2"}}`), `__metadata__: duplicate key "k"`},
		{raw(`{"__metadata__":{},"__metadata__":{}}`), `duplicate key "__metadata__"`},
		{raw(entry("F33", "[1]", "[0,4]"), 0, 0, 0, 0), `tensor "w": unknown dtype "F33"`},
		{raw(entry("F32", "[1.0]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: wanted an integer`},
		{raw(entry("F32", "[-1]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: wanted an integer`},
		{raw(entry("F32", "[1e0]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: wanted an integer`},
		{raw(entry("F32", "[[1]]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: wanted a number`},
		{raw(entry("F32", "1", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: wanted "["`},
		{raw(entry("F32", "[18446744073709551616]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: wanted an integer`},
		{raw(entry("F32", "["+strings.Repeat("1,", 40)+"1]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape: more than 32 numbers`},
		{raw(entry("F32", "[1]", "[0,4,8]"), 0, 0, 0, 0), `tensor "w": data_offsets: more than 2`},
		{raw(entry("F32", "[1]", "[0]"), 0, 0, 0, 0), `tensor "w": data_offsets: wanted 2 numbers, found 1`},
		{raw(entry("F32", "[1]", "[4,0]"), 0, 0, 0, 0), `tensor "w": data_offsets [4,0] run backwards`},
		{raw(entry("U8", "[1152921504606846976]", "[0,1152921504606846976]"), 0, 0, 0, 0), `tensor "w": data ends at`},
		{raw(entry("F32", "[1152921504606846976]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape [1152921504606846976] of F32 overflows`},
		{raw(entry("F32", "[4294967296,4294967296,4294967296]", "[0,4]"), 0, 0, 0, 0), `tensor "w": shape [4294967296 4294967296 4294967296] of F32 overflows`},
		{raw(entry("F4", "[1]", "[0,1]"), 0), `tensor "w": shape [1] of F4 does not fill whole bytes`},
		{raw(entry("F32", "[1]", "[0,4]"), 0, 0, 0), `tensor "w": data ends at 4, the file has 3`},
		{raw(entry("F32", "[1]", "[0,4]"), 0, 0, 0, 0, 0), "tensors cover 4 bytes of data, the file has 5"},
		{raw(entry("F32", "[1]", "[1,5]"), 0, 0, 0, 0, 0), `tensor "w": data starts at 1, leaving a hole after 0`},
		{raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 1, 2, 3), `tensor "b": data starts at 1, inside`},
	} {
		_, err := Parse("model.safetensors", c.file)
		if err == nil || !strings.HasPrefix(err.Error(), "model.safetensors: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q: got %v, wanted %q", c.file, err, c.want)
		}
	}
}

func TestParseRefusesEveryTruncation(t *testing.T) {
	file := raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 1, 2, 3, 4, 5, 6, 7, 8)
	for n := range file {
		if _, err := Parse("x", file[:n]); err == nil {
			t.Errorf("%d of %d bytes were accepted", n, len(file))
		}
	}
}

// A hostile header must cost memory in proportion to its own size only.
func TestParseAllocatesLittle(t *testing.T) {
	file := raw(`{"w":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	Parse("x", file)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes allocated", n)
	}
}

// Embedded bytes start anywhere: every way of reading must give the same values at every address.
func TestEveryAlignment(t *testing.T) {
	file := written(t, nil, sample())
	room := make([]byte, len(file)+64)
	values := []float32{1, -2, 0.5, 3, 0, 100}
	for shift := range 64 {
		copy(room[shift:], file)
		f, err := Parse("x", room[shift:shift+len(file)])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "half", "brain"} {
			w, _ := f.Lookup(name)
			dst := make([]float32, 6)
			if err := w.Float32(dst); err != nil || !reflect.DeepEqual(dst, values) {
				t.Fatalf("shift %d, %s: %v %v", shift, name, dst, err)
			}
			if v, err := w.Float32s(); err != nil || !reflect.DeepEqual(v, values) {
				t.Fatalf("shift %d, %s: %v %v", shift, name, v, err)
			}
		}
		q, _ := f.Lookup("q")
		if v := q.Int8s(); !reflect.DeepEqual(v, []int8{64, -127, 32, 4, 0, 127}) {
			t.Fatalf("shift %d: %v", shift, v)
		}
		if err := f.Verify(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFloat32sIsAViewWhereItCanBe(t *testing.T) {
	buf := make([]byte, 16)
	binary.LittleEndian.PutUint32(buf, math.Float32bits(1.5))
	v, err := Tensor{"a", F32, []int{4}, buf}.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(buf, math.Float32bits(2.5))
	if littleEndian && v[0] != 2.5 {
		t.Error("an aligned tensor was copied")
	}
	if v, err := (Tensor{"e", F32, []int{0}, nil}).Float32s(); err != nil || len(v) != 0 {
		t.Error(v, err)
	}
}

func TestTypedReadsRefuse(t *testing.T) {
	i8 := Tensor{"w", I8, []int{4}, make([]byte, 4)}
	f32 := Tensor{"w", F32, []int{2}, make([]byte, 8)}
	short := Tensor{"w", F32, []int{1 << 40}, make([]byte, 8)}
	for _, c := range []struct {
		err  error
		want string
	}{
		{i8.Float32(make([]float32, 4)), `tensor "w": is I8, wanted F32, F16 or BF16`},
		{f32.Float32(make([]float32, 3)), `tensor "w": has 2 elements (shape [2]), wanted 3`},
		{second(i8.Float32s()), `tensor "w": is I8, wanted F32, F16 or BF16`},
		{second(short.Float32s()), `tensor "w": F32 [1099511627776] takes 4398046511104 bytes, has 8`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got %v, wanted %q", c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestConstructorsPanicOnWrongLength(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewBF16("w", []int{2, 2}, make([]float32, 5))
}

func TestWriteFileThenOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	for range 2 { // the second replaces the first
		if err := WriteFile(path, nil, sample()); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(); err != nil || f.Origin() != path {
		t.Error(err, f.Origin())
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	onlyFile(t, path)
}

func TestWriteFileLeavesNothingHalfWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(path, nil, []Tensor{{"w", F32, []int{1}, nil}})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `tensor "w"`) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "before" {
		t.Errorf("the file is now %q", b)
	}
	onlyFile(t, path)
	if err := WriteFile(filepath.Join(path, "no", "folder"), nil, nil); err == nil {
		t.Error("wrote below a file")
	}
}

// onlyFile checks that no temporary file was left beside path.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v", entries, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, dir, filepath.Join(dir, "absent")} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestAViewIsWhatACopyIs(t *testing.T) {
	v := []float32{1, -2, float32(math.Inf(1)), 3e-40}
	a, b := NewF32("v", []int{2, 2}, v), ViewF32("v", []int{2, 2}, v)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("a view is %+v, and a copy %+v", b, a)
	}
	defer func() {
		if recover() == nil {
			t.Error("a wrong shape is accepted")
		}
	}()
	ViewF32("v", []int{3}, v)
}
