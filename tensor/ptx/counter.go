package ptx

import (
	"slices"
	"strings"
)

// counter is an mbarrier: its phase ends when as many threads have arrived as it was made for, and as many bytes as were announced.
type counter struct {
	expected, pending int
	bytes             int // announced, and not copied yet
	phase             uint32
	// What threads and copies knew that have arrived in this phase, and in all before.
	arriving, done *vector
	waiting        []*warp
	maker          *warp
	madeAt         uint32
}

// proxy is what a warp has done for asynchronous operations to see its work.
type proxy struct {
	fenced   uint32 // when it last ran fence.proxy.async
	counters uint32 // when it last ran that or fence.mbarrier_init
}

// patience is what a warp's last mbarrier.try_wait has waited for: it gives up once, so that a kernel without a loop around it is
// found out.
type patience struct {
	c     *counter
	phase uint32
}

// mostBytes is how many bytes a phase can wait for.
const mostBytes = 1<<20 - 1

// decodeCounter is mbarrier.init, .inval, .expect_tx, .arrive, .arrive.expect_tx, .test_wait and .try_wait.
func decodeCounter(d *decoder) error {
	a := &access{space: generic, bytes: 8}
	var name []string
	for _, m := range d.st.mods {
		switch m {
		case "shared", "shared::cta", "shared::cluster":
			a.space = shared
		case "b64", "release", "acquire", "cta", "cluster":
		default:
			name = append(name, m)
		}
	}
	args := d.st.args
	in := inst{class: yieldClass, access: a}
	address := func(i, least, most int) error {
		if len(args) < least || len(args) > most {
			return d.fail("%d operands", len(args))
		}
		return d.address(&in, args[i])
	}
	word := func(i int) (r int32, err error) {
		s, err := d.source(i, words, "u32")
		return s.index, err
	}
	var err error
	switch op := strings.Join(name, "."); op {
	case "init", "inval", "expect_tx", "expect_tx.relaxed":
		if err = address(0, 1, 2); err != nil {
			return err
		}
		if len(args) == 2 {
			if in.b, err = word(1); err != nil {
				return err
			}
		} else if op != "inval" {
			return d.fail("one operand")
		}
		in.masked = map[string]func(w *warp, in *inst, m uint32){"init": initCounter, "inval": dropCounter, "expect_tx": expectBytes, "expect_tx.relaxed": expectBytes}[op]
	case "arrive", "arrive.expect_tx":
		if err = address(1, 2, 3); err != nil {
			return err
		}
		token, err := d.target(args[0], longs)
		if err != nil {
			return err
		}
		in.d = token.index
		in.b = d.literal(words, 1).index
		if len(args) == 3 {
			if in.b, err = word(2); err != nil {
				return err
			}
		}
		bytes := op == "arrive.expect_tx"
		if bytes && len(args) != 3 {
			return d.fail("no count of bytes")
		}
		in.masked = func(w *warp, in *inst, m uint32) { arrive(w, in, m, bytes) }
	case "test_wait", "try_wait", "test_wait.parity", "try_wait.parity":
		if err = address(1, 3, 4); err != nil {
			return err
		}
		p, err := d.destination(0, predicates)
		if err != nil {
			return err
		}
		b, t := longs, "b64"
		parity := strings.HasSuffix(op, "parity")
		if parity {
			b, t = words, "u32"
		}
		phase, err := d.source(2, b, t)
		if err != nil {
			return err
		}
		in.class, in.d, in.b = waitClass, p.index, phase.index
		try := strings.HasPrefix(op, "try")
		in.waits = func(w *warp, in *inst, m uint32) bool { return w.await(in, m, parity, try) }
	default:
		return d.fail("not known to this interpreter")
	}
	return d.emit(in)
}

// counterPlace is where the mbarrier of a lane lies, whose address is known.
func (w *warp) counterPlace(s space, lane int) (b *block, r *region, key uint32) {
	p := w.addr[lane]
	if s == generic {
		var base uint64
		if s, base = spaceOf(p); s != shared {
			w.fault(lane, Illegal, "an mbarrier at %#x, outside of shared memory", p)
		}
		p -= base
	}
	b = w.b
	if p >= clusterWindow {
		b = w.peer(lane, int(p/clusterWindow)-1)
	}
	r, _ = w.window(s, 1<<lane, 8)
	return b, r, uint32(p % clusterWindow)
}

// counter finds the mbarrier of a lane.
func (w *warp) counter(s space, lane int) *counter {
	b, r, key := w.counterPlace(s, lane)
	c := b.counters[key]
	if r.cells != nil {
		w.checkRead(r, 1<<lane, 8, strong)
	}
	if c == nil {
		w.fault(lane, Illegal, "there is no mbarrier at offset %d of %v", w.off[lane], r)
	}
	if b != w.b && c.maker.proxy.counters < c.madeAt {
		w.fault(lane, Unfenced, "no fence.mbarrier_init after this mbarrier was made")
	}
	return c
}

