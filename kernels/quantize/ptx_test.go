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
	check := func(x []float32, rows, cols, ldx, ldq int) {
		t.Helper()
		q, want := make([]uint8, rows*ldq), make([]uint8, rows*ldq)
		for i := range q {
			q[i] = 0xee
		}
		scale, zero, wantScale, wantZero := Poison(rows), make([]int32, rows), Poison(rows), make([]int32, rows)
		for i := range zero {
			zero[i] = -1
		}
		quantize.F32ToU8Rows(want, ldq, wantScale, wantZero, x, ldx, rows, cols)
		k.Run(Size{Up(rows, 4)}, Size{128}, q, ldq, scale, zero, x, ldx, rows, cols)
		if !slices.Equal(q, want) || !slices.Equal(zero, wantZero) {
			t.Errorf("%v: %v zero %v, want %v zero %v", x, q, zero, want, wantZero)
		}
		Equal(t, scale, wantScale)
		if slices.ContainsFunc(scale, Poisoned) {
			t.Errorf("%v: a scale was not written", x)
		}
	}
	for _, s := range shapes {
		for _, shift := range []float32{0, 10, -10} { // values of both signs, and of one only
			x := Normals(1, s.rows*s.ldx, 1)
			for i := range x {
				x[i] += shift
			}
			clear(x[:s.cols]) // a row of zeros
			check(x, s.rows, s.cols, s.ldx, s.ldq)
		}
	}
	// A value for each row that decides on its own, or with a second one, what becomes of the row.
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	const cols, normal = 37, 0x1p-126 * 255 // the least range with a scale
	below := math.Nextafter32(normal, 0)
	for _, second := range []float32{0, 1, -1, -math.MaxFloat32, inf} {
		firsts := []float32{nan, -nan, inf, -inf, math.MaxFloat32, -math.MaxFloat32, 1e-45, -1e-37, normal, below, -normal, -below, 1e-30}
		x := make([]float32, len(firsts)*cols)
		for i, v := range firsts {
			x[i*cols+i], x[(i+1)*cols-1] = v, second
		}
		check(x, len(firsts), cols, cols, 40)
	}
	// Halves, which go to the even neighbour, below a zero point that does the same.
	x := make([]float32, 256)
	for i := range x {
		x[i] = float32(i)/2 - 63.5
	}
	x[255] = 191.5
	check(x, 1, 256, 256, 256)
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
