package train

import (
	"math"
	"testing"

	"netfusion/kernels/random"
	"netfusion/tensor"
)

func noise(rows, cols int, seed uint64) tensor.Tensor {
	t := tensor.New(rows, cols)
	random.Normal(t.Data, seed, 0, 0, 0)
	return t
}

func TestEigenvaluesAndVectorsMakeTheMatrix(t *testing.T) {
	const n = 12
	g := noise(n, n, 1)
	a := make([]float64, n*n)
	for i := range n {
		for j := range n {
			a[i*n+j] = float64(g.Data[i*n+j]) + float64(g.Data[j*n+i])
		}
	}
	values, vectors := eigen(append([]float64(nil), a...), n)
	for i := range n {
		for j := range n {
			var sum float64
			for k, v := range values {
				sum += v * vectors[k*n+i] * vectors[k*n+j]
			}
			if math.Abs(sum-a[i*n+j]) > 1e-10 {
				t.Fatalf("element %d, %d is %v, want %v", i, j, sum, a[i*n+j])
			}
		}
	}
}

func TestPolarFindsTheRotation(t *testing.T) {
	// A stretched rotation of the plane in three dimensions: [2][3].
	c, s := math.Cos(0.7), math.Sin(0.7)
	rotation := []float64{c, s, 0, 0, 0, 1}
	stretched := []float64{3*c + 0, 3 * s, 1, c, s, 2} // S·R with S = [3 1; 1 2], symmetric and positive
	for k, got := range [][]float64{polar(stretched, 2, 3), transpose(polar(transpose(stretched, 2, 3), 3, 2), 3, 2)} {
		for i, v := range got {
			if math.Abs(v-rotation[i]) > 1e-10 {
				t.Errorf("form %d: element %d is %v, want %v", k, i, v, rotation[i])
			}
		}
	}
}

func TestFrechetDistance(t *testing.T) {
	a := noise(500, 3, 1)
	b := tensor.New(500, 3)
	for i, v := range a.Data {
		b.Data[i] = 2*v + []float32{1, -2, 3}[i%3]
	}
	meanA, covA := gaussian(a)
	meanB, _ := gaussian(b)
	// The covariance of b is 4 times that of a: tr(A + 4A - 2·2A) = tr A.
	var want float64
	for i := range 3 {
		want += (meanA[i]-meanB[i])*(meanA[i]-meanB[i]) + covA[4*i]
	}
	if d := frechet(a, b); math.Abs(d-want) > 1e-5*want {
		t.Errorf("%v, want %v", d, want)
	}
	if d := frechet(a, a); d > 1e-9 {
		t.Errorf("to itself %v", d)
	}
}

func TestPrecisionCountsWhatLiesAmongTheOthers(t *testing.T) {
	real := noise(200, 2, 1)
	inside, outside := tensor.New(100, 2), tensor.New(100, 2)
	for i, v := range inside.Data {
		inside.Data[i] = v + 0.1*real.Data[i]
		outside.Data[i] = 50 + real.Data[i]
	}
	if p, q := within(inside, real), within(outside, real); p != 1 || q != 0 {
		t.Errorf("inside %v, outside %v", p, q)
	}
	if recall := within(real, inside); recall > 0.5 {
		t.Errorf("samples from the middle cover %v of the images", recall)
	}
}

func TestTheMixturesGradientIsThatOfItsLikelihood(t *testing.T) {
	e := &Eval{Device: tensor.CPU(1)}
	defer e.Device.Close()
	m := &mixture{latent: 2, dims: 3, mean: []float32{1, 0, -1}, std: []float32{2, 1, 0.5}}
	x, y := noise(2, 3, 2), noise(2, components*(1+2*3), 3)
	loss := func(y tensor.Tensor) (sum float64) {
		for i := range x.Rows {
			weight, z, class := m.terms(y.Row(i), x.Row(i))
			var joint [components]float64
			for k := range joint {
				joint[k] = weight[k] + z[k] + class[k]
			}
			sum -= logSumExp(joint[:]) / float64(x.Rows)
		}
		return sum
	}
	grad := tensor.Of(y.Rows, y.Cols, append([]float32(nil), y.Data...))
	m.loss(grad, x)
	const h = 1e-2
	for i, v := range y.Data {
		y.Data[i] = v + h
		up := loss(y)
		y.Data[i] = v - h
		down := loss(y)
		y.Data[i] = v
		if want := (up - down) / (2 * h); math.Abs(float64(grad.Data[i])-want) > 1e-3*max(1, math.Abs(want)) {
			t.Errorf("output %d: %v, want %v", i, grad.Data[i], want)
		}
	}
}

func TestCandidatesAreOthersAndNoneTwice(t *testing.T) {
	e := &Eval{Seed: 1}
	seen := map[int]bool{5: true}
	for _, k := range e.pickOthers(5, 20, 19) {
		if seen[k] || k < 0 || k >= 20 {
			t.Fatalf("%d again, or out of range", k)
		}
		seen[k] = true
	}
	// Of equals the right one is found by luck; a better one hides it.
	score := func(v ...float64) func(int) float64 { return func(k int) float64 { return v[k] } }
	for _, c := range []struct {
		n    int
		v    []float64
		want float64
	}{{1, []float64{3, 1, 2}, 1}, {1, []float64{1, 3, 2}, 0}, {3, []float64{1, 3, 2}, 1}, {1, []float64{1, 1, 1}, 1. / 3}, {2, []float64{1, 1, 2}, 0.5}} {
		if got := found([]int{1, 2}, 0, c.n, score(c.v...)); got != c.want {
			t.Errorf("%v: %v of the first %d, want %v", c.v, got, c.n, c.want)
		}
	}
}
