package pairs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"netfusion/nn/disk"
)

// Appender writes a Store. A pair that Append has returned from is in the file, whatever becomes of this program; a crash of the
// machine may cost those since the last Sync. It serves one goroutine.
type Appender struct {
	header  Header
	name    string
	file    *os.File
	begin   int // of the records
	n       int
	written int // bytes since the last sync
	buffer  []byte
}

// Append opens the Store at path to write more pairs to it, or makes one with the header h. A Store that exists must have the same
// header; what is left of a pair that was not written to its end is cut off, and so are the temporary files that a killed maker of
// a Store leaves.
func Append(path string, h Header) (*Appender, error) {
	a, err := openAppender(path, h)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, err
}

func openAppender(path string, h Header) (*Appender, error) {
	if err := disk.Clean(path); err != nil {
		return nil, err
	}
	start, err := h.encode()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := disk.WriteFile(path, func(w io.Writer) error { _, err := w.Write(start); return err }); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	a := &Appender{header: h, name: path, file: f, begin: len(start), buffer: make([]byte, h.record())}
	if err := a.resume(start); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// resume finds the count again and cuts off what is behind the last whole pair.
func (a *Appender) resume(start []byte) error {
	if err := disk.Lock(a.file); err != nil {
		return err
	}
	data, unmap, err := disk.Map(a.name)
	if err != nil {
		return err
	}
	there, begin, err := decodeHeader(data)
	if err == nil {
		if !bytes.Equal(data[:begin], start) {
			err = a.header.differs(&there)
		} else {
			a.n, err = there.count(data[begin:])
		}
	}
	if err := errors.Join(err, unmap()); err != nil {
		return err
	}
	return a.file.Truncate(a.end())
}

// differs says what is not the same in the header of a file.
func (h *Header) differs(there *Header) error {
	fields := func(h *Header) map[string]json.RawMessage {
		all := map[string]json.RawMessage{}
		raw, err := json.Marshal(h)
		if err == nil {
			err = json.Unmarshal(raw, &all)
		}
		if err != nil {
			return nil
		}
		return all
	}
	mine, theirs := fields(h), fields(there)
	for _, name := range []string{"cond", "latent", "std", "type", "classes", "class_dim", "recipe", "fingerprints", "source", "licences", "names"} {
		if !bytes.Equal(mine[name], theirs[name]) {
			return fmt.Errorf("holds pairs of another kind: its %s is %.200s, not %.200s", name, orNothing(theirs[name]), orNothing(mine[name]))
		}
	}
	return errors.New("holds pairs of other classes")
}

func orNothing(v json.RawMessage) string {
	if v == nil {
		return "nothing"
	}
	return string(v)
}

func (a *Appender) end() int64 { return int64(a.begin) + int64(a.n)*int64(a.header.record()) }

// Len is how many pairs there are.
func (a *Appender) Len() int { return a.n }

// Append adds a pair to the end. If it fails, the Store is as before.
func (a *Appender) Append(p *Pair) error {
	err := a.header.encodeRecord(a.buffer, a.n, p)
	if err == nil {
		if _, err = a.file.WriteAt(a.buffer, a.end()); err != nil {
			err = errors.Join(err, a.file.Truncate(a.end()))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: pair %d: %w", a.name, a.n, err)
	}
	a.n++
	if a.written += len(a.buffer); a.written >= syncEvery {
		return a.Sync()
	}
	return nil
}

// Sync waits until all pairs are on the disk.
func (a *Appender) Sync() error {
	a.written = 0
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	return nil
}

// Close syncs and closes the file.
func (a *Appender) Close() error { return errors.Join(a.Sync(), a.file.Close()) }
