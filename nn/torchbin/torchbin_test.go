package torchbin

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
)

func TestGoldensOfPyTorch(t *testing.T) {
	index, err := os.ReadFile("testdata/tensors.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []struct {
		Name, DType string
		Shape       []int
		Size        int
	}
	if err := json.Unmarshal(index, &want); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/tensors.raw")
	if err != nil {
		t.Fatal(err)
	}
	dtypes := map[string]safetensors.DType{
		"torch.float32": safetensors.F32, "torch.float16": safetensors.F16, "torch.bfloat16": safetensors.BF16,
		"torch.float64": safetensors.F64, "torch.int64": safetensors.I64, "torch.int32": safetensors.I32,
		"torch.int16": safetensors.I16, "torch.int8": safetensors.I8, "torch.uint8": safetensors.U8, "torch.bool": safetensors.BOOL,
	}
	for _, name := range []string{"legacy.bin", "zip.bin", "protocol4.bin", "deflated.bin"} {
		path := filepath.Join("testdata", name)
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Origin() != path || len(f.Tensors()) != len(want) || len(f.Names()) != len(want) {
			t.Fatalf("%s: tensors %v", f.Origin(), f.Names())
		}
		rest := raw
		for i, w := range want {
			got := f.Tensors()[i]
			data := rest[:w.Size]
			rest = rest[w.Size:]
			if got.Name != w.Name || got.DType != dtypes[w.DType] || !reflect.DeepEqual(got.Shape, w.Shape) || !bytes.Equal(got.Data, data) {
				t.Errorf("%s: got %v, wanted %v with %x", name, got, w, data)
			}
			if found, ok := f.Lookup(w.Name); !ok || !reflect.DeepEqual(found, got) {
				t.Errorf("%s: Lookup(%q) = %v, %v", name, w.Name, found, ok)
			}
		}
		if _, ok := f.Lookup("absent"); ok {
			t.Error("found what is not there")
		}
	}
}

func vector(shape, strides []int64, offset int64) spec {
	return spec{"w", "Float", "0", 6, offset, shape, strides}
}

func TestStrides(t *testing.T) {
	for _, c := range []struct {
		spec spec
		want []float32
	}{
		{vector([]int64{2, 3}, []int64{3, 1}, 0), []float32{0, 1, 2, 3, 4, 5}},
		{vector([]int64{3, 2}, []int64{1, 3}, 0), []float32{0, 3, 1, 4, 2, 5}},
		{vector([]int64{2, 2}, []int64{3, 1}, 1), []float32{1, 2, 4, 5}},
		{vector([]int64{3}, []int64{2}, 1), []float32{1, 3, 5}},
		{vector([]int64{1, 2}, []int64{77, 1}, 4), []float32{4, 5}},
		{vector([]int64{2, 3}, []int64{0, 1}, 3), []float32{3, 4, 5, 3, 4, 5}},
		{vector(nil, nil, 5), []float32{5}},
		{vector([]int64{0, 4}, []int64{4, 1}, 6), []float32{}},
		{vector([]int64{2, 1, 3}, []int64{1, 9, 2}, 0), []float32{0, 2, 4, 1, 3, 5}},
	} {
		f, err := Parse("x", floats(state(c.spec), 0, 1, 2, 3, 4, 5))
		if err != nil {
			t.Errorf("%v: %v", c.spec, err)
			continue
		}
		if got, err := f.Tensors()[0].Float32s(); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %v, %v, wanted %v", c.spec, got, err, c.want)
		}
	}
}

func TestTensorsOutsideTheirStorageAreRefused(t *testing.T) {
	const huge = 1 << 40
	for _, c := range []struct {
		spec spec
		want string
	}{
		{vector([]int64{7}, []int64{1}, 0), "does not fit its storage of 6"},
		{vector([]int64{6}, []int64{1}, 1), "reaches outside its storage"},
		{vector([]int64{2}, []int64{6}, 0), "reaches outside its storage"},
		{vector([]int64{2, 2}, []int64{5, 1}, 0), "reaches outside its storage"},
		{vector([]int64{1}, []int64{1}, 6), "reaches outside its storage"},
		{vector(nil, nil, 6), "offset 6 is outside"},
		{vector([]int64{0}, []int64{1}, 7), "does not fit"},
		{vector([]int64{1}, []int64{1}, -1), "offset: wanted an integer of 0"},
		{vector([]int64{2}, []int64{-1}, 3), "strides: wanted an integer of 0"},
		{vector([]int64{-2}, []int64{1}, 3), "shape: wanted an integer of 0"},
		{vector([]int64{2}, []int64{huge}, 0), "reaches outside"},
		{vector([]int64{2, 2, 1}, []int64{1 << 59, 1 << 59, 1 << 59}, 0), "reaches outside"},
		{vector([]int64{huge}, []int64{0}, 0), "does not fit its storage of 6"}, // expanded
		{vector([]int64{huge, huge}, []int64{0, 0}, 0), "overflows"},
		{vector([]int64{huge, huge, 0}, []int64{0, 0, 0}, 0), "overflows"},
		{vector([]int64{1 << 60}, []int64{1}, 0), "shape: wanted an integer of 0"},
		{vector([]int64{6}, []int64{1, 1}, 0), "differ in length"},
		{vector(make([]int64, 33), make([]int64, 33), 0), "33 dimensions"},
		{spec{"w", "Float", "0", huge, 0, []int64{huge}, []int64{1}}, `storage "0": has 6 elements, its tensors were told 1099511627776`},
		{spec{"w", "Double", "0", 6, 0, []int64{6}, []int64{1}}, `storage "0": takes 48 bytes (6 of F64), the file has 24 left`},
		{spec{"w", "Float", "1", 6, 0, []int64{6}, []int64{1}}, `storage "0": no tensor refers to it`},
	} {
		_, err := Parse("model.bin", floats(state(c.spec), 0, 1, 2, 3, 4, 5))
		if err == nil || !strings.HasPrefix(err.Error(), "model.bin: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, wanted %q", c.spec, err, c.want)
		}
	}
}

