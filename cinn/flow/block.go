package flow

import (
	"fmt"
	"math"

	"netfusion/kernels/coupling"
	"netfusion/tensor"
)

// block is one step of the flow, x → v: ActNorm, double coupling, permutation. With the halves a and b of the normalised x,
// and the embedded condition e,
//
//	b' = b·exp(s₁) + t₁    s₁, t₁ from [a ; e]
//	a' = a·exp(s₂) + t₂    s₂, t₂ from [b' ; e]
//
// and the output is [b' ; a'] permuted.
type block struct {
	loc, scale int      // offsets of the ActNorm, y = scale·(x + loc), [Latent] each
	nets       [2][]mlp // of the two couplings: one subnet for [s ; t], or one for each
	perm       []int    // output j is element perm[j] of [b' ; a']
	packed     [2]network
}

func newBlock(b *builder, c Config, i int, seed uint64) block {
	prefix := fmt.Sprintf("sub_layers.%d.", i)
	bl := block{
		loc:   b.param(prefix+"norm_layer.loc", c.Latent),
		scale: b.param(prefix+"norm_layer.scale", c.Latent),
		perm:  shuffle(c.Latent, seed, i),
	}
	for k := range bl.nets {
		in, out := halves(c.Latent, k)
		if c.Dialect == Net2Net {
			for _, name := range []string{"s", "t"} {
				bl.nets[k] = append(bl.nets[k], newMLP(b, fmt.Sprintf("%scoupling.%s.%d", prefix, name, k), in+c.Embed, c.Hidden, c.Depth+1, out, noNorm))
			}
			continue
		}
		bl.nets[k] = append(bl.nets[k], newMLP(b, fmt.Sprintf("%scoupling.st.%d", prefix, k), in+c.Embed, c.Hidden, c.Depth+1, 2*out, noNorm))
	}
	return bl
}

// halves returns how many elements coupling k reads and how many it changes: the first half is the larger one.
func halves(n, k int) (in, out int) {
	if k == 0 {
		return n - n/2, n / 2
	}
	return n / 2, n - n/2
}

// blockState is what a forward pass through a block leaves; what only gradients need, only where they are taken.
type blockState struct {
	x   tensor.Tensor      // [rows][Latent], what came in
	h   tensor.Tensor      // [rows][Latent], normalised: [a ; b]
	in  [2]tensor.Tensor   // [rows][half+Embed]: [a ; e] and [b' ; e]
	out [2][]tensor.Tensor // of each subnet; of both in one, [s ; t], in a Session
	s   [2]tensor.Tensor   // [rows][half], clamped log-scales
	net [2][]mlpState
}

func (b *block) layout(a *tensor.Arena, c Config, rows int, sampling, dropout bool) (st blockState) {
	st.x, st.h = a.Take(rows, c.Latent), a.Take(rows, c.Latent)
	for k, nets := range b.nets {
		in, out := halves(c.Latent, k)
		st.in[k], st.s[k] = a.Take(rows, in+c.Embed), a.Take(rows, out)
		if sampling {
			st.out[k] = []tensor.Tensor{a.Take(rows, 2*out)}
			continue
		}
		for i := range nets {
			st.out[k] = append(st.out[k], a.Take(rows, nets[i].last().out))
			st.net[k] = append(st.net[k], nets[i].layout(a, rows, dropout))
		}
	}
	return st
}

// scaleShift returns the raw scales and the shifts of a coupling among the outputs of its subnets, and their row stride.
func scaleShift(out []tensor.Tensor) (raw, t []float32, ld int) {
	if len(out) == 1 {
		return out[0].Data, out[0].Data[out[0].Cols/2:], out[0].Cols
	}
	return out[0].Data, out[1].Data, out[0].Cols
}

// tileRows is how many rows one tile of a row-wise job has.
const tileRows = 8

func tiles(rows int) int { return (rows + tileRows - 1) / tileRows }

// span returns the rows of a tile.
func span(tile, rows int) (r0, r1 int) { return tile * tileRows, min((tile+1)*tileRows, rows) }

// blockJob does the work of a block between its subnets, some rows to a tile.
type blockJob struct {
	pass  *pass
	block *block
	state *blockState
	next  tensor.Tensor // where the output goes, or comes from in the inverse
	rows  int
	phase blockPhase
}

type blockPhase uint8

const (
	normalise   blockPhase = iota // x → h, in
	coupleFirst                   // b → b'
	coupleLast                    // a → a' and the permutation
	unpermute                     // output → [b' ; a'], in[1]
	undoLast                      // a' → a, in[0]
	undoFirst                     // b' → b → x
)

