package ptx

import (
	"encoding/binary"
	"slices"
	"strings"

	"netfusion/tensor"
)

// bulk is a copy that another engine does: the data is in shared memory when the engine says so to an mbarrier, some time later.
type bulk struct {
	b    *block
	r    *region
	off  uint32
	data []byte
	c    *counter
}

// A tensor map, in a form of this package: mapMark, the address, and then as below.
const (
	mapMark    = 0x7475_6e65_7466_656e
	mapAddress = 8
	mapDims    = 16  // of 8 bytes
	mapStrides = 56  // of 8 bytes
	mapBox     = 88  // of 2 bytes
	mapElement = 100 // a byte each
	mapRank    = 101
	mapSwizzle = 102
)

// encodeMap writes a launch's tensor map to its arguments.
func encodeMap(args []byte, m *tensor.TensorMap) error {
	if err := m.Check(len(args)); err != nil {
		return err
	}
	b := args[m.At:]
	put := func(at, v int) { binary.LittleEndian.PutUint64(b[at:], uint64(v)) }
	put(0, mapMark)
	put(mapAddress, int(m.Ptr))
	for i, n := range m.Dims {
		put(mapDims+8*i, n)
		binary.LittleEndian.PutUint16(b[mapBox+2*i:], uint16(m.Box[i]))
	}
	for i, n := range m.Strides {
		put(mapStrides+8*i, n)
	}
	b[mapElement], b[mapRank], b[mapSwizzle] = byte(m.Element), byte(len(m.Dims)), byte(m.Swizzle)
	return nil
}

// bulkInfo is the operands of cp.async.bulk to shared memory.
type bulkInfo struct {
	to, from, counter inst
	rank              int     // of a tensor; 0: bytes
	at                []int32 // coordinates
	size              int32
	multicast         bool
	mask              int32
}

// decodeBulk is cp.async.bulk and cp.async.bulk.tensor from global to shared memory, and their prefetches, which do nothing here.
func decodeBulk(d *decoder) error {
	x := &bulkInfo{}
	args := d.st.args
	hint := false
	for _, m := range d.st.mods[2:] {
		switch {
		case m == "prefetch":
			return decodeHint(d)
		case len(m) == 2 && m[0] >= '1' && m[0] <= '5' && m[1] == 'd':
			x.rank = int(m[0] - '0')
		case m == "multicast::cluster":
			x.multicast = true
		case m == "L2::cache_hint":
			hint = true
		case m == "tensor", m == "tile", m == "shared::cluster", m == "shared::cta", m == "global", m == "mbarrier::complete_tx::bytes":
		default:
			return d.fail("not known to this interpreter")
		}
	}
	if !strings.Contains(d.st.opcode(), ".global.") || !slices.Contains(d.st.mods, "mbarrier::complete_tx::bytes") || slices.Contains(d.st.mods, "tensor") != (x.rank > 0) {
		return d.fail("not known to this interpreter")
	}
	want := 3
	for _, more := range []bool{x.rank == 0, x.multicast, hint} {
		if more {
			want++
		}
	}
	if len(args) != want {
		return d.fail("%d operands, not %d", len(args), want)
	}
	x.to, x.from, x.counter = inst{access: &access{space: shared}}, inst{access: &access{space: global}}, inst{access: &access{space: shared}}
	if x.rank > 0 {
		x.from.access.space = generic
	}
	if err := d.address(&x.to, args[0]); err != nil {
		return err
	}
	if err := d.address(&x.from, args[1]); err != nil {
		return err
	}
	if len(args[1].list) != x.rank {
		return d.fail("%d coordinates", len(args[1].list))
	}
	for _, o := range args[1].list {
		s, err := d.value(o, words, "s32")
		if err != nil {
			return err
		}
		x.at = append(x.at, s.index)
	}
	args = args[2:]
	if x.rank == 0 {
		s, err := d.value(args[0], words, "u32")
		if err != nil {
			return err
		}
		x.size, args = s.index, args[1:]
	}
	if err := d.address(&x.counter, args[0]); err != nil {
		return err
	}
	if x.multicast {
		s, err := d.value(args[1], words, "u16")
		if err != nil {
			return err
		}
		x.mask = s.index
	}
	d.k.copies = true
	return d.emit(inst{class: yieldClass, masked: func(w *warp, _ *inst, m uint32) {
		for ; m != 0; m &= m - 1 {
			w.bulk(x, first(m))
		}
	}})
}