// Many transposed views of one storage must not multiply it without bound.
func TestReorderedCopiesAreBounded(t *testing.T) {
	const n = 1 << 11
	var specs []spec
	for range 8 {
		specs = append(specs, spec{strings.Repeat("w", len(specs)+1), "Float", "0", n * n, 0, []int64{n, n}, []int64{1, n}})
	}
	file := legacyFile(state(specs...), []string{"0"}, []uint64{n * n}, [][]byte{make([]byte, 4*n*n)})
	f := &File{index: map[string]int{}}
	root, err := parseLegacy(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := collector{file: f, budget: &budget{total: 3*4*n*n + 100}} // three copies and the names
	if err := c.collect("", root, 0); err == nil || !strings.Contains(err.Error(), `tensor "wwww": would take more than`) {
		t.Error(err)
	}
}

func TestHostilePickles(t *testing.T) {
	ok := vector([]int64{6}, []int64{1}, 0)
	deep := newPickle()
	deep.op(strings.Repeat("}", 40))
	for range 39 {
		deep.int(1).op("\x85\x85") // something to pop and name
	}
	nested := newPickle().op("}")
	for range 40 {
		nested.text("a").op("}")
	}
	nested.op(strings.Repeat("s", 40) + ".")
	doubling := newPickle().op("}").text("a").op("]q\x000") // POP is not in the list
	laughs := newPickle().op("}").text("a").op("]q\x00")
	for range 25 {
		laughs.op("h\x00\x86q\x00") // a pair of the last pair, twice
	}
	laughs.op("s.")
	cyclic := newPickle().op("}q\x00").text("a").op("h\x00s.")
	letters := newPickle().op("}").text(strings.Repeat("a", 1<<16)).op("](" + strings.Repeat("N", 1<<12) + "es.")
	for _, c := range []struct {
		name   string
		pickle []byte
		want   string
	}{
		{"os.system", newPickle().global("os", "system").op("(").text("rm -rf /").op("tR.").Bytes(), `refers to "os.system", which is not part of a tensor: refused`},
		{"posix.system by stack", newPickle().op("\x8c\x05posix\x8c\x06system\x93.").Bytes(), `refers to "posix.system"`},
		{"builtins.eval", newPickle().global("builtins", "eval").op(".").Bytes(), `refers to "builtins.eval"`},
		{"a method of an allowed class", newPickle().global("collections", "OrderedDict.fromkeys").op(".").Bytes(), `refers to "collections.OrderedDict.fromkeys"`},
		{"untyped storage", newPickle().global("torch.storage", "UntypedStorage").op(".").Bytes(), `refers to "torch.storage.UntypedStorage"`},
		{"INST", newPickle().op("(ios\nsystem\n.").Bytes(), "opcode 0x69"},
		{"OBJ", newPickle().op("(o.").Bytes(), "opcode 0x6f"},
		{"NEWOBJ", newPickle().op("\x81.").Bytes(), "opcode 0x81"},
		{"EXT1", newPickle().op("\x82\x01.").Bytes(), "opcode 0x82"},
		{"DUP", newPickle().op("}2.").Bytes(), "opcode 0x32"},
		{"POP", doubling.Bytes(), "opcode 0x30"},
		{"protocol 5", []byte("\x80\x05}."), "protocol 5, wanted 2 to 4"},
		{"protocol 0", []byte("(dp0\n."), "not a pickle"},
		{"calls a storage class", newPickle().global("torch", "FloatStorage").op(")R.").Bytes(), "calls torch.FloatStorage"},
		{"calls a string", newPickle().text("x").op(")R.").Bytes(), `calls "x"`},
		{"builds on a tensor", newPickle().tensor(ok).op("}b.").Bytes(), "sets the state of a tensor"},
		{"storage of a function", newPickle().op("(").text("storage").global("collections", "OrderedDict").text("0").text("cpu").int(6).op("tQ.").Bytes(), "persistent id starts with"},
		{"view of a storage", newPickle().op("(").text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(6).op(")tQ.").Bytes(), "is a view of another"},
		{"tensor without storage", newPickle().global("torch._utils", "_rebuild_tensor_v2").op("(NNNNNNtR.").Bytes(), "wanted a storage, found None"},
		{"tensor of few arguments", newPickle().global("torch._utils", "_rebuild_tensor_v2").op(")R.").Bytes(), "takes 6 or 7"},
		{"parameter of nothing", newPickle().global("torch._utils", "_rebuild_parameter").op("NNN\x87R.").Bytes(), "wanted a tensor, found None"},
		{"empty stack", newPickle().op("a.").Bytes(), "the stack is empty"},
		{"no mark", newPickle().op("}u.").Bytes(), "no mark on the stack"},
		{"mark as a value", newPickle().op("(\x85.").Bytes(), "a mark is where a value"},
		{"mark remembered", newPickle().op("(q\x00.").Bytes(), "nothing to remember"},
		{"memo unset", newPickle().op("h\x07.").Bytes(), "memo 7 is not set"},
		{"odd items", newPickle().op("}(Nu.").Bytes(), "sets 1 keys"},
		{"tuple as key", newPickle().op("})Ns.").Bytes(), "dictionary key is a tuple of 0"},
		{"duplicate key", newPickle().op("}").text("a").op("Ns").text("a").op("Ns.").Bytes(), `duplicate key "a"`},
		{"stops early", newPickle().op(".").Bytes(), "stops with 0 values"},
		{"stops late", newPickle().op("}}.").Bytes(), "stops with 2 values"},
		{"deep stack", deep.op(".").Bytes(), "stops with 79 values"},
		{"huge string", newPickle().op("X\xff\xff\xff\x7f").Bytes(), "string of 2147483647 bytes"},
		{"string not UTF-8", newPickle().text("\xff").Bytes(), "not UTF-8"},
		{"endless global", newPickle().op("c" + strings.Repeat("a", 1000)).Bytes(), "no end within 256"},
		{"list at the top", newPickle().op("].").Bytes(), "holds a list of 0, wanted a dictionary"},
		{"two kinds of one storage", state(ok, spec{"v", "Half", "0", 6, 0, []int64{6}, []int64{1}}), `storage "0" is both 6 of F32 and 6 of F16`},
		{"missing storage", state(ok, spec{"v", "Half", "other", 6, 0, []int64{6}, []int64{1}}), `storage "other": is missing`},
		{"deep nesting", nested.Bytes(), "nested more than 32 deep"},
		{"a dictionary in itself", cyclic.Bytes(), "nested more than 32 deep"},
		{"a billion laughs", laughs.Bytes(), "holds more than 1048576 values"},
		{"a billion letters", letters.Bytes(), "names: would take more than"},
	} {
		file := floats(c.pickle, 0, 1, 2, 3, 4, 5)
		if !bytes.Contains(c.pickle, []byte("storage")) { // whoever lists a storage must refer to it
			file = legacyFile(c.pickle, nil, nil, nil)
		}
		_, err := Parse("model.bin", file)
		if err == nil || !strings.HasPrefix(err.Error(), "model.bin: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, wanted %q", c.name, err, c.want)
		}
	}
}

