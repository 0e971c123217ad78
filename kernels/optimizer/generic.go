package optimizer

import "math"

// These are the definition of right; the lengths have been checked.

func (c *constants) adamGeneric(p, g, m, v []float32) {
	for i, gi := range g {
		gi *= c.scale
		mi := float32(c.b1*m[i]) + float32(c.c1*gi)
		vi := float32(c.b2*v[i]) + float32(c.c2*float32(gi*gi))
		m[i], v[i] = mi, vi
		s := float32(math.Sqrt(float64(vi)))
		p[i] = float32(p[i]*c.keep) - float32(c.rate*mi)/(float32(s*c.root)+c.eps)
	}
}

func (c *constants) amsgradGeneric(p, g, m, v, peak []float32) {
	for i, gi := range g {
		gi *= c.scale
		mi := float32(c.b1*m[i]) + float32(c.c1*gi)
		vi := float32(c.b2*v[i]) + float32(c.c2*float32(gi*gi))
		top := max(peak[i], vi)
		m[i], v[i], peak[i] = mi, vi, top
		s := float32(math.Sqrt(float64(top)))
		p[i] = float32(p[i]*c.keep) - float32(c.rate*mi)/(float32(s*c.root)+c.eps)
	}
}

func averageGeneric(ema, p []float32, c float32) {
	for i, v := range p {
		ema[i] += float32(c * (v - ema[i]))
	}
}

// sumSquaresGeneric adds g[i]² to sums[i%32].
func sumSquaresGeneric(sums *[32]float64, g []float32) {
	for ; len(g) >= 32; g = g[32:] {
		for i, v := range g[:32] {
			sums[i] += float64(float64(v) * float64(v))
		}
	}
	for i, v := range g {
		sums[i] += float64(float64(v) * float64(v))
	}
}
