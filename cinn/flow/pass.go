package flow

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// front is what comes before the networks, row by row: the condition, the class part of the density, the linear layer.
type front struct {
	flow *Flow
	dev  *tensor.Device
	rows int

	u      tensor.Tensor // [rows][pooled+Class], standardised condition
	c      tensor.Tensor // [rows][pooled], its text part
	scores tensor.Tensor // [rows][Classes], log N(e; E_k, σ²I) without its constant
	logits tensor.Tensor // [rows][Classes]
	hat    tensor.Tensor // [rows][Class], posterior mean of the class embedding
	e      tensor.Tensor // [rows][Class], the class part of x
	shift  tensor.Tensor // [rows][Latent]

	classes classJob
}

func (p *front) layout(a *tensor.Arena) {
	c, rows := &p.flow.Config, p.rows
	p.u = a.Take(rows, c.inputs())
	p.c = p.u
	if c.Classes > 0 {
		p.c, p.e, p.hat = a.Take(rows, c.pooled()), a.Take(rows, c.Class), a.Take(rows, c.Class)
		p.scores, p.logits = a.Take(rows, c.Classes), a.Take(rows, c.Classes)
	}
	p.shift = a.Take(rows, c.Latent)
}

// pass is the memory and the steps of a Session.
type pass struct {
	front

	input   tensor.Tensor // [rows][features+Class], what the embedder reads: u, or the features of a map beside ê
	embed   tensor.Tensor // [rows][Embed]
	y       tensor.Tensor // [rows][Latent]
	v       tensor.Tensor // [rows][Latent], the residual
	scratch tensor.Tensor // [rows][Latent]
	logdet  []float32     // [rows]

	back   bool // the networks are run on the way from v to z: that tells which is next
	look   mapState
	runner runner
	state  blockState
	job    blockJob
}

func (p *pass) layout(a *tensor.Arena) {
	p.front.layout(a)
	f, c, rows := p.flow, &p.flow.Config, p.rows
	p.input = p.u
	if c.Side > 0 {
		p.input = a.Take(rows, c.features()+c.Class)
		p.look.layout(a, f, min(rows, mapRows))
	}
	p.embed = a.Take(rows, c.Embed)
	p.y, p.v, p.scratch = a.Take(rows, c.Latent), a.Take(rows, c.Latent), a.Take(rows, c.Latent)
	p.logdet = a.Take(1, rows).Data
	p.runner.layout(a, f, rows)
	p.state.layout(a, *c, rows)
}

// condition standardises c [m][Cond] into the text part of u, pulled away from the null condition by guidance. The null
// condition is the mean, which is zero once standardised.
func (p *front) condition(c tensor.Tensor, guidance float32) {
	f := p.flow
	n := f.Config.pooled()
	for i := range c.Rows {
		u := p.u.Row(i)
		f.Config.average(u[:n], c.Row(i))
		for j, v := range u[:n] {
			u[j] = (v - f.mean[j]) * f.inverse[j] * guidance
		}
		if f.Config.Classes > 0 {
			copy(p.c.Row(i), u)
		}
	}
}

// classCondition standardises ê [m][Class] into the class part of u.
func (p *front) classCondition(m int) {
	f := p.flow
	at := f.Config.pooled()
	for i := range m {
		u := p.u.Row(i)[at:]
		for j, v := range p.hat.Row(i) {
			u[j] = (v - f.mean[at+j]) * f.inverse[at+j]
		}
	}
}

// read leaves in p.input what the embedder reads of c [m][Cond], which condition and classCondition have left in p.u.
func (p *pass) read(c tensor.Tensor) {
	config := &p.flow.Config
	if config.Side == 0 {
		return
	}
	p.features(p.input.Slice(0, c.Rows), c)
	for i := range c.Rows {
		copy(p.input.Row(i)[config.features():], p.u.Row(i)[config.pooled():])
	}
}

// forward runs z [m][Latent] to p.v under p.embed and p.u, and leaves the log-determinants of the blocks and of the linear layer in
// p.logdet.
func (p *pass) forward(z tensor.Tensor) {
	f, m := p.flow, z.Rows
	f.linear.forward(&p.front, p.into(0).Slice(0, m), z)
	for i := range p.logdet[:m] {
		p.logdet[i] = f.linear.logdet
	}
	for i := range f.blocks {
		f.blocks[i].forward(p, p.into(i+1), m)
	}
}

// into is where the blocks before block i leave their output: what block i reads, or the residual.
func (p *pass) into(i int) tensor.Tensor {
	if i < len(p.flow.blocks) {
		return p.state.x
	}
	return p.v
}

// inverse runs the residuals in p.v back to z [m][Latent] under p.embed and p.u.
func (p *pass) inverse(z tensor.Tensor) {
	f, m := p.flow, z.Rows
	for i := len(f.blocks) - 1; i >= 0; i-- {
		f.blocks[i].inverse(p, p.into(i+1), m)
	}
	f.linear.inverse(&p.front, z, p.into(0).Slice(0, m))
}

func leakyReLU(x []float32) { activation.LeakyReLU(x, x) }

// affine is the closed-form first layer, x → L⁻¹(x - A·u - b): what a linear-Gaussian model explains. u is standardised.
// Without A, b and L, as Net2Net has it, it is the identity.
type affine struct {
	a, b, l []float32 // A [Latent][Cond+Class], b [Latent], L [Latent][Latent] lower triangular

	white, unwhite tensor.Weight // L⁻¹, L
	whiteA         tensor.Weight // -L⁻¹A
	predict        tensor.Weight // A
	whiteB         []float32     // -L⁻¹b
	logdet         float32       // -Σ log L_ii
}

func (l *affine) forward(p *front, dst, x tensor.Tensor) {
	if l.l == nil {
		copy(dst.Data, x.Data)
		return
	}
	m := x.Rows
	shift := p.shift.Slice(0, m)
	p.dev.MatMul(shift, p.u.Slice(0, m), l.whiteA, matmul.Epilogue{Bias: l.whiteB})
	p.dev.MatMul(dst, x, l.white, matmul.Epilogue{Residual: shift.Data, LdRes: shift.Cols})
}

func (l *affine) inverse(p *front, x, y tensor.Tensor) {
	if l.l == nil {
		copy(x.Data, y.Data)
		return
	}
	m := x.Rows
	shift := p.shift.Slice(0, m)
	p.dev.MatMul(shift, p.u.Slice(0, m), l.predict, matmul.Epilogue{Bias: l.b})
	p.dev.MatMul(x, y, l.unwhite, matmul.Epilogue{Residual: shift.Data, LdRes: shift.Cols})
}
