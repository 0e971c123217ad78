package ptx

import (
	"math/bits"
	"slices"
)

// members checks that the lanes that run are those that a .sync instruction's mask names.
func (w *warp) members(mask int32, m uint32) {
	lane := first(m)
	want := w.words[mask][lane] & w.alive
	if want&^m != 0 {
		w.fault(lane, Divergent, "the mask %#x names lanes that are elsewhere: %#x are here", want, m)
	}
	for mm := m; mm != 0; mm &= mm - 1 {
		if l := first(mm); w.words[mask][l]>>l&1 == 0 {
			w.fault(l, Divergent, "the mask %#x leaves out the lane itself", w.words[mask][l])
		}
	}
}

// decodeShuffle is shfl.sync.mode.b32 d[|p], a, b, c, mask.
func decodeShuffle(d *decoder) error {
	mods, args := d.st.mods, d.st.args
	if len(mods) != 3 || mods[0] != "sync" || mods[2] != "b32" || len(args) != 5 || !slices.Contains([]string{"up", "down", "bfly", "idx"}, mods[1]) {
		return d.fail("not known to this interpreter")
	}
	dst, err := d.target(operand{name: args[0].name}, words)
	if err != nil {
		return err
	}
	valid := d.newSlot(predicates)
	if args[0].second != "" {
		if valid, err = d.target(operand{name: args[0].second}, predicates); err != nil {
			return err
		}
	}
	var r [4]int32
	for i := range r {
		x, err := d.source(i+1, words, "b32")
		if err != nil {
			return err
		}
		r[i] = x.index
	}
	mode := mods[1]
	return d.emit(inst{class: maskedClass, d: dst.index, e: valid.index, a: r[0], b: r[1], c: r[2], imm: int64(r[3]), masked: func(w *warp, in *inst, m uint32) {
		w.shuffle(in, m, mode)
	}})
}

func (w *warp) shuffle(in *inst, m uint32, mode string) {
	w.members(int32(in.imm), m)
	a, b, c := w.words[in.a], &w.words[in.b], &w.words[in.c]
	var out [warpSize]uint32
	var valid uint32
	for mm := m; mm != 0; mm &= mm - 1 {
		l := first(mm)
		by, clamp, segment := b[l]&31, int(c[l]&31), c[l]>>8&31
		low := uint32(l) & segment
		limit := int(low | uint32(clamp)&^segment)
		from, ok := 0, false
		switch mode {
		case "up":
			from = l - int(by)
			ok = from >= limit
		case "down":
			from = l + int(by)
			ok = from <= limit
		case "bfly":
			from = l ^ int(by)
			ok = from <= limit
		default:
			from = int(low | by&^segment)
			ok = from <= limit
		}
		if !ok {
			from = l
		} else {
			valid |= 1 << l
		}
		if m>>from&1 == 0 {
			w.fault(l, Divergent, "it reads lane %d, which is not here", from)
		}
		out[l] = a[from]
	}
	for mm := m; mm != 0; mm &= mm - 1 {
		l := first(mm)
		w.words[in.d][l] = out[l]
	}
	p := &w.preds[in.e]
	*p = *p&^m | valid
}

// decodeVote is vote.sync.{all,any,uni}.pred and vote.sync.ballot.b32.
func decodeVote(d *decoder) error {
	mods, args := d.st.mods, d.st.args
	if len(mods) != 3 || mods[0] != "sync" || len(args) != 3 {
		return d.fail("not known to this interpreter")
	}
	b := predicates
	if mods[1] == "ballot" {
		b = words
	}
	dst, err := d.destination(0, b)
	if err != nil {
		return err
	}
	o, flip := args[1], uint32(0)
	if o.not {
		flip, o.not = allLanes, false
	}
	p := slot{predicates, truePredicate, false}
	if o.form != intForm {
		if p, err = d.value(o, predicates, "pred"); err != nil {
			return err
		}
	} else if o.bits == 0 {
		p.index = falsePredicate
	}
	mask, err := d.source(2, words, "b32")
	if err != nil {
		return err
	}
	mode := mods[1]
	return d.emit(inst{class: maskedClass, d: dst.index, a: p.index, b: mask.index, masked: func(w *warp, in *inst, m uint32) {
		w.members(in.b, m)
		yes := (w.preds[in.a] ^ flip) & m
		holds := false
		switch mode {
		case "ballot":
			w.spread(slot{bank: words, index: in.d}, uint64(yes), m)
			return
		case "all":
			holds = yes == m
		case "any":
			holds = yes != 0
		default:
			holds = yes == m || yes == 0
		}
		w.preds[in.d] &^= m
		if holds {
			w.preds[in.d] |= m
		}
	}})
}

