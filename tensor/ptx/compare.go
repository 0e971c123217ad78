package ptx

import "strings"

// compareForms has no entry of its own: set and setp have too many modifiers for a table. selp is here.
var compareForms = func() map[string]formOf {
	t := map[string]formOf{}
	spread(t, "selp.%", of("w=wwp", selectWord), "b16", "u16", "s16", "b32", "u32", "s32", "f32")
	spread(t, "selp.%", of("l=llp", selectLong), "b64", "u64", "s64", "f64")
	negative := func(a, b, c uint64) uint64 {
		if int32(c) < 0 {
			return b
		}
		return a
	}
	spread(t, "slct.%.s32", each("w=www", negative), "b32", "u32", "s32", "f32")
	spread(t, "slct.%.s32", each("l=llw", negative), "b64", "u64", "s64", "f64")
	return t
}()

func selectWord(w *warp, in *inst, d int32) {
	z, x, y, p := &w.words[d], &w.words[in.a], &w.words[in.b], w.preds[in.c]
	for l := range z {
		v := y[l]
		if p>>l&1 != 0 {
			v = x[l]
		}
		z[l] = v
	}
}

func selectLong(w *warp, in *inst, d int32) {
	z, x, y, p := &w.longs[d], &w.longs[in.a], &w.longs[in.b], w.preds[in.c]
	for l := range z {
		v := y[l]
		if p>>l&1 != 0 {
			v = x[l]
		}
		z[l] = v
	}
}

// comparison is one of the tests that set and setp are made of: the lanes of a and b where it holds.
type comparison func(w *warp, a, b int32) uint32

func equal[T lane](w *warp, a, b int32) (m uint32) {
	x, y := reg[T](w, a), reg[T](w, b)
	for l := range x {
		var v uint32
		if x[l] == y[l] {
			v = 1
		}
		m |= v << l
	}
	return m
}

func less[T lane](w *warp, a, b int32) (m uint32) {
	x, y := reg[T](w, a), reg[T](w, b)
	for l := range x {
		var v uint32
		if x[l] < y[l] {
			v = 1
		}
		m |= v << l
	}
	return m
}

func lessEqual[T lane](w *warp, a, b int32) (m uint32) {
	x, y := reg[T](w, a), reg[T](w, b)
	for l := range x {
		var v uint32
		if x[l] <= y[l] {
			v = 1
		}
		m |= v << l
	}
	return m
}

// ordered are the lanes where neither is NaN.
func ordered[T lane](w *warp, a, b int32) (m uint32) {
	x, y := reg[T](w, a), reg[T](w, b)
	for l := range x {
		var v uint32
		if x[l] == x[l] && y[l] == y[l] {
			v = 1
		}
		m |= v << l
	}
	return m
}

// tests has the four comparisons of a type, from which all others follow.
type tests struct{ eq, lt, le, num comparison }

func testsOf[T lane]() tests { return tests{equal[T], less[T], lessEqual[T], ordered[T]} }

var testsByType = func() map[string]tests {
	t := map[string]tests{
		"u16": testsOf[uint32](), "b16": testsOf[uint32](), "s16": narrow(func(v uint32) float32 { return float32(int16(v)) }),
		"u32": testsOf[uint32](), "b32": testsOf[uint32](), "s32": testsOf[int32](),
		"u64": testsOf[uint64](), "b64": testsOf[uint64](), "s64": testsOf[int64](),
		"f32": testsOf[float32](), "f64": testsOf[float64](),
		"f16":  narrow(func(v uint32) float32 { return halfValue(uint16(v)) }),
		"bf16": narrow(func(v uint32) float32 { return float32(bfloat.value(uint64(v & 0xffff))) }),
	}
	return t
}()

// narrow compares 16-bit registers by what they stand for.
func narrow(value func(uint32) float32) tests {
	test := func(holds func(x, y float32) bool) comparison {
		return func(w *warp, a, b int32) (m uint32) {
			for l := range warpSize {
				if holds(value(w.words[a][l]), value(w.words[b][l])) {
					m |= 1 << l
				}
			}
			return m
		}
	}
	return tests{
		test(func(x, y float32) bool { return x == y }),
		test(func(x, y float32) bool { return x < y }),
		test(func(x, y float32) bool { return x <= y }),
		test(func(x, y float32) bool { return x == x && y == y }),
	}
}

// test is what a set or setp compares: how(a, b), or how(b, a), negated or not, and of numbers only or not.
type test struct {
	how          comparison
	num          comparison // nil, or and it: no NaN
	swap, invert bool
	join         string // and, or, xor with predicate c
	c            int32
	flip         uint32 // of c
	second       int32  // register of the negated result, -1 for none
	a, b         int32
	float        bool // set: 1.0 instead of all bits
}

func (t *test) run(w *warp) (yes, no uint32) {
	a, b := t.a, t.b
	if t.swap {
		a, b = b, a
	}
	m := t.how(w, a, b)
	if t.invert {
		m = ^m
	}
	if t.num != nil {
		m &= t.num(w, a, b)
	}
	yes, no = m, ^m
	if t.join == "" {
		return yes, no
	}
	c := w.preds[t.c] ^ t.flip
	switch t.join {
	case "and":
		return yes & c, no & c
	case "or":
		return yes | c, no | c
	}
	return yes ^ c, no ^ c
}

