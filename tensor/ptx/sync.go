package ptx

import (
	"slices"
	"strings"
)

func decodeFence(d *decoder) error {
	block := slices.Contains(d.st.mods, "cta")
	switch name := strings.Join(d.st.mods, "."); {
	case name == "proxy.async", name == "proxy.async.shared::cta", name == "proxy.async.shared::cluster", name == "proxy.async.global":
		return d.emit(inst{class: yieldClass, masked: func(w *warp, _ *inst, _ uint32) {
			w.l.dev.now++
			w.proxy = proxy{w.l.dev.now, w.l.dev.now}
		}})
	case name == "mbarrier_init.release.cluster":
		return d.emit(inst{class: yieldClass, masked: func(w *warp, _ *inst, _ uint32) {
			w.l.dev.now++
			w.proxy.counters = w.l.dev.now
		}})
	case slices.Contains(d.st.mods, "proxy") || slices.Contains(d.st.mods, "mbarrier_init"):
		return d.fail("not known to this interpreter")
	}
	return d.emit(inst{class: yieldClass, masked: func(w *warp, _ *inst, _ uint32) { w.fence(block) }})
}

// decodeHint is what has no effect here: prefetches and sleeping.
func decodeHint(d *decoder) error {
	return d.emit(inst{class: yieldClass, masked: nothing})
}

// decodeDependent is griddepcontrol. Launches follow each other here; but whether a kernel waits for those before it, ahead of anything
// else, is noted.
func decodeDependent(d *decoder) error {
	if slices.Equal(d.st.mods, []string{"wait"}) && d.st.guard == "" {
		first := !slices.ContainsFunc(d.k.code, func(in inst) bool { return in.at.op != "griddepcontrol" })
		d.k.waits = d.k.waits || first
	}
	return d.emit(inst{class: yieldClass, masked: nothing})
}

// decodePolicy is createpolicy, which makes a hint for caches.
func decodePolicy(d *decoder) error {
	dst, err := d.destination(0, longs)
	if err != nil {
		return err
	}
	return d.emit(inst{class: longClass, d: dst.index, lanes: copyLong, a: d.literal(longs, 0).index})
}

func decodeTrap(d *decoder) error { return d.trap("the kernel gave up") }

func (d *decoder) trap(why string) error {
	return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) {
		w.fault(first(m), Trap, "%s", why)
	}})
}
