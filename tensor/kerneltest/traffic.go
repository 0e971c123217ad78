//go:build !cuda

package kerneltest

import (
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// Traffic runs a kernel of entry in the interpreter and reports every load and store of which the lanes' addresses lie badly:
// that touches more than most times the sectors of global memory that its bytes could do with, or takes more turns than it
// could of shared memory's banks.
func Traffic(t testing.TB, text, entry string, most float64, run func(k *Kernel)) {
	t.Helper()
	TrafficShared(t, text, entry, 0, most, run)
}

// TrafficShared is Traffic for an entry whose blocks have so many bytes of dynamic shared memory.
func TrafficShared(t testing.TB, text, entry string, bytes int, most float64, run func(k *Kernel)) {
	t.Helper()
	o := optionsOf(text, 0)
	o.Traffic = true
	device := ptx.Open(o)
	run(load(t, device, text, tensor.Entry{Name: entry, DynamicShared: bytes}))
	for _, m := range device.Traffic() {
		limit, what := most, "sectors"
		if m.Shared {
			limit, what = 1, "turns"
		}
		if units := float64(m.Units) / float64(m.Least); units > limit {
			t.Errorf("%s, line %d, %s: %.2f times the %s it needs, at most %v wanted", entry, m.Line, m.Opcode, units, what, limit)
		}
	}
}
