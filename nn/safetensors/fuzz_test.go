package safetensors

import (
	"bytes"
	"testing"
)

// Whatever parses must be consistent, and survive being written and parsed again.
func FuzzParse(f *testing.F) {
	// Small seeds: what Write writes is mostly padding, which fuzzing would spend its time on.
	f.Add(raw(`{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}`, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add(raw(`{"a":{"dtype":"F4","shape":[1152921504606846976],"data_offsets":[0,576460752303423488]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("fuzz", data)
		if err != nil {
			return
		}
		file.Verify()
		for _, w := range file.Tensors() {
			if err := w.check(); err != nil {
				t.Fatal(err)
			}
			if w.Name == "" {
				return // read, but not written
			}
		}
		var b bytes.Buffer
		if err := Write(&b, file.Metadata(), file.Tensors()); err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again", b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Verify(); err != nil {
			t.Fatal(err)
		}
		if len(again.Tensors()) != len(file.Tensors()) {
			t.Fatal("tensors were lost")
		}
	})
}
