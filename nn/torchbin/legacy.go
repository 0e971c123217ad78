package torchbin

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	legacyMagic    = longInt("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") // 0x1950a86a20f9469cfc6c
	legacyProtocol = 1001
)

// parseLegacy reads five pickles in a row (magic number, protocol, system, object, keys of the storages), then for each
// key the number of elements as int64 and the elements.
func parseLegacy(data []byte, _ *budget) (any, error) {
	var parts [5]pickled
	at := 0
	for i, what := range []string{"magic number", "protocol version", "system", "checkpoint", "list of storages"} {
		p, err := unpickle(data[at:])
		if err != nil {
			return nil, fmt.Errorf("%s, at byte %d: %w", what, at, err)
		}
		parts[i] = p
		at += p.size
		switch {
		case i == 0 && p.value != legacyMagic:
			return nil, errors.New("not a PyTorch checkpoint: wrong magic number")
		case i == 1 && p.value != int64(legacyProtocol):
			return nil, fmt.Errorf("protocol version is %s, wanted %d", describe(p.value), legacyProtocol)
		}
	}
	if system, ok := parts[2].value.(*dict); !ok || system.get("little_endian") != true {
		return nil, errors.New("not written by a little-endian machine")
	}
	keys, ok := parts[4].value.(*list)
	if !ok {
		return nil, fmt.Errorf("list of storages is %s", describe(parts[4].value))
	}
	for _, k := range keys.items {
		key, ok := k.(string)
		s := parts[3].storages[key]
		switch {
		case !ok || s == nil:
			return nil, fmt.Errorf("storage %s: no tensor refers to it, so its type is unknown", describe(k))
		case s.data != nil:
			return nil, fmt.Errorf("storage %q: listed twice", key)
		}
		n, err := s.readLegacy(data[at:])
		if err != nil {
			return nil, fmt.Errorf("storage %q: %w", key, err)
		}
		at += n
	}
	if at != len(data) {
		return nil, fmt.Errorf("%d bytes after the last storage", len(data)-at)
	}
	for key, s := range parts[3].storages {
		if s.data == nil {
			return nil, fmt.Errorf("storage %q: is missing", key)
		}
	}
	return parts[3].value, nil
}

// readLegacy takes the storage's data from the start of rest and returns how many bytes it took.
func (s *storage) readLegacy(rest []byte) (int, error) {
	if len(rest) < 8 {
		return 0, errors.New("the file ends before it")
	}
	numel := binary.LittleEndian.Uint64(rest)
	if numel != uint64(s.numel) {
		return 0, fmt.Errorf("has %d elements, its tensors were told %d", numel, s.numel)
	}
	if s.size() > len(rest)-8 {
		return 0, fmt.Errorf("takes %d bytes (%d of %v), the file has %d left", s.size(), s.numel, s.dtype, len(rest)-8)
	}
	s.data = rest[8:][:s.size()]
	return 8 + s.size(), nil
}
