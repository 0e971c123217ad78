package ptx

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// decodeBarrier is bar and barrier: .sync, .arrive, .red and .warp.sync.
func decodeBarrier(d *decoder) error {
	if slices.Contains(d.st.mods, "cluster") {
		return decodeClusterBarrier(d)
	}
	mods := slices.DeleteFunc(slices.Clone(d.st.mods), func(m string) bool { return m == "aligned" || m == "cta" })
	args := d.st.args
	switch kind := strings.Join(mods, "."); {
	case kind == "warp.sync" && len(args) == 1:
		mask, err := d.value(args[0], words, "b32")
		if err != nil {
			return err
		}
		return d.emit(inst{class: maskedClass, a: mask.index, masked: func(w *warp, in *inst, m uint32) {
			w.members(in.a, m)
			w.syncLanes()
		}})
	case (kind == "sync" || kind == "arrive") && (len(args) == 1 || len(args) == 2):
		x := &barrierInfo{arrive: kind == "arrive", threads: -1}
		return d.emitBarrier(x, args)
	case len(mods) == 3 && mods[0] == "red" && len(args) >= 3 && len(args) <= 4:
		x := &barrierInfo{threads: -1, reduce: mods[1]}
		var err error
		b := predicates
		if mods[1] == "popc" {
			b = words
		} else if mods[1] != "and" && mods[1] != "or" {
			return d.fail("not known to this interpreter")
		}
		if x.result, err = d.target(args[0], b); err != nil {
			return err
		}
		o := args[len(args)-1]
		if o.not {
			x.flip, o.not = allLanes, false
		}
		p, err := d.value(o, predicates, "pred")
		if err != nil {
			return err
		}
		x.predicate = p.index
		return d.emitBarrier(x, args[1:len(args)-1])
	}
	return d.fail("not known to this interpreter")
}

// emitBarrier adds the barrier's number and, where it is given, the number of threads.
func (d *decoder) emitBarrier(x *barrierInfo, args []operand) error {
	id, err := d.value(args[0], words, "u32")
	if err != nil {
		return err
	}
	x.id = id.index
	if len(args) == 2 {
		n, err := d.value(args[1], words, "u32")
		if err != nil {
			return err
		}
		x.threads = n.index
	}
	return d.emit(inst{class: barrierClass, barrier: x})
}

// left notes that the lanes of m have ended; a barrier of the whole block no longer waits for a warp without any.
func (b *block) left(w *warp, m uint32) {
	if w.alive != 0 {
		return
	}
	w.endMatrix(first(m))
	b.cluster.left(w)
	if b.live--; b.live > 0 {
		for i := range b.barriers {
			if bar := &b.barriers[i]; len(bar.waiting) > 0 && bar.expected == 0 && bar.warps == b.live {
				b.release(bar)
			}
		}
		return
	}
	b.endCopies(w)
	w.l.live--
	w.l.idle = append(w.l.idle, b)
}

// barrier is one of a block's sixteen.
type barrier struct {
	warps    int // that have arrived
	expected int // 0: all of the block
	pc       int32
	waiting  []*warp
	times    []arrival
	count    int // of the lanes whose predicate held
	lanes    int // that arrived
}

// arrival is what a warp knew when it arrived.
type arrival struct {
	id    int
	knows []uint32
}

// barrierInfo is a bar instruction's operands: registers, and what to do at the end.
type barrierInfo struct {
	id, threads int32 // word registers; threads -1: all of the block
	arrive      bool  // without waiting
	reduce      string
	predicate   int32
	flip        uint32
	result      slot
}

// barrier arrives at one, and tells whether the warp has to wait.
func (w *warp) barrier(in *inst, m uint32) bool {
	x := in.barrier
	lane := first(m)
	if m != w.alive {
		w.fault(lane, Divergent, "lanes %#x of the warp are here, lanes %#x are not", m, w.alive&^m)
	}
	id := w.words[x.id][lane]
	if id >= 16 {
		w.fault(lane, Illegal, "barrier %d", id)
	}
	expected := 0
	if x.threads >= 0 {
		threads := w.words[x.threads][lane]
		if expected = int(threads) / warpSize; threads%warpSize != 0 || expected == 0 || expected > len(w.b.warps) {
			w.fault(lane, Illegal, "a barrier of %d threads in a block of %d", threads, len(w.b.warps)*warpSize)
		}
	}
	for mm := m; mm != 0; mm &= mm - 1 {
		if l := first(mm); w.words[x.id][l] != id || x.threads >= 0 && w.words[x.threads][l] != w.words[x.threads][lane] {
			w.fault(l, Divergent, "lanes of one warp ask for different barriers")
		}
	}
	bar := &w.b.barriers[id]
	if bar.warps > 0 {
		if bar.expected != expected {
			w.fault(lane, Divergent, "%s waits for %d warps at barrier %d, others for %d", w.name(), expected, id, bar.expected)
		}
		if expected == 0 && bar.pc != w.pc {
			w.fault(lane, Divergent, "other warps of the block wait at line %d", w.k.code[bar.pc].at.line)
		}
	}
	w.l.dev.now++
	bar.expected, bar.pc = expected, w.pc
	bar.warps++
	knows := append([]uint32(nil), w.clock.knows...)
	knows[w.id] = w.l.dev.now
	bar.times = append(bar.times, arrival{w.id, knows})
	if x.reduce != "" {
		bar.count += bits.OnesCount32((w.preds[x.predicate] ^ x.flip) & m)
		bar.lanes += bits.OnesCount32(m)
	}
	if !x.arrive {
		bar.waiting = append(bar.waiting, w)
	}
	if expected == 0 && bar.warps < w.b.live || expected > 0 && bar.warps < expected {
		return !x.arrive
	}
	w.b.release(bar)
	return !x.arrive
}

func (w *warp) name() string { return fmt.Sprintf("warp %d", w.id) }

// release lets the warps go on that wait at a barrier, and makes known to them what all did before it.
func (b *block) release(bar *barrier) {
	l := b.warps[0].l
	l.dev.now++
	for _, w := range bar.waiting {
		for _, a := range bar.times {
			for i, t := range a.knows {
				w.clock.knows[i] = max(w.clock.knows[i], t)
			}
		}
		w.clock.synced = l.dev.now
		if x := w.k.code[w.pc].barrier; x.reduce != "" {
			w.reduced(x, bar)
		}
		l.ready = append(l.ready, w)
	}
	*bar = barrier{waiting: bar.waiting[:0], times: bar.times[:0]}
}

// reduced writes what the predicates at a barrier come to.
func (w *warp) reduced(x *barrierInfo, bar *barrier) {
	holds := x.reduce == "and" && bar.count == bar.lanes || x.reduce == "or" && bar.count > 0
	if x.reduce == "popc" {
		w.spread(x.result, uint64(bar.count), w.alive)
	} else {
		p := &w.preds[x.result.index]
		*p &^= w.alive
		if holds {
			*p |= w.alive
		}
	}
}
