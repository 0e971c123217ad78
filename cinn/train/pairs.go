package train

import (
	"netfusion/cinn/pairs"
	"netfusion/tensor"
)

// FromPairs makes the training data of a split: every image as often as any other, with each caption that fits its style
// as often as the caption's weight says.
func FromPairs(s *pairs.Set, c *pairs.Conditions, split pairs.Split) *Data {
	d := newData(s, c)
	for _, i := range s.Rows(split) {
		im := s.Images[i]
		first, end := c.Of(im.Concept)
		var total float64
		for k := first; k < end; k++ {
			if fits(c.Captions[k], im) {
				total += float64(c.Captions[k].Weight)
			}
		}
		for k := first; k < end; k++ {
			if fits(c.Captions[k], im) {
				d.Pairs = append(d.Pairs, Pair{Caption: k, Image: i, Group: im.Concept, Weight: float64(c.Captions[k].Weight) / total})
			}
		}
	}
	return d
}

// Named makes the data that a split is judged by: every image with the bare name of its concept, or with its own condition.
func Named(s *pairs.Set, c *pairs.Conditions, split pairs.Split) *Data {
	d := newData(s, c)
	for _, i := range s.Rows(split) {
		d.Pairs = append(d.Pairs, Pair{Caption: c.For(s.Images[i]), Image: i, Group: s.Images[i].Concept, Weight: 1})
	}
	return d
}

func fits(c pairs.Caption, im pairs.Image) bool {
	return c.Style == pairs.AnyStyle || c.Style == im.Style
}

func newData(s *pairs.Set, c *pairs.Conditions) *Data {
	d := &Data{
		Cond:  tensor.New(len(c.Captions), c.Dim),
		Mean:  tensor.Of(len(s.Images), s.Latent, s.Mean),
		Std:   tensor.Of(len(s.Images), s.Latent, s.Std),
		Class: make([]int, len(s.Images)),
	}
	for i := range c.Captions {
		copy(d.Cond.Row(i), c.Vector(i))
	}
	for i, im := range s.Images {
		d.Class[i] = im.Class
	}
	return d
}
