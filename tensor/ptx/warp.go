package ptx

import "math/bits"

// warp is 32 threads of a block and their registers.
type warp struct {
	l     *launch
	k     *kernel
	b     *block
	id    int    // in its block
	first uint32 // number of its first thread among all of the launch, counted in whole warps

	words [][warpSize]uint32
	longs [][warpSize]uint64
	preds []uint32
	local region

	alive uint32
	paths []path // the last one runs
	pc    int32  // of the instruction that runs, for faults
	steps int64  // lane-instructions

	addr [warpSize]uint64
	off  [warpSize]uint32

	copies   copies
	matrix   matrixUnit
	proxy    proxy
	phase    int  // of the cluster's barrier that it waits for, or has seen the end of
	due      bool // it has arrived there, and not waited
	patience patience
	clock    clock
}

// path is a part of a warp's lanes on their way to where they meet the others, a SIMT stack's entry.
type path struct {
	pc, join int32
	mask     uint32
}

// state is why a warp stopped running.
type state uint8

const (
	running state = iota // its turn was over
	waiting              // at a barrier
	ended
)

// run executes at most turns instructions.
func (w *warp) run(turns int) state {
	code := w.k.code
paths:
	for {
		for {
			if len(w.paths) == 0 {
				return ended
			}
			top := &w.paths[len(w.paths)-1]
			if top.mask &= w.alive; top.mask != 0 && top.pc != top.join {
				break
			}
			w.paths = w.paths[:len(w.paths)-1]
		}
		top := &w.paths[len(w.paths)-1]
		active, pc, join := top.mask, top.pc, top.join
		for active != 0 && pc != join {
			in := &code[pc]
			w.pc = pc
			pc++
			m := active & (w.preds[in.guard] ^ in.invert)
			w.steps += int64(bits.OnesCount32(m))
			if m == 0 {
				continue
			}
			if len(in.sums) > 0 {
				w.touch(in, m)
			}
			switch in.class {
			case wordClass:
				if m == w.alive { // what ended lanes get does not matter
					in.lanes(w, in, in.d)
				} else {
					in.lanes(w, in, w.k.scratchWord)
					d, s := &w.words[in.d], &w.words[w.k.scratchWord]
					for ; m != 0; m &= m - 1 {
						l := bits.TrailingZeros32(m) & 31
						d[l] = s[l]
					}
				}
			case longClass:
				if m == w.alive {
					in.lanes(w, in, in.d)
				} else {
					in.lanes(w, in, w.k.scratchLong)
					d, s := &w.longs[in.d], &w.longs[w.k.scratchLong]
					for ; m != 0; m &= m - 1 {
						l := bits.TrailingZeros32(m) & 31
						d[l] = s[l]
					}
				}
			case maskedClass:
				in.masked(w, in, m)
			case yieldClass:
				in.masked(w, in, m)
				turns = min(turns, w.l.turn())
			case branchClass:
				if m == active {
					pc = in.target
					break
				}
				top.pc, top.mask = pc, active
				w.diverge(in, m)
				continue paths
			case tableClass:
				top.pc, top.mask = pc, active
				w.diverge(in, m)
				continue paths
			case exitClass:
				w.alive &^= m
				active &^= m
				w.b.left(w, m)
			case barrierClass:
				if w.barrier(in, m) {
					top.pc, top.mask = pc, active
					return waiting
				}
			case waitClass:
				if in.waits(w, in, m) {
					top.pc, top.mask = pc-1, active
					return waiting
				}
				turns = min(turns, w.l.turn())
			}
			if turns--; turns <= 0 && active != 0 {
				top.pc, top.mask = pc, active
				return running
			}
		}
		top.pc, top.mask = pc, active
	}
}

// diverge splits the running path at a branch that only the lanes of m take. Its entry waits at the join for both parts,
// unless that is where it ends anyway.
func (w *warp) diverge(in *inst, m uint32) {
	top := &w.paths[len(w.paths)-1]
	on := path{top.pc, in.join, top.mask &^ m}
	if top.join == in.join {
		w.paths = w.paths[:len(w.paths)-1]
	} else {
		top.pc = in.join
	}
	push := func(p path) {
		if p.mask != 0 && p.pc != p.join {
			w.paths = append(w.paths, p)
		}
	}
	push(on)
	if in.class == branchClass {
		push(path{in.target, in.join, m})
		return
	}
	index := &w.words[in.a]
	for t, target := range in.targets {
		var to uint32
		for mm := m; mm != 0; mm &= mm - 1 {
			if l := bits.TrailingZeros32(mm); index[l] == uint32(t) {
				to |= 1 << l
			}
		}
		push(path{target, in.join, to})
		m &^= to
	}
	if m != 0 {
		w.fault(bits.TrailingZeros32(m), Illegal, "branch to entry %d of a table of %d", index[bits.TrailingZeros32(m)], len(in.targets))
	}
}
