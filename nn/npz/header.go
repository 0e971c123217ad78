package npz

import (
	"fmt"
	"strconv"
	"strings"
)

// parseHeader reads the dictionary of a .npy file, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, padded
// with spaces and ended by a newline. It is a Python literal; this is the part of that grammar that NumPy writes.
func parseHeader(s string) (Array, error) {
	h := header{rest: s}
	var a Array
	seen := map[string]bool{}
	h.want("{")
	for !h.failed && !h.skip("}") {
		key := h.str()
		h.want(":")
		switch {
		case h.failed || seen[key]:
			h.failed = true
		case key == "descr":
			a.Type = h.str()
		case key == "fortran_order":
			if h.skip("True") {
				return a, fmt.Errorf("is in Fortran order, want C order")
			}
			h.want("False")
		case key == "shape":
			a.Shape = h.tuple()
		default:
			h.failed = true
		}
		seen[key] = true
		if !h.skip(",") {
			h.want("}")
			break
		}
	}
	if h.failed || len(seen) != 3 || strings.TrimSpace(h.rest) != "" {
		return a, fmt.Errorf("header is malformed: %.200q", s)
	}
	switch descr := a.Type; descr {
	case "|u1", "|i1", "<u1", "<i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8":
		a.Type = descr[1:]
		return a, nil
	default:
		return a, fmt.Errorf("type %.20q is not one of u1 i1 i2 i4 i8 f2 f4 f8, little-endian", descr)
	}
}

// header is what is left to parse; after a failure nothing more matters.
type header struct {
	rest   string
	failed bool
}

func (h *header) skip(token string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(h.rest, " \n"), token)
	if ok {
		h.rest = rest
	}
	return ok
}

func (h *header) want(token string) {
	if !h.skip(token) {
		h.failed = true
	}
}

func (h *header) str() string {
	h.want("'")
	s, rest, ok := strings.Cut(h.rest, "'")
	if !ok {
		h.failed = true
	}
	h.rest = rest
	return s
}

// tuple reads (), (3,) or (3, 4).
func (h *header) tuple() []int {
	shape := []int{}
	h.want("(")
	for !h.failed && !h.skip(")") {
		h.rest = strings.TrimLeft(h.rest, " ")
		end := 0
		for end < len(h.rest) && '0' <= h.rest[end] && h.rest[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(h.rest[:end])
		if err != nil || n > maxBytes || len(shape) == maxRank {
			h.failed = true
			break
		}
		h.rest = h.rest[end:]
		shape = append(shape, n)
		if !h.skip(",") {
			h.want(")")
			break
		}
	}
	return shape
}
