package matmul

import (
	"unsafe"

	"netfusion/kernels/quantize"
)

// BF16 multiplies bfloat16 matrices: half the memory of float32, and up to twice its rate where the processor multiplies
// pairs of bfloat16 (AVX512_BF16). Values of bfloat16 travel as their bits.
//
// A panel holds 16 outputs, two steps of k side by side: w[(j/16)·16k' + 16p + 2(j%16) + p%2] = W[j][p] for even p, where k' is
// k rounded up to even: [ceil(n/16)][k'/2][16][2], zero beyond n and k. Products of two bfloat16 are exact in float32.

// PackedLenBF16 returns the length of the bfloat16 form of W [n][k].
func PackedLenBF16(n, k int) int { return (n + Width - 1) / Width * Width * even(k) }

func even(k int) int { return (k + 1) &^ 1 }

// PackBF16 rounds w, W [n][k] row-major, to bfloat16, to the nearest, ties to even, and writes its packed form to dst.
func PackBF16(dst []uint16, w []float32, n, k int) {
	if n < 0 || k < 0 {
		panic("matmul: bad size")
	}
	if len(w) < n*k {
		panic("matmul: w too short")
	}
	if len(dst) < PackedLenBF16(n, k) {
		panic("matmul: packed w too short")
	}
	pairs := even(k) / 2
	rows := make([]uint32, Width*pairs) // of one panel, two values each
	for j := 0; j < n; j += Width {
		clear(rows)
		for i := range min(Width, n-j) {
			row := unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(rows[i*pairs:]))), even(k))
			quantize.F32ToBF16(row[:k], w[(j+i)*k:][:k])
		}
		panel := dst[j*even(k):][:Width*even(k)]
		packPanel(unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(panel))), len(panel)/2), rows, pairs)
	}
}

// BF16 computes what F32 does, from x and W rounded to bfloat16, with sums in float32. x is [m][ldx] with ldx at least k rounded
// up to even; where k is odd, the value behind each row is multiplied by zero and must be finite.
func BF16(dst []float32, ldd int, x []uint16, ldx int, w []uint16, m, n, k, j0, j1 int, e *Epilogue) {
	if !begin(ldd, len(dst), m, n, k, j0, j1, e) {
		return
	}
	if ldx < even(k) || len(x) < (m-1)*ldx+even(k) {
		panic("matmul: x too short")
	}
	if len(w) < PackedLenBF16(n, k) {
		panic("matmul: w too short")
	}
	if e == nil {
		e = &none
	}
	multiplyBF16(dst, ldd, x, ldx, w, m, k, j0, j1, e)
}