func initCounter(w *warp, in *inst, m uint32) {
	w.addresses(in)
	for ; m != 0; m &= m - 1 {
		l := first(m)
		b, r, key := w.counterPlace(in.access.space, l)
		n := int(w.words[in.b][l])
		if b != w.b || n < 1 || n >= 1<<20 {
			w.fault(l, Illegal, "an mbarrier for %d arrivals", n)
		}
		if r.cells != nil {
			w.checkWrite(r, 1<<l, 8, weak)
		}
		w.l.dev.now++
		if b.counters == nil {
			b.counters = map[uint32]*counter{}
		}
		b.counters[key] = &counter{expected: n, pending: n, maker: w, madeAt: w.l.dev.now}
	}
}

func dropCounter(w *warp, in *inst, m uint32) {
	w.addresses(in)
	for ; m != 0; m &= m - 1 {
		l := first(m)
		w.counter(in.access.space, l)
		b, r, key := w.counterPlace(in.access.space, l)
		delete(b.counters, key)
		if r.cells != nil {
			w.checkWrite(r, 1<<l, 8, weak)
		}
	}
}

func expectBytes(w *warp, in *inst, m uint32) {
	w.addresses(in)
	for ; m != 0; m &= m - 1 {
		l := first(m)
		w.announce(w.counter(in.access.space, l), l, int(w.words[in.b][l]))
	}
}

func (w *warp) announce(c *counter, lane, bytes int) {
	if c.bytes += bytes; bytes > mostBytes || c.bytes > mostBytes {
		w.fault(lane, Illegal, "a phase of %d bytes, at most %d", c.bytes, mostBytes)
	}
}

// arrive is mbarrier.arrive: what came before it is known to those who wait.
func arrive(w *warp, in *inst, m uint32, bytes bool) {
	w.addresses(in)
	w.fence(true)
	for ; m != 0; m &= m - 1 {
		l := first(m)
		c := w.counter(in.access.space, l)
		n := int(w.words[in.b][l])
		if bytes {
			w.announce(c, l, n)
			n = 1
		}
		if n < 1 || n > c.pending {
			w.fault(l, Illegal, "%d arrivals at an mbarrier that waits for %d of %d", n, c.pending, c.expected)
		}
		w.longs[in.d][l] = uint64(c.phase)
		c.pending -= n
		c.arriving = join(c.arriving, w.clock.inBlock)
		c.settle(w.l)
	}
}

// settle ends the phase if there is nothing left to wait for.
func (c *counter) settle(l *launch) {
	if c.pending > 0 || c.bytes != 0 {
		return
	}
	c.phase++
	c.pending = c.expected
	c.done, c.arriving = join(c.done, c.arriving), nil
	l.ready = append(l.ready, c.waiting...)
	c.waiting = c.waiting[:0]
}

// await tests for the end of a phase, given by its parity or by the token of an arrival, and tells whether the warp has to wait.
func (w *warp) await(in *inst, m uint32, parity, try bool) bool {
	w.addresses(in)
	var over uint32
	var known *vector
	var missing *counter
	for mm := m; mm != 0; mm &= mm - 1 {
		l := first(mm)
		c := w.counter(in.access.space, l)
		ended := false
		if parity {
			p := w.words[in.b][l]
			if p > 1 {
				w.fault(l, Illegal, "the parity %d", p)
			}
			ended = c.phase&1 != p
		} else {
			ended = uint64(c.phase) > w.longs[in.b][l]
		}
		if ended {
			over |= 1 << l
			known = join(known, c.done)
		} else {
			missing = c
		}
	}
	if missing != nil && over == 0 && try {
		now := patience{missing, missing.phase}
		if w.patience == now {
			if !slices.Contains(missing.waiting, w) {
				missing.waiting = append(missing.waiting, w)
			}
			return true
		}
		w.patience = now
	}
	if known != nil {
		w.l.dev.now++
		w.learn(known)
		w.clock.synced = max(w.clock.synced, known.t[w.first/warpSize]) // a lane of its own may have arrived
	}
	w.preds[in.d] = w.preds[in.d]&^m | over
	return false
}

// decodeRegisters is setmaxnreg, which moves registers between warps: there are enough here.
func decodeRegisters(d *decoder) error {
	mods, args := strings.Join(d.st.mods, "."), d.st.args
	if mods != "inc.sync.aligned.u32" && mods != "dec.sync.aligned.u32" || len(args) != 1 || args[0].form != intForm {
		return d.fail("not known to this interpreter")
	}
	if n := args[0].bits; n < 24 || n > 256 || n%8 != 0 {
		return d.fail("%d registers", n)
	}
	return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) { w.whole(m) }})
}
