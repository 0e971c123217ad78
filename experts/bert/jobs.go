package bert

import (
	"math"

	"netfusion/kernels/activation"
	"netfusion/tensor"
)

// layerNorm sets x to the normalised x + residual.
func (s *Session) layerNorm(x, residual tensor.Tensor, n norm) {
	s.dev.LayerNorm(x, x, residual, n.gamma, n.beta, s.m.Config.Epsilon)
}

// geluJob is the approximation of GELU by tanh, in place; a tile is one row.
type geluJob struct {
	s *Session
	x tensor.Tensor
}

func (s *Session) tanhGELU(x tensor.Tensor) {
	s.gelu.x = x
	s.dev.Run(&s.gelu, x.Rows)
}

// Tile computes x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks and Gimpel 2016).
func (j *geluJob) Tile(i int) {
	var t [256]float32
	row := j.x.Row(i)
	for len(row) > 0 {
		x := row[:min(len(row), len(t))]
		for i, v := range x {
			t[i] = float32(math.Sqrt(2/math.Pi)) * (v + float32(0.044715*v*v*v))
		}
		activation.Tanh(t[:], t[:len(x)])
		for i, v := range x {
			x[i] = 0.5 * v * (1 + t[i])
		}
		row = row[len(x):]
	}
}

// pool writes the embedding of one text to dst [Hidden], from its tokens' states x [tokens][Hidden].
func (r Representation) pool(dst []float32, x tensor.Tensor) {
	copy(dst, x.Row(0))
	if r.Pooling == Mean {
		for i := 1; i < x.Rows; i++ {
			for j, v := range x.Row(i) {
				dst[j] += v
			}
		}
		scale := 1 / float32(x.Rows)
		for j := range dst {
			dst[j] *= scale
		}
	}
	if r.Normalize {
		var sum float64
		for _, v := range dst {
			sum += float64(float64(v) * float64(v))
		}
		scale := float32(1 / max(math.Sqrt(sum), 1e-12))
		for j := range dst {
			dst[j] *= scale
		}
	}
}
