package quantize

import (
	"math/rand/v2"
	"testing"
)

// Bytes are those of the float32 side.
func BenchmarkConvert(b *testing.B) {
	const rows, cols = 64, 384 // stays in L2
	f := make([]float32, rows*cols)
	for i := range f {
		f[i] = float32(rand.NormFloat64() * 0.04)
	}
	h, q, scale := make([]uint16, len(f)), make([]int8, len(f)), make([]float32, rows)
	u, zero := make([]uint8, len(f)), make([]int32, rows)
	for _, c := range []struct {
		name string
		call func()
	}{
		{"F32ToF16", func() { F32ToF16(h, f) }},
		{"F16ToF32", func() { F16ToF32(f, h) }},
		{"F32ToBF16", func() { F32ToBF16(h, f) }},
		{"BF16ToF32", func() { BF16ToF32(f, h) }},
		{"F32ToI8Rows", func() { F32ToI8Rows(q, scale, f, rows, cols) }},
		{"F32ToU8Rows", func() { F32ToU8Rows(u, cols, scale, zero, f, cols, rows, cols) }},
		{"I8RowsToF32", func() { I8RowsToF32(f, q, scale, rows, cols) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(f)))
			for b.Loop() {
				c.call()
			}
		})
	}
}
