// Package torchbin reads the tensors of a checkpoint that PyTorch's torch.save wrote (pytorch_model.bin): the legacy
// format (torch before 1.6) and the zip format. The checkpoint is a pickle, which is a program; this reader runs a
// closed list of opcodes that can build tensors, dictionaries and plain values, and nothing else. Sizes are checked
// before anything is allocated.
package torchbin

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"netfusion/nn/disk"
	"netfusion/nn/safetensors"
)

const (
	maxDepth   = 32      // nested dictionaries and lists of a checkpoint
	maxVisits  = 1 << 20 // values of a checkpoint, counted as often as they are referred to
	maxRank    = 32
	baseBudget = 64 << 20 // bytes that a file of any size may make us allocate for data; see newBudget
)

// File is an open checkpoint. It is safe for concurrent reading.
type File struct {
	name    string
	tensors []safetensors.Tensor
	index   map[string]int
	close   func() error
}

// Open maps the checkpoint at path and resolves its tensors. The tensors' data may be views of the mapping and end with
// Close.
func Open(path string) (*File, error) {
	data, closeMap, err := disk.Map(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(path, data)
	if err != nil {
		return nil, errors.Join(err, closeMap())
	}
	f.close = closeMap
	return f, nil
}

// Parse resolves the tensors of a checkpoint that is already in memory; name stands for it in errors.
func Parse(name string, data []byte) (*File, error) {
	parse := parseLegacy
	if bytes.HasPrefix(data, []byte("PK\x03\x04")) {
		parse = parseZip
	}
	b := newBudget(len(data))
	root, err := parse(data, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := &File{name: name, index: map[string]int{}}
	c := collector{file: f, budget: b}
	if _, ok := root.(*dict); !ok {
		return nil, fmt.Errorf("%s: holds %s, wanted a dictionary of tensors", name, describe(root))
	}
	if err := c.collect("", root, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// Close releases the mapping. Data of the file's tensors must not be used afterwards.
func (f *File) Close() error {
	if f.close == nil {
		return nil
	}
	unmap := f.close
	f.close = nil
	return unmap()
}

// Origin returns the name that the file was opened by.
func (f *File) Origin() string { return f.name }

// Tensors returns all tensors in the order of the checkpoint, contiguous and row-major whatever strides they were
// saved with. Names of nested dictionaries are joined by dots ("state_dict.weight"). The slice must not be changed.
func (f *File) Tensors() []safetensors.Tensor { return f.tensors }

// Names returns the tensors' names in the order of the checkpoint.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Lookup returns the tensor of that name.
func (f *File) Lookup(name string) (safetensors.Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	return f.tensors[i], true
}

// budget bounds what a file can make us allocate for unpacked and reordered data and for names. Weights hardly compress,
// and each is reordered at most once, so sixteen times the file is generous.
type budget struct{ total, used uint64 }

func newBudget(fileSize int) *budget { return &budget{total: baseBudget + 16*uint64(fileSize)} }

func (b *budget) take(n int) error {
	if uint64(n) > b.total-b.used {
		return fmt.Errorf("would take more than %d bytes of memory, which is more than a file of this size should", b.total)
	}
	b.used += uint64(n)
	return nil
}

// collector walks the unpickled value and resolves its tensors.
type collector struct {
	file   *File
	budget *budget
	visits int
}

// collect adds the tensors in v under the name prefix. Values that are no tensors (epochs, versions) are left out.
func (c *collector) collect(name string, v any, depth int) error {
	if c.visits++; c.visits > maxVisits {
		return fmt.Errorf("holds more than %d values", maxVisits)
	}
	if depth > maxDepth {
		return fmt.Errorf("%.80q: nested more than %d deep", name, maxDepth)
	}
	// A value that many places refer to has a name in each, as long as the names of all that holds it together.
	if err := c.budget.take(len(name)); err != nil {
		return fmt.Errorf("%.80q: names: %w", name, err)
	}
	switch v := v.(type) {
	case *tensor:
		return c.add(name, v)
	case *dict:
		for i, key := range v.keys {
			if err := c.collect(join(name, key), v.values[i], depth+1); err != nil {
				return err
			}
		}
	case *list:
		for i, item := range v.items {
			if err := c.collect(join(name, strconv.Itoa(i)), item, depth+1); err != nil {
				return err
			}
		}
	case tuple:
		for i, item := range v {
			if err := c.collect(join(name, strconv.Itoa(i)), item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func (c *collector) add(name string, t *tensor) error {
	if _, dup := c.file.index[name]; dup {
		return fmt.Errorf("tensor %q: two of that name", name)
	}
	data, err := c.resolve(t)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	c.file.index[name] = len(c.file.tensors)
	c.file.tensors = append(c.file.tensors, safetensors.Tensor{Name: name, DType: t.storage.dtype, Shape: t.shape, Data: data})
	return nil
}

// resolve returns the tensor's elements in row-major order: a view of the storage if they lie so, a copy otherwise.
func (c *collector) resolve(t *tensor) ([]byte, error) {
	size := t.storage.dtype.Bits() / 8
	n, err := t.elements()
	if err != nil {
		return nil, err
	}
	store := t.storage.data
	first := t.offset * size // in range: offset is at most the storage's length
	if t.contiguous() || n == 0 {
		return store[first : first+n*size : first+n*size], nil
	}
	if err := c.budget.take(n * size); err != nil {
		return nil, err
	}
	dst := make([]byte, 0, n*size)
	return appendStrided(dst, store[first:], t.shape, t.strides, size), nil
}

// appendStrided appends the elements of src in row-major order; strides are in elements.
func appendStrided(dst, src []byte, shape, strides []int, size int) []byte {
	if len(shape) == 0 {
		return append(dst, src[:size]...)
	}
	for i := range shape[0] {
		dst = appendStrided(dst, src[i*strides[0]*size:], shape[1:], strides[1:], size)
	}
	return dst
}

// elements returns the number of elements, after checking that all of them lie inside the storage and that there are
// no more of them than the storage has: an expanded tensor (stride 0) could otherwise claim any size.
func (t *tensor) elements() (int, error) {
	have := uint64(t.storage.numel)
	n := uint64(1)
	for _, d := range t.shape {
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt/8 {
			return 0, fmt.Errorf("shape %v overflows", t.shape)
		}
		n = lo
	}
	if uint64(t.offset) > have || n > have {
		return 0, fmt.Errorf("shape %v at offset %d does not fit its storage of %d elements", t.shape, t.offset, have)
	}
	if n == 0 {
		return 0, nil
	}
	last := uint64(t.offset) // index of the last element
	for i, d := range t.shape {
		hi, lo := bits.Mul64(uint64(d-1), uint64(t.strides[i]))
		if hi != 0 || lo >= have || last+lo >= have {
			return 0, fmt.Errorf("shape %v with strides %v at offset %d reaches outside its storage of %d elements", t.shape, t.strides, t.offset, have)
		}
		last += lo
	}
	if last >= have {
		return 0, fmt.Errorf("offset %d is outside its storage of %d elements", t.offset, have)
	}
	return int(n), nil
}

// contiguous tells whether the strides are those of a row-major array; strides of dimensions of size 1 do not matter.
func (t *tensor) contiguous() bool {
	want := 1
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.strides[i] != want {
			return false
		}
		want *= t.shape[i]
	}
	return true
}
