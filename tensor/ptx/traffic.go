package ptx

import (
	"cmp"
	"math/bits"
	"slices"
)

// Traffic is what one memory instruction of a kernel moved, and what it would have if its lanes' addresses lay best: on
// every GPU so far global memory is moved in sectors of 32 bytes, and shared memory gives a word of each of its 32 banks
// at a time, to 32 lanes, or to 16 with 8 bytes each, or to 8 with 16.
type Traffic struct {
	Kernel string
	Line   int // of the PTX text
	Opcode string
	Shared bool  // what is counted is turns of shared memory's banks, otherwise sectors
	Warps  int64 // executions
	Units  int64
	Least  int64 // as few as the bytes could do with
}

// trafficKey tells the instructions of all kernels apart; cp.async has traffic with both memories.
type trafficKey struct {
	kernel *kernel
	at     *statement
	shared bool
}

// Traffic lists what loads, stores, ldmatrix and cp.async moved since the device was opened, if Options.Traffic asked
// for it.
func (d *Device) Traffic() []Traffic {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Traffic
	for _, t := range d.traffic {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b Traffic) int {
		order := cmp.Or(cmp.Compare(a.Kernel, b.Kernel), cmp.Compare(a.Line, b.Line))
		if order == 0 && a.Shared {
			return 1
		} else if order == 0 {
			return -1
		}
		return order
	})
	return all
}

// count notes an access of size bytes by the lanes of m, whose offsets in r are known.
func (w *warp) count(r *region, m uint32, size int) {
	d := w.l.dev
	if !d.options.Traffic || r == &w.local || r == w.l.constants || r == &w.l.args {
		return
	}
	key := trafficKey{w.k, w.k.code[w.pc].at, r.block}
	t := d.traffic[key]
	if t == nil {
		t = &Traffic{Kernel: w.k.name, Line: key.at.line, Opcode: key.at.opcode(), Shared: r.block}
		d.traffic[key] = t
	}
	t.Warps++
	if !r.block {
		sectors, least := w.sectors(m, size)
		t.Units += sectors
		t.Least += least
		return
	}
	together := min(warpSize, 32*4/size)
	for from := 0; from < warpSize; from += together {
		if lanes := m & ((1<<together - 1) << from); lanes != 0 {
			t.Units += w.turns(lanes, size)
			t.Least++
		}
	}
}

// sectors is how many 32 bytes the lanes touch, and how many would hold as many bytes.
func (w *warp) sectors(m uint32, size int) (sectors, least int64) {
	var number [warpSize]uint32
	var touched [warpSize]uint32 // bytes
	n := 0
	for ; m != 0; m &= m - 1 {
		off := w.off[first(m)]
		i := slices.Index(number[:n], off/32)
		if i < 0 {
			i = n
			number[i] = off / 32
			n++
		}
		touched[i] |= (1<<size - 1) << (off % 32)
	}
	total := 0
	for _, b := range touched[:n] {
		total += bits.OnesCount32(b)
	}
	return int64(n), int64((total + 31) / 32)
}

// turns is how often the busiest bank is asked for another word.
func (w *warp) turns(m uint32, size int) int64 {
	var words []uint32
	var busy [32]int64
	for ; m != 0; m &= m - 1 {
		off := w.off[first(m)]
		for word := off / 4; word <= (off+uint32(size)-1)/4; word++ {
			if !slices.Contains(words, word) {
				words = append(words, word)
				busy[word%32]++
			}
		}
	}
	return slices.Max(busy[:])
}
