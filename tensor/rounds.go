package tensor

import (
	"unsafe"

	"netfusion/kernels/matmul"
	"netfusion/kernels/quantize"
)

// rounds is rows of one operand of a product in the precision of the other, for a tile that rounds what it multiplies:
// one of the three.
type rounds struct {
	f32  []float32
	bf16 []uint16
	u8   matmul.Uint8
	ld   int
}

// size is how many float32 take the memory of so many rows of k values.
func (p Precision) size(rows, k int) int {
	switch p {
	case BF16:
		return rows * roundUp(k, 2) / 2
	case Int8:
		return rows * (roundUp(k, 4)/4 + 2) // and a scale and a zero point
	}
	return rows * k
}

// rounds views buf, of p.size(rows, k) values, as so many rows.
func (p Precision) rounds(buf []float32, rows, k int) rounds {
	switch p {
	case BF16:
		ld := roundUp(k, 2)
		return rounds{bf16: unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(buf))), rows*ld), ld: ld}
	case Int8:
		ld := roundUp(k, 4)
		q, scale, zero := buf[2*rows:], buf[:rows], buf[rows:2*rows]
		return rounds{u8: matmul.Uint8{
			Q:     unsafe.Slice((*uint8)(unsafe.Pointer(unsafe.SliceData(q))), rows*ld),
			Ld:    ld,
			Scale: scale,
			Zero:  unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(zero))), rows),
		}, ld: ld}
	}
	return rounds{f32: buf, ld: k}
}

// from returns the rows of k values that begin at value i. They cannot be int8, which has scales for the rows that were asked for.
func (r *rounds) from(i, k int) rounds {
	if r.bf16 != nil {
		return rounds{bf16: r.bf16[i:], ld: k}
	}
	return rounds{f32: r.f32[i:], ld: k}
}

// round writes the rows of x, [m][k], to those from row on.
func (r *rounds) round(p Precision, row int, x []float32, m, k int) {
	if p == Int8 {
		quantize.F32ToU8Rows(r.u8.Q[row*r.ld:], r.ld, r.u8.Scale[row:], r.u8.Zero[row:], x, k, m, k)
		return
	}
	if k == r.ld {
		quantize.F32ToBF16(r.bf16[row*k:][:m*k], x)
		return
	}
	for i := range m {
		dst := r.bf16[(row+i)*r.ld:][:r.ld]
		quantize.F32ToBF16(dst[:k], x[i*k:][:k])
		clear(dst[k:])
	}
}

// Bytes is the memory that w takes.
func (w *Weight) Bytes() int {
	n := roundUp(w.N, matmul.Width)
	switch w.Precision {
	case BF16:
		return 2 * n * roundUp(w.K, 2)
	case Int8:
		return n * (roundUp(w.K, 4) + 8) // and a scale and a sum for each output
	}
	return 4 * n * w.K
}

// multiply computes m rows of dst in the columns [j0, j1).
func (w *Weight) multiply(dst []float32, ldd int, x *rounds, m, j0, j1 int, e *matmul.Epilogue) {
	switch w.Precision {
	case BF16:
		matmul.BF16(dst, ldd, x.bf16, x.ld, w.bf16, m, w.N, w.K, j0, j1, e)
	case Int8:
		matmul.I8(dst, ldd, x.u8, w.int8, m, w.N, w.K, j0, j1, e)
	default:
		matmul.F32(dst, ldd, x.f32, x.ld, w.Panels, m, w.N, w.K, j0, j1, e)
	}
}
