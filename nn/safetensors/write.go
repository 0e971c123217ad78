package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	"netfusion/nn/disk"
)

// Write writes the tensors in the given order, which should be the order of use, in the strict profile. The metadata
// keys "format" and "sha256" are set by Write, whatever meta says. The same arguments give the same bytes.
func Write(w io.Writer, meta map[string]string, ts []Tensor) error {
	header, pads, err := buildHeader(meta, ts)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	var zeros [tensorAlign]byte
	for i, t := range ts {
		if _, err := w.Write(zeros[:pads[i]]); err != nil {
			return err
		}
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes as Write does to a temporary file beside path, syncs it and renames it to path: there is never a
// half-written file at path, and a failure leaves nothing behind.
func WriteFile(path string, meta map[string]string, ts []Tensor) error {
	err := disk.WriteFile(path, func(w io.Writer) error { return Write(w, meta, ts) })
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// buildHeader returns everything before the data, and the number of pad bytes before each tensor.
func buildHeader(meta map[string]string, ts []Tensor) (header []byte, pads []int, err error) {
	sums := make(map[string]string, len(ts))
	for _, t := range ts {
		if err := checkName(t.Name); err != nil {
			return nil, nil, err
		}
		if _, dup := sums[t.Name]; dup {
			return nil, nil, fmt.Errorf("tensor %q: two of that name", t.Name)
		}
		if err := t.check(); err != nil {
			return nil, nil, err
		}
		sums[t.Name] = checksum(t.Data)
	}
	for key, value := range meta {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, nil, fmt.Errorf("metadata %q: not UTF-8", key)
		}
	}
	all := map[string]string{}
	maps.Copy(all, meta)
	all[formatKey] = profile
	all[checksumKey] = string(marshal(sums))

	var b bytes.Buffer
	b.Write(make([]byte, 8))
	fmt.Fprintf(&b, "{%q:%s", metadataName, marshal(all))
	pads = make([]int, len(ts))
	at, k := 0, 0
	for i, t := range ts {
		if pad := -at & (tensorAlign - 1); pad > 0 {
			writeEntry(&b, padPrefix+strconv.Itoa(k), U8, []int{pad}, at, at+pad)
			pads[i] = pad
			at += pad
			k++
		}
		writeEntry(&b, t.Name, t.DType, t.Shape, at, at+len(t.Data))
		at += len(t.Data)
	}
	b.WriteByte('}')
	for b.Len()%dataAlign != 0 {
		b.WriteByte(' ')
	}
	header = b.Bytes()
	if len(header)-8 > maxHeader {
		return nil, nil, fmt.Errorf("header of %d bytes, at most %d are allowed", len(header)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	return header, pads, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("a tensor has no name")
	case name == metadataName, strings.HasPrefix(name, padPrefix):
		return fmt.Errorf("tensor %q: the name is reserved", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("tensor %q: the name is not UTF-8", name)
	}
	return nil
}

func writeEntry(b *bytes.Buffer, name string, d DType, shape []int, begin, end int) {
	if shape == nil {
		shape = []int{} // a scalar is [], never null
	}
	fmt.Fprintf(b, ",%s:{\"dtype\":%q,\"shape\":%s,\"data_offsets\":[%d,%d]}", marshal(name), d.String(), marshal(shape), begin, end)
}

// marshal encodes strings, maps of strings (keys sorted) and integers, none of which can fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("safetensors: " + err.Error())
	}
	return b
}