// decodeMatch is match.any.sync and match.all.sync.
func decodeMatch(d *decoder) error {
	mods, args := d.st.mods, d.st.args
	if len(mods) != 3 || mods[1] != "sync" || len(args) != 3 || typeBytes(mods[2]) < 4 || mods[0] != "any" && mods[0] != "all" {
		return d.fail("not known to this interpreter")
	}
	dst, err := d.target(operand{name: args[0].name}, words)
	if err != nil {
		return err
	}
	p := d.newSlot(predicates)
	if args[0].second != "" {
		if p, err = d.target(operand{name: args[0].second}, predicates); err != nil {
			return err
		}
	}
	src, err := d.source(1, wide(typeBytes(mods[2])), mods[2])
	if err != nil {
		return err
	}
	mask, err := d.source(2, words, "b32")
	if err != nil {
		return err
	}
	all := mods[0] == "all"
	return d.emit(inst{class: maskedClass, d: dst.index, e: p.index, a: src.index, b: mask.index, masked: func(w *warp, in *inst, m uint32) {
		w.members(in.b, m)
		var v [warpSize]uint64
		w.gather(&v, src.bank, in.a)
		for mm := m; mm != 0; mm &= mm - 1 {
			l, same := first(mm), uint32(0)
			for k := m; k != 0; k &= k - 1 {
				if v[first(k)] == v[l] {
					same |= k & -k
				}
			}
			w.preds[in.e] &^= 1 << l
			if all && same != m {
				same = 0
			} else if all {
				w.preds[in.e] |= 1 << l
			}
			w.words[in.d][l] = same
		}
	}})
}

func decodeActive(d *decoder) error {
	dst, err := d.destination(0, words)
	if err != nil {
		return err
	}
	return d.emit(inst{class: maskedClass, d: dst.index, masked: func(w *warp, in *inst, m uint32) {
		w.spread(slot{bank: words, index: in.d}, uint64(m), m)
	}})
}

// decodeReduce is redux.sync.op.type d, a, mask.
func decodeReduce(d *decoder) error {
	mods := d.st.mods
	if len(mods) != 3 || mods[0] != "sync" || typeBytes(mods[2]) != 4 {
		return d.fail("not known to this interpreter")
	}
	f := atomics[mods[1]+"."+mods[2]]
	if f == nil || mods[2] == "f32" {
		return d.fail("not known to this interpreter")
	}
	dst, err := d.destination(0, words)
	if err != nil {
		return err
	}
	src, err := d.source(1, words, mods[2])
	if err != nil {
		return err
	}
	mask, err := d.source(2, words, "b32")
	if err != nil {
		return err
	}
	return d.emit(inst{class: maskedClass, d: dst.index, a: src.index, b: mask.index, masked: func(w *warp, in *inst, m uint32) {
		w.members(in.b, m)
		v := uint64(w.words[in.a][first(m)])
		for mm := m & (m - 1); mm != 0; mm &= mm - 1 {
			v = f(v, uint64(w.words[in.a][first(mm)]), 0)
		}
		w.spread(slot{bank: words, index: in.d}, v, m)
	}})
}

// decodeElect is elect.sync d|p, mask: one lane of those that are here.
func decodeElect(d *decoder) error {
	if len(d.st.args) != 2 || d.st.args[0].second == "" {
		return d.fail("not known to this interpreter")
	}
	dst, err := d.target(operand{name: d.st.args[0].name}, words)
	if err != nil {
		return err
	}
	p, err := d.target(operand{name: d.st.args[0].second}, predicates)
	if err != nil {
		return err
	}
	mask, err := d.source(1, words, "b32")
	if err != nil {
		return err
	}
	return d.emit(inst{class: maskedClass, d: dst.index, e: p.index, b: mask.index, masked: func(w *warp, in *inst, m uint32) {
		w.members(in.b, m)
		w.spread(slot{bank: words, index: in.d}, uint64(bits.TrailingZeros32(m)), m)
		w.preds[in.e] = w.preds[in.e]&^m | m&-m
	}})
}