// bulk starts one lane's copy.
func (w *warp) bulk(x *bulkInfo, lane int) {
	var data []byte
	var unit int
	if x.rank > 0 {
		data, unit = w.box(x, lane)
	} else {
		data, unit = w.bytes(x, lane), 16
	}
	w.addresses(&x.counter)
	counters := w.addr[lane]
	w.addresses(&x.to)
	to := w.addr[lane]
	if to%uint64(unit) != 0 {
		w.fault(lane, Misaligned, "a copy to %#x, which is no multiple of %d", to, unit)
	}
	if to/clusterWindow != counters/clusterWindow {
		w.fault(lane, Illegal, "the mbarrier is not of the block that the copy goes to")
	}
	if !x.multicast {
		w.fly(lane, to, counters, data)
		return
	}
	mask := w.words[x.mask][lane]
	if mask == 0 || mask>>w.k.cluster != 0 {
		w.fault(lane, Illegal, "a copy to blocks %#b of a cluster of %d", mask, w.k.cluster)
	}
	for rank := range uint64(w.k.cluster) {
		if mask>>rank&1 == 1 {
			window := (rank + 1) * clusterWindow
			w.fly(lane, window+to%clusterWindow, window+counters%clusterWindow, data)
		}
	}
}

// fly sends data on its way to shared memory, and to the mbarrier that will tell of it.
func (w *warp) fly(lane int, to, counters uint64, data []byte) {
	w.addr[lane] = counters
	c := w.counter(shared, lane)
	if c.maker.proxy.counters < c.madeAt {
		w.fault(lane, Unfenced, "no fence.mbarrier_init or fence.proxy.async after this mbarrier was made")
	}
	b := w.b
	if to >= clusterWindow {
		b = w.peer(lane, int(to/clusterWindow)-1)
	}
	to %= clusterWindow
	r := w.region(b, shared, to, len(data))
	if r == nil {
		w.outside(lane, shared, to, len(data))
	}
	f := &bulk{b: b, r: r, off: uint32(to - r.base), data: data, c: c}
	if r.cells != nil {
		w.off[lane] = f.off
		w.checkWrite(r, 1<<lane, len(data), weak)
		cells := r.cells[f.off/4:][:len(data)/4]
		for i := range cells {
			cells[i].state = cells[i].state&^holdsData | inFlight
		}
	}
	w.l.flying = append(w.l.flying, f)
}

// arrive lets one of the copies under way land: from now on those may read it who wait for the mbarrier.
func (l *launch) arrive() {
	i := l.rng.IntN(len(l.flying))
	f := l.flying[i]
	l.flying[i] = l.flying[len(l.flying)-1]
	l.flying = l.flying[:len(l.flying)-1]
	copy(f.r.data[f.off:], f.data)
	engine := f.b.number*l.perBlock + l.perBlock - 1
	l.dev.now++
	if f.r.cells != nil {
		cells := f.r.cells[f.off/4:][:len(f.data)/4]
		for i := range cells {
			c := &cells[i]
			c.state = c.state&^(inFlight|wroteStrong) | holdsData
			c.writer, c.wroteAt, c.wrote = uint32(engine*warpSize), l.dev.now, 15
		}
	}
	l.dev.now++
	v := &vector{make([]uint32, l.warps)}
	v.t[engine] = l.dev.now
	f.c.arriving = join(f.c.arriving, v)
	f.c.bytes -= len(f.data)
	f.c.settle(l)
}

