package flow

import (
	"errors"
	"math"

	"netfusion/kernels/activation"
	"netfusion/kernels/coupling"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// Gradient is a trainer's memory: it keeps what a forward pass leaves and works backwards through it by hand. All of it lies in
// one arena, and a step allocates nothing. A Gradient serves one goroutine at a time, and nobody else may use the Flow meanwhile.
type Gradient struct {
	pass   pass
	values []float32 // ∂L/∂parameter, laid out as Flow.Values

	hidden [2]tensor.Tensor   // [rows][widest hidden layer], gradients on their way down
	draw   [2][]tensor.Tensor // of the subnets' outputs
	din    [2]tensor.Tensor   // [rows][half+Embed], of the subnets' inputs
	part   tensor.Tensor      // [rows][half+Embed], the same for a second subnet
	dembed tensor.Tensor      // [rows][Embed]
	dy     tensor.Tensor      // [rows][Latent], of [b' ; a'], then of [b ; a]
	dx     tensor.Tensor      // [rows][Latent], of a block's output, then of its input
	dlogit tensor.Tensor      // [rows][Classes]
	turned tensor.Tensor      // the transpose of a layer's output gradient
	panels tensor.Tensor      // a layer's input, packed
	job    blockBackJob
	slope  slopeJob
	turn   turnJob
	packer packer
}

// Regularisation keeps a small training set from being learnt by heart. Both parts are drawn afresh in every step.
type Regularisation struct {
	Dropout float32 // probability, rounded down to a multiple of 1/256, that a hidden unit is left out
	// Noise is added to the text that the embedder reads, in the text's standard deviations. The linear layer and the
	// class head, which have few ways to over-fit, see the text as it is.
	Noise float32
}

// NewGradient returns a Gradient for batches of up to rows. seed makes the masks and the noise of r.
func (f *Flow) NewGradient(dev *tensor.Device, rows int, r Regularisation, seed uint64) (*Gradient, error) {
	if f.lean {
		return nil, errors.New("flow: a flow that was loaded for sessions cannot be trained")
	}
	if rows < 2 {
		return nil, errors.New("flow: a gradient needs at least two rows")
	}
	if !(r.Dropout >= 0 && r.Dropout <= 0.9) || !(r.Noise >= 0 && r.Noise < 100) {
		return nil, errors.New("flow: dropout must be from 0 to 0.9, and noise from 0 to below 100")
	}
	g := &Gradient{values: make([]float32, len(f.values))}
	g.pass = pass{flow: f, dev: dev, rows: rows, training: true, dropout: float32(math.Floor(float64(r.Dropout)*256)) / 256, noise: r.Noise, seed: seed}
	width, in, out := 0, 0, 0
	g.packer.values = f.values
	f.layers(func(d *dense) {
		d.trainable()
		g.packer.layers = append(g.packer.layers, d)
		width, in, out = max(width, d.in), max(in, d.in), max(out, d.out)
	})
	g.Pack()
	c := &f.Config
	tensor.Plan(func(a *tensor.Arena) {
		g.pass.layout(a)
		for i := range g.hidden {
			g.hidden[i] = a.Take(rows, width)
		}
		for k := range g.din {
			half, changed := halves(c.Latent, k)
			g.din[k] = a.Take(rows, half+c.Embed)
			if c.Dialect == Net2Net {
				g.draw[k] = []tensor.Tensor{a.Take(rows, changed), a.Take(rows, changed)}
			} else {
				g.draw[k] = []tensor.Tensor{a.Take(rows, 2*changed)}
			}
		}
		half, _ := halves(c.Latent, 0)
		g.part = a.Take(rows, half+c.Embed)
		g.dembed, g.dy, g.dx = a.Take(rows, c.Embed), a.Take(rows, c.Latent), a.Take(rows, c.Latent)
		g.dlogit = a.Take(rows, c.Classes)
		g.turned = a.Take(rows, out)
		g.panels = a.Take(1, matmul.PackedLen(in, rows))
	})
	return g, nil
}

// Values is the gradient of the last step, laid out as Flow.Values.
func (g *Gradient) Values() []float32 { return g.values }

// Pack refreshes the packed weights after an optimizer step.
func (g *Gradient) Pack() { g.pass.dev.Run(&g.packer, len(g.packer.layers)) }

// rows checks the shapes of a batch and returns its length.
func (g *Gradient) rows(x, c tensor.Tensor) int {
	f := g.pass.flow
	if x.Rows != c.Rows || x.Rows > g.pass.rows || x.Rows < 2 || x.Cols != f.Config.dims() || c.Cols != f.Config.Cond {
		panic("flow: x or c has the wrong shape")
	}
	return x.Rows
}

// begin splits the batch, conditions the pass on it and returns z.
func (g *Gradient) begin(x, c tensor.Tensor) tensor.Tensor {
	p, m := &g.pass, g.rows(x, c)
	z := g.dx.Slice(0, m)
	p.split(z, x)
	p.condition(c, 1)
	if p.flow.Config.Classes > 0 {
		p.posterior(m)
		p.classCondition(m)
	}
	return z
}

// Initialise sets the ActNorms of the Net2Net dialect from a first batch, block by block. NetFusion needs none.
func (g *Gradient) Initialise(x, c tensor.Tensor) {
	p := &g.pass
	f := p.flow
	if f.Config.Dialect != Net2Net || len(f.blocks) == 0 {
		return
	}
	z := g.begin(x, c)
	m := z.Rows
	p.training = false                                                       // neither dropout nor a step of the running statistics
	f.embedder.forward(p, p.embed.Slice(0, m), p.u.Slice(0, m), &p.embedder) // u without noise
	f.linear.forward(p, p.blocks[0].x.Slice(0, m), z)
	for i := range f.blocks {
		f.blocks[i].initialise(p, &p.blocks[i], m)
		f.blocks[i].forward(p, &p.blocks[i], p.after(i), m)
	}
	p.training = true
}

// Step computes the mean negative log-likelihood in nats of the rows of x [m][Latent+Class] given c [m][Cond], in its two
// parts (see LogProb), and its gradient. step indexes the masks and the noise.
func (g *Gradient) Step(x, c tensor.Tensor, step uint64) (z, class float64) {
	p := &g.pass
	f := p.flow
	p.step = step
	in := g.begin(x, c)
	m := in.Rows
	p.forward(in)
	for r := range m {
		z -= (normalLogProb(p.v.Row(r)) + float64(p.logdet[r])) / float64(m)
	}
	if f.Config.Classes > 0 {
		class = g.classes(m)
	}

	weight := 1 / float32(m)
	d := g.dx.Slice(0, m)
	for i, v := range p.v.Slice(0, m).Data {
		d.Data[i] = v * weight
	}
	clear(g.dembed.Data)
	for i := len(f.blocks) - 1; i >= 0; i-- {
		f.blocks[i].backward(g, &p.blocks[i], m)
	}
	f.embedder.backward(g, tensor.Tensor{}, g.dembed.Slice(0, m), p.read.Slice(0, m), &p.embedder)
	return z, class
}

// classes adds the class head: its loss and its gradient. ∂/∂logits of -log p is the prior less the posterior.
func (g *Gradient) classes(m int) (loss float64) {
	p := &g.pass
	f := p.flow
	logits, d := p.logits.Slice(0, m), g.dlogit.Slice(0, m)
	f.head.forward(p, logits, p.c.Slice(0, m), &p.head)
	for r := range m {
		l, s := logits.Row(r), p.scores.Row(r)
		logp, prior, joint := f.classLogProb(l, s)
		loss -= logp / float64(m)
		for k, v := range l {
			d.Row(r)[k] = float32((math.Exp(float64(v)-prior) - math.Exp(float64(v)+float64(s[k])-joint)) / float64(m))
		}
	}
	f.head.backward(g, tensor.Tensor{}, d, p.c.Slice(0, m), &p.head)
	return loss
}

// weights writes the gradients of a layer from dy [m][out] and its input x [m][in]: dW = dyᵀ·x and db = Σ dy.
func (g *Gradient) weights(l *dense, dy, x tensor.Tensor) {
	m := x.Rows
	g.turn = turnJob{
		dy: dy, x: x, turned: tensor.Of(l.out, m, g.turned.Data[:l.out*m]), panels: g.panels.Data[:matmul.PackedLen(l.in, m)], bias: g.values[l.b:][:l.out],
	}
	g.pass.dev.Run(&g.turn, 1+(l.out+turnCols-1)/turnCols)
	g.pass.dev.MatMul(tensor.Of(l.out, l.in, g.values[l.w:][:l.out*l.in]), g.turn.turned, tensor.Weight{N: l.in, K: m, Panels: g.turn.panels}, matmul.Epilogue{})
}

// turnJob brings both operands of a weight gradient into the order of a product: tile 0 packs x, the others transpose
// dy and sum its columns.
type turnJob struct {
	dy, x, turned tensor.Tensor
	panels, bias  []float32
}

const turnCols = 16 // a cache line of every row

func (j *turnJob) Tile(tile int) {
	if tile == 0 {
		matmul.PackT(j.panels, j.x.Data, j.x.Cols, j.x.Rows)
		return
	}
	c0 := (tile - 1) * turnCols
	c1 := min(c0+turnCols, j.dy.Cols)
	m := j.dy.Rows
	bias := j.bias[c0:c1]
	clear(bias)
	out := j.turned.Data[c0*m : c1*m]
	for i := range m {
		for k, v := range j.dy.Row(i)[c0:c1] {
			out[k*m+i] = v
			bias[k] += v
		}
	}
}

// slopeJob multiplies a gradient by the slope of LeakyReLU and by the dropout mask. h is what the two left: its sign is that of
// the input, and where dropout made it zero the mask is zero too.
type slopeJob struct {
	d, h, mask tensor.Tensor
}

// slopes are those of LeakyReLU by the sign bit: signs are as good as random, so a branch would be taken wrongly half the time.
var slopes = [2]float32{1, activation.Slope}

func (j *slopeJob) Tile(tile int) {
	r0, r1 := span(tile, j.d.Rows)
	w := j.d.Cols
	d, h := j.d.Data[r0*w:r1*w], j.h.Data[r0*w:r1*w]
	for i, v := range h {
		d[i] *= slopes[math.Float32bits(v)>>31]
	}
	if j.mask.Data != nil {
		for i, k := range j.mask.Data[r0*w : r1*w] {
			d[i] *= k
		}
	}
}

// backward turns g.dx from the gradient of the block's output into that of its input, adds to g.dembed and writes the gradients
// of the block's parameters.
func (b *block) backward(g *Gradient, st *blockState, m int) {
	g.job = blockBackJob{g: g, block: b, state: st, rows: m}
	g.job.run(backLast)
	b.subnetsBack(g, st, 1, m)
	g.job.run(backFirst)
	b.subnetsBack(g, st, 0, m)
	g.job.run(backNorm)

	// The ActNorm: ∂/∂loc = Σ dh·scale, ∂/∂scale = Σ dh·(x + loc), and -1/scale from the log-determinant.
	p := &g.pass
	n := p.flow.Config.Latent
	loc, scale := p.flow.values[b.loc:][:n], p.flow.values[b.scale:][:n]
	dloc, dscale := g.values[b.loc:][:n], g.values[b.scale:][:n]
	clear(dloc)
	clear(dscale)
	for i := range m {
		xi := st.x.Row(i)
		for j, v := range g.dx.Row(i) {
			dloc[j] += v
			dscale[j] += float32(v * (xi[j] + loc[j]))
		}
	}
	for j, s := range scale {
		dloc[j] *= s
		dscale[j] -= 1 / s
	}
	for i := range m {
		d := g.dx.Row(i)
		for j := range d {
			d[j] *= scale[j]
		}
	}
}

// subnetsBack runs the subnets of coupling k backwards, from g.draw[k] to g.din[k].
func (b *block) subnetsBack(g *Gradient, st *blockState, k, m int) {
	in, din := st.in[k].Slice(0, m), g.din[k].Slice(0, m)
	for i := range b.nets[k] {
		d := din
		if i > 0 {
			d = tensor.Of(m, din.Cols, g.part.Data[:len(din.Data)])
		}
		b.nets[k][i].backward(g, d, g.draw[k][i].Slice(0, m), in, &st.net[k][i])
		if i > 0 {
			for j, v := range d.Data {
				din.Data[j] += v
			}
		}
	}
}

// blockBackJob is the backward twin of blockJob.
type blockBackJob struct {
	g     *Gradient
	block *block
	state *blockState
	rows  int
	phase backPhase
}

type backPhase uint8

const (
	backLast  backPhase = iota // output → [b' ; a'] → through a' = a·exp(s) + t
	backFirst                  // through b' = b·exp(s) + t
	backNorm                   // [b ; a] → h = [a ; b]
)

func (j *blockBackJob) run(phase backPhase) {
	j.phase = phase
	j.g.pass.dev.Run(j, tiles(j.rows))
}

func (j *blockBackJob) Tile(tile int) {
	r0, r1 := span(tile, j.rows)
	g, st := j.g, j.state
	n := g.pass.flow.Config.Latent
	na, nb := n-n/2, n/2
	switch j.phase {
	case backLast:
		for r := r0; r < r1; r++ {
			dy := g.dy.Row(r)
			for i, v := range g.dx.Row(r) {
				dy[j.block.perm[i]] = v
			}
		}
		j.couple(1, r0, r1-r0, nb, st.h.Data[r0*n:])
	case backFirst:
		j.gather(1, r0, r1, 0, nb)
		j.couple(0, r0, r1-r0, 0, st.h.Data[r0*n+na:])
	case backNorm:
		j.gather(0, r0, r1, nb, na)
		for r := r0; r < r1; r++ {
			dy, dx := g.dy.Row(r), g.dx.Row(r)
			copy(dx[:na], dy[nb:])
			copy(dx[na:], dy[:nb])
		}
	}
}

// couple goes back through coupling k, whose part of dy begins at column at and whose input is x.
func (j *blockBackJob) couple(k, r0, m, at int, x []float32) {
	g, st := j.g, j.state
	c := &g.pass.flow.Config
	n, w := c.Latent, st.s[k].Cols
	raw, t, ld := scaleShift(g.draw[k])
	coupling.Backward(g.dy.Data[r0*n+at:], n, raw[r0*ld:], t[r0*ld:], ld, x, n, st.s[k].Data[r0*w:], -1/float32(j.rows), c.Clamp,
		m, w, g.pass.scratch.Data[r0*n:][:n])
}

// gather adds what coupling k's subnets left in din: w columns to those of dy from at, the rest to the embedding's gradient.
func (j *blockBackJob) gather(k, r0, r1, at, w int) {
	g := j.g
	for r := r0; r < r1; r++ {
		din, dy, de := g.din[k].Row(r), g.dy.Row(r)[at:], g.dembed.Row(r)
		for i, v := range din[:w] {
			dy[i] += v
		}
		for i, v := range din[w:] {
			de[i] += v
		}
	}
}
