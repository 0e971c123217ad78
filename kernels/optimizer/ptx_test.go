package optimizer_test

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/optimizer"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, optimizer.PTX) }

func TestPTXAdamHasTheCPUsBits(t *testing.T) {
	k := Load(t, optimizer.PTX, "optimizer_adam")
	const scale = 0.7
	for _, n := range []int{1, 255, 256, 700} {
		for _, amsgrad := range []bool{false, true} {
			p, m, v := Normals(1, n, 1), Normals(2, n, 0.1), make([]float32, n)
			var peak []float32
			if amsgrad {
				peak = make([]float32, n)
			}
			ema, wantEMA := slices.Clone(p), slices.Clone(p)
			wantP, wantM, wantV, wantPeak := slices.Clone(p), slices.Clone(m), slices.Clone(v), slices.Clone(peak)
			for step := 1; step <= 3; step++ {
				a := optimizer.Adam{Rate: 1e-3, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Decay: 0.01, Step: step}
				g := Normals(uint64(step)+3, n, 1/float64(step))
				a.Apply(wantP, g, wantM, wantV, wantPeak, scale)
				optimizer.Average(wantEMA, wantP, 0.999)
				k.Run(Size{Up(n, 256)}, Size{256}, p, g, m, v, peak, ema, scalars(a, scale, 0.999), n)
			}
			Equal(t, ema, wantEMA)
			Equal(t, p, wantP)
			Equal(t, m, wantM)
			Equal(t, v, wantV)
			Equal(t, peak, wantPeak)
		}
	}
}

// scalars is the Step of optimizer.cu.
func scalars(a optimizer.Adam, scale float32, ema float64) []float32 {
	s := a.Scalars()
	return append(s[:], scale, float32(1-ema))
}

// The gradient's scale is what brings the norm down to the bound, and 1 below it or without one.
func TestPTXClip(t *testing.T) {
	k := Load(t, optimizer.PTX, "optimizer_clip")
	for _, n := range []int{1, 256, 700} {
		partial, sum := make([]float64, n), 0.0
		for i := range partial {
			partial[i] = float64(i%7) + 0.5
			sum += partial[i]
		}
		norm := math.Sqrt(sum)
		for bound, want := range map[float32]float32{0: 1, 0.25: float32(0.25 / norm), 1e6: 1} {
			steps, got := make([]float32, 3*10), make([]float64, 1)
			k.Run(Size{1}, Size{256}, got, steps, len(steps)/10, partial, n, bound)
			if math.Abs(got[0]-norm) > 1e-13*norm {
				t.Errorf("n=%d: norm %v, want %v", n, got[0], norm)
			}
			for i, v := range steps {
				if i%10 == 8 && math.Abs(float64(v-want)) > 1e-7*float64(want) || i%10 != 8 && v != 0 {
					t.Errorf("n=%d, bound %v: step %d has %v at %d", n, bound, i/10, v, i%10)
				}
			}
		}
	}
}

func TestPTXClipNeedsItsBarrier(t *testing.T) {
	Needs(t, optimizer.PTX, "optimizer_clip", func(k *Kernel) error {
		return k.Try(Size{1}, Size{256}, make([]float64, 1), make([]float32, 10), 1, []float64{1, 2}, 2, float32(1))
	})
}

func TestPTXSumSquaresIsTheCPUs(t *testing.T) {
	k := Load(t, optimizer.PTX, "optimizer_sum_squares")
	for _, n := range []int{1, 256, 1000, 2100} {
		g, partial := Normals(1, n, 1), make([]float64, 3)
		k.Run(Size{len(partial)}, Size{256}, partial, g, n)
		sum := partial[0] + partial[1] + partial[2]
		if want := optimizer.SumSquares(g); math.Abs(sum-want) > 1e-13*want {
			t.Errorf("n=%d: %v, want %v", n, sum, want)
		}
	}
}

func TestPTXSumSquaresNeedsItsBarrier(t *testing.T) {
	Needs(t, optimizer.PTX, "optimizer_sum_squares", func(k *Kernel) error {
		return k.Try(Size{1}, Size{256}, make([]float64, 1), Normals(1, 600, 1), 600)
	})
}
