package ptx

import (
	"encoding/binary"
	"strings"
)

// accessOf reads the modifiers of ld, st, atom and red: space, order, cache hints, vector and type.
func (d *decoder) accessOf() (a *access, lanes int, kind string, rest []string, err error) {
	a, lanes = &access{}, 1
	for _, m := range d.st.mods {
		name, _, _ := strings.Cut(m, "::")
		switch name {
		case "global":
			a.space = global
		case "shared":
			a.space = shared
		case "local":
			a.space = local
		case "const":
			a.space = constant
		case "param":
			a.space = param
		case "nc":
			a.order = readOnly
		case "volatile", "relaxed":
			a.order = strong
		case "acquire":
			a.order = acquire
		case "release":
			a.order = release
		case "acq_rel":
			a.order = acqrel
		case "weak", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "cta", "cluster", "gpu", "sys", "L1", "L2", "noftz":
		case "v2":
			lanes = 2
		case "v4":
			lanes = 4
		default:
			if typeBytes(m) > 0 {
				kind = m
			} else {
				rest = append(rest, m)
			}
		}
	}
	if a.bytes = typeBytes(kind); a.bytes == 0 || a.bytes*lanes > 16 {
		return nil, 0, "", nil, d.fail("not known to this interpreter")
	}
	a.signed = kind[0] == 's'
	return a, lanes, kind, rest, nil
}

// address resolves [base+offset] into in: a register or none, and what is added to it.
func (d *decoder) address(in *inst, o operand) error {
	if o.form != addressForm {
		return d.fail("no address where one was expected")
	}
	in.imm = o.offset
	if o.name == "" {
		return nil
	}
	if decl, _ := d.st.scope.register(o.name); decl != nil {
		s, err := d.register(o.name)
		if err != nil {
			return err
		}
		if s.bank == predicates || typeBytes(decl.kind) < 4 {
			return d.fail("%s cannot hold an address", o.name)
		}
		in.access.base, in.a = s.bank, s.index
		return nil
	}
	p, err := d.symbol(o.name)
	if err != nil {
		return err
	}
	in.imm += int64(p.address)
	if in.access.space == param || in.access.space == generic {
		in.access.space = p.space
	} else if in.access.space != p.space {
		return d.fail("%s lies in another space", o.name)
	}
	return nil
}

// elements resolves the register or the list of registers that a vector is loaded to or stored from.
func (d *decoder) elements(in *inst, o operand, lanes int, kind string, load bool) error {
	list := []operand{o}
	if lanes > 1 {
		list = o.list
	}
	if len(list) != lanes {
		return d.fail("%d registers for %d elements", len(list), lanes)
	}
	b := wide(in.access.bytes)
	for _, e := range list {
		s, err := slot{}, error(nil)
		if load && e.name == "_" {
			s = d.newSlot(b)
		} else if s, err = d.anyValue(e, b, kind); err != nil {
			return err
		}
		if s.bank == predicates || b == longs && s.bank != longs || load && (e.form != nameForm) {
			return d.fail("operand %s does not fit", e.name)
		}
		in.access.regs = append(in.access.regs, s)
	}
	return nil
}

func decodeLoad(d *decoder) error {
	a, lanes, kind, rest, err := d.accessOf()
	if err != nil {
		return err
	}
	if len(rest) > 0 || len(d.st.args) < 2 || len(d.st.args) > 3 { // a third operand is a cache policy
		return d.fail("not known to this interpreter")
	}
	in := inst{class: maskedClass, access: a, masked: load}
	if a.order >= strong {
		in.class = yieldClass
	}
	if err := d.address(&in, d.st.args[1]); err != nil {
		return err
	}
	if err := d.elements(&in, d.st.args[0], lanes, kind, true); err != nil {
		return err
	}
	if a.space == param && a.base == noBank {
		in.masked = loadArgument
	}
	return d.emit(in)
}

func decodeStore(d *decoder) error {
	a, lanes, kind, rest, err := d.accessOf()
	if err != nil {
		return err
	}
	if len(rest) > 0 || len(d.st.args) < 2 || len(d.st.args) > 3 {
		return d.fail("not known to this interpreter")
	}
	in := inst{class: maskedClass, access: a, masked: store}
	if a.order >= strong {
		in.class = yieldClass
	}
	if err := d.address(&in, d.st.args[0]); err != nil {
		return err
	}
	if a.space == constant || a.space == param {
		return d.fail("the space cannot be written to")
	}
	if err := d.elements(&in, d.st.args[1], lanes, kind, false); err != nil {
		return err
	}
	return d.emit(in)
}

