package ptx

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// matrixUnit is a warp's products under way: wgmma.mma_async computes them when they are waited for, from what the operands' memory
// holds then.
type matrixUnit struct {
	open   []issued
	groups [][]issued
	under  map[int32]bool // registers of sums
	fenced bool           // wgmma.fence ran since the sums were last touched
	count  int            // of products so far
}

// issued is a product as four warps issue it together.
type issued struct {
	pc   int32
	x    *warpgroupProduct
	a, b uint64 // descriptors
	add  bool
}

// warpgroupProduct is the operands of wgmma.mma_async: D [64][n] += A [64][16] · B [n][16]ᵀ, A and B in shared memory.
type warpgroupProduct struct {
	n    int
	half bool    // operands are float16, not bfloat16
	d    []int32 // registers: [n/8][4]
	a, b int32   // long registers
	add  int32   // predicate
}

func decodeWarpgroup(d *decoder) error {
	mods, args := d.st.mods, d.st.args
	if name := strings.Join(mods, "."); name == "fence.sync.aligned" && len(args) == 0 {
		return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) {
			w.whole(m)
			w.matrix.fenced = true
		}})
	} else if name == "commit_group.sync.aligned" && len(args) == 0 {
		return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) {
			w.whole(m)
			w.matrix.groups = append(w.matrix.groups, w.matrix.open)
			w.matrix.open = nil
		}})
	} else if name == "wait_group.sync.aligned" && len(args) == 1 && args[0].form == intForm {
		n := int(min(args[0].bits, 1<<20))
		return d.emit(inst{class: yieldClass, masked: func(w *warp, _ *inst, m uint32) {
			w.whole(m)
			w.multiply(n)
		}})
	}
	if len(mods) != 7 || mods[0] != "mma_async" || mods[1] != "sync" || mods[2] != "aligned" || mods[4] != "f32" || mods[5] != mods[6] ||
		mods[5] != "bf16" && mods[5] != "f16" || len(args) != 8 {
		return d.fail("not known to this interpreter")
	}
	columns, found := strings.CutPrefix(mods[3], "m64n")
	columns, deep := strings.CutSuffix(columns, "k16")
	x := &warpgroupProduct{half: mods[5] == "f16"}
	var err error
	if x.n, err = strconv.Atoi(columns); err != nil || !found || !deep || x.n < 8 || x.n > 256 || x.n%8 != 0 {
		return d.fail("not known to this interpreter")
	}
	for i, want := range []uint64{1, 1, 0, 0} { // neither negated nor transposed
		if o := args[4+i]; o.form != intForm || o.bits != want {
			return d.fail("not known to this interpreter")
		}
	}
	if args[0].form != listForm || len(args[0].list) != x.n/2 {
		return d.fail("not %d sums", x.n/2)
	}
	for _, o := range args[0].list {
		s, err := d.target(o, words)
		if err != nil {
			return err
		}
		x.d = append(x.d, s.index)
		d.k.sums[s.index] = true
	}
	for i, to := range []*int32{&x.a, &x.b} {
		s, err := d.source(1+i, longs, "b64")
		if err != nil {
			return err
		}
		*to = s.index
	}
	add, err := d.source(3, predicates, "pred")
	if err != nil {
		return err
	}
	x.add = add.index
	return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) {
		w.whole(m)
		w.issue(x)
	}})
}

// touch is what happens to registers of sums that any other instruction names.
func (w *warp) touch(in *inst, m uint32) {
	if in.at.op == "wgmma" {
		return
	}
	w.matrix.fenced = false
	for _, r := range in.sums {
		if w.matrix.under[r] {
			w.fault(first(m), Unawaited, "a register of a wgmma that is under way")
		}
	}
}

// issue checks a product, and keeps it until it is waited for.
func (w *warp) issue(x *warpgroupProduct) {
	u := &w.matrix
	p := issued{w.pc, x, w.longs[x.a][0], w.longs[x.b][0], w.preds[x.add]&1 == 1}
	for l := range warpSize {
		if w.longs[x.a][l] != p.a || w.longs[x.b][l] != p.b || (w.preds[x.add]>>l&1 == 1) != p.add {
			w.fault(l, Divergent, "operands differ within a warp")
		}
	}
	if !u.fenced {
		w.fault(0, Unfenced, "no wgmma.fence since the sums were last touched")
	}
	group := w.id / 4
	if len(w.b.warps) < 4*group+4 {
		w.fault(0, Illegal, "there are no four warps from %d on", 4*group)
	}
	for len(w.b.products) <= group {
		w.b.products = append(w.b.products, nil)
	}
	if all := &w.b.products[group]; u.count == len(*all) {
		*all = append(*all, p)
	} else if (*all)[u.count] != p {
		w.fault(0, Divergent, "other warps of the four compute another product here")
	}
	u.count++
	w.rows(x, p.a, w.id%4*16, 16, nil)
	w.rows(x, p.b, 0, x.n, nil)
	if u.under == nil {
		u.under = map[int32]bool{}
	}
	for _, r := range x.d {
		u.under[r] = true
	}
	u.open = append(u.open, p)
}

