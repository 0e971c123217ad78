package ptx

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	maxCode   = 1 << 20 // instructions of a kernel with all it calls
	maxCalls  = 16      // depth of calls
	maxShared = 227 << 10
	maxLocal  = 64 << 10

	// Shared addresses. 0 is no pointer, as on a device, which keeps the first KiB; dynamic memory is far from the static,
	// so that running over the end of one is not taken for the other.
	sharedStart   = 1 << 10
	dynamicShared = 1 << 20

	// Where matrices of wgmma have addresses of 18 bits.
	dynamicSharedExact = 16 << 10
)

// dynamicStart is the address of a module's dynamic shared memory.
func dynamicStart(m *module) uint64 {
	if m.exact {
		return dynamicSharedExact
	}
	return dynamicShared
}

// decoder turns the statements of an entry, and of the functions that it calls, into a kernel's code.
type decoder struct {
	m      *module
	k      *kernel
	frame  *frame
	st     *statement
	depth  int
	shared map[*variable]place // variables of the module, one for all functions that the kernel calls
}

// frame is one inlined body: registers of its own, and where its parameters lie.
type frame struct {
	f     *function
	slots map[slotName]slot
	bound map[*variable]place
	jumps []jump
}

type slotName struct {
	decl *registers
	n    int
}

// place is the address of a variable.
type place struct {
	space   space
	address uint64
}

// jump is a branch whose target is still a statement's number.
type jump struct {
	inst, target int // target: index of targets, -1 for the only one
	statement    int
}

// decode makes the entry called name ready to run.
func decode(m *module, name string) (k *kernel, err error) {
	f := m.functions[name]
	if f == nil || !f.entry {
		return nil, fmt.Errorf("%s: no entry %s", m.file, name)
	}
	k = &kernel{m: m, name: name, predicates: 2, threads: 1024, cluster: 1, size: f.cluster, sums: map[int32]bool{},
		wordLiterals: map[uint32]int32{}, longLiterals: map[uint64]int32{}, specials: map[string]int32{}}
	if f.threads > 0 {
		k.threads = f.threads
	}
	if n := f.cluster[0] * f.cluster[1] * f.cluster[2]; n > 0 {
		k.cluster = n
	}
	d := &decoder{m: m, k: k, shared: map[*variable]place{}}
	k.scratchWord, k.scratchLong = d.newSlot(words).index, d.newSlot(longs).index
	bound := map[*variable]place{}
	for _, p := range f.params {
		k.args = align(k.args, p.align)
		bound[p] = place{param, uint64(k.args)}
		k.args += p.size
	}
	if err := d.body(f, bound); err != nil {
		return nil, err
	}
	if k.static > maxShared || k.local > maxLocal || m.exact && k.static > dynamicSharedExact-sharedStart {
		return nil, fmt.Errorf("%s:%d: %s needs %d bytes of shared and %d of local memory", m.file, f.line, name, k.static, k.local)
	}
	for i := range k.code {
		in := &k.code[i]
		in.sums = slices.DeleteFunc(in.sums, func(r int32) bool { return !k.sums[r] })
	}
	joins(k.code)
	return k, nil
}

func align(n, to int) int { return (n + to - 1) / to * to }

func (d *decoder) fail(format string, args ...any) error {
	return &SyntaxError{d.m.file, d.st.line, fmt.Sprintf(format, args...) + ": " + d.st.opcode()}
}

func (st *statement) opcode() string { return strings.Join(append([]string{st.op}, st.mods...), ".") }

// body decodes a function's statements; its ret goes to what follows them.
func (d *decoder) body(f *function, bound map[*variable]place) error {
	fr := &frame{f: f, slots: map[slotName]slot{}, bound: bound}
	caller, call := d.frame, d.st
	d.frame = fr
	at := make([]int, len(f.body)+1)
	for i := range f.body {
		d.st = &f.body[i]
		at[i] = len(d.k.code)
		if err := d.statement(); err != nil {
			return err
		}
		if len(d.k.code) > maxCode {
			return d.fail("more than %d instructions", maxCode)
		}
	}
	at[len(f.body)] = len(d.k.code)
	if caller == nil {
		d.k.code = append(d.k.code, inst{class: exitClass, at: &statement{line: f.line, op: "exit"}})
	}
	for _, j := range fr.jumps {
		in := &d.k.code[j.inst]
		if j.target < 0 {
			in.target = int32(at[j.statement])
		} else {
			in.targets[j.target] = int32(at[j.statement])
		}
	}
	if caller != nil && at[len(f.body)] == len(d.k.code) { // a place for ret to go to
		d.frame, d.st = caller, call
		d.emit(inst{class: maskedClass, masked: nothing})
	}
	d.frame, d.st = caller, call
	return nil
}

