package biggan

import (
	"fmt"
	"math"

	"netfusion/nn"
)

// Truncation chooses the statistics of the normalisations. The caller multiplies z by Value itself.
type Truncation struct {
	Value  float64 // above 0, at most 1; the zero Truncation means 1
	Linear bool    // interpolate linearly; otherwise do what pytorch-pretrained-biggan does
}

func (t Truncation) value() float64 {
	if t.Value == 0 {
		return 1
	}
	return t.Value
}

// rows returns the two of n recorded rows that t falls between, and their weights; the first row is enough where its
// weight is 1.
//
// The reference swaps the two weights, and computes t/step in binary fractions: some multiples of its step of 1/50
// become almost an integer, so that the swap takes the neighbouring row. 0.14, 0.28 and 0.56 use rows 8, 15 and 29;
// 0.58 and 0.94 use rows 28 and 46. Images made by it, and so the pictures that people know, depend on this.
func (t Truncation) rows(n int) (i, j int, wi, wj float64) {
	if n == 1 {
		return 0, 0, 1, 0
	}
	if t.Linear {
		place := t.value() * float64(n-1)
		whole := math.Floor(place + 1e-9)
		i = int(whole)
		wj = max(0, place-whole)
		return i, min(i+1, n-1), 1 - wj, wj
	}
	step := 1 / float64(n-1)
	whole, part := math.Modf(t.value() / step)
	i = min(int(whole), n-1)
	if part == 0 {
		return i, i, 1, 0
	}
	return i, min(i+1, n-1), part, 1 - part
}

// recorded is what the normalisations of all blocks, and the last one, have for each truncation.
type recorded struct {
	means, vars []float32 // [rows][channels]
	rows        int
	eps         float64
}

func readRecorded(w nn.Weights, c *Config) recorded {
	_, channels := c.norms()
	channels += c.Width
	s := recorded{w.F32("norms.means", c.statsRows(), channels), w.F32("norms.vars", c.statsRows(), channels), c.statsRows(), c.Eps}
	for _, v := range s.vars {
		if !(float64(v)+s.eps > 0) {
			w.Fail(fmt.Errorf("tensor %q holds the variance %v", "norms.vars", v))
		}
	}
	return s
}

// statistics writes the mean and 1/√(variance + eps) of every channel at truncation t.
func (s *recorded) statistics(mean, invStd []float32, t Truncation) {
	i, j, wi, wj := t.rows(s.rows)
	n := len(mean)
	mi, mj, vi, vj := s.means[i*n:][:n], s.means[j*n:][:n], s.vars[i*n:][:n], s.vars[j*n:][:n]
	a, b := float32(wi), float32(wj)
	for k := range n {
		mean[k] = float32(mi[k]*a) + float32(mj[k]*b)
		v := float32(vi[k]*a) + float32(vj[k]*b)
		invStd[k] = float32(1 / math.Sqrt(float64(v)+s.eps))
	}
}
