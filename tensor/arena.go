package tensor

// Arena hands out Tensors from one slab. A network lays its activations out twice with the same function: once to
// count, once for real. After that nothing is allocated.
type Arena struct {
	slab []float32
	used int
	peak int
}

// align keeps every Tensor on a cache line: 16 float32 are 64 bytes.
const align = 16

// Plan runs layout to count what it takes, allocates that, and runs layout again on the real memory. layout must
// take the same Tensors both times and must not touch their values the first time, when Data is nil.
func Plan(layout func(a *Arena)) *Arena {
	var count Arena
	layout(&count)
	a := &Arena{slab: make([]float32, count.peak)}
	layout(a)
	return a
}

// Take returns the next rows·cols values, not cleared.
func (a *Arena) Take(rows, cols int) Tensor {
	n := rows * cols
	begin := a.used
	a.used += (n + align - 1) / align * align
	a.peak = max(a.peak, a.used)
	if a.slab == nil {
		return Tensor{Rows: rows, Cols: cols}
	}
	return Tensor{rows, cols, a.slab[begin : begin+n : begin+n]}
}

// Mark returns a place to Release to: Tensors taken since then may be overwritten by later ones.
func (a *Arena) Mark() int { return a.used }

// Release frees all that was taken since the Mark.
func (a *Arena) Release(mark int) { a.used = mark }

// Bytes is the size of the slab.
func (a *Arena) Bytes() int { return 4 * len(a.slab) }
