package ptx

import "slices"

// decoders has the instructions that no table describes.
var decoders map[string]func(d *decoder) error

func init() { // not a literal: call decodes the body of another function by this table
	decoders = map[string]func(d *decoder) error{
		".branchtargets": func(d *decoder) error { return nil },

		"mov": decodeMove, "cvt": decodeConvert, "setp": decodeSetPredicate, "set": decodeSet,
		"lop3": decodeLookup, "bfi": decodeInsert, "isspacep": decodeSpaceTest,
		"and": logical(func(a, b uint32) uint32 { return a & b }),
		"or":  logical(func(a, b uint32) uint32 { return a | b }),
		"xor": logical(func(a, b uint32) uint32 { return a ^ b }),
		"not": logical(func(a, _ uint32) uint32 { return ^a }),

		"ld": decodeLoad, "ldu": decodeLoad, "st": decodeStore, "atom": decodeAtomic, "red": decodeAtomic,
		"cp": decodeCopy, "ldmatrix": decodeLoadMatrix, "mma": decodeMatrix,
		"prefetch": decodeHint, "prefetchu": decodeHint, "applypriority": decodeHint, "createpolicy": decodePolicy,

		"bar": decodeBarrier, "barrier": decodeBarrier, "membar": decodeFence, "fence": decodeFence,
		"shfl": decodeShuffle, "vote": decodeVote, "match": decodeMatch, "activemask": decodeActive,
		"redux": decodeReduce, "elect": decodeElect,
		"mbarrier": decodeCounter, "mapa": decodeMap, "wgmma": decodeWarpgroup, "setmaxnreg": decodeRegisters,
		"nanosleep": decodeHint, "griddepcontrol": decodeDependent, "pmevent": decodeHint, "trap": decodeTrap, "brkpt": decodeTrap,

		"bra": decodeBranch, "brx": decodeTable, "ret": decodeReturn, "exit": decodeExit, "call": decodeCall,
	}
}

// jumpTo notes that the next instruction branches to a label.
func (d *decoder) jumpTo(label string, target int) error {
	at, ok := d.st.scope.label(label)
	if !ok {
		return d.fail("no label %s", label)
	}
	d.frame.jumps = append(d.frame.jumps, jump{len(d.k.code), target, at})
	return nil
}

func decodeBranch(d *decoder) error {
	if len(d.st.args) != 1 {
		return d.fail("no label")
	}
	if err := d.jumpTo(d.st.args[0].name, -1); err != nil {
		return err
	}
	return d.emit(inst{class: branchClass})
}

// decodeTable is brx.idx index, label of a .branchtargets.
func decodeTable(d *decoder) error {
	if len(d.st.args) != 2 || !slices.Contains(d.st.mods, "idx") {
		return d.fail("not known to this interpreter")
	}
	index, err := d.source(0, words, "u32")
	if err != nil {
		return err
	}
	at, ok := d.st.scope.label(d.st.args[1].name)
	if !ok || at >= len(d.frame.f.body) || d.frame.f.body[at].op != ".branchtargets" {
		return d.fail("no table %s", d.st.args[1].name)
	}
	table := d.frame.f.body[at].args
	for i, o := range table {
		if err := d.jumpTo(o.name, i); err != nil {
			return err
		}
	}
	return d.emit(inst{class: tableClass, a: index.index, targets: make([]int32, len(table))})
}

func decodeExit(d *decoder) error { return d.emit(inst{class: exitClass}) }

// decodeReturn leaves the kernel, or goes on behind the call.
func decodeReturn(d *decoder) error {
	if d.depth == 0 {
		return decodeExit(d)
	}
	d.frame.jumps = append(d.frame.jumps, jump{len(d.k.code), -1, len(d.frame.f.body)})
	return d.emit(inst{class: branchClass})
}

// decodeCall puts the body of a function in place of call (results), name, (arguments). A predicate before a call makes
// a branch around it.
func decodeCall(d *decoder) error {
	args := d.st.args
	var results, params []operand
	if len(args) > 0 && args[0].form == listForm {
		results, args = args[0].list, args[1:]
	}
	if len(args) > 1 && args[1].form == listForm {
		params = args[1].list
	}
	if len(args) == 0 || args[0].form != nameForm || len(args) > 2 || len(args) == 2 && args[1].form != listForm {
		return d.fail("only functions named here can be called")
	}
	f := d.m.functions[args[0].name]
	if f == nil || f.entry {
		return d.fail("no function %s", args[0].name)
	}
	if !f.defined { // __assertfail, vprintf
		return d.trap("there is no body of " + f.name + " to call")
	}
	if len(results) != len(f.results) || len(params) != len(f.params) {
		return d.fail("%s has %d results and %d parameters", f.name, len(f.results), len(f.params))
	}
	if d.depth++; d.depth > maxCalls {
		return d.fail("calls nested deeper than %d", maxCalls)
	}
	bound := map[*variable]place{}
	for i, o := range append(slices.Clone(results), params...) {
		formal := append(slices.Clone(f.results), f.params...)[i]
		actual := d.st.scope.variable(o.name)
		if actual == nil || actual.size < formal.size {
			return d.fail("%s is no argument for %s", o.name, formal.name)
		}
		p, err := d.symbol(o.name)
		if err != nil {
			return err
		}
		bound[formal] = p
	}
	around := -1
	if d.st.guard != "" {
		around = len(d.k.code)
		if err := d.emit(inst{class: branchClass}); err != nil {
			return err
		}
		d.k.code[around].invert ^= allLanes
	}
	call := *d.st
	call.guard = ""
	d.st = &call
	if err := d.body(f, bound); err != nil {
		return err
	}
	d.depth--
	if around >= 0 {
		d.k.code[around].target = int32(len(d.k.code))
		return d.emit(inst{class: maskedClass, masked: nothing})
	}
	return nil
}

func decodeSpaceTest(d *decoder) error {
	spaces := map[string]space{"global": global, "shared": shared, "shared::cta": shared, "local": local, "const": constant, "param": param}
	if len(d.st.mods) != 1 {
		return d.fail("not known to this interpreter")
	}
	want, ok := spaces[d.st.mods[0]]
	if !ok {
		return d.fail("not known to this interpreter")
	}
	dst, err := d.destination(0, predicates)
	if err != nil {
		return err
	}
	src, err := d.source(1, longs, "u64")
	if err != nil {
		return err
	}
	return d.emit(inst{class: maskedClass, d: dst.index, a: src.index, masked: func(w *warp, in *inst, m uint32) {
		for mm := m; mm != 0; mm &= mm - 1 {
			l := first(mm)
			w.preds[in.d] &^= 1 << l
			if s, _ := spaceOf(w.longs[in.a][l]); s == want {
				w.preds[in.d] |= 1 << l
			}
		}
	}})
}
