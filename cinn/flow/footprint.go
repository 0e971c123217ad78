package flow

import (
	kernel "netfusion/kernels/dense"
	"netfusion/tensor"
)

// Footprint is what training takes in memory, known before there is a Flow.
type Footprint struct {
	Parameters int // Values and a Gradient's Values have so many float32
	Beside     int // bytes that a Flow has beside them: the linear layer and what is derived from it, class embeddings, permutations
	Step       int // bytes of what a Gradient keeps of a batch
}

// Footprint computes that for batches of up to rows.
func (c Config) Footprint(rows int, r Regularisation) (Footprint, error) {
	if err := c.Validate(); err != nil {
		return Footprint{}, err
	}
	f, b := layout(c, 0, false)
	var p Footprint
	for _, x := range b.params {
		p.Parameters += x.Len
	}
	for _, x := range f.buffers {
		p.Beside += 4 * len(x.data)
	}
	for _, x := range b.buffers {
		p.Beside += 4 * len(x.data)
	}
	p.Beside += 3 * 4 * (len(f.linear.a) + len(f.linear.l)) // packed in panels of 16, both as they are and inverted
	p.Beside += 2*4*len(f.table.Data) + 8*c.Blocks*c.Latent

	g := &Gradient{regularisation: r}
	g.front = front{flow: f, rows: rows}
	g.ld = columns(rows)
	var count tensor.Arena
	g.layout(&count)
	p.Step = count.Bytes() + 8*(g.ld+len(g.squares))
	return p, nil
}

// columns is the width of a batch that lies the other way round.
func columns(rows int) int { return (rows + kernel.Width - 1) / kernel.Width * kernel.Width }
