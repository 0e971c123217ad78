package coupling_test

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/coupling"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, coupling.PTX) }

// couplings are rows, values and the matrices' strides.
var couplings = []struct{ rows, n, ldy, ldx, ldr int }{{1, 1, 1, 1, 1}, {2, 31, 31, 40, 62}, {5, 32, 33, 32, 64}, {6, 201, 201, 203, 410}}

const alpha = 1.9

// close allows 1e-6 of a value, and of 1: about ten roundings.
func close(want []float32) func(i int) (float64, float64) {
	return func(i int) (float64, float64) { return float64(want[i]), 1e-6 * (1 + math.Abs(float64(want[i]))) }
}

func compare(t *testing.T, got, want []float32, rows, n, ld int) {
	t.Helper()
	for i := range rows {
		Near(t, got[i*ld:][:n], close(want[i*ld:]))
		for j, v := range got[i*ld+n : (i+1)*ld] {
			if !Poisoned(v) {
				t.Fatalf("row %d: wrote %d behind it", i, j)
			}
		}
	}
}

func TestPTXForwardInverseAndBackwardAreTheCPUs(t *testing.T) {
	forward, inverse := Load(t, coupling.PTX, "coupling_forward"), Load(t, coupling.PTX, "coupling_inverse")
	backward := Load(t, coupling.PTX, "coupling_backward")
	for _, c := range couplings {
		x, raw, shift := Normals(1, c.rows*c.ldx, 1), Normals(2, c.rows*c.ldr, 2), Normals(3, c.rows*c.ldr, 1)
		y, s, logdet := Poison(c.rows*c.ldy), Poison(c.rows*c.n), Normals(4, c.rows, 1)
		wantY, wantS, wantLogdet := Poison(len(y)), Poison(len(s)), slices.Clone(logdet)
		scratch, grid, block := make([]float32, c.n), Size{Up(c.rows, 4)}, Size{128}
		coupling.Clamp(wantS, raw, c.rows, c.n, c.ldr, alpha)
		coupling.Forward(wantY, c.ldy, x, c.ldx, wantS, shift, c.ldr, wantLogdet, c.rows, c.n, scratch)
		forward.Run(grid, block, y, c.ldy, x, c.ldx, raw, shift, c.ldr, s, logdet, c.rows, c.n, float32(alpha))
		compare(t, y, wantY, c.rows, c.n, c.ldy)
		compare(t, s, wantS, c.rows, c.n, c.n)
		Near(t, logdet, func(i int) (float64, float64) { return float64(wantLogdet[i]), 1e-6 * float64(1+c.n) })

		again := Poison(len(y))
		forward.Run(grid, block, again, c.ldy, x, c.ldx, raw, shift, c.ldr, Null, logdet, c.rows, c.n, float32(alpha))
		Equal(t, again, y)

		back, wantBack := Poison(len(x)), Poison(len(x))
		coupling.Inverse(wantBack, c.ldx, y, c.ldy, wantS, shift, c.ldr, c.rows, c.n, scratch)
		inverse.Run(grid, block, back, c.ldx, y, c.ldy, raw, shift, c.ldr, c.rows, c.n, float32(alpha))
		for i := range c.rows {
			Near(t, back[i*c.ldx:][:c.n], func(j int) (float64, float64) {
				// The subtraction of t loses what it has above the result.
				lost := (math.Abs(float64(y[i*c.ldy+j])) + math.Abs(float64(shift[i*c.ldr+j]))) * math.Exp(-float64(s[i*c.n+j]))
				return float64(x[i*c.ldx+j]), 1e-6 * (1 + lost)
			})
		}

		d, draw, dt := Normals(5, c.rows*c.ldy, 1), Poison(c.rows*c.ldr), Poison(c.rows*c.ldr)
		for i := range d {
			if i%c.ldy >= c.n {
				d[i] = Poison(1)[0]
			}
		}
		wantD, wantDraw, wantDt := slices.Clone(d), Poison(len(draw)), Poison(len(dt))
		coupling.Backward(wantD, c.ldy, wantDraw, wantDt, c.ldr, x, c.ldx, wantS, -0.5, alpha, c.rows, c.n, scratch)
		backward.Run(grid, block, d, c.ldy, draw, dt, c.ldr, x, c.ldx, s, c.rows, c.n, float32(-0.5), float32(alpha))
		compare(t, d, wantD, c.rows, c.n, c.ldy)
		compare(t, dt, wantDt, c.rows, c.n, c.ldr)
		compare(t, draw, wantDraw, c.rows, c.n, c.ldr)
	}
}

func TestPTXLoss(t *testing.T) {
	k := Load(t, coupling.PTX, "coupling_loss")
	const weight = 0.125
	for _, s := range []struct{ rows, n int }{{1, 1}, {5, 32}, {6, 70}} {
		ldd, ldy := s.n+1, 2*s.n+3
		y, logdet, from := Normals(1, s.rows*ldy, 1), Normals(2, s.rows, 3), make([]int32, s.n)
		for j := range from {
			from[j] = int32(2*j + 1)
			if j%4 == 3 {
				from[j] = -1
			}
		}
		loss, d, want := Poison(s.rows), Poison(s.rows*ldd), Poison(s.rows*ldd)
		sums := make([]float64, s.rows)
		for i := range s.rows {
			for j, c := range from {
				want[i*ldd+j] = 0
				if c >= 0 {
					v := y[i*ldy+int(c)]
					want[i*ldd+j] = v * weight
					sums[i] += float64(v) * float64(v) / 2
				}
			}
		}
		for _, d := range [][]float32{d, nil} {
			k.Run(Size{Up(s.rows, 4)}, Size{128}, loss, d, ldd, y, ldy, from, logdet, s.rows, s.n, float32(weight))
			Near(t, loss, func(i int) (float64, float64) {
				return sums[i] - float64(logdet[i]), 1e-6 * (1 + sums[i] + math.Abs(float64(logdet[i])))
			})
		}
		Equal(t, d, want)
	}
}

func TestPTXLogScales(t *testing.T) {
	k := Load(t, coupling.PTX, "coupling_log_scales")
	for _, n := range []int{1, 256, 700} {
		scale, sum, want := Normals(1, n, 2), make([]float64, 1), 0.0
		for _, v := range scale {
			want += math.Log(math.Abs(float64(v)))
		}
		k.Run(Size{1}, Size{256}, sum, scale, n)
		if !(math.Abs(sum[0]-want) <= 2e-7*float64(n)*(1+math.Abs(want)/float64(n))) {
			t.Errorf("n=%d: %v, want %v", n, sum[0], want)
		}
	}
}

func TestPTXLogScalesNeedTheirBarrier(t *testing.T) {
	Needs(t, coupling.PTX, "coupling_log_scales", func(k *Kernel) error {
		return k.Try(Size{1}, Size{256}, make([]float64, 1), Normals(1, 300, 1), 300)
	})
}
