package ptx

// specials are the special registers that keep their value while a thread runs.
var specials = map[string]func(w *warp, lane int) uint32{
	"tid.x":    func(w *warp, lane int) uint32 { return uint32(w.thread(lane) % w.l.block[0]) },
	"tid.y":    func(w *warp, lane int) uint32 { return uint32(w.thread(lane) / w.l.block[0] % w.l.block[1]) },
	"tid.z":    func(w *warp, lane int) uint32 { return uint32(w.thread(lane) / (w.l.block[0] * w.l.block[1])) },
	"ntid.x":   func(w *warp, _ int) uint32 { return uint32(w.l.block[0]) },
	"ntid.y":   func(w *warp, _ int) uint32 { return uint32(w.l.block[1]) },
	"ntid.z":   func(w *warp, _ int) uint32 { return uint32(w.l.block[2]) },
	"ctaid.x":  func(w *warp, _ int) uint32 { return w.b.index[0] },
	"ctaid.y":  func(w *warp, _ int) uint32 { return w.b.index[1] },
	"ctaid.z":  func(w *warp, _ int) uint32 { return w.b.index[2] },
	"nctaid.x": func(w *warp, _ int) uint32 { return uint32(w.l.grid[0]) },
	"nctaid.y": func(w *warp, _ int) uint32 { return uint32(w.l.grid[1]) },
	"nctaid.z": func(w *warp, _ int) uint32 { return uint32(w.l.grid[2]) },

	"cluster_ctarank":  func(w *warp, _ int) uint32 { return uint32(w.b.rank()) },
	"cluster_nctarank": func(w *warp, _ int) uint32 { return uint32(w.k.cluster) },

	"laneid":      func(_ *warp, lane int) uint32 { return uint32(lane) },
	"warpid":      func(w *warp, _ int) uint32 { return uint32(w.id) },
	"nwarpid":     func(w *warp, _ int) uint32 { return uint32(len(w.b.warps)) },
	"smid":        func(w *warp, _ int) uint32 { return uint32(w.b.number % w.l.dev.options.Multiprocessors) },
	"nsmid":       func(w *warp, _ int) uint32 { return uint32(w.l.dev.options.Multiprocessors) },
	"gridid":      func(w *warp, _ int) uint32 { return w.l.start },
	"lanemask_eq": func(_ *warp, lane int) uint32 { return 1 << lane },
	"lanemask_lt": func(_ *warp, lane int) uint32 { return 1<<lane - 1 },
	"lanemask_le": func(_ *warp, lane int) uint32 { return 2<<lane - 1 },
	"lanemask_gt": func(_ *warp, lane int) uint32 { return ^(2<<lane - 1) },
	"lanemask_ge": func(_ *warp, lane int) uint32 { return ^(1<<lane - 1) },

	"dynamic_smem_size": func(w *warp, _ int) uint32 { return uint32(w.l.dynamic) },
	"total_smem_size":   func(w *warp, _ int) uint32 { return uint32(w.k.static + w.l.dynamic) },
}

// timers are the special registers that count on: here, the instructions of the launch so far.
var timers = map[string]func(w *warp, in *inst, d int32){
	"clock": readClock, "clock64": readClock64, "globaltimer": readClock64,
	"clock_hi": func(w *warp, _ *inst, d int32) { w.words[d] = [warpSize]uint32{} },
}

func readClock(w *warp, _ *inst, d int32) {
	for l := range w.words[d] {
		w.words[d][l] = uint32(w.steps)
	}
}

func readClock64(w *warp, _ *inst, d int32) {
	for l := range w.longs[d] {
		w.longs[d][l] = uint64(w.steps)
	}
}

// thread is a lane's number in its block.
func (w *warp) thread(lane int) int { return w.id*warpSize + lane }
