package ptx

import "fmt"

// cell is what is known of 4 bytes of memory: which of them hold data, and who wrote and read them last. Times are
// those of the device's clock, which goes on at every synchronisation: a thread may rely on what another one did at time
// t if it knows of a later time of that one's warp.
type cell struct {
	writer  uint32 // thread of the launch
	wroteAt uint32
	reader  [2]uint32 // of different warps
	readAt  [2]uint32
	wrote   uint8 // bytes
	read    [2]uint8
	state   uint8
}

// Bits of cell.state: which bytes hold data, whether the last write was an atomic or volatile one, whether a cp.async to
// it is under way, and (for each of the readers) whether other lanes of the reader's warp read some of the bytes.
const (
	holdsData   = 0x0f
	wroteStrong = 0x10
	inFlight    = 0x20
	otherLanes  = 0x40
)

// clock is what a warp knows of the others' time.
type clock struct {
	synced  uint32   // since when its own lanes have not synchronised
	knows   []uint32 // of each warp of its block: what it did before this time is ordered
	fenced  *vector  // what others may rely on who see a strong write from now on
	inBlock *vector  // the same, for shared memory
	pending *vector  // what an acquiring fence will make known
}

// vector is a time for every warp of a launch. It is never changed once it is shared.
type vector struct{ t []uint32 }

func join(a, b *vector) *vector {
	if a == nil || a == b {
		return b
	} else if b == nil {
		return a
	}
	v := &vector{append([]uint32(nil), a.t...)}
	for i, t := range b.t {
		v.t[i] = max(v.t[i], t)
	}
	return v
}

// after tells whether what thread o did at time t happened before whatever lane does now.
func (w *warp) after(lane int, o, t uint32) bool {
	switch other := o/warpSize - w.b.warps[0].first/warpSize; {
	case t < w.l.start || o == w.first+uint32(lane):
		return true
	case o/warpSize == w.first/warpSize:
		return t < w.clock.synced
	case other < uint32(w.l.perBlock):
		return t < w.clock.knows[other]
	}
	return w.b.know != nil && t < w.b.know.t[o/warpSize]
}

// bytesOf is the mask of an access's bytes in its first cell.
func bytesOf(off uint32, size int) uint8 {
	if size >= 4 {
		return 15
	}
	return (1<<size - 1) << (off & 3)
}

// checkRead looks for reads of what was not written, or is not sure to be written yet.
func (w *warp) checkRead(r *region, lanes uint32, size int, o order) {
	now, start := w.l.dev.now, w.l.start
	for ; lanes != 0; lanes &= lanes - 1 {
		l := first(lanes)
		off, me := w.off[l], w.first+uint32(l)
		mask := bytesOf(off, size)
		cells := r.cells[off>>2 : (int(off)+size+3)>>2]
		for i := range cells {
			c := &cells[i]
			if c.state&mask != mask {
				if c.state&inFlight != 0 {
					w.fault(l, Unawaited, "%d bytes at offset %d of %v", size, off, r)
				}
				w.fault(l, Uninitialised, "%d bytes at offset %d of %v", size, off, r)
			}
			if c.wroteAt >= start {
				if o == readOnly {
					w.fault(l, Race, "a read-only load or bulk copy of offset %d of %v, which this launch writes to", off, r)
				}
				if c.writer != me && c.wrote&mask != 0 && (o < strong || c.state&wroteStrong == 0) && !w.after(l, c.writer, c.wroteAt) {
					w.race(l, "reads", r, off, "wrote", c.writer)
				}
			}
			if o >= strong {
				continue
			}
			k := 0
			if c.readAt[0] >= start && c.reader[0]/warpSize != me/warpSize && !w.after(l, c.reader[0], c.readAt[0]) {
				k = 1
			}
			if c.readAt[k] < w.clock.synced || c.reader[k]/warpSize != me/warpSize {
				c.reader[k], c.readAt[k], c.read[k] = me, now, mask
				c.state &^= otherLanes << k
			} else if c.read[k]&mask != mask {
				c.read[k] |= mask
				if c.reader[k] != me {
					c.state |= otherLanes << k
				}
			}
		}
	}
}

