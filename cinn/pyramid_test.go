package cinn

import (
	"math"
	"testing"

	"netfusion/kernels/random"
	"netfusion/tensor"
)

// The loss of a pyramid is a quadratic form: differences of any size give its exact gradient.
func TestThePyramidsGradientIsThatOfItsLoss(t *testing.T) {
	i := &inverter{dimage: tensor.New(64, 3)}
	for _, side := range []int{8, 4, 2} {
		i.levels = append(i.levels, level{side, make([]float32, 3*side*side)})
	}
	d := make([]float32, 3*64)
	random.Normal(d, 1, 0, 0, 0)
	loss := func(at int, step float32) (sum float64) {
		copy(i.levels[0].d, d)
		i.levels[0].d[at] += step
		for _, v := range i.pyramid() {
			sum += v
		}
		return sum
	}
	loss(0, 0)
	gradient := append([]float32(nil), i.dimage.Data...)
	for at, got := range gradient {
		want := (loss(at, 0.5) - loss(at, -0.5))
		if math.Abs(float64(got)-want) > 1e-5 {
			t.Fatalf("derivative %d is %v, want %v", at, got, want)
		}
	}
}
