package flow

import (
	"errors"
	"math"

	kernel "netfusion/kernels/dense"
	"netfusion/kernels/memory"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Gradient is a trainer's memory: it keeps what a forward pass leaves and works backwards through it by hand. All of it lies in
// one arena, and a step allocates nothing. A Gradient serves one goroutine at a time, and nobody else may use the Flow meanwhile.
//
// Weights are read, and their gradients written, where they lie in Values: there is no packed copy. For that the networks run on
// a batch that lies the other way round, [features][ld]: one feature to a row and one sample to a column (see package dense).
// Columns from the batch's size on hold a sample that nobody asked for; sums over the batch leave them out.
type Gradient struct {
	front
	values  []float32 // ∂L/∂parameter, laid out as Flow.Values
	squares []float64 // sums of squares of the strips of all matrices

	regularisation Regularisation
	seed, step     uint64 // of the masks and the noise
	frozen         bool   // as a Session computes: no dropout, no noise, and BatchNorm by its running averages
	ld, m          int    // columns, of which m are the batch

	z, x  tensor.Tensor // [rows][Latent], what the linear layer reads, and what it makes of that
	noisy tensor.Tensor // [rows][Cond+Class], u with noise; of a vector condition

	maps  mapGradient
	given tensor.Tensor // [features+Class][ld], the condition as the embedder reads it
	embed tensor.Tensor // [Embed][ld]
	text  tensor.Tensor // [pooled][ld], the condition as the class head reads it
	score tensor.Tensor // [Classes][ld], its logits, and in their place their gradient
	v     tensor.Tensor // [Latent][ld], the residual
	loss  []float64     // [ld], -log p(z) of each sample

	embedder mlpTrace
	head     mlpTrace
	blocks   []blockTrace

	hidden [2]tensor.Tensor // [widest layer][ld], gradients on their way down
	draw   [2]tensor.Tensor // [outputs][ld], of the outputs of a coupling's subnets
	din    [2]tensor.Tensor // [half+Embed][ld], of the inputs of each coupling's subnets
	dembed tensor.Tensor    // [Embed][ld]
	dgiven tensor.Tensor    // [features+Class][ld]; of a map
	dy     tensor.Tensor    // [Latent][ld], of [b' ; a'], then of [b ; a]
	dx     tensor.Tensor    // [Latent][ld], of a block's output, then of its input
	turned []float32        // a layer's input as its weights' gradient reads it

	layer     layerJob
	norm      normJob
	block     coupleJob
	transpose transposeJob
	blur      blurJob
	residual  lossJob
}

// Copy returns a Flow of the same weights, which nobody packs until a Session runs it.
func (f *Flow) Copy() (*Flow, error) {
	if f.lean {
		return nil, errors.New("flow: a flow that was loaded for sessions cannot be copied")
	}
	c, b := layout(f.Config, 0, false)
	c.allocate(b)
	copy(c.values, f.values)
	return c, c.CopyBuffers(f)
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
	r.Dropout = float32(math.Floor(float64(r.Dropout)*256)) / 256
	g := &Gradient{values: memory.Make[float32](len(f.values)), regularisation: r, seed: seed}
	g.front = front{flow: f, dev: dev, rows: rows}
	g.ld = columns(rows)
	tensor.Plan(g.layout)
	g.maps.join(g)
	g.loss = make([]float64, g.ld)
	return g, nil
}

// layout takes the memory.
func (g *Gradient) layout(a *tensor.Arena) {
	f, rows := g.flow, g.rows
	c := &f.Config
	width := 0
	g.squares = g.squares[:0]
	f.layers(func(d *dense) {
		width = max(width, d.in)
		d.strip = len(g.squares)
		g.squares = append(g.squares, make([]float64, strips(d.out))...)
	})
	g.front.layout(a)
	g.z, g.x = a.Take(rows, c.Latent), a.Take(rows, c.Latent)
	if c.Side > 0 {
		g.maps.layout(a, g)
		g.dgiven = a.Take(c.features()+c.Class, g.ld)
	} else {
		g.noisy = a.Take(rows, c.inputs())
	}
	g.given, g.embed, g.v = a.Take(c.features()+c.Class, g.ld), a.Take(c.Embed, g.ld), a.Take(c.Latent, g.ld)
	g.embedder = f.embedder.trace(a, g)
	if c.Classes > 0 {
		g.text, g.score = a.Take(c.pooled(), g.ld), a.Take(c.Classes, g.ld)
		g.head = f.head.trace(a, g)
	}
	g.blocks = g.blocks[:0]
	for i := range f.blocks {
		g.blocks = append(g.blocks, f.blocks[i].trace(a, g))
	}
	g.hidden = [2]tensor.Tensor{a.Take(width, g.ld), a.Take(width, g.ld)}
	for k := range g.din {
		half, changed := halves(c.Latent, k)
		g.draw[k], g.din[k] = a.Take(2*changed, g.ld), a.Take(half+c.Embed, g.ld)
	}
	g.dembed, g.dy, g.dx = a.Take(c.Embed, g.ld), a.Take(c.Latent, g.ld), a.Take(c.Latent, g.ld)
	g.turned = a.Take(1, kernel.TurnedLen(width, g.ld)).Data
}

// Values is the gradient of the last step, laid out as Flow.Values.
func (g *Gradient) Values() []float32 { return g.values }

// SumSquares is the sum of the squares of Values, as the last step left them. It is the same for any number of workers.
func (g *Gradient) SumSquares() (sum float64) {
	for _, s := range g.squares {
		sum += s
	}
	for _, p := range g.flow.params {
		if !p.Decay { // a vector
			sum += optimizer.SumSquares(g.values[p.Begin:][:p.Len])
		}
	}
	return sum
}

// forward runs a batch to the residual and returns its length; g.loss then has -log p(z) of each sample.
func (g *Gradient) forward(x, c tensor.Tensor) (m int) {
	g.begin(x, c)
	for i := range g.blocks {
		g.flow.blocks[i].run(g, i)
	}
	g.residual = lossJob{g}
	g.dev.Run(&g.residual, g.ld/kernel.Width)
	return g.m
}

// begin conditions on a batch and runs it through the embedder and the linear layer.
func (g *Gradient) begin(x, c tensor.Tensor) {
	f := g.flow
	if x.Rows != c.Rows || x.Rows > g.rows || x.Cols != f.Config.dims() || c.Cols != f.Config.Cond {
		panic("flow: x or c has the wrong shape")
	}
	g.m = x.Rows
	g.split(g.z, x)
	g.condition(c, 1)
	if f.Config.Classes > 0 {
		g.posterior(g.m)
		g.classCondition(g.m)
	}
	g.read(c)
	f.embedder.forward(g, g.embed, g.given, &g.embedder)
	first := g.x.Slice(0, g.m)
	f.linear.forward(&g.front, first, g.z.Slice(0, g.m))
	g.turn(g.into(0), first)
}

// read leaves in g.given what the embedder reads of c, of which g.u has what the linear layer reads.
func (g *Gradient) read(c tensor.Tensor) {
	u := g.u.Slice(0, g.m)
	if config := &g.flow.Config; config.Side > 0 {
		g.look(c)
		g.turnColumns(g.given.Slice(config.features(), g.given.Rows), u, config.pooled())
		return
	}
	if g.regularisation.Noise > 0 && !g.frozen {
		g.blur = blurJob{g}
		g.dev.Run(&g.blur, tiles(g.m))
		u = g.noisy.Slice(0, g.m)
	}
	g.turn(g.given, u)
}

// into is where the blocks before block i leave their output: what block i reads, or the residual.
func (g *Gradient) into(i int) tensor.Tensor {
	if i < len(g.blocks) {
		return g.blocks[i].x
	}
	return g.v
}

// Initialise sets from a first batch the ActNorms of the convolutions, and in the Net2Net dialect those of the blocks, one after the
// other. Those of NetFusion's blocks need none.
func (g *Gradient) Initialise(x, c tensor.Tensor) {
	f := g.flow
	if f.Config.Side > 0 {
		g.initialiseMaps(c)
	}
	if f.Config.Dialect != Net2Net {
		return
	}
	g.frozen = true
	g.begin(x, c)
	for i := range f.blocks {
		f.blocks[i].initialise(g, g.blocks[i].x)
		f.blocks[i].run(g, i)
	}
	g.frozen = false
}

// Step computes the mean negative log-likelihood in nats of the rows of x [m][Latent+Class] given c [m][Cond], in its two
// parts (see Session.LogProb), and its gradient. step indexes the masks and the noise.
func (g *Gradient) Step(x, c tensor.Tensor, step uint64) (z, class float64) {
	if x.Rows < 2 {
		panic("flow: a gradient needs at least two rows")
	}
	f := g.flow
	g.step = step
	m := g.forward(x, c)
	for _, v := range g.loss[:m] {
		z += v / float64(m)
	}
	clear(g.dembed.Data)
	for i := len(f.blocks) - 1; i >= 0; i-- {
		f.blocks[i].backward(g, i)
	}
	f.embedder.backward(g, g.dgiven, g.dembed, g.given, &g.embedder, false)
	if f.Config.Side > 0 {
		g.lookBack(g.dgiven.Slice(0, f.Config.features()))
	}
	if f.Config.Classes > 0 {
		class = g.classes()
	}
	return z, class
}

// LogProb computes what Session.LogProb does for up to the Gradient's rows, by the weights of f, a Flow of the same Config: it needs
// neither a Session nor the packed networks that would come with one.
func (g *Gradient) LogProb(f *Flow, z, class []float64, x, c tensor.Tensor) {
	if f.Config != g.flow.Config || f.lean {
		panic("flow: a gradient of another flow")
	}
	trained := g.flow
	g.flow, g.frozen = f, true
	m := g.forward(x, c)
	for r, v := range g.loss[:m] {
		z[r] = -v
	}
	if f.Config.Classes > 0 && class != nil {
		logits := g.classLogits()
		for r := range m {
			class[r], _, _ = f.classLogProb(logits.Row(r), g.scores.Row(r))
		}
	}
	g.flow, g.frozen = trained, false
}

// classLogits runs the class head.
func (g *Gradient) classLogits() tensor.Tensor {
	g.turn(g.text, g.c.Slice(0, g.m))
	g.flow.head.forward(g, g.score, g.text, &g.head)
	logits := g.logits.Slice(0, g.m)
	kernel.Transpose(logits.Data, logits.Cols, g.score.Data, g.ld, logits.Cols, g.m)
	return logits
}

// classes runs the class head forwards and backwards and returns its loss. ∂/∂logits of -log p is the prior less the posterior.
func (g *Gradient) classes() (loss float64) {
	f, m := g.flow, g.m
	logits := g.classLogits()
	for r := range m {
		l, s := logits.Row(r), g.scores.Row(r)
		logp, prior, joint := f.classLogProb(l, s)
		loss -= logp / float64(m)
		for k, v := range l {
			l[k] = float32((math.Exp(float64(v)-prior) - math.Exp(float64(v)+float64(s[k])-joint)) / float64(m))
		}
	}
	g.turn(g.score, logits)
	f.head.backward(g, tensor.Tensor{}, g.score, g.text, &g.head, false)
	return loss
}

// lossJob works out -log p(z) of the samples of 16 columns, and the gradient of their mean with respect to the residual.
type lossJob struct{ g *Gradient }

func (j *lossJob) Tile(tile int) {
	g := j.g
	f, at := g.flow, tile*kernel.Width
	var squares, logdet [kernel.Width]float64
	weight := 1 / float32(g.m)
	for i := range g.v.Rows {
		d := g.dx.Row(i)[at:]
		for k, v := range g.v.Row(i)[at:][:kernel.Width] {
			squares[k] += float64(float64(v) * float64(v))
			d[k] = v * weight
		}
	}
	constant := -float64(f.linear.logdet) + float64(f.Config.Latent)*halfLog2Pi
	for b := range g.blocks {
		constant -= f.blocks[b].logScale(f)
		for _, s := range g.blocks[b].s {
			for i := range s.Rows {
				for k, v := range s.Row(i)[at:][:kernel.Width] {
					logdet[k] += float64(v)
				}
			}
		}
	}
	for k := range squares {
		g.loss[at+k] = 0.5*squares[k] - logdet[k] + constant
	}
}

// turn writes rows [m][n] as features, [n][ld].
func (g *Gradient) turn(features, rows tensor.Tensor) { g.turnColumns(features, rows, 0) }

// turnColumns writes columns of rows, as many as there are features, from at on.
func (g *Gradient) turnColumns(features, rows tensor.Tensor, at int) {
	g.transpose = transposeJob{features, rows, at}
	g.dev.Run(&g.transpose, strips(features.Rows))
}

type transposeJob struct {
	features, rows tensor.Tensor
	at             int
}

func (j *transposeJob) Tile(tile int) {
	i0, i1 := strip(tile, j.features.Rows)
	ld, n := j.features.Cols, j.rows.Cols
	kernel.Transpose(j.features.Data[i0*ld:], ld, j.rows.Data[j.at+i0:], n, j.rows.Rows, i1-i0)
}

// stripRows is how many features one tile of a job over features has: a multiple of the height of the products' own tiles.
const stripRows = 24

func strips(features int) int { return (features + stripRows - 1) / stripRows }

// strip returns the features of a tile.
func strip(tile, features int) (i0, i1 int) {
	return tile * stripRows, min((tile+1)*stripRows, features)
}

// blurJob adds noise to the text part of u, for some rows to a tile.
type blurJob struct{ g *Gradient }

func (j *blurJob) Tile(tile int) {
	g := j.g
	r0, r1 := span(tile, g.m)
	for r := r0; r < r1; r++ {
		u, noisy := g.u.Row(r), g.noisy.Row(r)
		text := noisy[:g.flow.Config.Cond]
		random.Normal(text, g.seed, blurStream, g.step<<16|uint64(r), 0)
		for i, v := range text {
			text[i] = u[i] + float32(g.regularisation.Noise*v)
		}
		copy(noisy[len(text):], u[len(text):])
	}
}
