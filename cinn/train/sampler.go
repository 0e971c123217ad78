package train

import (
	"fmt"

	"netfusion/cinn/flow"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Source is pairs of a condition and a latent: Data, in memory, or Stored, in a file. Many goroutines may read it at a time.
type Source interface {
	// Len is how many pairs there are.
	Len() int
	// Pick says which pair a trainer takes: it is pair number at of a run with the seed, and u in (0, 1) is drawn for it.
	Pick(seed, at uint64, u float64) int
	// Read copies pair i into r, whose slices have the lengths of the Flow. It allocates nothing.
	Read(i int, r *Row)

	check(c flow.Config) error // tells whether the pairs can train or judge a Flow
	fingerprint() string       // a checksum of all that is read
}

// Row is a pair as Source.Read gives it. The latent is a Gaussian, from which every use draws afresh.
type Row struct {
	Cond      []float32 // [Cond]
	Mean, Std []float32 // [Latent]
	Class     int
	Group     int     // pairs of one concept share it; see flow.Fit
	Weight    float64 // in a mean over pairs
}

// Streams of the noise generator; a row of a batch is sample step·2¹⁶ + row.
const (
	pairStream   = 8 // dimension 0 picks the pair, 1 decides about the null condition
	latentStream = 9 // the noise of z, then of e
)

// sampler draws batches from a Source. Every row is a pure function of (seed, step, row).
type sampler struct {
	source Source
	flow   *flow.Flow
	seed   uint64
	drop   float32 // probability of the null condition

	// The batch being drawn.
	x, c      tensor.Tensor
	mean, std tensor.Tensor
	rows      []Row
	step      uint64
	pairs     []int // [rows] which pair each row is
	fixed     bool  // pairs are given, not drawn
}

func newSampler(d Source, f *flow.Flow, seed uint64, rows int) *sampler {
	c := &f.Config
	s := &sampler{source: d, flow: f, seed: seed, pairs: make([]int, rows), rows: make([]Row, rows)}
	s.x, s.c = tensor.New(rows, c.Latent+c.Class), tensor.New(rows, c.Cond)
	s.mean, s.std = tensor.New(rows, c.Latent), tensor.New(rows, c.Latent)
	for i := range s.rows {
		s.rows[i] = Row{Cond: s.c.Row(i), Mean: s.mean.Row(i), Std: s.std.Row(i)}
	}
	return s
}

// draw fills the batch of a step.
func (s *sampler) draw(dev *tensor.Device, step uint64) (x, c tensor.Tensor) {
	s.step = step
	dev.Run(s, len(s.pairs))
	return s.x, s.c
}

// Tile draws one row.
func (s *sampler) Tile(r int) {
	at := s.step<<16 + uint64(r)
	w := random.Philox([4]uint32{0, uint32(at), uint32(at >> 32), pairStream}, [2]uint32{uint32(s.seed), uint32(s.seed >> 32)})
	if !s.fixed {
		s.pairs[r] = s.source.Pick(s.seed, s.step*uint64(len(s.pairs))+uint64(r), (float64(w[0])+0.5)*0x1p-32)
	}
	row, x := &s.rows[r], s.x.Row(r)
	s.source.Read(s.pairs[r], row)
	random.Normal(x, s.seed, latentStream, at, 0)
	for j, m := range row.Mean {
		x[j] = m + float32(row.Std[j]*x[j])
	}
	if s.flow.Config.Classes > 0 {
		e := x[len(row.Mean):]
		for j, v := range s.flow.ClassEmbedding(row.Class) {
			e[j] = v + float32(e[j]*s.flow.Config.ClassNoise)
		}
	}
	if s.drop > 0 && (float32(w[1]>>8)+0.5)*0x1p-24 < s.drop {
		copy(row.Cond, s.flow.NullCondition())
	}
}

// Fit computes the Flow's closed-form first layer (flow.Flow.Fit) from rows draws of the pairs.
func Fit(f *flow.Flow, d Source, rows int, seed uint64) (flow.Fitted, error) {
	if err := d.check(f.Config); err != nil {
		return flow.Fitted{}, fmt.Errorf("training data: %w", err)
	}
	dev := tensor.CPU(0)
	defer dev.Close()
	s := newSampler(d, f, seed, rows)
	x, c := s.draw(dev, 1<<40) // a step that training never reaches
	group := make([]int, rows)
	for r := range s.rows {
		group[r] = s.rows[r].Group
	}
	return f.Fit(x, c, group)
}
