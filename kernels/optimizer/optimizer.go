// Package optimizer updates parameters from gradients, slab by slab.
//
// All slices of a call have one length. The arithmetic is float32 with every product rounded before it is added, so that
// the result does not depend on the platform; scalars that depend on the step are worked out in float64.
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
	var (
		b1, b2 = float32(a.Beta1), float32(a.Beta2)
		c1, c2 = float32(1 - a.Beta1), float32(1 - a.Beta2)
		keep   = float32(1 - a.Rate*a.Decay)
		rate   = float32(a.Rate / (1 - math.Pow(a.Beta1, float64(a.Step))))
		root   = float32(1 / math.Sqrt(1-math.Pow(a.Beta2, float64(a.Step))))
		eps    = float32(a.Epsilon)
	)
	if peak == nil {
		for i, gi := range g {
			gi *= scale
			mi := float32(b1*m[i]) + float32(c1*gi)
			vi := float32(b2*v[i]) + float32(c2*float32(gi*gi))
			m[i], v[i] = mi, vi
			s := float32(math.Sqrt(float64(vi)))
			p[i] = float32(p[i]*keep) - float32(rate*mi)/(float32(s*root)+eps)
		}
		return
	}
	for i, gi := range g {
		gi *= scale
		mi := float32(b1*m[i]) + float32(c1*gi)
		vi := float32(b2*v[i]) + float32(c2*float32(gi*gi))
		top := max(peak[i], vi)
		m[i], v[i], peak[i] = mi, vi, top
		s := float32(math.Sqrt(float64(top)))
		p[i] = float32(p[i]*keep) - float32(rate*mi)/(float32(s*root)+eps)
	}
}

// Average moves the exponential moving average ema towards p: ema ← decay·ema + (1-decay)·p.
func Average(ema, p []float32, decay float64) {
	if len(ema) != len(p) {
		panic("optimizer: lengths differ")
	}
	c := float32(1 - decay)
	for i, v := range p {
		ema[i] += float32(c * (v - ema[i]))
	}
}

// SumSquares returns Σ g², summed in order in float64.
func SumSquares(g []float32) float64 {
	var s0, s1, s2, s3 float64
	for ; len(g) >= 4; g = g[4:] {
		s0 += float64(float64(g[0]) * float64(g[0]))
		s1 += float64(float64(g[1]) * float64(g[1]))
		s2 += float64(float64(g[2]) * float64(g[2]))
		s3 += float64(float64(g[3]) * float64(g[3]))
	}
	for _, v := range g {
		s0 += float64(float64(v) * float64(v))
	}
	return (s0 + s1) + (s2 + s3)
}
