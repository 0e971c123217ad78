package train

import (
	"math"

	"netfusion/tensor"
)

// Levels are the probabilities of Validation.Quantiles.
var Levels = func() (p []float64) {
	p = append(p, 0.001, 0.005)
	for k := 1; k < 40; k++ {
		p = append(p, float64(k)/40)
	}
	return append(p, 0.995, 0.999)
}()

// calibrator sums up residuals: where a flow is right, they are N(0, I).
type calibrator struct {
	v             tensor.Tensor // [rows][Latent], of the batch
	sums, squares []float64     // [Latent]
	counts        [bins]float64 // of all values
	weight, half  float64
}

// Values beyond the bins count as in the last ones.
const (
	bins     = 1600
	binWidth = 0.01
)

func (c *calibrator) begin() {
	clear(c.sums)
	clear(c.squares)
	c.counts = [bins]float64{}
	c.weight, c.half = 0, 0
}

// add counts row r of the batch with the weight w.
func (c *calibrator) add(r int, w float64) {
	c.weight += w
	for j, x := range c.v.Row(r) {
		v := float64(x)
		c.sums[j] += w * v
		c.squares[j] += w * v * v
		c.half += w * v * v / 2
		c.counts[int(max(0, min(bins-1, math.Floor(v/binWidth)+bins/2)))] += w
	}
}

// result fills all but the likelihoods.
func (c *calibrator) result() *Validation {
	r := &Validation{Half: c.half / c.weight, Std: make([]float32, len(c.sums)), Quantiles: make([]float32, len(Levels))}
	for j := range r.Std {
		mean := c.sums[j] / c.weight
		r.Std[j] = float32(math.Sqrt(max(0, c.squares[j]/c.weight-mean*mean)))
	}
	var below float64
	bin, total := 0, c.weight*float64(len(c.sums))
	for k, p := range Levels {
		for bin < bins-1 && below+c.counts[bin] < p*total {
			below += c.counts[bin]
			bin++
		}
		within := 0.5
		if c.counts[bin] > 0 {
			within = (p*total - below) / c.counts[bin]
		}
		r.Quantiles[k] = float32((float64(bin-bins/2) + within) * binWidth)
	}
	return r
}

// normalQuantile is Φ⁻¹(p).
func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }
