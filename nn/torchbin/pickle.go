package torchbin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// The opcodes of pickle protocols 2 to 4 that torch.save writes. Any other is an error.
const (
	opMark            = '('
	opStop            = '.'
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opNone            = 'N'
	opBinPersID       = 'Q'
	opReduce          = 'R'
	opBinUnicode      = 'X'
	opBinFloat        = 'G'
	opAppend          = 'a'
	opBuild           = 'b'
	opGlobal          = 'c'
	opAppends         = 'e'
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opBinPut          = 'q'
	opLongBinPut      = 'r'
	opSetItem         = 's'
	opTuple           = 't'
	opSetItems        = 'u'
	opEmptyDict       = '}'
	opEmptyList       = ']'
	opEmptyTuple      = ')'
	opProto           = 0x80
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opNewTrue         = 0x88
	opNewFalse        = 0x89
	opLong1           = 0x8a
	opShortBinUnicode = 0x8c
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
)

const (
	maxOps    = 1 << 22 // opcodes of one pickle: enough for some 50,000 tensors
	maxString = 1 << 16 // bytes of one string
	maxGlobal = 256     // bytes of a line of GLOBAL
)

// machine runs one pickle. Nothing is copied on the stack but references, so memory is bounded by the number of opcodes
// and the bytes of the strings.
type machine struct {
	data  []byte
	at    int
	stack []any
	memo  map[uint32]any

	storages map[string]*storage // by key
}

// pickled is what a pickle leaves behind: its value, its length in bytes, and the storages that it refers to.
type pickled struct {
	value    any
	size     int
	storages map[string]*storage
}

// unpickle runs the pickle at the start of data.
func unpickle(data []byte) (pickled, error) {
	m := machine{data: data, memo: map[uint32]any{}, storages: map[string]*storage{}}
	if op, err := m.byte(); err != nil || op != opProto {
		return pickled{}, errors.New("not a pickle of protocol 2 to 4")
	}
	if p, err := m.byte(); err != nil || p < 2 || p > 4 {
		return pickled{}, fmt.Errorf("pickle protocol %d, wanted 2 to 4", p)
	}
	for range maxOps {
		at := m.at
		op, err := m.byte()
		if err == nil && op == opStop {
			if len(m.stack) != 1 || m.stack[0] == (mark{}) {
				return pickled{}, fmt.Errorf("pickle: stops with %d values, wanted 1", len(m.stack))
			}
			return pickled{m.stack[0], m.at, m.storages}, nil
		}
		if err == nil {
			err = m.step(op)
		}
		if err != nil {
			return pickled{}, fmt.Errorf("pickle, byte %d: %w", at, err)
		}
	}
	return pickled{}, fmt.Errorf("pickle: more than %d opcodes", maxOps)
}

func (m *machine) step(op byte) error {
	switch op {
	case opFrame: // tells how much to read ahead
		_, err := m.take(8)
		return err
	case opMark:
		return m.push(mark{}, nil)
	case opNone:
		return m.push(nil, nil)
	case opNewTrue:
		return m.push(true, nil)
	case opNewFalse:
		return m.push(false, nil)
	case opBinInt, opBinInt1, opBinInt2, opLong1:
		return m.push(m.integer(op))
	case opBinFloat:
		b, err := m.take(8)
		if err != nil {
			return err
		}
		return m.push(math.Float64frombits(binary.BigEndian.Uint64(b)), nil)
	case opBinUnicode:
		n, err := m.uint(4)
		if err != nil {
			return err
		}
		return m.push(m.text(n))
	case opShortBinUnicode:
		n, err := m.uint(1)
		if err != nil {
			return err
		}
		return m.push(m.text(n))
	case opEmptyTuple:
		return m.push(tuple{}, nil)
	case opTuple1, opTuple2, opTuple3:
		items, err := m.pop(int(op) - opTuple1 + 1)
		return m.push(tuple(items), err)
	case opTuple:
		items, err := m.popMark()
		return m.push(tuple(items), err)
	case opEmptyList:
		return m.push(&list{}, nil)
	case opEmptyDict:
		return m.push(&dict{}, nil)
	case opAppend:
		return m.appends(m.pop(1))
	case opAppends:
		return m.appends(m.popMark())
	case opSetItem:
		return m.setItems(m.pop(2))
	case opSetItems:
		return m.setItems(m.popMark())
	case opBinPut:
		return m.put(m.uint(1))
	case opLongBinPut:
		return m.put(m.uint(4))
	case opMemoize:
		return m.put(uint32(len(m.memo)), nil)
	case opBinGet:
		return m.get(m.uint(1))
	case opLongBinGet:
		return m.get(m.uint(4))
	case opGlobal:
		return m.global()
	case opStackGlobal:
		return m.stackGlobal()
	case opReduce:
		return m.reduce()
	case opBuild:
		return m.build()
	case opBinPersID:
		return m.storage()
	}
	return fmt.Errorf("opcode %#02x is not one that a checkpoint needs", op)
}

func (m *machine) push(v any, err error) error {
	if err != nil {
		return err
	}
	m.stack = append(m.stack, v)
	return nil
}

// pop removes the n topmost values; a mark is not one.
func (m *machine) pop(n int) ([]any, error) {
	base := len(m.stack) - n
	if base < 0 {
		return nil, errors.New("the stack is empty")
	}
	items := append([]any(nil), m.stack[base:]...)
	for _, v := range items {
		if v == (mark{}) {
			return nil, errors.New("a mark is where a value is wanted")
		}
	}
	m.stack = m.stack[:base]
	return items, nil
}

