package flow

import (
	"math"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// The class part of the density. With the table E [Classes][Class] and the noise σ,
//
//	log p(x|c) = log Σ_k p(k|c) N(e; E_k, σ²I) + log p(z | c, ê(e))    p(k|c) = softmax(head(c))
//
// where ê(e) = Σ_k p(k|e) E_k, under a flat prior on k, is a fixed function of e: so the density is exact.

// classJob works out, for some rows to a tile, scores = log N(e; E_k, σ²I) without its constant, and ê.
type classJob struct {
	front *front
	rows  int
}

// posterior reads p.e and leaves p.scores and p.hat.
func (p *front) posterior(m int) {
	f := p.flow
	p.dev.MatMul(p.scores.Slice(0, m), p.e.Slice(0, m), f.tableT, matmul.Epilogue{Bias: f.halfNorm})
	p.classes = classJob{p, m}
	p.dev.Run(&p.classes, tiles(m))
}

// near is how far below the best class, in nats, a class's own distance is worked out in full: in the others, whose weight is
// below e^-near, the cancellation in |e|² - 2e·E + |E|² does not matter.
const near = 100

func (j *classJob) Tile(tile int) {
	p := j.front
	f := p.flow
	half := 0.5 / float64(f.Config.ClassNoise*f.Config.ClassNoise)
	r0, r1 := span(tile, j.rows)
	for r := r0; r < r1; r++ {
		e, hat, scores := p.e.Row(r), p.hat.Row(r), p.scores.Row(r)
		var square float64
		for _, v := range e {
			square += float64(float64(v) * float64(v))
		}
		best := math.Inf(-1)
		for k, v := range scores {
			s := (2*float64(v) - square) * half
			scores[k] = float32(s)
			best = max(best, s)
		}
		top := math.Inf(-1)
		for k, v := range scores {
			if float64(v) > best-near {
				s := -half * distance(e, f.table.Row(k))
				scores[k] = float32(s)
				top = max(top, s)
			}
		}
		var total float64
		for _, v := range scores {
			if float64(v) > top-near {
				total += math.Exp(float64(v) - top)
			}
		}
		clear(hat)
		for k, v := range scores {
			if float64(v) > top-near {
				w := float32(math.Exp(float64(v)-top) / total)
				for i, t := range f.table.Row(k) {
					hat[i] += float32(w * t)
				}
			}
		}
	}
}

// distance is the squared Euclidean distance, in two interleaved sums: one alone would wait for each addition.
func distance(a, b []float32) float64 {
	var s0, s1 float64
	for ; len(a) >= 2 && len(b) >= 2; a, b = a[2:], b[2:] {
		d0, d1 := float64(a[0]-b[0]), float64(a[1]-b[1])
		s0 += float64(d0 * d0)
		s1 += float64(d1 * d1)
	}
	for i, v := range a {
		d := float64(v - b[i])
		s0 += float64(d * d)
	}
	return s0 + s1
}

// classLogProb returns log Σ_k p(k|c) N(e; E_k, σ²I) of one row, and the logarithms of the two sums behind it: of exp(logits)
// and of exp(logits)·N.
func (f *Flow) classLogProb(logits, scores []float32) (logp, prior, joint float64) {
	a, b := math.Inf(-1), math.Inf(-1)
	for k, v := range logits {
		a, b = max(a, float64(v)), max(b, float64(v)+float64(scores[k]))
	}
	var sa, sb float64
	for k, v := range logits {
		sa += math.Exp(float64(v) - a)
		sb += math.Exp(float64(v) + float64(scores[k]) - b)
	}
	prior, joint = a+math.Log(sa), b+math.Log(sb)
	return joint - prior - f.Config.classConstant(), prior, joint
}

// classConstant is what a Gaussian of the classes' noise is divided by, as a logarithm.
func (c Config) classConstant() float64 {
	return float64(c.Class) * (halfLog2Pi + math.Log(float64(c.ClassNoise)))
}

const halfLog2Pi = 0.91893853320467274178

// pick draws a class by inverse distribution from softmax(logits/temperature) with the uniform u in (0, 1); temperature 0 is
// the most probable class.
func pick(logits []float32, temperature, u float32) int {
	best := 0
	for k, v := range logits {
		if v > logits[best] {
			best = k
		}
	}
	if temperature <= 0 {
		return best
	}
	weight := func(v float32) float64 { return math.Exp(float64(v-logits[best]) / float64(temperature)) }
	var total float64
	for _, v := range logits {
		total += weight(v)
	}
	left := float64(u) * total
	for k, v := range logits {
		if left -= weight(v); left < 0 {
			return k
		}
	}
	return best
}

// SetClasses stores the class embeddings, [Classes][Class], and what is derived from them.
func (f *Flow) SetClasses(table tensor.Tensor) {
	if table.Rows != f.Config.Classes || table.Cols != f.Config.Class {
		panic("flow: class table has the wrong shape")
	}
	copy(f.table.Data, table.Data)
	f.packClasses()
}

func (f *Flow) packClasses() {
	if f.Config.Classes == 0 {
		return
	}
	f.tableT = tensor.NewWeight(f.table.Data, f.table.Rows, f.table.Cols)
	f.halfNorm = make([]float32, f.table.Rows)
	zero := make([]float32, f.table.Cols)
	for k := range f.halfNorm {
		f.halfNorm[k] = float32(-0.5 * distance(f.table.Row(k), zero))
	}
}

// ClassEmbedding returns row k of the class table, [Class]. It must not be written to.
func (f *Flow) ClassEmbedding(k int) []float32 { return f.table.Row(k) }
