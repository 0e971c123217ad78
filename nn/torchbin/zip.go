package torchbin

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

const maxPickle = 32 << 20 // bytes of data.pkl; half of what a file of any size may unpack

// archive is the file and its entries by name.
type archive struct {
	file    []byte
	entries map[string]*zip.File
	budget  *budget
}

// parseZip reads <root>/data.pkl, and each storage that it refers to from <root>/data/<key>.
func parseZip(data []byte, b *budget) (any, error) {
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	z := archive{file: data, entries: make(map[string]*zip.File, len(r.File)), budget: b}
	root, found := "", false
	for _, e := range r.File {
		if z.entries[e.Name] != nil {
			return nil, fmt.Errorf("entry %q: two of that name", e.Name)
		}
		z.entries[e.Name] = e
		if folder, ok := strings.CutSuffix(e.Name, "/data.pkl"); ok && !strings.Contains(folder, "/") {
			if found {
				return nil, fmt.Errorf("two checkpoints, in the folders %q and %q", root, folder)
			}
			root, found = folder, true
		}
	}
	if !found {
		return nil, errors.New("not a PyTorch checkpoint: no data.pkl in the zip file")
	}
	root += "/"
	if z.entries[root+"byteorder"] != nil {
		order, err := z.read(root+"byteorder", 16)
		if err != nil {
			return nil, err
		}
		if string(order) != "little" {
			return nil, fmt.Errorf("byte order is %q, wanted little", order)
		}
	}
	text, err := z.read(root+"data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	p, err := unpickle(text)
	if err != nil {
		return nil, fmt.Errorf("%sdata.pkl: %w", root, err)
	}
	if p.size != len(text) {
		return nil, fmt.Errorf("%sdata.pkl: %d bytes after the pickle", root, len(text)-p.size)
	}
	for key, s := range p.storages {
		if s.data, err = z.read(root+"data/"+key, s.size()); err != nil {
			return nil, fmt.Errorf("storage %q: %w", key, err)
		}
		if len(s.data) != s.size() {
			return nil, fmt.Errorf("storage %q: has %d bytes, its tensors were told %d (%d of %v)", key, len(s.data), s.size(), s.numel, s.dtype)
		}
	}
	return p.value, nil
}

// read returns an entry of at most limit bytes: a view of the file if it is stored, unpacked within the budget if it is
// deflated. The checksum is verified either way.
func (z *archive) read(name string, limit int) ([]byte, error) {
	e := z.entries[name]
	if e == nil {
		return nil, fmt.Errorf("entry %q is missing", name)
	}
	if e.UncompressedSize64 > uint64(limit) {
		return nil, fmt.Errorf("entry %q: %d bytes, wanted at most %d", name, e.UncompressedSize64, limit)
	}
	var data []byte
	var err error
	switch e.Method {
	case zip.Store:
		data, err = z.stored(e)
	case zip.Deflate:
		data, err = z.inflated(e)
	default:
		err = fmt.Errorf("compression method %d, wanted stored or deflated", e.Method)
	}
	if err != nil {
		return nil, fmt.Errorf("entry %q: %w", name, err)
	}
	if sum := crc32.ChecksumIEEE(data); sum != e.CRC32 {
		return nil, fmt.Errorf("entry %q: CRC is %08x, wanted %08x", name, sum, e.CRC32)
	}
	return data, nil
}

func (z *archive) stored(e *zip.File) ([]byte, error) {
	at, err := e.DataOffset()
	if err != nil {
		return nil, err
	}
	size := e.UncompressedSize64
	if size != e.CompressedSize64 || at < 0 || at > int64(len(z.file)) || size > uint64(len(z.file))-uint64(at) {
		return nil, errors.New("reaches outside the file")
	}
	return z.file[at:][:size:size], nil
}

func (z *archive) inflated(e *zip.File) ([]byte, error) {
	size := int(e.UncompressedSize64)
	if err := z.budget.take(size); err != nil {
		return nil, err
	}
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("does not end after its %d bytes: %w", size, errors.Join(zip.ErrFormat, err))
	}
	return data, nil
}