func nothing(*warp, *inst, uint32) {}

// statement decodes d.st by the table of its opcode.
func (d *decoder) statement() error {
	st := d.st
	if f, ok := lookUp(st); ok {
		return d.plain(f)
	}
	if f := decoders[st.op]; f != nil {
		return f(d)
	}
	return d.fail("not known to this interpreter")
}

// emit appends an instruction under the statement's guard.
func (d *decoder) emit(in inst) error {
	in.at = d.st
	if d.m.exact {
		d.words(&in, d.st.args)
	}
	if d.st.guard != "" {
		s, err := d.register(d.st.guard)
		if err != nil {
			return err
		}
		if s.bank != predicates {
			return d.fail("guard %s is no predicate", d.st.guard)
		}
		in.guard = s.index
		if d.st.not {
			in.invert = allLanes
		}
	}
	d.k.code = append(d.k.code, in)
	return nil
}

// words notes the word registers among an instruction's operands.
func (d *decoder) words(in *inst, args []operand) {
	for _, o := range args {
		d.words(in, o.list)
		if decl, _ := d.st.scope.register(o.name); decl != nil {
			if s, err := d.register(o.name); err == nil && s.bank == words {
				in.sums = append(in.sums, s.index)
			}
		}
	}
}

func (d *decoder) newSlot(b bank) slot {
	n := &d.k.words
	switch b {
	case longs:
		n = &d.k.longs
	case predicates:
		n = &d.k.predicates
	}
	*n++
	return slot{bank: b, index: int32(*n - 1)}
}

// register finds a declared register.
func (d *decoder) register(name string) (slot, error) {
	decl, n := d.st.scope.register(name)
	if decl == nil {
		return slot{}, d.fail("no register %s", name)
	}
	key := slotName{decl, n}
	s, ok := d.frame.slots[key]
	if !ok {
		b := words
		if decl.kind == "pred" {
			b = predicates
		} else if typeBytes(decl.kind) == 8 {
			b = longs
		}
		s = d.newSlot(b)
		s.narrow = b == words && typeBytes(decl.kind) < 4
		d.frame.slots[key] = s
	}
	return s, nil
}

func (d *decoder) literal(b bank, v uint64) slot {
	if b == longs {
		i, ok := d.k.longLiterals[v]
		if !ok {
			i = d.newSlot(longs).index
			d.k.longLiterals[v] = i
		}
		return slot{bank: longs, index: i}
	}
	i, ok := d.k.wordLiterals[uint32(v)]
	if !ok {
		i = d.newSlot(words).index
		d.k.wordLiterals[uint32(v)] = i
	}
	return slot{bank: words, index: i}
}

// dataType is the type that an instruction's operands have: the last of its modifiers that is one.
func (st *statement) dataType() string {
	for _, m := range slices.Backward(st.mods) {
		if typeBytes(m) > 0 || m == "pred" {
			return m
		}
	}
	return ""
}

func (d *decoder) arg(i int) (operand, error) {
	if i >= len(d.st.args) {
		return operand{}, d.fail("%d operands are too few", len(d.st.args))
	}
	return d.st.args[i], nil
}

// source resolves operand i as a register of bank b, or a literal of the type t in one.
func (d *decoder) source(i int, b bank, t string) (slot, error) {
	o, err := d.arg(i)
	if err != nil {
		return slot{}, err
	}
	return d.value(o, b, t)
}

func (d *decoder) value(o operand, b bank, t string) (slot, error) {
	s, err := d.anyValue(o, b, t)
	if err == nil && s.bank != b {
		err = d.fail("operand %s has another size", o.name)
	}
	return s, err
}

