package torchbin

import (
	"os"
	"testing"
)

// Whatever is read must be consistent: each tensor's data as long as its shape and type say.
func FuzzParse(f *testing.F) {
	ok := vector([]int64{3, 2}, []int64{1, 3}, 0)
	f.Add(floats(state(ok), 0, 1, 2, 3, 4, 5))
	f.Add(zipFile(zipEntry{name: "a/data.pkl", data: state(ok)}, zipEntry{name: "a/data/0", data: make([]byte, 24)}))
	if golden, err := os.ReadFile("testdata/legacy.bin"); err == nil {
		f.Add(golden)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("fuzz", data)
		if err != nil {
			return
		}
		for _, w := range file.Tensors() {
			if len(w.Data) != w.Elements()*w.DType.Bits()/8 {
				t.Fatalf("%v: %d bytes", w, len(w.Data))
			}
		}
	})
}

// FuzzUnpickle reaches the opcodes without the wrapping.
func FuzzUnpickle(f *testing.F) {
	f.Add(state(vector([]int64{3, 2}, []int64{1, 3}, 0)))
	f.Add([]byte("\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(M\x01\x02J\x00\x00\x00\x80eu."))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := unpickle(data)
		if err == nil {
			c := collector{file: &File{index: map[string]int{}}, budget: newBudget(0)}
			for _, s := range p.storages {
				s.data = make([]byte, min(s.size(), 1<<10))
				if len(s.data) < s.size() {
					return
				}
			}
			c.collect("", p.value, 0)
		}
	})
}
