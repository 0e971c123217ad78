package matmul

import (
	"unsafe"

	"netfusion/kernels/memory"
	"netfusion/kernels/quantize"
)

// Int8 is W [n][k] in int8 with a scale for each output: W[j][p] = Scale[j]·q[j][p]. Four steps of k lie side by side in a panel
// of 16 outputs: Panels is [ceil(n/16)][ceil(k/4)][16][4], zero beyond n and k.
type Int8 struct {
	Panels []int8
	Scale  []float32 // [16·ceil(n/16)], zero beyond n
	Sum    []int32   // [16·ceil(n/16)], Σ_p q[j][p]: what a zero point of the other operand is multiplied by
}

// Uint8 is the other operand: rows of uint8 with a scale and a zero point each, x[i][p] = Scale[i]·(Q[i·Ld+p] - Zero[i]). Ld is
// at least k rounded up to a multiple of 4; what lies behind a row is multiplied by zero. See quantize.F32ToU8Rows.
type Uint8 struct {
	Q     []uint8
	Ld    int
	Scale []float32
	Zero  []int32
}

// maxI8 is the largest k whose sums cannot overflow: 255·127·k < 2³¹.
const maxI8 = 65536

// NewInt8 allocates for W [n][k]; PackI8 fills it.
func NewInt8(n, k int) Int8 {
	padded := (n + Width - 1) / Width * Width
	return Int8{memory.Make[int8](padded * four(k)), make([]float32, padded), make([]int32, padded)}
}

func four(k int) int { return (k + 3) &^ 3 }

// PackI8 quantises w, W [n][k] row-major, a row at a time (quantize.F32ToI8Rows), and packs it. k is at most 65536.
func PackI8(dst Int8, w []float32, n, k int) {
	if n < 0 || k < 0 || k > maxI8 {
		panic("matmul: bad size")
	}
	if len(w) < n*k {
		panic("matmul: w too short")
	}
	dst.check(n, k)
	clear(dst.Scale)
	clear(dst.Sum)
	quads := four(k) / 4
	rows := make([]uint32, Width*quads) // of one panel, four values each
	for j := 0; j < n; j += Width {
		clear(rows)
		for i := range min(Width, n-j) {
			row := unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(rows[i*quads:]))), four(k))[:k]
			quantize.F32ToI8Rows(row, dst.Scale[j+i:][:1], w[(j+i)*k:][:k], 1, k)
			for _, q := range row {
				dst.Sum[j+i] += int32(q)
			}
		}
		panel := dst.Panels[j*four(k):][:Width*four(k)]
		packPanel(unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(panel))), len(panel)/4), rows, quads)
	}
}

func (w *Int8) check(n, k int) {
	padded := (n + Width - 1) / Width * Width
	if len(w.Panels) < padded*four(k) || len(w.Scale) < padded || len(w.Sum) < padded {
		panic("matmul: w too short")
	}
}

// I8 computes what F32 does from quantised operands:
//
//	dst[i][j] = act(float32(Σ_p Q[i][p]·q[j][p] - Zero[i]·Sum[j])·(x.Scale[i]·w.Scale[j]) + bias[j]) + residual[i][j]
//
// The sum is exact and every other operation rounds once, so all forms give the same bits. k is at most 65536.
func I8(dst []float32, ldd int, x Uint8, w Int8, m, n, k, j0, j1 int, e *Epilogue) {
	if k > maxI8 {
		panic("matmul: bad size")
	}
	if !begin(ldd, len(dst), m, n, k, j0, j1, e) {
		return
	}
	if x.Ld < four(k) || len(x.Q) < (m-1)*x.Ld+four(k) || len(x.Scale) < m || len(x.Zero) < m {
		panic("matmul: x too short")
	}
	w.check(n, k)
	if e == nil {
		e = &none
	}
	multiplyI8(dst, ldd, &x, &w, m, k, j0, j1, e)
}
