package tensor

import (
	"slices"
	"testing"
)

// Weights are handed out once, in order, before they are multiplied or never, and no more of them than there is room for.
func TestAheadHandsOutWeightsInOrder(t *testing.T) {
	const weights = 6
	all := make([]GPUWeight, weights)
	for i := range all {
		all[i] = GPUWeight{N: 10, K: 16, ld: 16, Precision: BF16, ptr: DevicePtr(i + 1)}
	}
	size := all[0].bytes()
	if size != 320 {
		t.Fatalf("%d bytes", size)
	}
	for _, c := range []struct {
		room int // in weights
		want []DevicePtr
	}{
		// Next, then for each weight Multiply and twice Next.
		{4, []DevicePtr{1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{2, []DevicePtr{1, 2, 3, 0, 4, 0, 0, 5, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0}},
		{1, []DevicePtr{1, 2, 0, 0, 3, 0, 0, 4, 0, 0, 5, 0, 0, 6, 0, 0, 0, 0, 0}},
		{0, []DevicePtr{1, 2, 0, 0, 3, 0, 0, 4, 0, 0, 5, 0, 0, 6, 0, 0, 0, 0, 0}}, // one always has room
	} {
		g := &GPU{attributes: Attributes{L2: 4 * size * c.room}}
		a := g.NewAhead(all)
		got := []DevicePtr{a.Next().ptr}
		for range all {
			got = append(got, a.Multiply().ptr, a.Next().ptr, a.Next().ptr)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("room for %d: %v, want %v", c.room, got, c.want)
		}
	}
	// Without a Next before, the first weight is not worth bringing in.
	a := (&GPU{attributes: Attributes{L2: 40 * size}}).NewAhead(all)
	if got := a.Multiply().ptr; got != 2 {
		t.Errorf("the first product brings in weight %d, want 2", got)
	}
}
