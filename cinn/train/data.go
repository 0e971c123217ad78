package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sort"
	"sync"

	"netfusion/cinn/flow"
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

	once sync.Once
	sums []float64 // of the pairs' weights
}

// Pair says that a caption describes an image.
type Pair struct {
	Caption, Image int
	Group          int     // pairs of one concept share it; see flow.Fit
	Weight         float64 // how often it is drawn, relative to the others; above 0
}

// Len is how many pairs there are.
func (d *Data) Len() int { return len(d.Pairs) }

// Pick draws by the pairs' weights.
func (d *Data) Pick(_, _ uint64, u float64) int {
	sums := d.weights()
	return min(sort.SearchFloat64s(sums, u*sums[len(sums)-1]), len(sums)-1)
}

// weights returns the sums of the weights up to each pair.
func (d *Data) weights() []float64 {
	d.once.Do(func() {
		d.sums = make([]float64, len(d.Pairs))
		var sum float64
		for i, p := range d.Pairs {
			sum += p.Weight
			d.sums[i] = sum
		}
	})
	return d.sums
}

// Read copies pair i.
func (d *Data) Read(i int, r *Row) {
	p := &d.Pairs[i]
	copy(r.Cond, d.Cond.Row(p.Caption))
	copy(r.Mean, d.Mean.Row(p.Image))
	copy(r.Std, d.Std.Row(p.Image))
	r.Group, r.Weight = p.Group, p.Weight
	if d.Class != nil {
		r.Class = d.Class[p.Image]
	}
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
