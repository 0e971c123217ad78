package bert

import (
	"math"

	"netfusion/kernels/activation"
	"netfusion/kernels/embedding"
	"netfusion/kernels/layernorm"
	"netfusion/tensor"
)

// embedJob sets x to the embeddings, layer 0: the normalised sum of each token's word, position and type. A tile is a few
// tokens.
type embedJob struct {
	s *Session
	x tensor.Tensor
}

const embedRows = 8 // of a tile: some microseconds of work

func (s *Session) embed(x tensor.Tensor) {
	s.embeddings.x = x
	s.dev.Run(&s.embeddings, (x.Rows+embedRows-1)/embedRows)
}

func (j *embedJob) Tile(i int) {
	s, m := j.s, j.s.m
	r, end := i*embedRows, min((i+1)*embedRows, j.x.Rows)
	x := j.x.Slice(r, end)
	if m.words.I8 != nil {
		embedding.I8Rows(x.Data, m.words.I8, m.words.Scale, s.ids[r:end], x.Cols)
	} else {
		embedding.F32(x.Data, m.words.F32, s.ids[r:end], x.Cols)
	}
	embedding.Add(x.Data, m.positions, s.places[r:end], x.Cols)
	embedding.Add(x.Data, m.types, s.types[r:end], x.Cols)
	layernorm.F32(x.Data, x.Data, nil, m.norm.gamma, m.norm.beta, x.Rows, x.Cols, m.Config.Epsilon)
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

// poolJob turns the states of each text's tokens into its embedding; a tile is one text.
type poolJob struct {
	s      *Session
	dst    []float32 // [texts][Hidden]
	states tensor.Tensor
}

func (s *Session) pool(dst []float32, states tensor.Tensor) {
	s.pooling.dst, s.pooling.states = dst, states
	s.dev.Run(&s.pooling, len(s.starts)-1)
	s.pooling.dst = nil // the caller's
}

func (j *poolJob) Tile(i int) {
	s, n := j.s, j.states.Cols
	s.r.pool(j.dst[i*n:][:n], j.states.Slice(int(s.starts[i]), int(s.starts[i+1])))
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
