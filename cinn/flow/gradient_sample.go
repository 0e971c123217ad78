package flow

import (
	"netfusion/kernels/coupling"
	kernel "netfusion/kernels/dense"
	"netfusion/tensor"
)

// Residuals copies the residuals of the first rows of the last LogProb to v [m][Latent].
func (g *Gradient) Residuals(v tensor.Tensor) {
	kernel.Transpose(v.Data, v.Cols, g.v.Data, g.ld, v.Cols, v.Rows)
}

// Sample draws what Session.Sample does without guidance, up to rounding, for up to the Gradient's rows, by the weights of f, a Flow of
// the same Config: a trainer can look at samples in the memory that it has.
func (g *Gradient) Sample(f *Flow, x, c tensor.Tensor, d Draw) {
	if f.Config != g.flow.Config || f.lean || x.Rows != c.Rows || x.Rows > g.rows || x.Cols != f.Config.dims() || c.Cols != f.Config.Cond {
		panic("flow: a gradient of another flow, or x or c has the wrong shape")
	}
	trained := g.flow
	g.flow, g.frozen, g.m = f, true, x.Rows
	g.sample(x, c, d)
	g.flow, g.frozen = trained, false
}

func (g *Gradient) sample(x, c tensor.Tensor, d Draw) {
	f, v, z := g.flow, g.x.Slice(0, g.m), g.z.Slice(0, g.m)
	g.condition(c, 1)
	if f.Config.Classes > 0 {
		g.classLogits()
	}
	g.noise(x, v, d)
	g.turn(g.v, v)
	if f.Config.Classes > 0 {
		g.posterior(g.m)
		g.classCondition(g.m)
	}
	g.read(c)
	f.embedder.forward(g, g.embed, g.given, &g.embedder)
	for i := len(f.blocks) - 1; i >= 0; i-- {
		f.blocks[i].undo(g, i)
	}
	first := g.into(0)
	kernel.Transpose(v.Data, v.Cols, first.Data, g.ld, v.Cols, g.m)
	f.linear.inverse(&g.front, z, v)
	for i := range g.m {
		copy(x.Row(i), z.Row(i))
	}
}

// undo runs the batch back through block i.
func (b *block) undo(g *Gradient, i int) {
	g.block = coupleJob{g: g, block: b, trace: &g.blocks[i], next: g.into(i + 1)}
	j := &undoJob{coupleJob: g.block}
	n := g.flow.Config.Latent
	j.run(undoPermute, n+g.flow.Config.Embed)
	b.forwardNets(g, 1)
	j.run(undoSecond, n-n/2)
	b.forwardNets(g, 0)
	j.run(undoNormalise, n)
}

// undoJob does the work of a block on the way back, some features to a tile.
type undoJob struct {
	coupleJob
	phase undoPhase
}

type undoPhase uint8

const (
	undoPermute   undoPhase = iota // output → [b' ; a'], and e beside them
	undoSecond                     // a' → a
	undoNormalise                  // b' → b, and both → x
)

func (j *undoJob) run(phase undoPhase, features int) {
	j.phase, j.features = phase, features
	j.g.dev.Run(j, strips(features))
}

func (j *undoJob) Tile(tile int) {
	i0, i1 := strip(tile, j.features)
	n, nb := j.g.flow.Config.Latent, j.trace.b.Rows
	for i := i0; i < i1; i++ {
		switch {
		case j.phase == undoPermute && i >= n:
			j.normalise(i) // which copies e
		case j.phase == undoPermute:
			if from := j.block.perm[i]; from < nb {
				copy(j.trace.in[1].Row(from), j.next.Row(i))
			} else {
				copy(j.g.dy.Row(from), j.next.Row(i))
			}
		case j.phase == undoSecond:
			j.uncouple(1, i, j.trace.in[0].Row(i), j.g.dy.Row(nb+i))
		default:
			j.unnormalise(i)
		}
	}
}

// uncouple writes x = (y - t)·exp(-s) for feature i of coupling k.
func (j *undoJob) uncouple(k, i int, x, y []float32) {
	s, raw, t := j.rows(k, i, j.trace.out[k])
	coupling.Clamp(s, raw, 1, len(s), len(s), j.g.flow.Config.Clamp)
	coupling.Inverse(x, len(x), y, len(y), s, t, len(t), 1, len(x), x)
}

// unnormalise makes feature i of x of [a ; b].
func (j *undoJob) unnormalise(i int) {
	g, t, x := j.g, j.trace, j.trace.x.Row(i)
	if na := g.flow.Config.Latent - t.b.Rows; i < na {
		copy(x, t.in[0].Row(i))
	} else {
		j.uncouple(0, i-na, x, t.in[1].Row(i-na))
	}
	loc, scale := g.flow.values[j.block.loc+i], g.flow.values[j.block.scale+i]
	for k, v := range x {
		x[k] = v/scale - loc
	}
}
