package ptx

import (
	"encoding/binary"
	"slices"
	"strings"
)

// copies are a warp's cp.async: what they read is on its way to shared memory until a wait lets it land there. Each
// thread has groups of its own, but the lanes of a warp that commit and wait together share them.
type copies struct {
	open   []flight
	groups []group
}

type group struct {
	lanes   uint32 // that have not waited for it yet
	flights []flight
}

// flight is one copy of up to 16 bytes.
type flight struct {
	lane int
	r    *region
	off  uint32
	n    int
	data [16]byte
}

// decodeCopy is cp.async, its groups and its waits.
func decodeCopy(d *decoder) error {
	mods, args := d.st.mods, d.st.args
	name := strings.Join(mods, ".")
	switch {
	case name == "async.commit_group" && len(args) == 0:
		return d.emit(inst{class: maskedClass, masked: commit})
	case name == "async.wait_all" && len(args) == 0:
		return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) {
			commit(w, nil, m)
			w.land(m, 0)
		}})
	case name == "async.wait_group" && len(args) == 1 && args[0].form == intForm:
		n := int(min(args[0].bits, 1<<20))
		return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) { w.land(m, n) }})
	case strings.HasPrefix(name, "async.bulk."):
		return decodeBulk(d)
	case len(mods) < 4 || mods[0] != "async" || mods[1] != "ca" && mods[1] != "cg" || !strings.HasPrefix(mods[2], "shared") || mods[3] != "global":
		return d.fail("not known to this interpreter")
	}
	if policy := strings.Contains(name, "cache_hint"); policy && len(args) > 3 {
		args = args[:len(args)-1]
	}
	if len(args) < 3 || len(args) > 4 || args[2].form != intForm {
		return d.fail("not known to this interpreter")
	}
	n := int(args[2].bits)
	if n != 16 && (mods[1] == "cg" || n != 4 && n != 8) {
		return d.fail("%d bytes", n)
	}
	x := &copyInfo{bytes: n}
	to, from := inst{access: &access{space: shared}}, inst{access: &access{space: global}}
	if err := d.address(&to, args[0]); err != nil {
		return err
	}
	if err := d.address(&from, args[1]); err != nil {
		return err
	}
	x.to, x.from = to, from
	if len(args) == 4 {
		if o := args[3]; o.form == nameForm && d.isPredicate(o.name) { // ignore-src
			p, err := d.register(o.name)
			if err != nil {
				return err
			}
			x.ignore, x.flip = p, o.not
		} else {
			s, err := d.value(o, words, "u32")
			if err != nil {
				return err
			}
			x.size = s
		}
	}
	return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) { w.copy(x, m) }})
}

func (d *decoder) isPredicate(name string) bool {
	decl, _ := d.st.scope.register(name)
	return decl != nil && decl.kind == "pred"
}

// copyInfo is a cp.async's operands.
type copyInfo struct {
	to, from inst
	bytes    int
	size     slot // how many bytes to read, the rest are zeros; without: all
	ignore   slot // predicate: read none
	flip     bool
}

