// Package disk has the two ways in which weights meet the file system: mapped for reading, and written so that a
// reader sees either the old file or all of the new one.
package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Map returns the bytes of the file at path, mapped read-only where the platform allows it (linux, darwin) and read
// into memory elsewhere. They must not be written to, nor used after close. The file must not be cut while it is mapped.
func Map(path string) (data []byte, close func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: not a regular file", path)
	}
	size := info.Size()
	if size != int64(int(size)) {
		return nil, nil, fmt.Errorf("%s: %d bytes do not fit the address space", path, size)
	}
	if size == 0 {
		return nil, func() error { return nil }, nil
	}
	data, close, err = mapFile(f, int(size))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, close, nil
}

// ErrLocked says that another process writes to a file.
var ErrLocked = errors.New("another program is writing to it")

// WriteFile calls write with a buffered writer to a temporary file beside path, syncs it and renames it to path. If
// anything fails, the temporary file is removed and whatever was at path is untouched.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, temporary(base, "*"))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := fill(f, write); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	syncDir(dir)
	return nil
}

// temporary is the name of a temporary file beside base, given what makes it unique.
func temporary(base, unique string) string { return "." + base + "." + unique + ".tmp" }

// Clean removes the temporary files that a WriteFile to path left which was killed. Nobody may be writing to path.
func Clean(path string) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	prefix, suffix, _ := strings.Cut(temporary(base, "*"), "*")
	for _, e := range entries {
		unique, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		// What os.CreateTemp makes unique is a number: other.tmp is a file of base.other.
		if unique, ok = strings.CutSuffix(unique, suffix); !ok || strings.Trim(unique, "0123456789") != "" {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func fill(f *os.File, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil { // temporary files start private
		return err
	}
	return f.Sync()
}

// syncDir makes the rename itself durable where directories can be synced; elsewhere it does nothing.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
