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
		k.Run(Size{rows, Up(s.cols, 128)}, Size{128}, dst, s.ld, x, s.ld, scale, offset, s.cols, s.cols, s.pixels)
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
			ld := n + 5
			gain, shift := Normals(4, images*ld, 1), Normals(5, images*ld, 1)
			wantGain, wantShift := slices.Clone(gain), slices.Clone(shift)
			for i := range images {
				affine.Fold(wantGain[i*ld:][:n], wantShift[i*ld:][:n], mean, invStd, bias)
			}
			k.Run(Size{images, Up(n, 128)}, Size{128}, gain, shift, ld, mean, invStd, bias, n)
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

// A negative column is 0 before what is added to it, and 0 on the way back.
func TestPTXColumnsThatAreLeftOut(t *testing.T) {
	k, back := Load(t, affine.PTX, "affine_columns"), Load(t, affine.PTX, "affine_columns_back")
	const rows, ldx, ldd = 3, 150, 160
	for _, cols := range []int{1, 130} {
		x, scale := Normals(1, rows*ldx, 1), Normals(2, 77, 1)
		from, which, after := make([]int32, cols), make([]int32, cols), Normals(3, cols, 1)
		for j := range from {
			from[j], which[j] = int32((7*j+5)%ldx), int32(j*j%len(scale))
			if j%3 == 2 {
				from[j], which[j] = -1, 1<<30
			}
		}
		dst, d, want, wantD := Poison(rows*ldd), Poison(rows*ldd), Poison(rows*ldd), Poison(rows*ldd)
		for i := range rows {
			for j, c := range from {
				want[i*ldd+j], wantD[i*ldd+j] = after[j], 0
				if c >= 0 {
					v := x[i*ldx+int(c)]
					want[i*ldd+j], wantD[i*ldd+j] = v+after[j], v*scale[which[j]]
				}
			}
		}
		k.Run(Size{rows, Up(cols, 128)}, Size{128}, dst, ldd, x, ldx, from, Null, Null, after, cols)
		back.Run(Size{rows, Up(cols, 128)}, Size{128}, d, ldd, x, ldx, from, scale, which, cols)
		Equal(t, dst, want)
		Equal(t, d, wantD)
	}
}

func TestPTXGather(t *testing.T) {
	k := Load(t, affine.PTX, "affine_columns_gather")
	const rows, ldx, ldd, count = 3, 150, 160, 3
	for _, cols := range []int{1, 130} {
		x, from := Normals(1, rows*ldx, 1), make([]int32, count*cols)
		for j := range from {
			from[j] = int32((7*j + 5) % ldx)
			if j%4 == 3 {
				from[j] = -1
			}
		}
		dst, want := Poison(rows*ldd), Poison(rows*ldd)
		for i := range rows {
			for j := range cols {
				var sum float32
				for c := range count {
					if at := from[c*cols+j]; at >= 0 {
						sum += x[i*ldx+int(at)]
					}
				}
				want[i*ldd+j] = sum
			}
		}
		k.Run(Size{rows, Up(cols, 128)}, Size{128}, dst, ldd, x, ldx, from, count, cols)
		Equal(t, dst, want)
	}
}

func TestPTXColumnsSums(t *testing.T) {
	k := Load(t, affine.PTX, "affine_columns_sums")
	for _, s := range []struct{ rows, n int }{{1, 1}, {9, 31}, {64, 32}, {130, 70}} {
		ldd, ldy := s.n+3, 2*s.n+1
		d, y, scale := Normals(1, s.rows*ldd, 1), Normals(2, s.rows*ldy, 1), Normals(3, s.n, 1)
		from, which := make([]int32, s.n), make([]int32, s.n)
		for j := range from {
			from[j], which[j] = int32(s.n-j), int32(2*j+1)
			if j%5 == 4 {
				from[j], which[j] = -1, 1<<30
			}
		}
		dloc, dscale := Poison(s.n), Poison(s.n)
		k.Run(Size{Up(s.n, 32)}, Size{256}, dloc, dscale, d, ldd, from, y, ldy, which, scale, s.rows, s.n)
		sums := func(j int) (sum, along, size float64) {
			for i := range s.rows {
				v, w := float64(d[i*ldd+int(from[j])]), float64(y[i*ldy+int(which[j])])
				sum, along, size = sum+v, along+v*w, size+math.Abs(v)+math.Abs(v*w)
			}
			return sum, along, size
		}
		Near(t, dloc, func(j int) (float64, float64) {
			if from[j] < 0 {
				return 0, 0
			}
			sum, _, size := sums(j)
			c := float64(scale[j])
			return c * sum, float64(s.rows+4) * 0x1p-24 * size * math.Abs(c)
		})
		Near(t, dscale, func(j int) (float64, float64) {
			if from[j] < 0 {
				return 0, 0
			}
			_, along, size := sums(j)
			c := float64(scale[j])
			return (along - 1) / c, float64(s.rows+4) * 0x1p-24 * (size + 1) / math.Abs(c)
		})
	}
}

func TestPTXColumnsSumsNeedsItsBarrier(t *testing.T) {
	Needs(t, affine.PTX, "affine_columns_sums", func(k *Kernel) error {
		columns := []int32{0, 1, 2, 3}
		x := Normals(1, 20*4, 1)
		return k.Try(Size{1}, Size{256}, Poison(4), Poison(4), x, 4, columns, x, 4, columns, Normals(2, 4, 1), 20, 4)
	})
}
