package flow

import (
	"math"

	"netfusion/kernels/coupling"
	"netfusion/tensor"
)

// blockTrace is what a forward pass through a block leaves for the way back.
type blockTrace struct {
	x   tensor.Tensor    // [Latent][ld], what came in
	b   tensor.Tensor    // [half][ld], the second half of it, normalised
	in  [2]tensor.Tensor // [half+Embed][ld]: [a ; e] and [b' ; e]
	out [2]tensor.Tensor // [2·half][ld]: the raw scales and the shifts
	s   [2]tensor.Tensor // [half][ld], clamped log-scales
	net [2][]mlpTrace
}

func (b *block) trace(a *tensor.Arena, g *Gradient) (t blockTrace) {
	c := &g.flow.Config
	t.x, t.b = a.Take(c.Latent, g.ld), a.Take(c.Latent/2, g.ld)
	for k, nets := range b.nets {
		in, out := halves(c.Latent, k)
		t.in[k], t.out[k], t.s[k] = a.Take(in+c.Embed, g.ld), a.Take(2*out, g.ld), a.Take(out, g.ld)
		for i := range nets {
			t.net[k] = append(t.net[k], nets[i].trace(a, g))
		}
	}
	return t
}

// run runs the batch through block i.
func (b *block) run(g *Gradient, i int) {
	g.block = coupleJob{g: g, block: b, trace: &g.blocks[i], next: g.into(i + 1)}
	n := g.flow.Config.Latent
	g.block.run(trainNormalise, n+g.flow.Config.Embed)
	b.forwardNets(g, 0)
	g.block.run(trainFirst, n/2)
	b.forwardNets(g, 1)
	g.block.run(trainLast, n)
}

// forwardNets runs the subnets of coupling k, whose outputs are [s ; t] whether they are one or two.
func (b *block) forwardNets(g *Gradient, k int) {
	t, at := g.block.trace, 0
	for i := range b.nets[k] {
		n := &b.nets[k][i]
		y := t.out[k].Slice(at, at+n.last().out)
		n.forward(g, y, t.in[k], &t.net[k][i])
		at += n.last().out
	}
}

// backward turns g.dx from the gradient of the output of block i into that of its input, adds to g.dembed and writes the gradients
// of the block's parameters.
func (b *block) backward(g *Gradient, i int) {
	g.block = coupleJob{g: g, block: b, trace: &g.blocks[i], next: g.dx}
	n := g.flow.Config.Latent
	g.block.run(trainLastBack, n)
	b.backwardNets(g, 1)
	g.block.run(trainFirstBack, n/2+g.flow.Config.Embed)
	b.backwardNets(g, 0)
	g.block.run(trainNormaliseBack, n+g.flow.Config.Embed)
}

// backwardNets runs the subnets of coupling k backwards, from g.draw[k] to g.din[k].
func (b *block) backwardNets(g *Gradient, k int) {
	t, at := g.block.trace, 0
	for i := range b.nets[k] {
		n := &b.nets[k][i]
		n.backward(g, g.din[k], g.draw[k].Slice(at, at+n.last().out), t.in[k], &t.net[k][i], i > 0)
		at += n.last().out
	}
}

// coupleJob does the work of a block between its subnets, some features to a tile.
type coupleJob struct {
	g        *Gradient
	block    *block
	trace    *blockTrace
	next     tensor.Tensor // [Latent][ld], of the output
	phase    couplePhase
	features int
}

type couplePhase uint8

// The phases, and what their features are.
const (
	trainNormalise     couplePhase = iota // x → a, b and e: of x, then of e
	trainFirst                            // b → b': of b
	trainLast                             // a → a' and the permutation: of the output
	trainLastBack                         // through both: of the output
	trainFirstBack                        // through b' = b·exp(s) + t: of b', then of e
	trainNormaliseBack                    // a, b and e → x: of x, then of e
)

func (j *coupleJob) run(phase couplePhase, features int) {
	j.phase, j.features = phase, features
	j.g.dev.Run(j, strips(features))
}

func (j *coupleJob) Tile(tile int) {
	i0, i1 := strip(tile, j.features)
	for i := i0; i < i1; i++ {
		switch j.phase {
		case trainNormalise:
			j.normalise(i)
		case trainFirst:
			j.couple(0, i, j.trace.in[1].Row(i), j.trace.b.Row(i))
		case trainLast:
			j.permute(i)
		case trainLastBack:
			j.permuteBack(i)
		case trainFirstBack:
			j.firstBack(i)
		case trainNormaliseBack:
			j.normaliseBack(i)
		}
	}
}

