package tensor

import "fmt"

// TensorMap describes a tensor of one to five dimensions in device memory for copies of boxes to shared memory by the tensor memory
// accelerator, which devices have from compute capability 9.0. What is outside of the tensor reads as zero. The innermost dimension
// comes first, and is dense.
type TensorMap struct {
	At      int       // where in Launch.Args its 128 bytes lie, a multiple of 64
	Ptr     DevicePtr // a multiple of 16
	Element int       // bytes of an element: 1, 2 or 4
	Dims    []int     // elements
	Strides []int     // bytes, of all dimensions but the first: multiples of 16
	Box     []int     // elements, at most 256 each; of the first a multiple of 16 bytes, and no more than Swizzle
	// Swizzle is over how many bytes, 32, 64 or 128, a box's rows have their chunks of 16 bytes exchanged in shared memory, so that
	// a column's chunks are in different banks: the number of chunk c of row r there is c xor r%8 for 128, c xor r/2%4 for 64, and
	// c xor r/4%2 for 32. 0: none are.
	Swizzle int
}

// TensorMapBytes is the size of the parameter, which is aligned to 64.
const TensorMapBytes = 128

// Check returns what is wrong with a map for a launch with so many bytes of arguments.
func (m *TensorMap) Check(args int) error {
	fail := func(what string, value int) error {
		return fmt.Errorf("tensor map of dimensions %v, strides %v, box %v: %s %d", m.Dims, m.Strides, m.Box, what, value)
	}
	rank := len(m.Dims)
	switch {
	case m.At < 0 || m.At%64 != 0 || m.At > args-TensorMapBytes:
		return fail("it cannot be at byte", m.At)
	case m.Ptr == 0 || m.Ptr%16 != 0:
		return fail("a bad address", int(m.Ptr))
	case m.Element != 1 && m.Element != 2 && m.Element != 4:
		return fail("elements of bytes", m.Element)
	case rank < 1 || rank > 5 || len(m.Strides) != rank-1 || len(m.Box) != rank:
		return fail("the dimensions do not fit rank", rank)
	case m.Swizzle != 0 && m.Swizzle != 32 && m.Swizzle != 64 && m.Swizzle != 128:
		return fail("a swizzle over bytes", m.Swizzle)
	}
	for i, n := range m.Dims {
		if n < 1 || n > 1<<32 {
			return fail("a bad dimension", n)
		}
		if b := m.Box[i]; b < 1 || b > 256 {
			return fail("a box of", b)
		}
	}
	for _, n := range m.Strides {
		if n <= 0 || n%16 != 0 || n >= 1<<40 {
			return fail("a bad stride", n)
		}
	}
	if n := m.Box[0] * m.Element; n%16 != 0 || m.Swizzle > 0 && n > m.Swizzle {
		return fail("rows of a box of bytes", n)
	}
	return nil
}
