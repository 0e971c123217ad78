package tensor

import "netfusion/kernels/memory"

// Arena hands out Tensors from one slab. A network lays its activations out twice with the same function: once to
// count, once for real. After that nothing is allocated.
type Arena struct {
	slab []float32 // nil while counting
	used int
}

// align keeps every Tensor on a cache line: 16 float32 are 64 bytes.
const align = 16

// Plan runs layout to count what it takes, allocates that, and runs layout again on the real memory. layout must
// take the same Tensors both times and must not touch their values the first time, when Data is nil.
func Plan(layout func(a *Arena)) {
	var count Arena
	layout(&count)
	layout(&Arena{slab: memory.Make[float32](count.used)})
}

// Bytes is what has been taken so far.
func (a *Arena) Bytes() int { return 4 * a.used }

// Take returns the next rows·cols values, not cleared.
func (a *Arena) Take(rows, cols int) Tensor {
	n := rows * cols
	begin := a.used
	a.used += (n + align - 1) / align * align
	if a.slab == nil {
		return Tensor{Rows: rows, Cols: cols}
	}
	return Tensor{rows, cols, a.slab[begin : begin+n : begin+n]}
}
