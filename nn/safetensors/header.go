package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	maxHeader    = 100_000_000 // bytes, as in the reference reader
	maxRank      = 32
	metadataName = "__metadata__"
)

// entry is one tensor of the header: its data is buffer[begin:end].
type entry struct {
	Tensor
	begin, end int
}

// parseHeader reads and validates the header of a file. It returns the entries in the order of their data, the metadata
// and the data buffer. Memory is bounded by the size of the header, whatever that claims.
func parseHeader(file []byte) (entries []entry, meta map[string]string, buffer []byte, err error) {
	if len(file) < 8 {
		return nil, nil, nil, fmt.Errorf("file is %d bytes, a header length takes 8", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > maxHeader {
		return nil, nil, nil, fmt.Errorf("header of %d bytes, at most %d are allowed", n, maxHeader)
	}
	if n > uint64(len(file)-8) {
		return nil, nil, nil, fmt.Errorf("header of %d bytes, the file has %d after its length", n, len(file)-8)
	}
	header, buffer := file[8:8+n], file[8+n:]
	if !utf8.Valid(header) {
		return nil, nil, nil, errors.New("header is not UTF-8")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(header))}
	p.dec.UseNumber()
	if err := p.object(p.topLevel); err != nil {
		return nil, nil, nil, fmt.Errorf("header: %w", err)
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return nil, nil, nil, errors.New("header: data after the closing brace")
	}
	if err := p.place(buffer); err != nil {
		return nil, nil, nil, err
	}
	return p.entries, p.meta, buffer, nil
}

// parser walks the header's JSON token by token, so that nothing is built that the format does not have.
type parser struct {
	dec     *json.Decoder
	entries []entry
	meta    map[string]string
}

// object reads an object and calls field after each key, which must be unique.
func (p *parser) object(field func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.str()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("duplicate key %q", key)
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p *parser) topLevel(key string) error {
	if key == metadataName {
		p.meta = map[string]string{}
		if err := p.object(p.metadata); err != nil {
			return fmt.Errorf("%s: %w", metadataName, err)
		}
		return nil
	}
	e, err := p.entry(key)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", key, err)
	}
	p.entries = append(p.entries, e)
	return nil
}

func (p *parser) metadata(key string) error {
	value, err := p.str()
	if err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	p.meta[key] = value
	return nil
}

func (p *parser) entry(name string) (entry, error) {
	e := entry{Tensor: Tensor{Name: name}}
	fields := 0
	err := p.object(func(key string) error {
		fields++
		switch key {
		case "dtype":
			s, err := p.str()
			if err != nil {
				return fmt.Errorf("dtype: %w", err)
			}
			d, ok := parseDType(s)
			if !ok {
				return fmt.Errorf("unknown dtype %q", s)
			}
			e.DType = d
		case "shape":
			shape, err := p.ints(maxRank)
			if err != nil {
				return fmt.Errorf("shape: %w", err)
			}
			e.Shape = shape
		case "data_offsets":
			o, err := p.ints(2)
			if err != nil {
				return fmt.Errorf("data_offsets: %w", err)
			}
			if len(o) != 2 {
				return fmt.Errorf("data_offsets: wanted 2 numbers, found %d", len(o))
			}
			e.begin, e.end = o[0], o[1]
		default:
			return fmt.Errorf("unknown field %q", key)
		}
		return nil
	})
	if err == nil && fields != 3 {
		err = errors.New("wanted the fields dtype, shape and data_offsets")
	}
	return e, err
}

// ints reads an array of at most limit non-negative integers.
func (p *parser) ints(limit int) ([]int, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	v := []int{}
	for p.dec.More() {
		tok, err := p.token()
		if err != nil {
			return nil, err
		}
		num, ok := tok.(json.Number)
		if !ok {
			return nil, fmt.Errorf("wanted a number, found %s", describe(tok))
		}
		n, err := strconv.ParseUint(string(num), 10, 64)
		if err != nil || n > math.MaxInt {
			return nil, fmt.Errorf("wanted an integer of 0 to %d, found %.40s", math.MaxInt, num)
		}
		if len(v) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		v = append(v, int(n))
	}
	return v, p.delim(']')
}

func (p *parser) str() (string, error) {
	tok, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("wanted a string, found %s", describe(tok))
	}
	return s, nil
}

func (p *parser) delim(want json.Delim) error {
	tok, err := p.token()
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("wanted %q, found %s", want.String(), describe(tok))
	}
	return nil
}

func (p *parser) token() (json.Token, error) {
	tok, err := p.dec.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return tok, err
}

func describe(tok json.Token) string {
	s := fmt.Sprintf("%v", tok)
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return strconv.Quote(s)
}

// place sorts the entries by their data, checks that they cover the buffer without holes or overlap, each as long as
// its shape says, and gives each its data.
func (p *parser) place(buffer []byte) error {
	slices.SortStableFunc(p.entries, func(a, b entry) int {
		if a.begin != b.begin {
			return cmp.Compare(a.begin, b.begin)
		}
		return cmp.Compare(a.end, b.end)
	})
	at := 0
	for i := range p.entries {
		e := &p.entries[i]
		size, err := byteSize(e.DType, e.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", e.Name, err)
		}
		switch {
		case e.end < e.begin:
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] run backwards", e.Name, e.begin, e.end)
		case e.begin < at:
			return fmt.Errorf("tensor %q: data starts at %d, inside the tensor before it, which ends at %d", e.Name, e.begin, at)
		case e.begin > at:
			return fmt.Errorf("tensor %q: data starts at %d, leaving a hole after %d", e.Name, e.begin, at)
		case e.end-e.begin != size:
			return fmt.Errorf("tensor %q: %v %v takes %d bytes, data_offsets give %d", e.Name, e.DType, e.Shape, size, e.end-e.begin)
		case e.end > len(buffer):
			return fmt.Errorf("tensor %q: data ends at %d, the file has %d bytes of data", e.Name, e.end, len(buffer))
		}
		e.Data = buffer[e.begin:e.end:e.end]
		at = e.end
	}
	if at != len(buffer) {
		return fmt.Errorf("tensors cover %d bytes of data, the file has %d", at, len(buffer))
	}
	return nil
}
