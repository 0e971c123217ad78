package planes

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"netfusion/nn/disk"
)

// Unpack makes sure that dir holds the raw file and returns its path, dir/<first 16 hex digits of its SHA-256>.safetensors.
// dir is made if need be. A file that is there already is used if its size, and its first frame (the safetensors
// header, with a checksum per tensor), are right; anything else is replaced. To read
// all of it costs as much as to unpack it; safetensors.File.Verify does so, by the checksums.
//
// The file is written under another name, synced and renamed, so processes that unpack at the same time do no harm:
// each renames the same bytes into place.
func Unpack(data []byte, dir string) (path string, err error) {
	x, err := parseIndex(data)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, fmt.Sprintf("%x.safetensors", x.sum[:8]))
	if present(path, data, x) {
		return path, nil
	}
	err = disk.WriteFile(path, func(w io.Writer) error { return Decompress(context.Background(), w, data) })
	if err != nil && present(path, data, x) { // where open files cannot be replaced, another process was first
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", path, err)
	}
	return path, nil
}

// present tells whether the file at path looks like the one that data unpacks to, without reading all of it.
func present(path string, data []byte, x *index) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != x.rawSize || len(x.chunks) == 0 {
		return false
	}
	u, err := newUnpacker()
	if err != nil {
		return false
	}
	want, err := u.unpack(data, x.chunks[0])
	if err != nil {
		return false
	}
	got := make([]byte, len(want))
	_, err = io.ReadFull(f, got)
	return err == nil && bytes.Equal(got, want)
}