// checkWrite looks for writes over what others may still read or write, and notes the write.
func (w *warp) checkWrite(r *region, lanes uint32, size int, o order) {
	now, start := w.l.dev.now, w.l.start
	for ; lanes != 0; lanes &= lanes - 1 {
		l := first(lanes)
		off, me := w.off[l], w.first+uint32(l)
		mask := bytesOf(off, size)
		cells := r.cells[off>>2 : (int(off)+size+3)>>2]
		for i := range cells {
			c := &cells[i]
			if c.state&inFlight != 0 {
				w.fault(l, Race, "a write to offset %d of %v, which a copy under way writes to", off, r)
			}
			if c.wroteAt >= start && c.writer != me && c.wrote&mask != 0 && (o < strong || c.state&wroteStrong == 0) && !w.after(l, c.writer, c.wroteAt) {
				w.race(l, "writes", r, off, "wrote", c.writer)
			}
			for k, t := range c.readAt {
				if t >= start && c.reader[k] != me && c.read[k]&mask != 0 && !w.after(l, c.reader[k], t) {
					if c.state&(otherLanes<<k) != 0 && c.reader[k]/warpSize == me/warpSize {
						continue // it may have been the lane itself that read these bytes
					}
					w.race(l, "writes", r, off, "read", c.reader[k])
				}
			}
			c.writer, c.wroteAt, c.wrote = me, now, mask
			c.state = c.state&^wroteStrong | mask
			if o >= strong {
				c.state |= wroteStrong
			}
		}
	}
}

func (w *warp) race(lane int, does string, r *region, off uint32, did string, other uint32) {
	perBlock := uint32(w.l.perBlock * warpSize)
	block, thread := int(other/perBlock), int(other%perBlock)
	n, g := w.l.block, w.l.grid
	who := fmt.Sprintf("thread %v", [3]int{thread % n[0], thread / n[0] % n[1], thread / (n[0] * n[1])})
	if thread >= len(w.b.warps)*warpSize {
		who = "a bulk copy"
	}
	w.fault(lane, Race, "it %s offset %d of %v, which %s of block %v %s, and nothing orders the two", does, off, r, who,
		[3]int{block % g[0], block / g[0] % g[1], block / (g[0] * g[1])}, did)
}

// written marks memory as holding data: the host wrote it.
func (r *region) written(from, to int) {
	if r.cells == nil {
		return
	}
	for i := from; i < to; {
		n := min(4-i&3, to-i)
		r.cells[i>>2].state |= (1<<n - 1) << (i & 3)
		i += n
	}
}

// syncLanes orders the lanes of the warp: what each did before is known to all.
func (w *warp) syncLanes() {
	w.l.dev.now++
	w.clock.synced = w.l.dev.now
}

// fence makes known what strong reads before it have seen, and lets strong writes after it publish what came before.
func (w *warp) fence(toBlock bool) {
	w.l.dev.now++
	if w.clock.pending != nil {
		w.learn(w.clock.pending)
	}
	v := &vector{make([]uint32, w.l.warps)}
	if w.b.know != nil {
		copy(v.t, w.b.know.t)
	}
	first := w.b.number * w.l.perBlock
	copy(v.t[first:], w.clock.knows)
	v.t[first+w.id] = w.l.dev.now
	w.clock.inBlock = v
	if !toBlock {
		w.clock.fenced = v
	}
}

func (w *warp) learn(v *vector) {
	w.b.know = join(w.b.know, v)
	own := v.t[w.b.number*w.l.perBlock:]
	for i := range w.clock.knows {
		w.clock.knows[i] = max(w.clock.knows[i], own[i])
	}
}

// flag is a word through which threads signal each other.
type flag struct {
	r   *region
	off uint32
}

// observe takes note of what the writers of the words that are read let rely on.
func (w *warp) observe(a *access, r *region, lanes uint32) {
	if r.cells == nil {
		return
	}
	for ; lanes != 0; lanes &= lanes - 1 {
		if v := w.l.flags[flag{r, w.off[first(lanes)]}]; v != nil {
			w.clock.pending = join(w.clock.pending, v)
		}
	}
	if a.order == acquire || a.order == acqrel {
		if w.clock.pending != nil {
			w.l.dev.now++
			w.learn(w.clock.pending)
		}
	}
}

// publish lets those who read the words that are written rely on what came before this warp's last fence.
func (w *warp) publish(a *access, r *region, lanes uint32) {
	if r.cells == nil {
		return
	}
	if a.order == release || a.order == acqrel {
		w.fence(false)
	}
	v := w.clock.fenced
	if r.block {
		v = w.clock.inBlock
	}
	if v == nil {
		return
	}
	for ; lanes != 0; lanes &= lanes - 1 {
		f := flag{r, w.off[first(lanes)]}
		w.l.flags[f] = join(w.l.flags[f], v)
	}
}