// rows reads count rows from the one called row on of a matrix in shared memory, 16 values each, or only checks that they can be read.
func (w *warp) rows(x *warpgroupProduct, descriptor uint64, row, count int, to [][16]float64) {
	start, eight := int(descriptor&0x3fff)<<4, int(descriptor>>32&0x3fff)<<4
	if descriptor>>62 != 1 || descriptor>>49&7 != 0 || start%1024 >= 128 || start%32 != 0 || eight%1024 != 0 {
		w.fault(0, Illegal, "the matrix %#x: only rows with a swizzle of 128 bytes that begin at multiples of 1024 are known", descriptor)
	}
	for i := range count {
		at := start + (row+i)/8*eight + (row+i)%8*128
		for half := range 2 {
			p := swizzled(at+16*half, 128)
			r := w.region(w.b, shared, uint64(p), 16)
			if r == nil {
				w.outside(0, shared, uint64(p), 16)
			}
			off := uint32(uint64(p) - r.base)
			w.off[0] = off
			if r.cells != nil {
				w.checkRead(r, 1, 16, weak)
				w.checkProxy(r, off)
			}
			if to == nil {
				continue
			}
			for j := range 8 {
				v := binary.LittleEndian.Uint16(r.data[int(off)+2*j:])
				if x.half {
					to[i][8*half+j] = float64(halfValue(v))
				} else {
					to[i][8*half+j] = float64(math.Float32frombits(uint32(v) << 16))
				}
			}
		}
	}
}

// checkProxy looks for data of ordinary stores that no fence has made known to asynchronous operations.
func (w *warp) checkProxy(r *region, off uint32) {
	for _, c := range r.cells[off/4 : off/4+4] {
		number := int(c.writer) / warpSize
		if id := number % w.l.perBlock; c.wroteAt >= w.l.start && number/w.l.perBlock == w.b.number && id < len(w.b.warps) {
			if writer := w.b.warps[id]; writer.proxy.fenced <= c.wroteAt && w.proxy.fenced <= c.wroteAt {
				w.fault(0, Unfenced, "no fence.proxy.async between a store to offset %d of %v and this", off, r)
			}
		}
	}
}

// multiply computes all groups of products but the last n.
func (w *warp) multiply(n int) {
	u := &w.matrix
	for len(u.groups) > n {
		for _, p := range u.groups[0] {
			w.product(p)
		}
		u.groups = u.groups[1:]
	}
	clear(u.under)
	for _, g := range append(u.groups[:len(u.groups):len(u.groups)], u.open) {
		for _, p := range g {
			for _, r := range p.x.d {
				u.under[r] = true
			}
		}
	}
}

// product computes the warp's 16 rows, with exact products that are summed in float64 and rounded once.
func (w *warp) product(p issued) {
	var a, b [256][16]float64
	w.rows(p.x, p.a, w.id%4*16, 16, a[:])
	w.rows(p.x, p.b, 0, p.x.n, b[:])
	for i, r := range p.x.d {
		z := reg[float32](w, r)
		for l := range z {
			x, y := &a[l/4+i%4/2*8], &b[i/4*8+l%4*2+i%2]
			var s0, s1, s2, s3 float64 // four chains, for speed
			for k := 0; k < 16; k += 4 {
				s0 += float64(x[k] * y[k])
				s1 += float64(x[k+1] * y[k+1])
				s2 += float64(x[k+2] * y[k+2])
				s3 += float64(x[k+3] * y[k+3])
			}
			sum := s0 + s1 + (s2 + s3)
			if p.add {
				sum += float64(z[l])
			}
			z[l] = float32(sum)
		}
	}
}

// endMatrix looks for products that nobody has waited for when the warp ends.
func (w *warp) endMatrix(lane int) {
	if u := &w.matrix; len(u.groups) > 0 || len(u.open) > 0 {
		w.fault(lane, Unawaited, "the warp ends while its products are under way")
	}
}
