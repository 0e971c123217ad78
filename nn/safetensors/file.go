// Package safetensors reads and writes the safetensors container (Hugging Face): an 8-byte header length, a JSON header
// that gives each tensor's type, shape and place, then the data.
//
// The reader validates strictly and trusts nothing: sizes are checked before anything is allocated. The writer keeps a
// stricter profile, "netfusion-a64", which any other reader opens: the data starts at a multiple of 4096 bytes, every
// tensor at a multiple of 64 (filled by U8 tensors named "__pad.k"), and the metadata carries a SHA-256 for every tensor.
package safetensors

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"netfusion/nn/disk"
)

const (
	profile     = "netfusion-a64"
	formatKey   = "format"
	checksumKey = "sha256"
	padPrefix   = "__pad."
	dataAlign   = 4096
	tensorAlign = 64
)

// File is an open container. It is safe for concurrent reading.
type File struct {
	name      string
	meta      map[string]string
	tensors   []Tensor
	index     map[string]int
	dataStart int
	offsets   []int // of each tensor, relative to the data
	close     func() error
}

// Open maps the file at path and validates its header. The tensors' data are views of the mapping and end with Close.
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

// Parse validates a file that is already in memory; name stands for it in errors. The tensors' data are views of data.
func Parse(name string, data []byte) (*File, error) {
	entries, meta, buffer, err := parseHeader(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := &File{name: name, meta: meta, index: make(map[string]int, len(entries)), dataStart: len(data) - len(buffer)}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, padPrefix) {
			continue
		}
		f.index[e.Name] = len(f.tensors)
		f.tensors = append(f.tensors, e.Tensor)
		f.offsets = append(f.offsets, e.begin)
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

// Metadata returns the header's free-form strings; nil if it has none. It must not be changed.
func (f *File) Metadata() map[string]string { return f.meta }

// Tensors returns all tensors in the order of their data, without padding. The slice must not be changed.
func (f *File) Tensors() []Tensor { return f.tensors }

// Names returns the tensors' names in the order of their data.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Offset returns where the data of Tensors()[i] starts in the file, in bytes.
func (f *File) Offset(i int) int { return f.dataStart + f.offsets[i] }

// Lookup returns the tensor of that name.
func (f *File) Lookup(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Verify checks that the file keeps the profile that Write writes: format, alignment, and the checksum of every tensor.
// It reads all of the data.
func (f *File) Verify() error {
	if got := f.meta[formatKey]; got != profile {
		return fmt.Errorf("%s: format is %q, wanted %q", f.name, got, profile)
	}
	var sums map[string]string
	if err := json.Unmarshal([]byte(f.meta[checksumKey]), &sums); err != nil {
		return fmt.Errorf("%s: metadata %q: %w", f.name, checksumKey, err)
	}
	if f.dataStart%dataAlign != 0 {
		return fmt.Errorf("%s: data starts at %d, wanted a multiple of %d", f.name, f.dataStart, dataAlign)
	}
	for i, t := range f.tensors {
		if f.offsets[i]%tensorAlign != 0 {
			return fmt.Errorf("%s: tensor %q: starts at %d, wanted a multiple of %d", f.name, t.Name, f.offsets[i], tensorAlign)
		}
		want, ok := sums[t.Name]
		if !ok {
			return fmt.Errorf("%s: tensor %q: has no checksum", f.name, t.Name)
		}
		if got := checksum(t.Data); got != want {
			return fmt.Errorf("%s: tensor %q: sha256 is %s, wanted %s", f.name, t.Name, got, want)
		}
	}
	for name := range sums {
		if _, ok := f.index[name]; !ok {
			return fmt.Errorf("%s: tensor %q: has a checksum but is missing", f.name, name)
		}
	}
	return nil
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
