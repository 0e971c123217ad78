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

// blockState is the memory in which a Session runs one block at a time.
type blockState struct {
	x   tensor.Tensor    // [rows][Latent], what came in
	h   tensor.Tensor    // [rows][Latent], normalised: [a ; b]
	in  [2]tensor.Tensor // [rows][half+Embed]: [a ; e] and [b' ; e]
	out [2]tensor.Tensor // [rows][2·half]: [s ; t], s not yet clamped
	s   [2]tensor.Tensor // [rows][half], clamped log-scales
}

func (st *blockState) layout(a *tensor.Arena, c Config, rows int) {
	st.x, st.h = a.Take(rows, c.Latent), a.Take(rows, c.Latent)
	for k := range st.in {
		in, out := halves(c.Latent, k)
		st.in[k], st.out[k], st.s[k] = a.Take(rows, in+c.Embed), a.Take(rows, 2*out), a.Take(rows, out)
	}
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
	p, st := j.pass, &j.pass.state
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
	st := &j.pass.state
	n := st.s[k].Cols
	out := st.out[k].Data[r0*2*n:]
	s = st.s[k].Data[r0*n:]
	coupling.Clamp(s, out, m, n, 2*n, j.pass.flow.Config.Clamp)
	return s, out[n:], 2 * n
}

func (j *blockJob) run(phase blockPhase) {
	j.phase = phase
	j.pass.dev.Run(j, tiles(j.rows))
}

// logScale is the log-determinant of the ActNorm, Σ log|scale|.
func (b *block) logScale(f *Flow) (sum float64) {
	for _, v := range f.values[b.scale:][:f.Config.Latent] {
		sum += math.Log(math.Abs(float64(v)))
	}
	return sum
}

// forward runs m rows through the block, from p.state.x to next, and adds to the pass's logdet.
func (b *block) forward(p *pass, next tensor.Tensor, m int) {
	sum := float32(b.logScale(p.flow))
	for i := range p.logdet[:m] {
		p.logdet[i] += sum
	}
	p.job = blockJob{pass: p, block: b, next: next, rows: m}
	p.job.run(normalise)
	b.subnets(p, 0, m)
	p.job.run(coupleFirst)
	b.subnets(p, 1, m)
	p.job.run(coupleLast)
}

// inverse runs m rows back, from next to p.state.x.
func (b *block) inverse(p *pass, next tensor.Tensor, m int) {
	p.job = blockJob{pass: p, block: b, next: next, rows: m}
	p.job.run(unpermute)
	b.subnets(p, 1, m)
	p.job.run(undoLast)
	b.subnets(p, 0, m)
	p.job.run(undoFirst)
}

func (b *block) subnets(p *pass, k, m int) {
	b.packed[k].forward(p, p.state.out[k].Slice(0, m), p.state.in[k].Slice(0, m))
}