// loadArgument reads a parameter of the kernel, the same for all lanes.
func loadArgument(w *warp, in *inst, m uint32) {
	a := in.access
	size := a.bytes * len(a.regs)
	if p := uint64(in.imm); p%uint64(size) != 0 || !w.l.args.contains(p, size) {
		w.addresses(in)
		w.window(param, m, size) // faults
	}
	for j, r := range a.regs {
		v := readWord(w.l.args.data[int(in.imm)+j*a.bytes:], a.bytes)
		if a.signed {
			v = uint64(s(v, uint(8*a.bytes)))
		}
		if r.narrow {
			v &= 0xffff
		}
		w.spread(r, v, m)
	}
}

// spread gives the lanes of m the value v.
func (w *warp) spread(r slot, v uint64, m uint32) {
	for ; m != 0; m &= m - 1 {
		if r.bank == longs {
			w.longs[r.index][first(m)] = v
		} else {
			w.words[r.index][first(m)] = uint32(v)
		}
	}
}

// readWord reads a little-endian number of 1, 2, 4 or 8 bytes.
func readWord(b []byte, size int) uint64 {
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func putWord(b []byte, size int, v uint64) {
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
}

func load(w *warp, in *inst, m uint32) {
	a := in.access
	size := a.bytes * len(a.regs)
	w.addresses(in)
	for m != 0 {
		r, lanes := w.window(a.space, m, size)
		m &^= lanes
		w.count(r, lanes, size)
		if a.order >= strong {
			w.observe(a, r, lanes)
		}
		if r.cells != nil {
			w.checkRead(r, lanes, size, a.order)
		}
		for j, d := range a.regs {
			data := r.data[j*a.bytes:]
			switch {
			case a.bytes == 4 && d.bank == words:
				z := &w.words[d.index]
				for mm := lanes; mm != 0; mm &= mm - 1 {
					l := first(mm)
					z[l] = binary.LittleEndian.Uint32(data[w.off[l]:])
				}
			case a.bytes == 8:
				z := &w.longs[d.index]
				for mm := lanes; mm != 0; mm &= mm - 1 {
					l := first(mm)
					z[l] = binary.LittleEndian.Uint64(data[w.off[l]:])
				}
			default:
				w.loadNarrow(a, d, data, lanes)
			}
		}
	}
}

// loadNarrow loads 1, 2 or 4 bytes into a register that may be wider.
func (w *warp) loadNarrow(a *access, d slot, data []byte, lanes uint32) {
	for mm := lanes; mm != 0; mm &= mm - 1 {
		l := first(mm)
		v := readWord(data[w.off[l]:], a.bytes)
		if a.signed {
			v = uint64(s(v, uint(8*a.bytes)))
		}
		if d.bank == longs {
			w.longs[d.index][l] = v
			continue
		}
		if d.narrow {
			v &= 0xffff
		}
		w.words[d.index][l] = uint32(v)
	}
}

func store(w *warp, in *inst, m uint32) {
	a := in.access
	size := a.bytes * len(a.regs)
	w.addresses(in)
	for m != 0 {
		r, lanes := w.window(a.space, m, size)
		m &^= lanes
		w.count(r, lanes, size)
		if r == w.l.constants || r == &w.l.args {
			w.fault(first(lanes), OutOfBounds, "a store to %v", r)
		}
		if r.cells != nil {
			w.checkWrite(r, lanes, size, a.order)
		}
		if a.order >= strong {
			w.publish(a, r, lanes)
		}
		for j, d := range a.regs {
			data := r.data[j*a.bytes:]
			for mm := lanes; mm != 0; mm &= mm - 1 {
				l := first(mm)
				v := uint64(0)
				if d.bank == longs {
					v = w.longs[d.index][l]
				} else {
					v = uint64(w.words[d.index][l])
				}
				putWord(data[w.off[l]:], a.bytes, v)
			}
		}
	}
}