func TestTwoTensorsOfOneName(t *testing.T) {
	p := newPickle().op("}").text("a.b").tensor(vector([]int64{6}, []int64{1}, 0)).op("s")
	p.text("a").op("}").text("b").tensor(vector([]int64{6}, []int64{1}, 0)).op("ss.")
	if _, err := Parse("x", floats(p.Bytes(), 0, 1, 2, 3, 4, 5)); err == nil || !strings.Contains(err.Error(), `tensor "a.b": two of that name`) {
		t.Error(err)
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	ok := vector([]int64{3, 2}, []int64{1, 3}, 0)
	for name, file := range map[string][]byte{
		"legacy": floats(state(ok), 0, 1, 2, 3, 4, 5),
		"zip": zipFile(
			zipEntry{name: "archive/data.pkl", data: state(ok)},
			zipEntry{name: "archive/data/0", data: make([]byte, 24), method: zip.Deflate}),
	} {
		if _, err := Parse(name, file); err != nil {
			t.Fatal(err)
		}
		for n := range file {
			if _, err := Parse(name, file[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes were accepted", name, n, len(file))
			}
		}
	}
	if _, err := Parse("x", append(floats(state(ok), 0, 1, 2, 3, 4, 5), 0)); err == nil {
		t.Error("a trailing byte was accepted")
	}
}

func TestLegacyHeaderIsChecked(t *testing.T) {
	good := floats(state(vector([]int64{6}, []int64{1}, 0)), 0, 1, 2, 3, 4, 5)
	for _, c := range []struct{ old, new, want string }{
		{string(legacyMagic), strings.Repeat("x", 10), "wrong magic number"},
		{"M\xe9\x03", "M\xea\x03", "protocol version is 1002, wanted 1001"},
		{"little_endian", "little_indian", "not written by a little-endian machine"},
	} {
		if _, err := Parse("x", bytes.Replace(good, []byte(c.old), []byte(c.new), 1)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, wanted %q", err, c.want)
		}
	}
	twice := legacyFile(state(vector([]int64{6}, []int64{1}, 0)), []string{"0", "0"}, []uint64{6, 6}, [][]byte{make([]byte, 24), make([]byte, 24)})
	if _, err := Parse("x", twice); err == nil || !strings.Contains(err.Error(), `storage "0": listed twice`) {
		t.Error(err)
	}
}

func deflated(data []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func TestHostileZips(t *testing.T) {
	const big = 200 << 20
	six := vector([]int64{6}, []int64{1}, 0)
	pickle := zipEntry{name: "a/data.pkl", data: state(six)}
	bomb := spec{"w", "Byte", "0", big, 0, []int64{big}, []int64{1}}
	for _, c := range []struct {
		name    string
		entries []zipEntry
		want    string
	}{
		{"no pickle", []zipEntry{{name: "a/version"}}, "no data.pkl"},
		{"two pickles", []zipEntry{pickle, {name: "b/data.pkl"}}, `two checkpoints, in the folders "a" and "b"`},
		{"two of a name", []zipEntry{pickle, pickle}, "two of that name"},
		{"no storage", []zipEntry{pickle}, `storage "0": entry "a/data/0" is missing`},
		{"short storage", []zipEntry{pickle, {name: "a/data/0", data: make([]byte, 20)}}, `storage "0": has 20 bytes, its tensors were told 24 (6 of F32)`},
		{"long storage", []zipEntry{pickle, {name: "a/data/0", data: make([]byte, 28)}}, `entry "a/data/0": 28 bytes, wanted at most 24`},
		{"stored but another size", []zipEntry{pickle, {name: "a/data/0", data: make([]byte, 20), claimed: 24}}, "reaches outside the file"},
		{"deflated more than declared", []zipEntry{pickle, {name: "a/data/0", data: deflated(make([]byte, 999)), method: zip.Deflate, claimed: 24}}, "does not end after its 24 bytes"},
		{"deflated less than declared", []zipEntry{pickle, {name: "a/data/0", data: deflated(make([]byte, 9)), method: zip.Deflate, claimed: 24}}, "unexpected EOF"},
		{"wrong checksum", []zipEntry{pickle, {name: "a/data/0", data: deflated(make([]byte, 24)), method: zip.Deflate, claimed: 24}}, "checksum error"},
		{"unknown method", []zipEntry{pickle, {name: "a/data/0", data: make([]byte, 24), method: 93, claimed: 24}}, "compression method 93"},
		{"bomb that tensors ask for", []zipEntry{{name: "a/data.pkl", data: state(bomb)}, {name: "a/data/0", data: deflated(make([]byte, 1<<20)), method: zip.Deflate, claimed: big}}, "would take more than"},
		{"bomb of a pickle", []zipEntry{{name: "a/data.pkl", data: []byte("x"), method: zip.Deflate, claimed: 1 << 60}}, `entry "a/data.pkl": 1152921504606846976 bytes`},
		{"big-endian", []zipEntry{pickle, {name: "a/byteorder", data: []byte("big")}}, `byte order is "big"`},
		{"data after the pickle", []zipEntry{{name: "a/data.pkl", data: append(state(six), 'x')}, {name: "a/data/0", data: make([]byte, 24)}}, "1 bytes after the pickle"},
		{"pickle that calls", []zipEntry{{name: "a/data.pkl", data: newPickle().global("os", "system").op(".").Bytes()}}, `"os.system"`},
	} {
		_, err := Parse("model.bin", zipFile(c.entries...))
		if err == nil || !strings.HasPrefix(err.Error(), "model.bin: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, wanted %q", c.name, err, c.want)
		}
	}
	stored := zipFile(pickle, zipEntry{name: "a/data/0", data: []byte("storage of six float32!!")})
	damaged := bytes.Replace(stored, []byte("of six"), []byte("of sax"), 1)
	if _, err := Parse("x", damaged); err == nil || !strings.Contains(err.Error(), `entry "a/data/0": CRC is`) {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "pytorch_model.bin")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + ".absent"} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	}
}