// endCopies looks for copies to the shared memory of a block whose last warp has ended.
func (b *block) endCopies(w *warp) {
	for _, f := range w.l.flying {
		if f.b == b {
			w.fault(0, Unawaited, "the block ends while a bulk copy to its shared memory is under way")
		}
	}
}

// bytes reads what cp.async.bulk copies.
func (w *warp) bytes(x *bulkInfo, lane int) []byte {
	n := int(int32(w.words[x.size][lane]))
	if n <= 0 || n%16 != 0 {
		w.fault(lane, Illegal, "a bulk copy of %d bytes", n)
	}
	w.addresses(&x.from)
	p := w.addr[lane]
	if p%16 != 0 {
		w.fault(lane, Misaligned, "a bulk copy from %#x", p)
	}
	data := make([]byte, n)
	w.readGlobal(lane, p, data)
	return data
}

// readGlobal reads global memory for a copy, which the launch must not write to.
func (w *warp) readGlobal(lane int, p uint64, to []byte) {
	r := w.region(w.b, global, p, len(to))
	if r == nil {
		w.outside(lane, global, p, len(to))
	}
	w.off[lane] = uint32(p - r.base)
	copy(to, r.data[w.off[lane]:])
	if r.cells != nil {
		w.checkRead(r, 1<<lane, len(to), readOnly)
	}
}

// box reads what cp.async.bulk.tensor copies, as it will lie in shared memory, and tells to multiples of what.
func (w *warp) box(x *bulkInfo, lane int) (data []byte, unit int) {
	w.addresses(&x.from)
	r, _ := w.window(x.from.access.space, 1<<lane, 64)
	b := r.data[w.off[lane]:]
	if len(b) < tensor.TensorMapBytes || binary.LittleEndian.Uint64(b) != mapMark {
		w.fault(lane, Illegal, "there is no tensor map at %#x", w.addr[lane])
	}
	if rank := int(b[mapRank]); rank != x.rank {
		w.fault(lane, Illegal, "the tensor map has %d dimensions", rank)
	}
	get := func(at int) int { return int(binary.LittleEndian.Uint64(b[at:])) }
	element, swizzle := int(b[mapElement]), int(b[mapSwizzle])
	var dims, strides, box, at [5]int
	size := element
	for i := range 5 {
		dims[i], box[i] = 1, 1
		if i < x.rank {
			dims[i], box[i], at[i] = get(mapDims+8*i), int(binary.LittleEndian.Uint16(b[mapBox+2*i:])), int(int32(w.words[x.at[i]][lane]))
		}
		if i > 0 && i < x.rank {
			strides[i] = get(mapStrides + 8*(i-1))
		}
		size *= box[i]
	}
	data = make([]byte, size)
	row := make([]byte, box[0]*element)
	low, high := max(at[0], 0), min(at[0]+box[0], dims[0]) // of the columns that are inside
	for i := range size / len(row) {
		p, inside := get(mapAddress), low < high
		for j, n := 1, i; j < 5; j++ {
			c := at[j] + n%box[j]
			n /= box[j]
			inside = inside && c >= 0 && c < dims[j]
			p += c * strides[j]
		}
		if !inside {
			continue
		}
		clear(row)
		w.readGlobal(lane, uint64(p+low*element), row[(low-at[0])*element:(high-at[0])*element])
		for c := 0; c < len(row); c += 16 {
			copy(data[swizzled(i*len(row)+c, swizzle):], row[c:c+16])
		}
	}
	return data, max(128, 8*swizzle)
}

// swizzled is where a chunk of 16 bytes lies whose offset is p: the bits above the span say which chunk it changes places with.
func swizzled(p, span int) int {
	if span == 0 {
		return p
	}
	return p ^ p>>7%(span/16)<<4
}
