package affine_test

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/affine"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, affine.PTX) }

func TestPTXReLUIsTheCPUs(t *testing.T) {
	k := Load(t, affine.PTX, "affine_relu")
	for _, s := range []struct{ images, pixels, cols, ld int }{{1, 1, 1, 1}, {2, 3, 130, 131}, {3, 4, 64, 70}} {
		rows := s.images * s.pixels
		x, dst, want := Normals(1, rows*s.ld, 1), Poison(rows*s.ld), Poison(rows*s.ld)
		scale, offset := Normals(2, s.images*s.cols, 1), Normals(3, s.images*s.cols, 1)
		for i := range s.images {
			at := i * s.pixels * s.ld
			affine.ReLU(want[at:], s.ld, x[at:], s.ld, scale[i*s.cols:], offset[i*s.cols:], s.pixels, s.cols)
		}
		k.Run(Size{rows, Up(s.cols, 128)}, Size{128}, dst, s.ld, x, s.ld, scale, offset, s.cols, s.pixels)
		Near(t, dst, func(i int) (float64, float64) {
			if Poisoned(want[i]) && Poisoned(dst[i]) {
				return float64(want[i]), 0
			}
			return float64(want[i]), 2e-7 * (math.Abs(float64(want[i])) + math.Abs(float64(offset[i/s.ld/s.pixels*s.cols+i%s.ld])))
		})
	}
}

func TestPTXFoldHasTheCPUsBits(t *testing.T) {
	k := Load(t, affine.PTX, "affine_fold")
	for _, n := range []int{1, 128, 301} {
		const images = 2
		mean, invStd, bias := Normals(1, n, 1), Normals(2, n, 1), Normals(3, n, 1)
		for _, bias := range [][]float32{nil, bias} {
			gain, shift := Normals(4, images*n, 1), Normals(5, images*n, 1)
			wantGain, wantShift := slices.Clone(gain), slices.Clone(shift)
			for i := range images {
				affine.Fold(wantGain[i*n:][:n], wantShift[i*n:][:n], mean, invStd, bias)
			}
			k.Run(Size{images, Up(n, 128)}, Size{128}, gain, shift, mean, invStd, bias, n)
			Equal(t, gain, wantGain)
			Equal(t, shift, wantShift)
		}
	}
}

// Columns are permuted, shifted and scaled, and what a null pointer leaves out is left out.
func TestPTXColumns(t *testing.T) {
	k := Load(t, affine.PTX, "affine_columns")
	for _, cols := range []int{1, 129, 300} {
		const rows = 3
		ldx, ldd := cols+2, cols+5
		x, before, scale, after := Normals(1, rows*ldx, 1), Normals(2, cols, 1), Normals(3, cols, 1), Normals(4, cols, 1)
		from := make([]int32, cols)
		for j := range from {
			from[j] = int32((j + cols/2) % cols)
		}
		for mask := range 16 {
			dst, want := Poison(rows*ldd), Poison(rows*ldd)
			args := []any{from, before, scale, after}
			for i := range args {
				if mask>>i&1 == 0 {
					args[i] = Null
				}
			}
			for i := range rows {
				for j := range cols {
					v := x[i*ldx+j]
					if mask&1 != 0 {
						v = x[i*ldx+int(from[j])]
					}
					if mask&2 != 0 {
						v += before[j]
					}
					if mask&4 != 0 {
						v = float32(v * scale[j])
					}
					if mask&8 != 0 {
						v += after[j]
					}
					want[i*ldd+j] = v
				}
			}
			k.Run(Size{rows, Up(cols, 128)}, Size{128}, append(append([]any{dst, ldd, x, ldx}, args...), cols)...)
			Equal(t, dst, want)
		}
	}
}

func TestPTXMixAndAddTakeTheirFactorFromMemory(t *testing.T) {
	mix, add := Load(t, affine.PTX, "affine_mix"), Load(t, affine.PTX, "affine_add")
	factor := []float32{2.5}
	for _, n := range []int{1, 256, 300} {
		x, base := Normals(1, n, 1), Normals(2, n, 1)
		mixed, scaled, added := slices.Clone(x), slices.Clone(x), slices.Clone(base)
		mix.Run(Size{Up(n, 256)}, Size{256}, mixed, base, factor, n)
		mix.Run(Size{Up(n, 256)}, Size{256}, scaled, Null, factor, n)
		add.Run(Size{Up(n, 256)}, Size{256}, added, x, factor, n)
		for i, v := range x {
			if b := base[i]; mixed[i] != b+float32(2.5*(v-b)) || scaled[i] != 2.5*v || added[i] != b+float32(2.5*v) {
				t.Fatalf("n=%d [%d]: %v, %v, %v of %v and %v", n, i, mixed[i], scaled[i], added[i], v, b)
			}
		}
	}
}
