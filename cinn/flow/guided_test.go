package flow

import (
	"math"
	"testing"

	"netfusion/tensor"
)

func TestRestoreUndoesResidualUnderAnyGuidance(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 9
		f := trained(t, c)
		x, cond, v := normal(m, c.dims(), 1), normal(m, c.Cond, 2), tensor.New(m, c.Latent)
		s := session(t, f, 4, 2)
		for _, g := range []float32{1, 2.5} {
			s.Residual(v, x, cond, g)
			back := tensor.New(m, c.dims())
			for i := range m {
				copy(back.Row(i)[c.Latent:], x.Row(i)[c.Latent:])
			}
			s.Restore(back, v, cond, tensor.Tensor{}, g)
			agrees(t, "z", back, x, 1e-3)
		}
		plain := tensor.New(m, c.Latent)
		s.Forward(plain, nil, x, cond)
		guided := tensor.New(m, c.Latent)
		s.Residual(guided, x, cond, 1)
		agrees(t, "the residual without guidance", guided, plain, 0)
		if s.Residual(guided, x, cond, 3); guided.Data[0] == plain.Data[0] {
			t.Error("guidance changes nothing")
		}
	})
}

// Sample is: draw noise and a class, then Restore.
func TestTheGuidedResidualOfAGuidedSampleIsItsNoise(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 9
		f := trained(t, c)
		cond, x, v, w := normal(m, c.Cond, 2), tensor.New(m, c.dims()), tensor.New(m, c.Latent), tensor.New(m, c.Latent)
		s := session(t, f, 4, 2)
		s.Sample(x, cond, Draw{Seed: 1, Temperature: 0.5, Guidance: 2})
		s.Residual(v, x, cond, 2)
		s.Sample(x, normal(m, c.Cond, 3), Draw{Seed: 1, Temperature: 0.5, Guidance: 2})
		s.Residual(w, x, normal(m, c.Cond, 3), 2)
		agrees(t, "noise under another condition", v, w, 1e-3)
	})
}

func TestAClassMeanThatIsGivenReplacesThePosterior(t *testing.T) {
	c := small["class"]
	f := trained(t, c)
	const m = 5
	x, cond, v := normal(m, c.dims(), 1), normal(m, c.Cond, 2), normal(m, c.Latent, 3)
	s := session(t, f, 4, 1)
	hat := tensor.New(m, c.Class)
	s.ClassMeans(hat, x)
	want, got := tensor.New(m, c.dims()), tensor.New(m, c.dims())
	for i := range m {
		copy(want.Row(i)[c.Latent:], x.Row(i)[c.Latent:])
		copy(got.Row(i)[c.Latent:], x.Row(i)[c.Latent:])
	}
	s.Restore(want, v, cond, tensor.Tensor{}, 1.5)
	s.Restore(got, v, cond, hat, 1.5)
	agrees(t, "x with its own class mean", got, want, 0)
	clear(hat.Data)
	if s.Restore(got, v, cond, hat, 1.5); got.Data[0] == want.Data[0] {
		t.Error("another class mean changes nothing")
	}
}

func TestClassDrawIsWhatSampleDrawsFrom(t *testing.T) {
	c := small["class"]
	f := trained(t, c)
	const m = 4000
	cond := normal(1, c.Cond, 2)
	all, x := tensor.New(m, c.Cond), tensor.New(m, c.dims())
	for i := range m {
		copy(all.Row(i), cond.Data)
	}
	s := session(t, f, 64, 2)
	d := Draw{Seed: 5, Temperature: 0.8, Guidance: 1.5, Snap: true}
	s.Sample(x, all, d)
	p := tensor.New(1, c.Classes)
	s.ClassDraw(p, cond, d)
	count := make([]float64, c.Classes)
	for i := range m {
		for k := range count {
			if x.Row(i)[c.Latent] == f.ClassEmbedding(k)[0] {
				count[k]++
			}
		}
	}
	for k, n := range count {
		want := float64(p.Data[k])
		if math.Abs(n/m-want) > 5*math.Sqrt(want*(1-want)/m)+1e-3 {
			t.Errorf("class %d is drawn with frequency %v, want %v", k, n/m, want)
		}
	}
}

func agrees(t *testing.T, what string, got, want tensor.Tensor, tolerance float64) {
	t.Helper()
	for i, v := range got.Data {
		if d := math.Abs(float64(v - want.Data[i])); !(d <= tolerance*max(1, math.Abs(float64(want.Data[i])))) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, v, want.Data[i])
		}
	}
}