// popMark removes the values above the topmost mark, and the mark.
func (m *machine) popMark() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if m.stack[i] == (mark{}) {
			items := append([]any(nil), m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("there is no mark on the stack")
}

func (m *machine) top() any {
	if len(m.stack) == 0 {
		return nil
	}
	return m.stack[len(m.stack)-1]
}

func (m *machine) appends(items []any, err error) error {
	if err != nil {
		return err
	}
	l, ok := m.top().(*list)
	if !ok {
		return fmt.Errorf("appends to %s", describe(m.top()))
	}
	l.items = append(l.items, items...)
	return nil
}

func (m *machine) setItems(items []any, err error) error {
	if err != nil {
		return err
	}
	d, ok := m.top().(*dict)
	if !ok || len(items)%2 != 0 {
		return fmt.Errorf("sets %d keys and values of %s", len(items), describe(m.top()))
	}
	for i := 0; i < len(items); i += 2 {
		var key string
		switch k := items[i].(type) {
		case string:
			key = k
		case int64:
			key = strconv.FormatInt(k, 10)
		default:
			return fmt.Errorf("dictionary key is %s, wanted a string or an integer", describe(k))
		}
		if err := d.set(key, items[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) put(i uint32, err error) error {
	if err != nil {
		return err
	}
	if len(m.stack) == 0 || m.top() == (mark{}) {
		return errors.New("nothing to remember")
	}
	m.memo[i] = m.top()
	return nil
}

func (m *machine) get(i uint32, err error) error {
	v, ok := m.memo[i]
	if err == nil && !ok {
		err = fmt.Errorf("memo %d is not set", i)
	}
	return m.push(v, err)
}

func (m *machine) global() error {
	module, err := m.line()
	if err != nil {
		return err
	}
	name, err := m.line()
	if err != nil {
		return err
	}
	return m.push(findGlobal(module, name))
}

func (m *machine) stackGlobal() error {
	names, err := m.pop(2)
	if err != nil {
		return err
	}
	module, ok1 := names[0].(string)
	name, ok2 := names[1].(string)
	if !ok1 || !ok2 {
		return fmt.Errorf("global is named by %s and %s", describe(names[0]), describe(names[1]))
	}
	return m.push(findGlobal(module, name))
}

func findGlobal(module, name string) (any, error) {
	g, ok := globals[module+"."+name]
	if !ok {
		return nil, fmt.Errorf("refers to %.80q, which is not part of a tensor: refused", module+"."+name)
	}
	return g, nil
}

func (m *machine) reduce() error {
	call, err := m.pop(2)
	if err != nil {
		return err
	}
	g, ok := call[0].(*global)
	args, isTuple := call[1].(tuple)
	if !ok || g.reduce == nil || !isTuple {
		return fmt.Errorf("calls %s with %s", describe(call[0]), describe(call[1]))
	}
	v, err := g.reduce(args)
	if err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	return m.push(v, nil)
}

// storage resolves a persistent id. Tensors that share a storage each carry its id, and must agree about it.
func (m *machine) storage() error {
	id, err := m.pop(1)
	if err != nil {
		return err
	}
	s, err := persistent(id[0])
	if err != nil {
		return err
	}
	if known := m.storages[s.key]; known == nil {
		m.storages[s.key] = s
	} else if known.dtype != s.dtype || known.numel != s.numel {
		return fmt.Errorf("storage %q is both %d of %v and %d of %v", s.key, known.numel, known.dtype, s.numel, s.dtype)
	}
	return m.push(m.storages[s.key], nil)
}

// build sets attributes. A state_dict has one, _metadata with the versions of its modules, which nothing here needs.
func (m *machine) build() error {
	state, err := m.pop(1)
	if err != nil {
		return err
	}
	_, isDict := m.top().(*dict)
	if _, ok := state[0].(*dict); !ok || !isDict {
		return fmt.Errorf("sets the state of %s to %s", describe(m.top()), describe(state[0]))
	}
	return nil
}

func (m *machine) byte() (byte, error) {
	b, err := m.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (m *machine) take(n int) ([]byte, error) {
	if n > len(m.data)-m.at {
		return nil, io.ErrUnexpectedEOF
	}
	b := m.data[m.at:][:n]
	m.at += n
	return b, nil
}

// uint reads an unsigned integer of 1 or 4 bytes.
func (m *machine) uint(n int) (uint32, error) {
	b, err := m.take(n)
	if err != nil {
		return 0, err
	}
	if n == 1 {
		return uint32(b[0]), nil
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (m *machine) integer(op byte) (any, error) {
	n := 1
	switch op {
	case opBinInt:
		n = 4
	case opBinInt2:
		n = 2
	case opLong1:
		size, err := m.byte()
		if err != nil {
			return nil, err
		}
		n = int(size)
	}
	b, err := m.take(n)
	if err != nil {
		return nil, err
	}
	if n > 8 {
		return longInt(b), nil
	}
	var v int64
	signed := op == opBinInt || op == opLong1
	if signed && n > 0 && b[n-1]&0x80 != 0 {
		v = -1 // the sign extends to the left
	}
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | int64(b[i])
	}
	return v, nil
}

func (m *machine) text(n uint32) (any, error) {
	if n > maxString {
		return nil, fmt.Errorf("string of %d bytes, at most %d are allowed", n, maxString)
	}
	b, err := m.take(int(n))
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, errors.New("string is not UTF-8")
	}
	return string(b), nil
}

func (m *machine) line() (string, error) {
	rest := m.data[m.at:]
	n := bytes.IndexByte(rest[:min(len(rest), maxGlobal)], '\n')
	if n < 0 {
		return "", fmt.Errorf("global's name has no end within %d bytes", maxGlobal)
	}
	m.at += n + 1
	return string(rest[:n]), nil
}
