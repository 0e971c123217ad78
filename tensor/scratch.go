package tensor

// scratch is one buffer per worker, for what a tile needs between its operations. Which worker gets which buffer does
// not matter: nothing is kept in one.
type scratch struct {
	free chan []float32
	size int // of each
}

// Reserve makes the scratch memory of each worker at least n values long. Layers call it while they are set up.
func (d *Device) Reserve(n int) {
	s := &d.scratch
	if n <= s.size {
		return
	}
	s.size = n
	s.free = make(chan []float32, d.Workers())
	for range d.Workers() {
		s.free <- make([]float32, n)
	}
}

// Scratch borrows a buffer of n values, not cleared; n must have been reserved. A tile gives it back with Return.
func (d *Device) Scratch(n int) []float32 {
	if n > d.scratch.size {
		panic("tensor: more scratch memory than was reserved")
	}
	if n == 0 {
		return nil
	}
	return <-d.scratch.free
}

// Return gives back what Scratch lent.
func (d *Device) Return(buf []float32) {
	if buf != nil {
		d.scratch.free <- buf
	}
}