// anyValue is value for operands that may be wider than their type says.
func (d *decoder) anyValue(o operand, b bank, t string) (slot, error) {
	switch o.form {
	case intForm, floatForm:
		size := typeBytes(t)
		if b == longs {
			size = 8
		} else if size == 8 {
			size = 4
		}
		switch {
		case b == predicates || size == 0:
			return slot{}, d.fail("a literal cannot be here")
		case o.form == intForm && size < 8:
			return d.literal(b, o.bits&(1<<(8*size)-1)), nil
		case o.form == floatForm && size < 4:
			return slot{}, d.fail("a float literal of the type %s", t)
		}
		return d.literal(b, o.value(size)), nil
	case nameForm:
		if o.not {
			return slot{}, d.fail("!%s cannot be here", o.name)
		}
		if decl, _ := d.st.scope.register(o.name); decl != nil {
			return d.register(o.name)
		}
		if o.name[0] == '%' {
			return d.special(o.name, b)
		}
		p, err := d.symbol(o.name)
		if err != nil {
			return slot{}, err
		}
		return d.literal(b, p.address+uint64(o.offset)), nil
	}
	return slot{}, d.fail("a list or an address cannot be here")
}

// destination resolves operand i as a register of bank b.
func (d *decoder) destination(i int, b bank) (slot, error) {
	o, err := d.arg(i)
	if err != nil {
		return slot{}, err
	}
	return d.target(o, b)
}

func (d *decoder) target(o operand, b bank) (slot, error) {
	if o.form != nameForm || o.not {
		return slot{}, d.fail("no register to write to")
	}
	if o.name == "_" {
		return d.newSlot(b), nil
	}
	s, err := d.register(o.name)
	if err == nil && s.bank != b {
		err = d.fail("register %s has another size", o.name)
	}
	return s, err
}

// special returns the register that a special one, such as %tid.x, is kept in.
func (d *decoder) special(name string, b bank) (slot, error) {
	name = name[1:]
	if f, ok := timers[name]; ok {
		s := d.newSlot(b)
		in := inst{class: wordClass, lanes: f, d: s.index}
		if b == longs {
			in.class = longClass
		}
		if (b == longs) != (name == "clock64" || name == "globaltimer") {
			return slot{}, d.fail("%%%s has another size", name)
		}
		return s, d.emit(in)
	}
	if _, ok := specials[name]; !ok {
		return slot{}, d.fail("no register %%%s", name)
	}
	if b != words {
		return slot{}, d.fail("%%%s is a 32-bit register", name)
	}
	i, ok := d.k.specials[name]
	if !ok {
		i = d.newSlot(words).index
		d.k.specials[name] = i
	}
	return slot{bank: words, index: i}, nil
}

// symbol is the address of a variable in its space.
func (d *decoder) symbol(name string) (place, error) {
	v := d.st.scope.variable(name)
	if v == nil {
		return place{}, d.fail("no variable %s", name)
	}
	if p, ok := d.frame.bound[v]; ok {
		return p, nil
	}
	if p, ok := d.shared[v]; ok {
		return p, nil
	}
	p := place{}
	switch v.space {
	case ".shared":
		if v.dynamic {
			p = place{shared, dynamicStart(d.m)}
		} else {
			d.k.static = align(d.k.static, v.align)
			p = place{shared, uint64(sharedStart + d.k.static)}
			d.k.static += v.size
		}
	case ".local", ".param": // .param of a body: what it hands to a function
		d.k.local = align(d.k.local, v.align)
		p = place{local, uint64(d.k.local)}
		d.k.local += v.size
	case ".global":
		return place{global, v.address}, nil
	case ".const":
		return place{constant, v.address}, nil
	}
	if d.k.static > maxShared || d.k.local > maxLocal {
		return p, d.fail("%s does not fit", name)
	}
	if d.m.globals.vars[name] == v {
		d.shared[v] = p
	} else {
		d.frame.bound[v] = p
	}
	return p, nil
}

// plain decodes an instruction that the tables describe.
func (d *decoder) plain(f formOf) error {
	st := d.st
	if want := len(f.sources) + 1; len(st.args) != want {
		return d.fail("%d operands, not %d", len(st.args), want)
	}
	t := st.dataType()
	dst, err := d.destination(0, f.result)
	if err != nil {
		return err
	}
	in := inst{class: wordClass, lanes: f.lanes, scalar: f.scalar, d: dst.index}
	if f.result == longs {
		in.class = longClass
	}
	for i, r := range []*int32{&in.a, &in.b, &in.c}[:len(f.sources)] {
		s, err := d.source(i+1, f.sources[i], t)
		if err != nil {
			return err
		}
		*r = s.index
	}
	return d.emit(in)
}

func f32bits(x float32) uint64 { return uint64(math.Float32bits(x)) }
func f32of(x uint64) float32   { return math.Float32frombits(uint32(x)) }
