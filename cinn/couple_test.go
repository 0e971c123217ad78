package cinn

import (
	"math"
	"testing"

	"netfusion/kernels/random"
)

func TestCoupledDrawsFollowTheSecondDistributionAndStayWhereTheyCan(t *testing.T) {
	p, q := []float32{0.5, 0.3, 0.2, 0}, []float32{0.1, 0.4, 0.2, 0.3}
	const n = 40000
	var drawn [4]float64
	stayed := 0.0
	u := make([]float32, 3*n)
	random.Uniform(u, 1, 0, 0, 0)
	for i := range n {
		k, left := 0, u[3*i]
		for left -= p[0]; left >= 0 && k < 2; left -= p[k] {
			k++
		}
		to := couple(k, p, q, [2]float32(u[3*i+1:3*i+3]))
		drawn[to]++
		if to == k {
			stayed++
		}
	}
	for k, want := range q {
		if d := drawn[k]/n - float64(want); math.Abs(d) > 0.012 {
			t.Errorf("class %d is drawn with frequency %v, want %v", k, drawn[k]/n, want)
		}
	}
	if d := stayed/n - 0.6; math.Abs(d) > 0.012 { // Σ min(p, q)
		t.Errorf("%v of the draws stay, want 0.6", stayed/n)
	}
	for k := range p {
		if got := couple(k, q, q, [2]float32{0.999, 0.5}); got != k {
			t.Errorf("class %d becomes %d under the same distribution", k, got)
		}
	}
}
