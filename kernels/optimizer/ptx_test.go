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
			wantP, wantM, wantV, wantPeak := slices.Clone(p), slices.Clone(m), slices.Clone(v), slices.Clone(peak)
			for step := 1; step <= 3; step++ {
				a := optimizer.Adam{Rate: 1e-3, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Decay: 0.01, Step: step}
				g := Normals(uint64(step)+3, n, 1/float64(step))
				a.Apply(wantP, g, wantM, wantV, wantPeak, scale)
				k.Run(Size{Up(n, 256)}, Size{256}, p, g, m, v, peak, scalars(a, scale), n)
			}
			Equal(t, p, wantP)
			Equal(t, m, wantM)
			Equal(t, v, wantV)
			Equal(t, peak, wantPeak)
		}
	}
}

// scalars is the Step of optimizer.cu.
func scalars(a optimizer.Adam, scale float32) []float32 {
	return []float32{float32(a.Beta1), float32(a.Beta2), float32(1 - a.Beta1), float32(1 - a.Beta2), float32(1 - a.Rate*a.Decay),
		float32(a.Rate / (1 - math.Pow(a.Beta1, float64(a.Step)))), float32(1 / math.Sqrt(1-math.Pow(a.Beta2, float64(a.Step)))),
		float32(a.Epsilon), scale}
}

func TestPTXAverageHasTheCPUsBits(t *testing.T) {
	k := Load(t, optimizer.PTX, "optimizer_average")
	for _, n := range []int{1, 256, 600} {
		ema, p := Normals(1, n, 1), Normals(2, n, 1)
		want := slices.Clone(ema)
		optimizer.Average(want, p, 0.999)
		rest := 1 - 0.999
		k.Run(Size{Up(n, 256)}, Size{256}, ema, p, float32(rest), n)
		Equal(t, ema, want)
	}
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
