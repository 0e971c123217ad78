package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sort"

	"netfusion/cinn/flow"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Data is pairs of a caption and a latent. A latent is a Gaussian, from which every use draws afresh: so the points of a finite
// set become a density.
type Data struct {
	Cond  tensor.Tensor // [captions][Cond], the embedded captions
	Mean  tensor.Tensor // [images][Latent]
	Std   tensor.Tensor // [images][Latent]
	Class []int         // [images], for a Flow with a class head
	Pairs []Pair
}

// Pair says that a caption describes an image.
type Pair struct {
	Caption, Image int
	Group          int     // pairs of one concept share it; see flow.Fit
	Weight         float64 // how often it is drawn, relative to the others; above 0
}

// check tells whether d can train or judge a Flow of config c.
func (d *Data) check(c flow.Config) error {
	if len(d.Pairs) == 0 {
		return errors.New("no pairs")
	}
	if d.Cond.Cols != c.Cond || d.Mean.Cols != c.Latent || d.Std.Cols != c.Latent || d.Std.Rows != d.Mean.Rows {
		return fmt.Errorf("captions of %d dimensions and latents of %d (deviations: %d), the flow wants %d and %d",
			d.Cond.Cols, d.Mean.Cols, d.Std.Cols, c.Cond, c.Latent)
	}
	if c.Classes > 0 && len(d.Class) != d.Mean.Rows {
		return fmt.Errorf("%d class labels for %d images", len(d.Class), d.Mean.Rows)
	}
	for i, k := range d.Class {
		if c.Classes > 0 && (k < 0 || k >= c.Classes) {
			return fmt.Errorf("image %d is of class %d, the flow has %d", i, k, c.Classes)
		}
	}
	for i, p := range d.Pairs {
		if p.Caption < 0 || p.Caption >= d.Cond.Rows || p.Image < 0 || p.Image >= d.Mean.Rows {
			return fmt.Errorf("pair %d joins caption %d of %d and image %d of %d", i, p.Caption, d.Cond.Rows, p.Image, d.Mean.Rows)
		}
		if !(p.Weight > 0) || math.IsInf(p.Weight, 0) {
			return fmt.Errorf("pair %d has weight %v", i, p.Weight)
		}
	}
	return nil
}

// fingerprint is a checksum of all that training reads.
func (d *Data) fingerprint() string {
	h := sha256.New()
	put := func(v uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
	for _, t := range []tensor.Tensor{d.Cond, d.Mean, d.Std} {
		put(uint64(t.Rows))
		put(uint64(t.Cols))
		row := make([]byte, 4*t.Cols)
		for i := range t.Rows {
			for j, v := range t.Row(i) {
				binary.LittleEndian.PutUint32(row[4*j:], math.Float32bits(v))
			}
			h.Write(row)
		}
	}
	for _, k := range d.Class {
		put(uint64(k))
	}
	for _, p := range d.Pairs {
		put(uint64(p.Caption))
		put(uint64(p.Image))
		put(uint64(p.Group))
		put(math.Float64bits(p.Weight))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Streams of the noise generator; a row of a batch is sample step·2¹⁶ + row.
const (
	pairStream   = 8 // dimension 0 picks the pair, 1 decides about the null condition
	latentStream = 9 // the noise of z, then of e
)

// sampler draws batches from Data. Every row is a pure function of (seed, step, row).
type sampler struct {
	data *Data
	flow *flow.Flow
	seed uint64
	drop float32   // probability of the null condition
	sums []float64 // of the pairs' weights

	// The batch being drawn.
	x, c  tensor.Tensor
	step  uint64
	pairs []int // [rows] which pair each row is
	fixed bool  // pairs are given, not drawn
}

func newSampler(d *Data, f *flow.Flow, seed uint64, rows int) *sampler {
	s := &sampler{data: d, flow: f, seed: seed, sums: make([]float64, len(d.Pairs)), pairs: make([]int, rows)}
	var sum float64
	for i, p := range d.Pairs {
		sum += p.Weight
		s.sums[i] = sum
	}
	s.x, s.c = tensor.New(rows, f.Config.Latent+f.Config.Class), tensor.New(rows, f.Config.Cond)
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
		u := (float64(w[0]) + 0.5) * 0x1p-32 * s.sums[len(s.sums)-1]
		s.pairs[r] = min(sort.SearchFloat64s(s.sums, u), len(s.sums)-1)
	}
	p := s.data.Pairs[s.pairs[r]]
	n := s.flow.Config.Latent
	x, c := s.x.Row(r), s.c.Row(r)
	random.Normal(x, s.seed, latentStream, at, 0)
	mean, std := s.data.Mean.Row(p.Image), s.data.Std.Row(p.Image)
	for j := range n {
		x[j] = mean[j] + float32(std[j]*x[j])
	}
	if s.flow.Config.Classes > 0 {
		e := x[n:]
		for j, v := range s.flow.ClassEmbedding(s.data.Class[p.Image]) {
			e[j] = v + float32(e[j]*s.flow.Config.ClassNoise)
		}
	}
	copy(c, s.data.Cond.Row(p.Caption))
	if s.drop > 0 && (float32(w[1]>>8)+0.5)*0x1p-24 < s.drop {
		copy(c, s.flow.NullCondition())
	}
}

// Fit computes the Flow's closed-form first layer (flow.Flow.Fit) from rows draws of the pairs.
func Fit(f *flow.Flow, d *Data, rows int, seed uint64) (flow.Fitted, error) {
	if err := d.check(f.Config); err != nil {
		return flow.Fitted{}, fmt.Errorf("training data: %w", err)
	}
	dev := tensor.CPU(0)
	defer dev.Close()
	s := newSampler(d, f, seed, rows)
	x, c := s.draw(dev, 1<<40) // a step that training never reaches
	group := make([]int, rows)
	for r, p := range s.pairs {
		group[r] = d.Pairs[p].Group
	}
	return f.Fit(x, c, group)
}
