// Package matmul multiplies matrices by weights that were packed once into panels: F32, BF16 and I8.
//
// Letters: x is [m][k], W is [n][k] ("out, in", as in PyTorch's Linear), dst is [m][n].
//
// A panel holds 16 outputs: w[(j/16)·16k + 16p + j%16] = W[j][p], that is [ceil(n/16)][k][16], zero where
// j >= n. One step of k thus reads one cache line per panel, in order, and no form needs a tail in n
// except when it stores.
//
// Decisions. Every output is one chain of multiply-adds over k in order, started at the bias, so a result
// does not depend on m, on the tiling, or on how [0, n) is split over workers; the price is that k is never
// split over accumulators, which costs nothing once a tile holds 8 or more of them. The vector forms fuse
// each multiply-add and give the same bits as each other; the generic form rounds the product as well,
// since math.FMA is slow where the processor lacks it, so it differs from them in the last bits.
//
// The GPU form is matmul.cu, which reads weights that are not packed.
package matmul

import (
	"unsafe"

	"netfusion/kernels/activation"
)

// Width is the number of outputs in a panel.
const Width = 16

// Columns is how many outputs are computed together where x has m rows: a product is best split at multiples of it.
func Columns(m int) int { return columns(m) }

// Act is the function applied to each output after the bias.
type Act uint8

const (
	None      Act = iota
	GELU          // x·Φ(x), with Φ by erf
	Tanh          // tanh x
	LeakyReLU     // x, or 0.01·x below zero
	ReLU          // x, or 0 below zero
)

// Apply computes the function of each value of x in place.
func (a Act) Apply(x []float32) {
	switch a {
	case GELU:
		activation.GELU(x, x)
	case Tanh:
		activation.Tanh(x, x)
	case LeakyReLU:
		activation.LeakyReLU(x, x)
	case ReLU:
		activation.ReLU(x, x)
	}
}

// Epilogue is what is done to each output after the product. A nil *Epilogue does nothing.
type Epilogue struct {
	Bias     []float32 // [n], or nil
	Act      Act
	Residual []float32 // [m][n] with row stride LdRes, added after Act, or nil; may be dst itself
	LdRes    int

	// Next is memory that will be read next, such as the weights of the product that follows: its beginning comes into the
	// cache while the last outputs are computed, so that the memory does not idle in between. It may be nil.
	Next []byte
}

// Bytes views packed weights as Epilogue.Next wants them.
func Bytes[T float32 | uint16 | int8](w []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), len(w)*int(unsafe.Sizeof(*new(T))))
}

// F32 computes, for 0 <= i < m and j0 <= j < j1,
//
//	dst[i*ldd+j] = act(Σ_p x[i*ldx+p]·W[j][p] + bias[j]) + residual[i*LdRes+j]
//
// where w is the packed W [n][k] (see Pack). j0 and j1 must each be a multiple of 16 or n; workers share a
// product by splitting [0, n), best in multiples of Columns(m). Rows of x may overlap (ldx < k), so a convolution can
// slide along its input. dst must not overlap x or w.
func F32(dst []float32, ldd int, x []float32, ldx int, w []float32, m, n, k, j0, j1 int, e *Epilogue) {
	if !begin(ldd, len(dst), m, n, k, j0, j1, e) {
		return
	}
	if ldx < 0 || len(x) < (m-1)*ldx+k {
		panic("matmul: x too short")
	}
	if len(w) < PackedLen(n, k) {
		panic("matmul: w too short")
	}
	if e == nil {
		e = &none
	}
	multiplyF32(dst, ldd, x, ldx, w, m, k, j0, j1, e)
}

var none Epilogue // never written

// begin checks what all precisions have in common, and tells whether there is anything to do.
func begin(ldd, lenDst, m, n, k, j0, j1 int, e *Epilogue) bool {
	if m < 0 || n < 0 || k < 0 || j0 < 0 || j1 < j0 || j1 > n {
		panic("matmul: bad size")
	}
	if j0%Width != 0 && j0 != n || j1%Width != 0 && j1 != n {
		panic("matmul: j0 or j1 not at a panel")
	}
	if m == 0 || j0 == j1 {
		return false
	}
	if ldd < n || lenDst < (m-1)*ldd+j1 {
		panic("matmul: dst too short")
	}
	if e != nil && e.Bias != nil && len(e.Bias) < n {
		panic("matmul: bias too short")
	}
	if e != nil && e.Residual != nil && (e.LdRes < n || len(e.Residual) < (m-1)*e.LdRes+j1) {
		panic("matmul: residual too short")
	}
	return true
}

// finish applies the rest of e to one row of outputs, j0 <= j < j0+len(sum), whose sums (with the bias)
// are in sum, and stores them in dst. sum and dst may be the same slice.
func (e *Epilogue) finish(dst, sum []float32, i, j0 int) {
	e.Act.Apply(sum)
	if e.Residual != nil {
		r := e.Residual[i*e.LdRes+j0:][:len(sum)]
		d := dst[:len(sum)]
		for j, s := range sum {
			d[j] = s + r[j]
		}
	}
}

// store finishes one row of sums and puts it into dst. sum is spoilt.
func (e *Epilogue) store(dst, sum []float32, i, j0 int) {
	if e.Residual == nil {
		copy(dst, sum)
		sum = dst
	}
	e.finish(dst, sum, i, j0)
}