// copy reads the source of a cp.async, and marks the destination as being written to.
func (w *warp) copy(x *copyInfo, m uint32) {
	var flights [warpSize]flight
	read := m
	for mm := m; mm != 0; mm &= mm - 1 {
		l := first(mm)
		n := x.bytes
		if x.size.bank == words {
			n = int(w.words[x.size.index][l])
		} else if x.ignore.bank == predicates && (w.preds[x.ignore.index]>>l&1 == 1) != x.flip {
			n = 0
		}
		if n > x.bytes || n < 0 {
			w.fault(l, Illegal, "a copy of %d bytes reads %d", x.bytes, n)
		}
		flights[l].lane, flights[l].n = l, n
		if n == 0 { // the address may be anything
			read &^= 1 << l
		}
	}
	w.addresses(&x.from)
	for read != 0 {
		lane := first(read)
		n := flights[lane].n
		if w.addr[lane]%uint64(x.bytes) != 0 {
			w.fault(lane, Misaligned, "%d bytes at %#x", x.bytes, w.addr[lane])
		}
		same := uint32(0) // lanes that read as much
		for mm := read; mm != 0; mm &= mm - 1 {
			if flights[first(mm)].n == n {
				same |= mm & -mm
			}
		}
		for same != 0 {
			lanes := w.source(x, same, n, &flights)
			same, read = same&^lanes, read&^lanes
		}
	}
	w.addresses(&x.to)
	for to := m; to != 0; {
		r, lanes := w.window(shared, to, x.bytes)
		to &^= lanes
		w.count(r, lanes, x.bytes)
		for mm := lanes; mm != 0; mm &= mm - 1 {
			l := first(mm)
			flights[l].r, flights[l].off = r, w.off[l]
			flights[l].n = x.bytes
		}
		if r.cells != nil {
			w.checkWrite(r, lanes, x.bytes, weak)
			for mm := lanes; mm != 0; mm &= mm - 1 {
				for i := range x.bytes / 4 {
					c := &r.cells[w.off[first(mm)]/4+uint32(i)]
					c.state = c.state&^holdsData | inFlight
				}
			}
		}
	}
	for mm := m; mm != 0; mm &= mm - 1 {
		w.copies.open = append(w.copies.open, flights[first(mm)])
	}
}

// source reads n bytes for lanes of m, and returns those that it did.
func (w *warp) source(x *copyInfo, m uint32, n int, flights *[warpSize]flight) uint32 {
	unit := 1 // n may be any number
	if n == x.bytes {
		unit = n
	}
	r, lanes := w.window(global, m, unit)
	w.count(r, lanes, n)
	for mm := lanes; mm != 0; mm &= mm - 1 {
		l := first(mm)
		if int(w.off[l])+n > len(r.data) {
			w.outside(l, global, w.addr[l]+uint64(n-1), 1)
		}
		copy(flights[l].data[:n], r.data[w.off[l]:])
	}
	if r.cells != nil {
		w.checkRead(r, lanes, n, weak)
	}
	return lanes
}

func commit(w *warp, _ *inst, m uint32) {
	g := group{lanes: m}
	w.copies.open = slices.DeleteFunc(w.copies.open, func(f flight) bool {
		if m>>f.lane&1 == 0 {
			return false
		}
		g.flights = append(g.flights, f)
		return true
	})
	w.copies.groups = append(w.copies.groups, g)
}

// land lets the copies of the lanes of m arrive, but those of their last n groups.
func (w *warp) land(m uint32, n int) {
	var later [warpSize]int // groups of each lane
	for i := len(w.copies.groups) - 1; i >= 0; i-- {
		g := &w.copies.groups[i]
		arrived := uint32(0)
		for mm := g.lanes & m; mm != 0; mm &= mm - 1 {
			l := first(mm)
			if later[l]++; later[l] > n {
				arrived |= 1 << l
			}
		}
		g.lanes &^= arrived
		for _, f := range g.flights {
			if arrived>>f.lane&1 == 1 {
				w.arrive(f)
			}
		}
	}
	w.copies.groups = slices.DeleteFunc(w.copies.groups, func(g group) bool { return g.lanes == 0 })
}

// arrive writes what a copy read: from now on its own thread may read it, and others after a barrier.
func (w *warp) arrive(f flight) {
	for i := 0; i < f.n; i += 4 {
		binary.LittleEndian.PutUint32(f.r.data[int(f.off)+i:], binary.LittleEndian.Uint32(f.data[i:]))
		if f.r.cells != nil {
			c := &f.r.cells[int(f.off)/4+i/4]
			c.state = c.state&^inFlight | holdsData
			c.writer, c.wroteAt, c.wrote = w.first+uint32(f.lane), w.l.dev.now, 15
		}
	}
}
