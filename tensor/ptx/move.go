package ptx

import "strings"

var moveForms = func() map[string]formOf {
	t := map[string]formOf{}
	spread(t, "mov.%", of("w=w", copyWord), "u16", "s16", "u32", "s32", "f32")
	spread(t, "mov.%", of("l=l", copyLong), "u64", "s64", "f64")
	return t
}()

func copyWord(w *warp, in *inst, d int32) { w.words[d] = w.words[in.a] }
func copyLong(w *warp, in *inst, d int32) { w.longs[d] = w.longs[in.a] }

// decodeMove is mov of predicates and of untyped bits: a register, or several that are packed in one or taken out of it.
func decodeMove(d *decoder) error {
	if len(d.st.args) != 2 {
		return d.fail("%d operands, not 2", len(d.st.args))
	}
	to, from := d.st.args[0], d.st.args[1]
	switch t := strings.Join(d.st.mods, "."); {
	case t == "pred":
		return d.predicate("mov", func(a, _ uint32) uint32 { return a })
	case len(d.st.mods) != 1 || typeBytes(t) < 2 || t[0] != 'b':
		return d.fail("not known to this interpreter")
	case to.form == listForm:
		return d.unpack(to.list, from, typeBytes(t))
	case from.form == listForm:
		return d.pack(to, from.list, typeBytes(t))
	case typeBytes(t) == 8:
		return d.plain(of("l=l", copyLong))
	}
	return d.plain(of("w=w", copyWord))
}

// part is how many bits each of n registers has in a register of so many bytes, and its bank.
func (d *decoder) part(n, bytes int) (size uint, b bank, err error) {
	if n != 2 && n != 4 || bytes/n < 1 {
		return 0, 0, d.fail("%d registers in %d bytes", n, bytes)
	}
	return uint(8 * bytes / n), words, nil
}

func wide(bytes int) bank {
	if bytes == 8 {
		return longs
	}
	return words
}

