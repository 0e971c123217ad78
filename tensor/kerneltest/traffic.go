package kerneltest

import (
	"testing"

	"netfusion/tensor/ptx"
)

// Traffic runs a kernel of entry in the interpreter and reports every load and store of which the lanes' addresses lie badly:
// that touches more than most times the sectors of global memory that its bytes could do with, or takes more turns than it
// could of shared memory's banks.
func Traffic(t testing.TB, text, entry string, most float64, run func(k *Kernel)) {
	t.Helper()
	device := ptx.Open(ptx.Options{Traffic: true})
	run(load(t, device, text, entry))
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
