// Package optimizer updates parameters from gradients, slab by slab.
//
// All slices of a call have one length. The arithmetic is float32 with every product rounded before it is added, so that
// the result does not depend on the platform: square roots and quotients are correctly rounded everywhere, and so the vector forms
// give the same bits as the plain one. Scalars that depend on the step are worked out in float64.
//
// A step reads 16 and writes 12 bytes a parameter, more than a core computes in the time that memory takes for that.
//
// The GPU form, optimizer.cu, gives the same bits, too.
package optimizer

import "math"

// Adam is one step of Adam (Kingma and Ba 2015), of AdamW (Loshchilov and Hutter 2019) where Decay is above 0, and of AMSGrad
// (Reddi et al. 2018) where Apply is given a peak. The zero Step is not valid: steps count from 1.
type Adam struct {
	Rate         float64 // learning rate of this step
	Beta1, Beta2 float64 // decay of the first and the second moment
	Epsilon      float64
	Decay        float64 // decoupled weight decay: p shrinks by Rate·Decay
	Step         int     // 1, 2, …
}

// Apply updates p from the gradient scale·g:
//
//	m ← β₁m + (1-β₁)g    v ← β₂v + (1-β₂)g²    peak ← max(peak, v)
//	p ← p·(1 - Rate·Decay) - Rate·m̂/(sqrt v̂ + ε)
//
// where m̂ = m/(1-β₁^Step) and v̂ = v/(1-β₂^Step), or peak/(1-β₂^Step) unless peak is nil.
func (a Adam) Apply(p, g, m, v, peak []float32, scale float32) {
	if len(g) != len(p) || len(m) != len(p) || len(v) != len(p) || peak != nil && len(peak) != len(p) {
		panic("optimizer: lengths differ")
	}
	if a.Step < 1 {
		panic("optimizer: steps count from 1")
	}
	s := a.Scalars()
	c := constants{scale: scale, b1: s[0], b2: s[1], c1: s[2], c2: s[3], keep: s[4], rate: s[5], root: s[6], eps: s[7]}
	if peak == nil {
		c.adam(p, g, m, v)
	} else {
		c.amsgrad(p, g, m, v, peak)
	}
}

// Scalars is what a step multiplies with, in the order of the GPU's Step (optimizer.cu): β₁, β₂, 1-β₁, 1-β₂, 1-Rate·Decay,
// Rate/(1-β₁^Step), 1/sqrt(1-β₂^Step) and ε.
func (a Adam) Scalars() [8]float32 {
	return [...]float32{
		float32(a.Beta1), float32(a.Beta2), float32(1 - a.Beta1), float32(1 - a.Beta2), float32(1 - a.Rate*a.Decay),
		float32(a.Rate / (1 - math.Pow(a.Beta1, float64(a.Step)))), float32(1 / math.Sqrt(1-math.Pow(a.Beta2, float64(a.Step)))),
		float32(a.Epsilon),
	}
}

// constants are what a step multiplies with.
type constants struct{ scale, b1, c1, b2, c2, keep, rate, root, eps float32 }

// Average moves the exponential moving average ema towards p: ema ← decay·ema + (1-decay)·p.
func Average(ema, p []float32, decay float64) {
	if len(ema) != len(p) {
		panic("optimizer: lengths differ")
	}
	average(ema, p, float32(1-decay))
}

// SumSquares returns Σ g² in float64: in 32 interleaved sums, which are then added in pairs.
func SumSquares(g []float32) float64 {
	var sums [32]float64
	sumSquares(&sums, g)
	for n := len(sums) / 2; n > 0; n /= 2 {
		for i := range n {
			sums[i] += sums[i+n]
		}
	}
	return sums[0]
}