func (j *blockJob) Tile(tile int) {
	r0, r1 := span(tile, j.rows)
	m := r1 - r0
	p, st := j.pass, j.state
	c := &p.flow.Config
	n := c.Latent
	na, nb := n-n/2, n/2
	loc, scale := p.flow.values[j.block.loc:][:n], p.flow.values[j.block.scale:][:n]
	y, scratch := p.y.Data[r0*n:], p.scratch.Data[r0*n:][:n]
	h, logdet := st.h.Data[r0*n:], p.logdet[r0:]
	lda, ldb := st.in[0].Cols, st.in[1].Cols
	ina, inb := st.in[0].Data[r0*lda:], st.in[1].Data[r0*ldb:]

	switch j.phase {
	case normalise:
		for r := r0; r < r1; r++ {
			hr := st.h.Row(r)
			for i, v := range st.x.Row(r) {
				hr[i] = scale[i] * (v + loc[i])
			}
			copy(st.in[0].Row(r), hr[:na])
			copy(st.in[0].Row(r)[na:], p.embed.Row(r))
			copy(st.in[1].Row(r)[nb:], p.embed.Row(r))
		}
	case coupleFirst:
		s, t, ldt := j.clamp(0, r0, m)
		coupling.Forward(inb, ldb, h[na:], n, s, t, ldt, logdet, m, nb, scratch)
	case coupleLast:
		s, t, ldt := j.clamp(1, r0, m)
		coupling.Forward(y[nb:], n, h, n, s, t, ldt, logdet, m, na, scratch)
		for r := r0; r < r1; r++ {
			yr, out := p.y.Row(r), j.next.Row(r)
			copy(yr, st.in[1].Row(r)[:nb])
			for i, from := range j.block.perm {
				out[i] = yr[from]
			}
		}
	case unpermute:
		for r := r0; r < r1; r++ {
			yr := p.y.Row(r)
			for i, v := range j.next.Row(r) {
				yr[j.block.perm[i]] = v
			}
			copy(st.in[1].Row(r), yr[:nb])
			copy(st.in[1].Row(r)[nb:], p.embed.Row(r))
			copy(st.in[0].Row(r)[na:], p.embed.Row(r))
		}
	case undoLast:
		s, t, ldt := j.clamp(1, r0, m)
		coupling.Inverse(ina, lda, y[nb:], n, s, t, ldt, m, na, scratch)
	case undoFirst:
		s, t, ldt := j.clamp(0, r0, m)
		coupling.Inverse(h[na:], n, y, n, s, t, ldt, m, nb, scratch)
		for r := r0; r < r1; r++ {
			hr, xr := st.h.Row(r), st.x.Row(r)
			copy(hr, st.in[0].Row(r)[:na])
			for i, v := range hr {
				xr[i] = v/scale[i] - loc[i]
			}
		}
	}
}

// clamp writes the log-scales of coupling k for m rows from r0.
func (j *blockJob) clamp(k, r0, m int) (s, t []float32, ldt int) {
	st := j.state
	raw, t, ldt := scaleShift(st.out[k])
	s = st.s[k].Data[r0*st.s[k].Cols:]
	coupling.Clamp(s, raw[r0*ldt:], m, st.s[k].Cols, ldt, j.pass.flow.Config.Clamp)
	return s, t[r0*ldt:], ldt
}

func (j *blockJob) run(phase blockPhase) {
	j.phase = phase
	j.pass.dev.Run(j, tiles(j.rows))
}

// forward runs m rows through the block, from st.x to next, and adds to the pass's logdet.
func (b *block) forward(p *pass, st *blockState, next tensor.Tensor, m int) {
	scale := p.flow.values[b.scale:][:p.flow.Config.Latent]
	var sum float64
	for _, v := range scale {
		sum += math.Log(math.Abs(float64(v)))
	}
	for i := range p.logdet[:m] {
		p.logdet[i] += float32(sum)
	}
	p.job = blockJob{pass: p, block: b, state: st, next: next, rows: m}
	p.job.run(normalise)
	b.subnets(p, st, 0, m)
	p.job.run(coupleFirst)
	b.subnets(p, st, 1, m)
	p.job.run(coupleLast)
}

// inverse runs m rows back, from next to st.x.
func (b *block) inverse(p *pass, st *blockState, next tensor.Tensor, m int) {
	p.job = blockJob{pass: p, block: b, state: st, next: next, rows: m}
	p.job.run(unpermute)
	b.subnets(p, st, 1, m)
	p.job.run(undoLast)
	b.subnets(p, st, 0, m)
	p.job.run(undoFirst)
}

func (b *block) subnets(p *pass, st *blockState, k, m int) {
	if p.sampling {
		b.packed[k].forward(p, st.out[k][0].Slice(0, m), st.in[k].Slice(0, m))
		return
	}
	for i := range b.nets[k] {
		b.nets[k][i].forward(p, st.out[k][i].Slice(0, m), st.in[k].Slice(0, m), &st.net[k][i])
	}
}

// initialise sets the ActNorm from the m rows that stand in st.x: zero mean, unit variance.
func (b *block) initialise(p *pass, st *blockState, m int) {
	n := p.flow.Config.Latent
	loc, scale := p.flow.values[b.loc:][:n], p.flow.values[b.scale:][:n]
	for j := range n {
		var sum, squares float64
		for i := range m {
			sum += float64(st.x.Data[i*n+j])
		}
		mean := sum / float64(m)
		for i := range m {
			d := float64(st.x.Data[i*n+j]) - mean
			squares += float64(d * d)
		}
		loc[j] = float32(-mean)
		scale[j] = float32(1 / (math.Sqrt(squares/float64(m-1)) + 1e-6))
	}
}
