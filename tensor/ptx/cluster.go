package ptx

import "slices"

// cluster is blocks that run at the same time and reach each other's shared memory. Without clusters each block is one.
type cluster struct {
	blocks  []*block // by rank
	live    int      // warps
	arrived int      // warps at the barrier
	phase   int      // how often the barrier has let all go on
	// What warps knew that have arrived in this phase, and in all before.
	arriving, done *vector
	waiting        []*warp
}

// clusters lists the numbers of the launch's blocks by cluster, in the order in which these begin.
func (l *launch) clusters() [][]int {
	var size, many [3]int
	for i, n := range l.k.size {
		size[i] = max(n, 1)
		many[i] = l.grid[i] / size[i]
	}
	order := l.rng.Perm(many[0] * many[1] * many[2])
	all := make([][]int, len(order))
	for i, c := range order {
		x, y, z := c%many[0]*size[0], c/many[0]%many[1]*size[1], c/(many[0]*many[1])*size[2]
		for r := range l.k.cluster {
			bx, by, bz := x+r%size[0], y+r/size[0]%size[1], z+r/(size[0]*size[1])
			all[i] = append(all[i], bx+l.grid[0]*(by+l.grid[1]*bz))
		}
	}
	return all
}

func (b *block) rank() int { return slices.Index(b.cluster.blocks, b) }

// peer is the block of that rank, which still runs.
func (w *warp) peer(lane, rank int) *block {
	c := w.b.cluster
	if rank >= len(c.blocks) {
		w.fault(lane, Illegal, "block %d of a cluster of %d", rank, len(c.blocks))
	}
	b := c.blocks[rank]
	if b.cluster != c || b.live == 0 {
		w.fault(lane, Illegal, "block %d of the cluster has ended, and its shared memory with it", rank)
	}
	return b
}

// decodeMap is mapa.shared::cluster.u32 d, a, rank: the address in another block's shared memory.
func decodeMap(d *decoder) error {
	if !slices.Equal(d.st.mods, []string{"shared::cluster", "u32"}) || len(d.st.args) != 3 {
		return d.fail("not known to this interpreter")
	}
	return d.plain(each("w=ww", func(a, rank, _ uint64) uint64 { return a%clusterWindow + (rank+1)*clusterWindow }))
}

// decodeClusterBarrier is barrier.cluster.arrive and barrier.cluster.wait.
func decodeClusterBarrier(d *decoder) error {
	mods := slices.DeleteFunc(slices.Clone(d.st.mods[1:]), func(m string) bool { return m == "aligned" })
	if len(mods) < 1 || len(mods) > 2 || len(d.st.args) != 0 {
		return d.fail("not known to this interpreter")
	}
	order := ""
	if len(mods) > 1 {
		order = mods[1]
	}
	switch {
	case mods[0] == "arrive" && (order == "" || order == "release" || order == "relaxed"):
		return d.emit(inst{class: yieldClass, masked: func(w *warp, _ *inst, m uint32) { w.arriveAtCluster(m, order != "relaxed") }})
	case mods[0] == "wait" && (order == "" || order == "acquire"):
		return d.emit(inst{class: waitClass, waits: func(w *warp, _ *inst, m uint32) bool { return w.waitForCluster(m) }})
	}
	return d.fail("not known to this interpreter")
}

// together checks that no lane of the warp is elsewhere.
func (w *warp) together(m uint32) {
	if m != w.alive {
		w.fault(first(m), Divergent, "lanes %#x of the warp are here, lanes %#x are not", m, w.alive&^m)
	}
}

func (w *warp) arriveAtCluster(m uint32, release bool) {
	w.together(m)
	c := w.b.cluster
	if w.phase > c.phase {
		w.fault(first(m), Divergent, "the warp has arrived already")
	}
	if release {
		w.fence(false)
		c.arriving = join(c.arriving, w.clock.fenced)
	}
	w.phase, w.due = c.phase+1, true
	c.arrived++
	c.settle(w.l)
}

func (w *warp) waitForCluster(m uint32) bool {
	w.together(m)
	c := w.b.cluster
	if !w.due {
		w.fault(first(m), Divergent, "the warp has not arrived")
	}
	if w.phase > c.phase {
		c.waiting = append(c.waiting, w)
		return true
	}
	w.due = false
	w.syncLanes()
	if c.done != nil {
		w.learn(c.done)
	}
	return false
}

// settle lets the warps go on that wait, if all have arrived.
func (c *cluster) settle(l *launch) {
	if c.arrived == 0 || c.arrived < c.live {
		return
	}
	c.phase++
	c.arrived = 0
	c.done, c.arriving = join(c.done, c.arriving), nil
	l.ready = append(l.ready, c.waiting...)
	c.waiting = c.waiting[:0]
}

// left notes that a warp has ended.
func (c *cluster) left(w *warp) {
	c.live--
	if w.phase > c.phase {
		c.arrived--
	}
	c.settle(w.l)
}