// normalise is the ActNorm of feature i of x; the features after those are the embedding's, which the subnets read, too.
func (j *coupleJob) normalise(i int) {
	g, t := j.g, j.trace
	n := g.flow.Config.Latent
	na, nb := n-n/2, n/2
	if i >= n {
		e := g.embed.Row(i - n)
		copy(t.in[0].Row(na+i-n), e)
		copy(t.in[1].Row(nb+i-n), e)
		return
	}
	h := t.in[0].Row(i)
	if i >= na {
		h = t.b.Row(i - na)
	}
	loc, scale := g.flow.values[j.block.loc+i], g.flow.values[j.block.scale+i]
	for k, v := range t.x.Row(i) {
		h[k] = scale * (v + loc)
	}
}

// couple writes y = x·exp(s) + t for feature i of coupling k.
func (j *coupleJob) couple(k, i int, y, x []float32) {
	s, raw, t := j.rows(k, i, j.trace.out[k])
	coupling.Clamp(s, raw, 1, len(s), len(s), j.g.flow.Config.Clamp)
	coupling.Forward(y, len(y), x, len(x), s, t, len(t), nil, 1, len(y), y)
}

// coupleBack goes back through that, from d = ∂L/∂y to ∂L/∂x and the gradients of the subnets' outputs.
func (j *coupleJob) coupleBack(k, i int, d, x []float32) {
	s, draw, dt := j.rows(k, i, j.g.draw[k])
	coupling.Backward(d, len(d), draw, dt, len(d), x, len(x), s, -1/float32(j.g.m), j.g.flow.Config.Clamp, 1, len(d), draw)
}

// rows returns what belongs to feature i of coupling k: its log-scales, and its two rows of out, [scales ; shifts].
func (j *coupleJob) rows(k, i int, out tensor.Tensor) (s, raw, t []float32) {
	return j.trace.s[k].Row(i), out.Row(i), out.Row(out.Rows/2 + i)
}

// permute writes feature i of the output, which comes from b', or from a' = a·exp(s) + t.
func (j *coupleJob) permute(i int) {
	t, y, nb := j.trace, j.next.Row(i), j.trace.b.Rows
	from := j.block.perm[i]
	if from < nb {
		copy(y, t.in[1].Row(from))
	} else {
		j.couple(1, from-nb, y, t.in[0].Row(from-nb))
	}
}

func (j *coupleJob) permuteBack(i int) {
	nb, from := j.trace.b.Rows, j.block.perm[i]
	d := j.g.dy.Row(from)
	copy(d, j.next.Row(i))
	if from >= nb {
		j.coupleBack(1, from-nb, d, j.trace.in[0].Row(from-nb))
	}
}

// firstBack adds to the gradient of b' what came from the subnets that read it, and goes back to b.
func (j *coupleJob) firstBack(i int) {
	nb, din := j.trace.b.Rows, j.g.din[1].Row(i)
	if i >= nb {
		add(j.g.dembed.Row(i-nb), din)
		return
	}
	d := j.g.dy.Row(i)
	add(d, din)
	j.coupleBack(0, i, d, j.trace.b.Row(i))
}

// normaliseBack: ∂/∂loc = Σ dh·scale, ∂/∂scale = Σ dh·(x + loc), and -1/scale from the log-determinant.
func (j *coupleJob) normaliseBack(i int) {
	g := j.g
	n := g.flow.Config.Latent
	na, nb := n-n/2, n/2
	if i >= n {
		add(g.dembed.Row(i-n), g.din[0].Row(na+i-n))
		return
	}
	d := g.dy.Row((i + nb) % n) // h is [a ; b], and dy of [b ; a]
	if i < na {
		add(d, g.din[0].Row(i))
	}
	loc, scale := g.flow.values[j.block.loc+i], g.flow.values[j.block.scale+i]
	x, dx := j.trace.x.Row(i), g.dx.Row(i)
	var dloc, dscale float32
	for k, v := range d[:g.m] {
		dloc += v
		dscale += float32(v * (x[k] + loc))
	}
	for k, v := range d {
		dx[k] = v * scale
	}
	g.values[j.block.loc+i], g.values[j.block.scale+i] = dloc*scale, dscale-1/scale
}

func add(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

// initialise sets the ActNorm from the batch x [Latent][ld]: zero mean, unit variance.
func (b *block) initialise(g *Gradient, x tensor.Tensor) {
	n, m := g.flow.Config.Latent, g.m
	loc, scale := g.flow.values[b.loc:][:n], g.flow.values[b.scale:][:n]
	for j := range n {
		var sum, squares float64
		for _, v := range x.Row(j)[:m] {
			sum += float64(v)
		}
		mean := sum / float64(m)
		for _, v := range x.Row(j)[:m] {
			d := float64(v) - mean
			squares += float64(d * d)
		}
		loc[j] = float32(-mean)
		scale[j] = float32(1 / (math.Sqrt(squares/float64(m-1)) + 1e-6))
	}
}
