package ptx

import (
	"math/rand/v2"
	"slices"
)

// launch is a grid on its way. Its blocks run in an order, and their warps in turns, that follow from the device's seed.
type launch struct {
	dev         *Device
	k           *kernel
	grid, block [3]int
	dynamic     int
	args        region
	constants   *region
	start       uint32 // time
	warps       int    // of all blocks, their engines of bulk copies included
	perBlock    int    // of a block

	rng    *rand.Rand
	order  [][]int // numbers of the blocks that have not begun, by cluster
	ready  []*warp
	live   int // blocks
	blocks []*block
	idle   []*block // those of them that have ended
	flying []*bulk  // copies under way
	flags  map[flag]*vector
	last   *region // that a global access was found in
	words  [][warpSize]uint32
	longs  [][warpSize]uint64
	steps  int64
}

// block is a group of threads that share memory and barriers.
type block struct {
	index    [3]uint32
	number   int
	warps    []*warp
	live     int // warps
	shared   [2]region
	barriers [16]barrier
	know     *vector // of what other blocks did
	cluster  *cluster
	counters map[uint32]*counter // mbarriers, by address
	products [][]issued          // what warps of each warpgroup have issued ahead of others
}

// turnLength is how many instructions a warp may run before another gets a turn.
const turnLength = 1024

// turn is how many more instructions a warp may run after one through which threads communicate.
func (l *launch) turn() int { return l.rng.IntN(64) }

// run runs the grid. resident is how many blocks may be under way at once.
func (l *launch) run(resident int) (err error) {
	defer func() {
		switch f := recover().(type) {
		case nil:
		case *Fault:
			err = f
		default:
			panic(f)
		}
	}()
	l.order = l.clusters()
	l.flags = map[flag]*vector{}
	l.dev.now++
	l.start = l.dev.now
	l.literals()
	budget := l.dev.options.Instructions
	for len(l.order) > 0 || l.live > 0 {
		for l.live < resident && len(l.order) > 0 {
			c := &cluster{}
			for _, number := range l.order[0] {
				l.begin(number, c)
			}
			l.order = l.order[1:]
		}
		for len(l.flying) > 0 && (len(l.ready) == 0 || l.rng.IntN(4) == 0) {
			l.arrive()
		}
		if len(l.ready) == 0 {
			l.stuck()
		}
		i := l.rng.IntN(len(l.ready))
		if favoured := l.dev.options.Favour - 1; favoured >= 0 && l.rng.IntN(16) > 0 {
			if j := slices.IndexFunc(l.ready, func(w *warp) bool { return w.b.number == favoured }); j >= 0 {
				i = j
			}
		}
		w := l.ready[i]
		turns := turnLength
		if l.rng.IntN(4) == 0 {
			turns = 1 + l.rng.IntN(16)
		}
		before := w.steps
		state := w.run(turns)
		l.steps += w.steps - before
		if state != running {
			// A warp that ended the waiting at its barrier is in the list once more, at the end.
			l.ready[i] = l.ready[len(l.ready)-1]
			l.ready = l.ready[:len(l.ready)-1]
		}
		if budget -= w.steps - before; budget < 0 {
			w.fault(first(w.alive|1<<31), Endless, "%d of them in this launch", l.dev.options.Instructions)
		}
	}
	return nil
}

// literals fills the registers that every warp begins with.
func (l *launch) literals() {
	l.words = make([][warpSize]uint32, l.k.words)
	l.longs = make([][warpSize]uint64, l.k.longs)
	for v, i := range l.k.wordLiterals {
		for lane := range warpSize {
			l.words[i][lane] = v
		}
	}
	for v, i := range l.k.longLiterals {
		for lane := range warpSize {
			l.longs[i][lane] = v
		}
	}
}

// begin starts a block, in the memory of one that ended where there is one.
func (l *launch) begin(number int, c *cluster) {
	var b *block
	if n := len(l.idle); n > 0 {
		b, l.idle = l.idle[n-1], l.idle[:n-1]
	} else {
		b = l.newBlock()
	}
	b.number = number
	b.index = [3]uint32{uint32(number % l.grid[0]), uint32(number / l.grid[0] % l.grid[1]), uint32(number / (l.grid[0] * l.grid[1]))}
	b.know, b.live, b.barriers = nil, len(b.warps), [16]barrier{}
	b.cluster, b.counters, b.products = c, nil, nil
	c.blocks = append(c.blocks, b)
	c.live += b.live
	for i := range b.shared {
		// What a block finds in shared memory is left over from another: no zeros to rely on.
		clear(b.shared[i].cells)
		fill(b.shared[i].data, 0xcd)
	}
	threads := l.block[0] * l.block[1] * l.block[2]
	for i, w := range b.warps {
		w.first = uint32((number*l.perBlock + i) * warpSize)
		w.alive = allLanes
		if rest := threads - i*warpSize; rest < warpSize {
			w.alive = 1<<rest - 1
		}
		copy(w.words, l.words)
		copy(w.longs, l.longs)
		clear(w.preds)
		w.preds[truePredicate] = allLanes
		for name, i := range l.k.specials {
			for lane := range warpSize {
				w.words[i][lane] = specials[name](w, lane)
			}
		}
		w.paths = append(w.paths[:0], path{0, noJoin, w.alive})
		w.clock = clock{synced: l.dev.now, knows: w.clock.knows}
		clear(w.clock.knows)
		w.copies = copies{groups: w.copies.groups[:0]}
		w.matrix, w.proxy, w.phase, w.patience = matrixUnit{}, proxy{}, 0, patience{}
		w.due = false
		l.ready = append(l.ready, w)
	}
	l.live++
}

func (l *launch) newBlock() *block {
	b := &block{}
	b.shared[0] = l.newShared(sharedStart, l.k.static, "static shared memory")
	b.shared[1] = l.newShared(dynamicStart(l.k.m), l.dynamic, "dynamic shared memory")
	n := (l.block[0]*l.block[1]*l.block[2] + warpSize - 1) / warpSize
	for i := range n {
		w := &warp{l: l, k: l.k, b: b, id: i, words: make([][warpSize]uint32, l.k.words), longs: make([][warpSize]uint64, l.k.longs), preds: make([]uint32, l.k.predicates)}
		w.local = region{data: make([]byte, l.k.local*warpSize), what: "local memory"}
		w.clock.knows = make([]uint32, l.perBlock)
		b.warps = append(b.warps, w)
	}
	l.blocks = append(l.blocks, b)
	return b
}

func (l *launch) newShared(base uint64, bytes int, what string) region {
	r := region{base: base, data: make([]byte, bytes), what: what, block: true}
	if !l.dev.options.Unchecked {
		r.cells = make([]cell, (bytes+3)/4)
	}
	return r
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// stuck reports that no warp can go on.
func (l *launch) stuck() {
	for _, b := range l.blocks {
		for _, w := range b.warps {
			if w.alive != 0 {
				w.fault(first(w.alive), Deadlock, "%d of %d warps of the block have ended, and the others wait", len(b.warps)-b.live, len(b.warps))
			}
		}
	}
}
