package ptx

import (
	"fmt"
	"slices"
	"sort"
)

// Generic addresses: memory of the device is where it is, and the other spaces are windows far above it.
const (
	globalStart    = 1 << 32
	windowSize     = 1 << 32
	sharedWindow   = 1 << 60
	localWindow    = 2 << 60
	constantWindow = 3 << 60
	paramWindow    = 4 << 60

	// Shared memory of block i of the cluster is a window at (i+1)·clusterWindow of the shared space.
	clusterWindow = 1 << 24
)

// region is memory that an address may lie in, as an allocation is.
type region struct {
	base  uint64
	data  []byte
	cells []cell // what is known of every 4 bytes, where accesses are checked
	what  string // for faults
	block bool   // shared memory
}

// contains tells whether size bytes at p lie in the region.
func (r *region) contains(p uint64, size int) bool {
	return p-r.base < uint64(len(r.data)) && p-r.base+uint64(size) <= uint64(len(r.data))
}

// memory is a device's allocations, by address.
type memory struct {
	regions []*region
	next    uint64
}

// gap keeps allocations apart, so that running over the end of one is seen.
const gap = 4096

func (m *memory) alloc(bytes int, checked bool, what string) *region {
	if m.next == 0 {
		m.next = globalStart
	}
	r := &region{base: m.next, data: make([]byte, bytes), what: what}
	if checked {
		r.cells = make([]cell, (bytes+3)/4)
	}
	m.next += uint64(align(bytes, 256) + gap)
	m.regions = append(m.regions, r)
	return r
}

func (m *memory) free(base uint64) *region {
	i := m.index(base)
	if i < 0 || m.regions[i].base != base {
		return nil
	}
	r := m.regions[i]
	m.regions = slices.Delete(m.regions, i, i+1)
	return r
}

// index is that of the last region at or before p, -1 for none.
func (m *memory) index(p uint64) int {
	return sort.Search(len(m.regions), func(i int) bool { return m.regions[i].base > p }) - 1
}

func (m *memory) find(p uint64, size int) *region {
	if i := m.index(p); i >= 0 && m.regions[i].contains(p, size) {
		return m.regions[i]
	}
	return nil
}

// addresses computes the lanes' addresses of an access.
func (w *warp) addresses(in *inst) {
	switch in.access.base {
	case longs:
		a := &w.longs[in.a]
		for l := range w.addr {
			w.addr[l] = a[l] + uint64(in.imm)
		}
	case words:
		a := &w.words[in.a]
		for l := range w.addr {
			w.addr[l] = uint64(a[l] + uint32(in.imm))
		}
	default:
		for l := range w.addr {
			w.addr[l] = uint64(in.imm)
		}
	}
}

// window finds the memory that the first lane of m accesses with size bytes, and all lanes of m whose accesses lie in
// the same region; w.off gets their offsets in it. Lanes may access several regions, so callers repeat this with the
// lanes that are left.
func (w *warp) window(s space, m uint32, size int) (r *region, lanes uint32) {
	lane := first(m)
	p := w.addr[lane]
	base := uint64(0)
	if s == generic {
		s, base = spaceOf(p)
		p -= base
	}
	b := w.b
	if s == shared && p >= clusterWindow {
		b = w.peer(lane, int(p/clusterWindow)-1)
		base += p &^ (clusterWindow - 1)
		p %= clusterWindow
	}
	if p&uint64(size-1) != 0 {
		w.fault(lane, Misaligned, "%d bytes at %#x", size, p)
	}
	r = w.region(b, s, p, size)
	if r == nil {
		w.outside(lane, s, p, size)
	}
	base += r.base
	limit := uint64(len(r.data) - size)
	if s == local {
		limit = uint64(len(r.data)/warpSize - size)
	}
	for mm := m; mm != 0; mm &= mm - 1 {
		l := first(mm)
		o := w.addr[l] - base
		if o <= limit {
			w.off[l] = uint32(o)
			lanes |= 1 << l
			if o&uint64(size-1) != 0 {
				w.fault(l, Misaligned, "%d bytes at %#x", size, w.addr[l])
			}
		}
	}
	if s == local { // every thread has its own part
		part := uint32(len(r.data) / warpSize)
		for l := range w.off {
			w.off[l] += uint32(l) * part
		}
	}
	return r, lanes
}

func spaceOf(p uint64) (s space, base uint64) {
	switch base = p &^ (1<<60 - 1); base {
	case sharedWindow:
		return shared, base
	case localWindow:
		return local, base
	case constantWindow:
		return constant, base
	case paramWindow:
		return param, base
	}
	return global, 0
}

// region is where size bytes at p lie, nil for nowhere; shared memory is that of b.
func (w *warp) region(b *block, s space, p uint64, size int) *region {
	switch s {
	case global:
		if r := w.l.last; r != nil && r.contains(p, size) {
			return r
		}
		r := w.l.dev.memory.find(p, size)
		w.l.last = r
		return r
	case shared:
		for i := range b.shared {
			if r := &b.shared[i]; r.contains(p, size) {
				return r
			}
		}
	case local:
		if p < uint64(w.k.local) && p+uint64(size) <= uint64(w.k.local) {
			return &w.local
		}
	case constant:
		if r := w.l.constants; r.contains(p, size) {
			return r
		}
	case param:
		if r := &w.l.args; r.contains(p, size) {
			return r
		}
	}
	return nil
}

// outside reports an access that lies in no memory, with the nearest memory before it.
func (w *warp) outside(lane int, s space, p uint64, size int) {
	names := [...]string{"generic", "global", "shared", "local", "const", "param"}
	near := ""
	switch s {
	case global:
		if i := w.l.dev.memory.index(p); i >= 0 {
			r := w.l.dev.memory.regions[i]
			near = ", " + sized(p-r.base-uint64(len(r.data)), r)
		}
	case shared:
		for i := range w.b.shared {
			if r := &w.b.shared[i]; p >= r.base {
				near = ", " + sized(p-r.base-uint64(len(r.data)), r)
			}
		}
	}
	w.fault(lane, OutOfBounds, "%d bytes at %#x of %s memory%s", size, p, names[s], near)
}

func sized(past uint64, r *region) string {
	if int64(past) < 0 {
		return "in part past the end of " + r.String()
	}
	return fmt.Sprintf("%d bytes past the end of %v", past, r)
}

func (r *region) String() string { return fmt.Sprintf("%s of %d bytes", r.what, len(r.data)) }
