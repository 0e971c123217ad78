// Package quantize converts between float32 and the compact forms in which weights are stored: IEEE binary16 (f16),
// bfloat16 (bf16), and int8 with one float32 scale per row.
//
// Half-precision values travel as their bit patterns in uint16. Conversions to a narrower form round to nearest, ties
// to even. A NaN stays a NaN of the same sign (made quiet, payload cut to fit).
//
// The GPU form of what rounds activations is quantize.cu, with the same bits.
package quantize

// F16ToF32 widens binary16 to float32: dst[i] = src[i]. Exact. Lengths must be equal.
func F16ToF32(dst []float32, src []uint16) {
	if len(dst) != len(src) {
		panic("quantize: F16ToF32: len(dst) != len(src)")
	}
	for i, h := range src {
		dst[i] = f32FromF16(h)
	}
}

// BF16ToF32 widens bfloat16 to float32: dst[i] = src[i]. Exact. Lengths must be equal.
func BF16ToF32(dst []float32, src []uint16) {
	if len(dst) != len(src) {
		panic("quantize: BF16ToF32: len(dst) != len(src)")
	}
	widenBF16(dst, src)
}

// F32ToF16 rounds float32 to binary16. Magnitudes of 65520 and above become infinite. Lengths must be equal.
func F32ToF16(dst []uint16, src []float32) {
	if len(dst) != len(src) {
		panic("quantize: F32ToF16: len(dst) != len(src)")
	}
	for i, f := range src {
		dst[i] = f16FromF32(f)
	}
}

// F32ToBF16 rounds float32 to bfloat16. Lengths must be equal.
func F32ToBF16(dst []uint16, src []float32) {
	if len(dst) != len(src) {
		panic("quantize: F32ToBF16: len(dst) != len(src)")
	}
	narrowBF16(dst, src)
}

// BF16 rounds one float32 to bfloat16.
func BF16(f float32) uint16 { return bf16FromF32(f) }

// F32ToU8Rows quantises each row of activations to uint8: x[r][c] ≈ scale[r]·(q[r][c] - zero[r]), where scale[r] spreads 255 steps
// over the range of the row and 0 (which so is exact), and zero[r] is the step of 0. q is [rows][ldq], x is [rows][ldx]; the
// ldq-cols values behind each row of q are set to 0. A row that holds an infinity or a NaN is lost: its scale is a NaN. One whose
// values are all below 10⁻³⁶ in magnitude counts as zeros.
func F32ToU8Rows(q []uint8, ldq int, scale []float32, zero []int32, x []float32, ldx, rows, cols int) {
	if rows < 0 || cols < 0 || ldq < cols || ldx < cols {
		panic("quantize: bad size")
	}
	if rows == 0 {
		return
	}
	if len(q) < rows*ldq || len(x) < (rows-1)*ldx+cols || len(scale) < rows || len(zero) < rows {
		panic("quantize: q, x, scale or zero too short")
	}
	for r := range rows {
		row := q[r*ldq:][:ldq]
		scale[r], zero[r] = quantizeU8Row(row[:cols], x[r*ldx:][:cols])
		clear(row[cols:])
	}
}

// I8RowsToF32 dequantises: dst[r][c] = scale[r]·q[r][c].
// dst and q are [rows][cols], scale is [rows].
func I8RowsToF32(dst []float32, q []int8, scale []float32, rows, cols int) {
	checkRows(len(dst), len(q), len(scale), rows, cols)
	for r := range rows {
		widenI8(dst[r*cols:][:cols], q[r*cols:][:cols], scale[r])
	}
}

// F32ToI8Rows quantises each row symmetrically: scale[r] = max|src[r]|/127, q[r][c] = src[r][c]/scale[r] rounded, so q
// is within ±127 and the error of a value is at most scale[r]/2. A row of zeros has scale 0.
// q and src are [rows][cols], scale is [rows]. Values must be finite: a row that holds an infinity or a NaN is lost.
func F32ToI8Rows(q []int8, scale, src []float32, rows, cols int) {
	checkRows(len(src), len(q), len(scale), rows, cols)
	for r := range rows {
		scale[r] = quantizeI8Row(q[r*cols:][:cols], src[r*cols:][:cols])
	}
}

func checkRows(values, q, scale, rows, cols int) {
	if rows < 0 || cols < 0 {
		panic("quantize: negative rows or cols")
	}
	if values != rows*cols || q != rows*cols {
		panic("quantize: matrix is not rows*cols long")
	}
	if scale != rows {
		panic("quantize: len(scale) != rows")
	}
}
