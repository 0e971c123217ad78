package ptx

import (
	"encoding/binary"
	"math"
	"math/bits"
)

func float64bits(v float64) uint64 { return math.Float64bits(v) }

// variables reads .shared .align 16 .b8 a[1024]; f is nil outside of functions.
func (p *parser) variables(s *scope, f *function, extern bool) error {
	v, err := p.variable(extern)
	if err != nil {
		return err
	}
	if err := p.declare(s, v); err != nil {
		return err
	}
	switch {
	case v.space == ".global" || v.space == ".const":
		if extern {
			return p.fail(p.t.line, "%s is of another module", v.name)
		}
		if p.m.bytes += v.size; p.m.bytes > maxVariable {
			return p.fail(p.t.line, "variables of more than %d bytes", maxVariable)
		}
		p.m.variables = append(p.m.variables, v)
	case f == nil && v.space != ".shared":
		return p.fail(p.t.line, "%s %s outside of functions", v.space, v.name)
	}
	return p.expect(";")
}

// variable reads .space [.align n] [.v4] .type name [n][m] [= init].
func (p *parser) variable(extern bool) (*variable, error) {
	v := &variable{align: 1, symbols: map[int]string{}}
	line := p.t.line
	var err error
	if v.space, err = p.name(); err != nil {
		return nil, err
	}
	element, lanes, aligned := 0, 1, 0
	for element == 0 {
		word, err := p.name()
		if err != nil {
			return nil, err
		}
		switch word {
		case ".align":
			n, err := p.number()
			if err != nil {
				return nil, err
			}
			if n > 4096 || bits.OnesCount64(n) != 1 {
				return nil, p.fail(line, "bad .align %d", n)
			}
			aligned = int(n)
		case ".v2":
			lanes = 2
		case ".v4":
			lanes = 4
		default:
			if element = typeBytes(word[1:]); element == 0 || word[0] != '.' {
				return nil, p.fail(line, "%q is no type of a variable", word)
			}
		}
	}
	v.align = max(element*lanes, aligned)
	for p.is(".ptr") || p.is(".global") || p.is(".shared") || p.is(".const") || p.is(".local") || p.is(".align") { // of what a parameter points to
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.t.kind == integer {
			if err := p.advance(); err != nil {
				return nil, err
			}
		}
	}
	if v.name, err = p.name(); err != nil {
		return nil, err
	}
	count := uint64(lanes)
	for p.is("[") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.is("]") {
			if !extern || v.space != ".shared" {
				return nil, p.fail(line, "%s has no size", v.name)
			}
			v.dynamic, count = true, 0
		} else {
			n, err := p.number()
			if err != nil {
				return nil, err
			}
			if hi, lo := bits.Mul64(count, n); hi == 0 && lo <= maxVariable {
				count = lo
			} else {
				return nil, p.fail(line, "%s is too large", v.name)
			}
		}
		if err := p.expect("]"); err != nil {
			return nil, err
		}
	}
	if v.size = int(count) * element; v.size > maxVariable {
		return nil, p.fail(line, "%s has %d bytes, more than %d", v.name, v.size, maxVariable)
	}
	if more, err := p.take("="); err != nil || !more {
		return v, err
	}
	if p.m.bytes+v.size > maxVariable {
		return nil, p.fail(line, "variables of more than %d bytes", maxVariable)
	}
	v.data = make([]byte, v.size)
	at := 0
	return v, p.initial(v, element, &at, 0)
}

// initial reads a number, a symbol or a list of them into v.data from *at on.
func (p *parser) initial(v *variable, element int, at *int, depth int) error {
	if p.is("{") {
		if depth > 4 {
			return p.fail(p.t.line, "lists nested deeper than 4")
		}
		if err := p.advance(); err != nil {
			return err
		}
		for first := true; !p.is("}"); first = false {
			if !first {
				if err := p.expect(","); err != nil {
					return err
				}
			}
			if err := p.initial(v, element, at, depth+1); err != nil {
				return err
			}
		}
		return p.advance()
	}
	if *at+element > v.size {
		return p.fail(p.t.line, "more values than %s holds", v.name)
	}
	if p.t.kind == word {
		if element != 8 {
			return p.fail(p.t.line, "the address %s in %d bytes", p.t.text, element)
		}
		v.symbols[*at] = p.t.text
		*at += element
		return p.advance()
	}
	o, err := p.literal()
	if err != nil {
		return err
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], o.value(element))
	copy(v.data[*at:], word[:element])
	*at += element
	return nil
}

// value is a literal's bits as a number of the given size: floats become the float of that size.
func (o operand) value(size int) uint64 {
	switch {
	case o.form == intForm, o.single && size == 4, !o.single && size == 8:
		return o.bits
	case o.single:
		return math.Float64bits(float64(math.Float32frombits(uint32(o.bits))))
	}
	return uint64(math.Float32bits(float32(math.Float64frombits(o.bits))))
}
