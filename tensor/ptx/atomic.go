package ptx

import "math"

// atomics are the operations of atom and red: the new value of old, given the operands x and y.
var atomics = func() map[string]func(old, x, y uint64) uint64 {
	t := map[string]func(old, x, y uint64) uint64{}
	for _, k := range []string{"32", "64"} {
		t["add.u"+k] = func(old, x, _ uint64) uint64 { return old + x }
		t["add.s"+k] = t["add.u"+k]
		t["and.b"+k] = func(old, x, _ uint64) uint64 { return old & x }
		t["or.b"+k] = func(old, x, _ uint64) uint64 { return old | x }
		t["xor.b"+k] = func(old, x, _ uint64) uint64 { return old ^ x }
		t["exch.b"+k] = func(_, x, _ uint64) uint64 { return x }
		t["cas.b"+k] = func(old, x, y uint64) uint64 {
			if old == x {
				return y
			}
			return old
		}
		t["min.u"+k] = func(old, x, _ uint64) uint64 { return min(old, x) }
		t["max.u"+k] = func(old, x, _ uint64) uint64 { return max(old, x) }
	}
	t["cas.b16"] = t["cas.b32"]
	t["min.s32"] = func(old, x, _ uint64) uint64 { return uint64(min(s(old, 32), s(x, 32))) }
	t["max.s32"] = func(old, x, _ uint64) uint64 { return uint64(max(s(old, 32), s(x, 32))) }
	t["min.s64"] = func(old, x, _ uint64) uint64 { return uint64(min(int64(old), int64(x))) }
	t["max.s64"] = func(old, x, _ uint64) uint64 { return uint64(max(int64(old), int64(x))) }
	t["inc.u32"] = func(old, x, _ uint64) uint64 {
		if old >= x {
			return 0
		}
		return old + 1
	}
	t["dec.u32"] = func(old, x, _ uint64) uint64 {
		if old == 0 || old > x {
			return x
		}
		return old - 1
	}
	t["add.f32"] = func(old, x, _ uint64) uint64 { return f32bits(f32of(old) + f32of(x)) }
	t["add.f64"] = func(old, x, _ uint64) uint64 {
		return math.Float64bits(math.Float64frombits(old) + math.Float64frombits(x))
	}
	sum := func(a, b, _ uint64) uint64 { return half.round(sumOdd(half.value(a), half.value(b)), nearestEven) }
	t["add.f16"], t["add.f16x2"] = sum, pairs(sum)
	return t
}()

// decodeAtomic is atom d, [a], x, [y] and red [a], x. Floating-point sums depend on the order, which follows from the
// seed.
func decodeAtomic(d *decoder) error {
	a, lanes, kind, rest, err := d.accessOf()
	if err != nil {
		return err
	}
	args := d.st.args
	dst := slot{}
	if d.st.op == "atom" && len(args) > 0 {
		if dst, err = d.target(args[0], wide(a.bytes)); err != nil {
			return err
		}
		args = args[1:]
	}
	if lanes != 1 || len(rest) != 1 || atomics[rest[0]+"."+kind] == nil || len(args) != 2 && (len(args) != 3 || rest[0] != "cas") {
		return d.fail("not known to this interpreter")
	}
	a.atomic = atomics[rest[0]+"."+kind]
	a.order = max(a.order, strong)
	in := inst{class: yieldClass, access: a, masked: atomic}
	if err := d.address(&in, args[0]); err != nil {
		return err
	}
	if a.space == constant || a.space == param || a.space == local {
		return d.fail("the space has no atomics")
	}
	a.regs = []slot{dst}
	for _, o := range args[1:] {
		x, err := d.value(o, wide(a.bytes), kind)
		if err != nil {
			return err
		}
		a.regs = append(a.regs, x)
	}
	return d.emit(in)
}

func atomic(w *warp, in *inst, m uint32) {
	a := in.access
	w.addresses(in)
	var x, y [warpSize]uint64
	w.gather(&x, a.regs[1].bank, a.regs[1].index)
	if len(a.regs) > 2 {
		w.gather(&y, a.regs[2].bank, a.regs[2].index)
	}
	for m != 0 {
		r, lanes := w.window(a.space, m, a.bytes)
		m &^= lanes
		if r == &w.local || r == w.l.constants || r == &w.l.args {
			w.fault(first(lanes), Illegal, "an atomic on %v", r)
		}
		w.observe(a, r, lanes)
		if r.cells != nil {
			w.checkRead(r, lanes, a.bytes, a.order)
			w.checkWrite(r, lanes, a.bytes, a.order)
		}
		w.publish(a, r, lanes)
		for ; lanes != 0; lanes &= lanes - 1 {
			l := first(lanes)
			at := r.data[w.off[l]:]
			old := readWord(at, a.bytes)
			putWord(at, a.bytes, a.atomic(old, x[l], y[l]))
			if d := a.regs[0]; d.bank != noBank {
				w.spread(d, old, 1<<l)
			}
		}
	}
}
