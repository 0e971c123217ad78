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
		half := rows / 2 // in two launches, as of more rows than a grid has
		k.Run(Size{Up(s.cols, 128), rows - half}, Size{128}, dst, s.ld, x, s.ld, scale, offset, half, s.cols, s.pixels)
		if half > 0 {
			k.Run(Size{Up(s.cols, 128), half}, Size{128}, dst, s.ld, x, s.ld, scale, offset, 0, s.cols, s.pixels)
		}
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
			k.Run(Size{Up(n, 128), images}, Size{128}, gain, shift, mean, invStd, bias, n)
			Equal(t, gain, wantGain)
			Equal(t, shift, wantShift)
		}
	}
}
