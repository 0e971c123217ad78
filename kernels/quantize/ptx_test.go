package quantize_test

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/quantize"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, quantize.PTX) }

var shapes = []struct{ rows, cols, ldx, ldq int }{{1, 1, 1, 2}, {3, 31, 33, 32}, {5, 128, 128, 128}, {2, 300, 301, 304}}

func TestPTXBF16HasTheCPUsBits(t *testing.T) {
	k := Load(t, quantize.PTX, "quantize_bf16")
	for _, s := range shapes {
		x := Normals(1, s.rows*s.ldx, 1)
		copy(x, []float32{math.Float32frombits(0x3f808000), math.Float32frombits(0x3f818000), math.MaxFloat32, float32(math.Inf(-1)), 0x1p-140})
		q, want := make([]uint16, s.rows*s.ldq), make([]uint16, s.rows*s.ldq)
		for i := range q {
			q[i] = 0xbeef
		}
		for i := range s.rows {
			quantize.F32ToBF16(want[i*s.ldq:][:s.cols], x[i*s.ldx:][:s.cols])
		}
		k.Run(Size{s.rows, Up(s.ldq, 128)}, Size{128}, q, s.ldq, x, s.ldx, s.cols)
		if !slices.Equal(q, want) {
			t.Errorf("%v: %x, want %x", s, q, want)
		}
	}
}

func TestPTXU8RowsHaveTheCPUsBits(t *testing.T) {
	k := Load(t, quantize.PTX, "quantize_u8_rows")
	for _, s := range shapes {
		for _, shift := range []float32{0, 10, -10} { // values of both signs, and of one only
			x := Normals(1, s.rows*s.ldx, 1)
			for i := range x {
				x[i] += shift
			}
			clear(x[:s.cols]) // a row of zeros
			q, want := make([]uint8, s.rows*s.ldq), make([]uint8, s.rows*s.ldq)
			for i := range q {
				q[i] = 0xee
			}
			scale, zero, wantScale, wantZero := Poison(s.rows), make([]int32, s.rows), Poison(s.rows), make([]int32, s.rows)
			quantize.F32ToU8Rows(want, s.ldq, wantScale, wantZero, x, s.ldx, s.rows, s.cols)
			k.Run(Size{Up(s.rows, 4)}, Size{128}, q, s.ldq, scale, zero, x, s.ldx, s.rows, s.cols)
			if !slices.Equal(q, want) || !slices.Equal(zero, wantZero) {
				t.Errorf("%v: %v zero %v, want %v zero %v", s, q, zero, want, wantZero)
			}
			Equal(t, scale, wantScale)
		}
	}
}

func TestPTXPixels(t *testing.T) {
	k := Load(t, quantize.PTX, "quantize_pixels")
	for _, n := range []int{1, 300} {
		const ldx = 4
		x, dst := Normals(1, n*ldx, 1), make([]uint32, n)
		copy(x, []float32{-1, float32(math.NaN()), 0.99999994})
		k.Run(Size{Up(n, 256)}, Size{256}, dst, x, ldx, n)
		for i, pixel := range dst {
			var want uint32
			for c, v := range x[i*ldx:][:3] {
				if v := 128 * (v + 1); v > 0 {
					want |= uint32(min(v, 255)) << (8 * c)
				}
			}
			if want |= 255 << 24; pixel != want {
				t.Fatalf("pixel %d of %v is %x, want %x", i, x[i*ldx:][:3], pixel, want)
			}
		}
	}
}
