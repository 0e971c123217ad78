package flow

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// pass is the memory and the steps that a Session and a Gradient share.
type pass struct {
	flow *Flow
	dev  *tensor.Device
	rows int

	sampling   bool    // a Session's: it runs the packed networks, and keeps nothing for gradients
	training   bool    // batch statistics and dropout
	dropout    float32 // probability, a multiple of 1/256
	noise      float32 // on the text that the embedder reads
	seed, step uint64  // of the masks and the noise

	u       tensor.Tensor // [rows][Cond+Class], standardised condition
	read    tensor.Tensor // [rows][Cond+Class], u as the embedder reads it: with noise while training
	c       tensor.Tensor // [rows][Cond], its text part
	scores  tensor.Tensor // [rows][Classes], log N(e; E_k, σ²I) without its constant
	logits  tensor.Tensor // [rows][Classes]
	hat     tensor.Tensor // [rows][Class], posterior mean of the class embedding
	e       tensor.Tensor // [rows][Class], the class part of x
	embed   tensor.Tensor // [rows][Embed]
	shift   tensor.Tensor // [rows][Latent]
	y       tensor.Tensor // [rows][Latent]
	v       tensor.Tensor // [rows][Latent], the residual
	scratch tensor.Tensor // [rows][Latent]
	logdet  []float32     // [rows]

	embedder mlpState // of a Gradient
	head     mlpState // of a Gradient
	runner   runner   // of a Session
	blocks   []blockState
	job      blockJob
	mask     maskJob
	blur     blurJob
	classes  classJob
}

func (p *pass) layout(a *tensor.Arena) {
	f, c, rows := p.flow, &p.flow.Config, p.rows
	dropout := p.dropout > 0
	p.u, p.embed = a.Take(rows, c.inputs()), a.Take(rows, c.Embed)
	p.c, p.read = p.u, p.u
	if p.noise > 0 {
		p.read = a.Take(rows, c.inputs())
	}
	if c.Classes > 0 {
		p.c, p.e, p.hat = a.Take(rows, c.Cond), a.Take(rows, c.Class), a.Take(rows, c.Class)
		p.scores, p.logits = a.Take(rows, c.Classes), a.Take(rows, c.Classes)
	}
	p.shift, p.y, p.v, p.scratch = a.Take(rows, c.Latent), a.Take(rows, c.Latent), a.Take(rows, c.Latent), a.Take(rows, c.Latent)
	p.logdet = a.Take(1, rows).Data
	if !p.sampling {
		p.embedder = f.embedder.layout(a, rows, dropout)
		if c.Classes > 0 {
			p.head = f.head.layout(a, rows, dropout)
		}
	}
	p.blocks = p.blocks[:0]
	for i := range f.blocks {
		if p.sampling && i > 0 {
			p.blocks = append(p.blocks, p.blocks[0])
		} else {
			p.blocks = append(p.blocks, f.blocks[i].layout(a, *c, rows, p.sampling, dropout))
		}
	}
}

// condition standardises c [m][Cond] into the text part of u, pulled away from the null condition by guidance. The null
// condition is the mean, which is zero once standardised.
func (p *pass) condition(c tensor.Tensor, guidance float32) {
	f := p.flow
	for i := range c.Rows {
		u := p.u.Row(i)
		for j, v := range c.Row(i) {
			u[j] = (v - f.mean[j]) * f.inverse[j] * guidance
		}
		if f.Config.Classes > 0 {
			copy(p.c.Row(i), u)
		}
	}
}

// classCondition standardises ê [m][Class] into the class part of u.
func (p *pass) classCondition(m int) {
	f := p.flow
	at := f.Config.Cond
	for i := range m {
		u := p.u.Row(i)[at:]
		for j, v := range p.hat.Row(i) {
			u[j] = (v - f.mean[at+j]) * f.inverse[at+j]
		}
	}
}

// forward runs z [m][Latent] to p.v under the condition in p.u, and leaves the log-determinants of the blocks and of the
// linear layer in p.logdet.
func (p *pass) forward(z tensor.Tensor) {
	f, m := p.flow, z.Rows
	first := p.v
	if len(f.blocks) > 0 {
		first = p.blocks[0].x
	}
	if p.noise > 0 {
		p.blur = blurJob{p, m}
		p.dev.Run(&p.blur, tiles(m))
	}
	if embed := p.embed.Slice(0, m); p.sampling {
		f.embedder.packed.forward(p, embed, p.u.Slice(0, m))
	} else {
		f.embedder.forward(p, embed, p.read.Slice(0, m), &p.embedder)
	}
	f.linear.forward(p, first.Slice(0, m), z)
	for i := range p.logdet[:m] {
		p.logdet[i] = f.linear.logdet
	}
	for i := range f.blocks {
		f.blocks[i].forward(p, &p.blocks[i], p.after(i), m)
	}
}