func (d *decoder) unpack(to []operand, from operand, bytes int) error {
	size, b, err := d.part(len(to), bytes)
	if err != nil {
		return err
	}
	src, err := d.value(from, wide(bytes), d.st.mods[0])
	if err != nil {
		return err
	}
	if src.bank == words { // the source may be one of the destinations
		hold := d.newSlot(words)
		if err := d.emit(inst{class: wordClass, lanes: copyWord, d: hold.index, a: src.index}); err != nil {
			return err
		}
		src = hold
	}
	for i, o := range to {
		if o.name == "_" {
			continue
		}
		dst, err := d.target(o, b)
		if err != nil {
			return err
		}
		in := inst{class: wordClass, lanes: scalarWords, d: dst.index, a: src.index}
		in.scalar = &scalar{f: func(a, _, _ uint64) uint64 { return a >> (uint(i) * size) & (1<<size - 1) }}
		in.scalar.sources[0] = src.bank
		if err := d.emit(in); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) pack(to operand, from []operand, bytes int) error {
	size, b, err := d.part(len(from), bytes)
	if err != nil {
		return err
	}
	dst, err := d.target(to, wide(bytes))
	if err != nil {
		return err
	}
	var src [4]int32
	for i, o := range from {
		x, err := d.value(o, b, map[uint]string{8: "b8", 16: "b16", 32: "b32"}[size])
		if err != nil {
			return err
		}
		src[i] = x.index
	}
	n := len(from)
	if dst.bank == longs {
		return d.emit(inst{class: longClass, d: dst.index, lanes: func(w *warp, _ *inst, d int32) {
			z := &w.longs[d]
			for l := range z {
				v := uint64(0)
				for i, r := range src[:n] {
					v |= uint64(w.words[r][l]) << (uint(i) * size)
				}
				z[l] = v
			}
		}})
	}
	return d.emit(inst{class: wordClass, d: dst.index, lanes: func(w *warp, _ *inst, d int32) {
		z := &w.words[d]
		for l := range z {
			v := uint32(0)
			for i, r := range src[:n] {
				v |= w.words[r][l] << (uint(i) * size)
			}
			z[l] = v
		}
	}})
}

// predicate decodes and, or, xor, not and mov of predicates.
func (d *decoder) predicate(op string, f func(a, b uint32) uint32) error {
	dst, err := d.destination(0, predicates)
	if err != nil {
		return err
	}
	n := 2
	if op == "mov" || op == "not" {
		n = 1
	}
	if len(d.st.args) != n+1 {
		return d.fail("%d operands, not %d", len(d.st.args), n+1)
	}
	var src [2]int32
	for i := range n {
		o := d.st.args[i+1]
		if o.form == intForm { // mov.pred p, -1
			src[i] = falsePredicate
			if o.bits != 0 {
				src[i] = truePredicate
			}
			continue
		}
		x, err := d.value(o, predicates, "pred")
		if err != nil {
			return err
		}
		src[i] = x.index
	}
	return d.emit(inst{class: maskedClass, d: dst.index, a: src[0], b: src[1], masked: func(w *warp, in *inst, m uint32) {
		p := &w.preds[in.d]
		*p = *p&^m | f(w.preds[in.a], w.preds[in.b])&m
	}})
}

// logical decodes and, or, xor and not of predicates; the others are in the tables.
func logical(f func(a, b uint32) uint32) func(d *decoder) error {
	return func(d *decoder) error {
		if d.st.dataType() != "pred" {
			return d.fail("not known to this interpreter")
		}
		return d.predicate(d.st.op, f)
	}
}

// decodeLookup is lop3.b32 d, a, b, c, lut: each bit of lut says what the three bits of that number give.
func decodeLookup(d *decoder) error {
	if len(d.st.args) != 5 || d.st.args[4].form != intForm || d.st.dataType() != "b32" {
		return d.fail("not known to this interpreter")
	}
	table := uint32(d.st.args[4].bits)
	return d.three(func(a, b, c uint32) (r uint32) {
		for i := range uint(8) {
			if table>>i&1 == 0 {
				continue
			}
			x, y, z := a, b, c
			if i&4 == 0 {
				x = ^x
			}
			if i&2 == 0 {
				y = ^y
			}
			if i&1 == 0 {
				z = ^z
			}
			r |= x & y & z
		}
		return r
	})
}

func (d *decoder) three(f func(a, b, c uint32) uint32) error {
	st := *d.st
	st.args = st.args[:4]
	whole := d.st
	d.st = &st
	defer func() { d.st = whole }()
	return d.plain(each("w=www", func(a, b, c uint64) uint64 { return uint64(f(uint32(a), uint32(b), uint32(c))) }))
}

// decodeInsert is bfi d, a, b, pos, len: the low len bits of a put into b at pos.
func decodeInsert(d *decoder) error {
	t := d.st.dataType()
	if len(d.st.args) != 5 || t != "b32" && t != "b64" {
		return d.fail("not known to this interpreter")
	}
	size := uint64(8 * typeBytes(t))
	b := wide(typeBytes(t))
	dst, err := d.destination(0, b)
	if err != nil {
		return err
	}
	var r [4]int32
	for i, bank := range []bank{b, b, words, words} {
		x, err := d.source(i+1, bank, map[bool]string{true: t, false: "u32"}[i < 2])
		if err != nil {
			return err
		}
		r[i] = x.index
	}
	in := inst{class: wordClass, d: dst.index}
	if b == longs {
		in.class = longClass
	}
	in.lanes = func(w *warp, _ *inst, d int32) {
		var x, y [warpSize]uint64
		w.gather(&x, b, r[0])
		w.gather(&y, b, r[1])
		for l := range x {
			pos, n := uint64(w.words[r[2]][l]&0xff), uint64(w.words[r[3]][l]&0xff)
			field := uint64(1)<<min(n, 64-min(pos, 64)) - 1
			if n >= size {
				field = ^uint64(0)
			}
			field <<= pos
			v := y[l]&^field | x[l]<<pos&field
			if b == longs {
				w.longs[d][l] = v
			} else {
				w.words[d][l] = uint32(v)
			}
		}
	}
	return d.emit(in)
}