// compare reads the modifiers of set and setp, and the operands from the second on.
func (d *decoder) compare() (t test, err error) {
	mods := d.st.mods
	kind := d.st.mods[len(mods)-1]
	by, ok := testsByType[kind]
	if !ok {
		return t, d.fail("not known to this interpreter")
	}
	float := strings.Contains(kind, "f")
	switch name, unordered := strings.CutSuffix(mods[0], "u"); {
	case mods[0] == "eq":
		t.how = by.eq
	case mods[0] == "ne":
		t.how, t.invert = by.eq, true
		if float {
			t.num = by.num
		}
	case mods[0] == "lt", mods[0] == "lo":
		t.how = by.lt
	case mods[0] == "le", mods[0] == "ls":
		t.how = by.le
	case mods[0] == "gt", mods[0] == "hi":
		t.how, t.swap = by.lt, true
	case mods[0] == "ge", mods[0] == "hs":
		t.how, t.swap = by.le, true
	case mods[0] == "num":
		t.how = by.num
	case mods[0] == "nan":
		t.how, t.invert = by.num, true
	case !float || !unordered:
		return t, d.fail("no comparison %s", mods[0])
	case name == "ne": // unordered ones hold for NaN: they deny the opposite
		t.how, t.invert = by.eq, true
	case name == "lt":
		t.how, t.swap, t.invert = by.le, true, true
	case name == "le":
		t.how, t.swap, t.invert = by.lt, true, true
	case name == "gt":
		t.how, t.invert = by.le, true
	case name == "ge":
		t.how, t.invert = by.lt, true
	default: // equ
		t.how, t.invert = notEqual(by), true
	}
	want := 3
	for _, m := range mods[1:] {
		if m == "and" || m == "or" || m == "xor" {
			t.join, want = m, 4
		}
	}
	if len(d.st.args) != want {
		return t, d.fail("%d operands, not %d", len(d.st.args), want)
	}
	b := words
	if typeBytes(kind) == 8 {
		b = longs
	}
	x, err := d.source(1, b, kind)
	if err != nil {
		return t, err
	}
	y, err := d.source(2, b, kind)
	if err != nil {
		return t, err
	}
	t.a, t.b = x.index, y.index
	if want == 4 {
		o := d.st.args[3]
		if o.not {
			t.flip, o.not = allLanes, false
		}
		c, err := d.value(o, predicates, kind)
		if err != nil {
			return t, err
		}
		t.c = c.index
	}
	return t, nil
}

// notEqual holds where both are numbers and differ.
func notEqual(by tests) comparison {
	return func(w *warp, a, b int32) uint32 { return by.num(w, a, b) &^ by.eq(w, a, b) }
}

func decodeSetPredicate(d *decoder) error {
	if len(d.st.mods) < 2 {
		return d.fail("not known to this interpreter")
	}
	t, err := d.compare()
	if err != nil {
		return err
	}
	o := d.st.args[0]
	yes, err := d.target(operand{name: o.name}, predicates)
	if err != nil {
		return err
	}
	no := slot{}
	if o.second != "" {
		if no, err = d.target(operand{name: o.second}, predicates); err != nil {
			return err
		}
	}
	if t.join == "" && t.num == nil && no.bank == noBank { // the usual ones, without detours
		a, b := t.a, t.b
		if t.swap {
			a, b = b, a
		}
		flip := uint32(0)
		if t.invert {
			flip = allLanes
		}
		how := t.how
		return d.emit(inst{class: maskedClass, d: yes.index, a: a, b: b, masked: func(w *warp, in *inst, m uint32) {
			p := &w.preds[in.d]
			*p = *p&^m | (how(w, in.a, in.b)^flip)&m
		}})
	}
	return d.emit(inst{class: maskedClass, d: yes.index, masked: func(w *warp, in *inst, m uint32) {
		y, n := t.run(w)
		w.preds[in.d] = w.preds[in.d]&^m | y&m
		if no.bank != noBank {
			w.preds[no.index] = w.preds[no.index]&^m | n&m
		}
	}})
}

// decodeSet is set.CMP.dtype.stype: all bits, or 1.0, where the comparison holds.
func decodeSet(d *decoder) error {
	if len(d.st.mods) < 3 {
		return d.fail("not known to this interpreter")
	}
	t, err := d.compare()
	if err != nil {
		return err
	}
	value := uint32(0)
	switch d.st.mods[len(d.st.mods)-2] {
	case "u32", "s32":
		value = allLanes
	case "f32":
		value = 0x3f800000
	default:
		return d.fail("not known to this interpreter")
	}
	dst, err := d.destination(0, words)
	if err != nil {
		return err
	}
	return d.emit(inst{class: wordClass, d: dst.index, lanes: func(w *warp, _ *inst, d int32) {
		y, _ := t.run(w)
		for l := range w.words[d] {
			w.words[d][l] = value * (y >> l & 1)
		}
	}})
}