// after is where block i leaves its output.
func (p *pass) after(i int) tensor.Tensor {
	if i+1 < len(p.blocks) {
		return p.blocks[i+1].x
	}
	return p.v
}

// inverse runs the residuals in p.v back to z [m][Latent] under p.embed and p.u.
func (p *pass) inverse(z tensor.Tensor) {
	f, m := p.flow, z.Rows
	for i := len(f.blocks) - 1; i >= 0; i-- {
		f.blocks[i].inverse(p, &p.blocks[i], p.after(i), m)
	}
	last := p.v
	if len(f.blocks) > 0 {
		last = p.blocks[0].x
	}
	f.linear.inverse(p, z, last.Slice(0, m))
}

func leakyReLU(x []float32) { activation.LeakyReLU(x, x) }

func (p *pass) dropping() bool { return p.training && p.dropout > 0 }

// drop applies a fresh mask to h, which is indexed by step, row and column.
func (p *pass) drop(h, mask tensor.Tensor, stream uint32) {
	p.mask = maskJob{pass: p, h: h, mask: mask, stream: stream}
	p.dev.Run(&p.mask, tiles(h.Rows))
}

type maskJob struct {
	pass    *pass
	h, mask tensor.Tensor
	stream  uint32
}

// Tile masks some rows; a byte of noise decides about each element.
func (j *maskJob) Tile(tile int) {
	p := j.pass
	cut := uint32(p.dropout * 256)
	keep := 256 / float32(256-cut)
	var words [64]uint32
	r0, r1 := span(tile, j.h.Rows)
	for r := r0; r < r1; r++ {
		h, mask := j.h.Row(r), j.mask.Row(r)
		for at := 0; at < len(h); at += 4 * len(words) {
			n := min(4*len(words), len(h)-at)
			random.Words(words[:(n+3)/4], p.seed, j.stream, p.step<<16|uint64(r), at/4)
			for i := range n {
				var k float32
				if words[i/4]>>(i%4*8)&255 >= cut {
					k = keep
				}
				mask[at+i] = k
				h[at+i] *= k
			}
		}
	}
}

// blurJob adds noise to the text part of u, for some rows to a tile.
type blurJob struct {
	pass *pass
	rows int
}

func (j *blurJob) Tile(tile int) {
	p := j.pass
	r0, r1 := span(tile, j.rows)
	for r := r0; r < r1; r++ {
		u, read := p.u.Row(r), p.read.Row(r)
		text := read[:p.flow.Config.Cond]
		random.Normal(text, p.seed, blurStream, p.step<<16|uint64(r), 0)
		for i, v := range text {
			text[i] = u[i] + float32(p.noise*v)
		}
		copy(read[len(text):], u[len(text):])
	}
}

// affine is the closed-form first layer, x → L⁻¹(x - A·u - b): what a linear-Gaussian model explains. u is standardised.
type affine struct {
	a, b, l []float32 // A [Latent][Cond+Class], b [Latent], L [Latent][Latent] lower triangular

	white, unwhite tensor.Weight // L⁻¹, L
	whiteA         tensor.Weight // -L⁻¹A
	predict        tensor.Weight // A
	whiteB         []float32     // -L⁻¹b
	logdet         float32       // -Σ log L_ii
}

func (l *affine) forward(p *pass, dst, x tensor.Tensor) {
	m := x.Rows
	shift := p.shift.Slice(0, m)
	p.dev.MatMul(shift, p.u.Slice(0, m), l.whiteA, matmul.Epilogue{Bias: l.whiteB})
	p.dev.MatMul(dst, x, l.white, matmul.Epilogue{Residual: shift.Data, LdRes: shift.Cols})
}

func (l *affine) inverse(p *pass, x, y tensor.Tensor) {
	m := x.Rows
	shift := p.shift.Slice(0, m)
	p.dev.MatMul(shift, p.u.Slice(0, m), l.predict, matmul.Epilogue{Bias: l.b})
	p.dev.MatMul(x, y, l.unwhite, matmul.Epilogue{Residual: shift.Data, LdRes: shift.Cols})
}
