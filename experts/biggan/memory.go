package biggan

import "netfusion/tensor"

// Memory is how many bytes the weights of a generator of this configuration take in precision p, and a Session for so many
// images at a time on a Device with so many workers, the Device's memory included.
func (c Config) Memory(p tensor.Precision, batch, workers int) (model, session int) {
	norms, channels := c.norms()
	m := &Model{Config: c, channels: channels, rgb: tensor.PlanFilter(p, c.rgb())}
	w := []tensor.Weight{
		{N: 2 * channels, K: c.cond(), Precision: tensor.F32},
		{N: 16 * firstMult * c.Width, K: c.cond(), Precision: p},
	}
	model = m.rgb.Bytes() + w[0].Bytes() + w[1].Bytes()
	values := c.Classes*c.ClassDim + channels + 2*c.statsRows()*(channels+c.Width) + w[1].N + 2*c.Width + 3
	size := firstSize
	for i, l := range c.Layers {
		if c.hasAttention(i) {
			n := l.In * c.Width
			p := precision(p, size)
			a := attention{
				projections: tensor.PointFilter(tensor.Weight{N: n/8 + n/8 + n/2, K: n, Precision: p}),
				output:      tensor.PointFilter(tensor.Weight{N: n, K: n / 2, Precision: p}),
				precision:   p,
			}
			m.attention = &a
			model += a.projections.Bytes() + a.output.Bytes()
		}
		b := block{Layer: l, norms: norms[i]}
		for k, shape := range c.shapes(l, size) {
			b.filters[k] = tensor.PlanFilter(precision(p, size), shape)
			model += b.filters[k].Bytes()
		}
		m.blocks = append(m.blocks, b)
		values += l.Out * c.Width // bias
		if l.Up {
			size *= 2
		}
	}
	var a tensor.Arena
	s := &Session{m: m, batch: batch}
	s.layout(&a)
	return model + 4*values, a.Bytes() + 4*(workers*s.scratch()+2*(channels+c.Width))
}
