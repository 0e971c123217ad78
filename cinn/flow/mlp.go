package flow

import (
	"fmt"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// dense is one linear layer: where its parameters lie, and their packed forms.
type dense struct {
	name    string // of the weight
	in, out int
	w, b    int           // offsets of the weight [out][in] and the bias [out]
	forward tensor.Weight // W, only where gradients are taken
	back    tensor.Weight // Wᵀ
}

// pack refreshes the packed forms after the values have changed.
func (d *dense) pack(values []float32) {
	w := values[d.w:][:d.in*d.out]
	if d.forward.Panels == nil {
		d.forward = tensor.Weight{N: d.out, K: d.in, Panels: make([]float32, matmul.PackedLen(d.out, d.in))}
	}
	matmul.Pack(d.forward.Panels, w, d.out, d.in)
	if d.back.Panels != nil {
		matmul.PackT(d.back.Panels, w, d.in, d.out)
	}
}

// trainable makes room for what gradients need.
func (d *dense) trainable() {
	if d.back.Panels == nil {
		d.back = tensor.Weight{N: d.in, K: d.out, Panels: make([]float32, matmul.PackedLen(d.in, d.out))}
	}
}

// mlp is linear layers with LeakyReLU between them: the subnets of the couplings, the embedder and the class head. A
// normalisation may stand before each LeakyReLU, and dropout, in training, after it.
type mlp struct {
	layers []dense
	norms  []norm // one per hidden layer, or none
	id     uint32 // tells dropout masks apart
	packed network
}

type normKind uint8

const (
	noNorm normKind = iota
	layerNorm
	batchNorm
)

// newMLP lays out in → width → … → width → out with hidden layers of the given width. Names count the members of a
// torch Sequential: main.0, main.1, …
func newMLP(b *builder, name string, in, width, hidden, out int, kind normKind) mlp {
	n := mlp{id: uint32(b.nets)}
	b.nets++
	at := 0
	add := func(in, out int) {
		prefix := fmt.Sprintf("%s.main.%d.", name, at)
		n.layers = append(n.layers, dense{
			name: prefix + "weight", in: in, out: out, w: b.param(prefix+"weight", out, in), b: b.param(prefix+"bias", out),
		})
		at++
	}
	for range hidden {
		add(in, width)
		if kind != noNorm {
			n.norms = append(n.norms, newNorm(b, fmt.Sprintf("%s.main.%d.", name, at), width, kind))
			at++
		}
		at++ // the LeakyReLU
		in = width
	}
	add(in, out)
	return n
}

func (n *mlp) initialise(values []float32, seed uint64) {
	for i := range n.layers {
		n.layers[i].initialise(values, seed, uint64(n.id)<<8|uint64(i))
	}
	for i := range n.norms {
		g := values[n.norms[i].gamma:][:n.norms[i].n]
		for j := range g {
			g[j] = 1
		}
	}
}

// last is the output layer.
func (n *mlp) last() *dense { return &n.layers[len(n.layers)-1] }

// mlpState is what a forward pass leaves: one entry per hidden layer.
type mlpState struct {
	hidden []tensor.Tensor // [rows][width], after activation and dropout
	xhat   []tensor.Tensor // [rows][width], normalised; empty without norms
	rstd   []tensor.Tensor // 1/σ: [1][max(rows, width)]; empty without norms
	mask   []tensor.Tensor // [rows][width], 0 or 1/(1-p); empty without dropout
}

// layout takes the memory of a pass over up to rows.
func (n *mlp) layout(a *tensor.Arena, rows int, dropout bool) (st mlpState) {
	for i := range len(n.layers) - 1 {
		width := n.layers[i].out
		st.hidden = append(st.hidden, a.Take(rows, width))
		if n.norms != nil {
			st.xhat = append(st.xhat, a.Take(rows, width))
			st.rstd = append(st.rstd, a.Take(1, max(rows, width)))
		}
		if dropout {
			st.mask = append(st.mask, a.Take(rows, width))
		}
	}
	return st
}

// forward computes dst [m][out] from x [m][in] and leaves in st what backward needs.
func (n *mlp) forward(p *pass, dst, x tensor.Tensor, st *mlpState) {
	m := x.Rows
	for i := range n.layers {
		l := &n.layers[i]
		e := matmul.Epilogue{Bias: p.flow.values[l.b:][:l.out]}
		if i == len(n.layers)-1 {
			p.dev.MatMul(dst, x, l.forward, e)
			return
		}
		h := st.hidden[i].Slice(0, m)
		if n.norms == nil {
			e.Act = matmul.LeakyReLU
			p.dev.MatMul(h, x, l.forward, e)
		} else {
			p.dev.MatMul(st.xhat[i].Slice(0, m), x, l.forward, e)
			n.norms[i].forward(p, h, st.xhat[i].Slice(0, m), st.rstd[i].Data)
			leakyReLU(h.Data)
		}
		if p.dropping() {
			p.drop(h, st.mask[i].Slice(0, m), dropoutStream|n.id<<4|uint32(i))
		}
		x = h
	}
}

// backward adds nothing: it writes the gradients of all its parameters, and dx [m][in] unless dx is empty, from dy [m][out]
// and the pass that forward left in st. dy may be overwritten.
func (n *mlp) backward(g *Gradient, dx, dy, x tensor.Tensor, st *mlpState) {
	m := x.Rows
	for i := len(n.layers) - 1; i >= 0; i-- {
		l := &n.layers[i]
		in := x
		if i > 0 {
			in = st.hidden[i-1].Slice(0, m)
		}
		g.weights(l, dy, in)
		if i == 0 {
			if dx.Data != nil {
				g.pass.dev.MatMul(dx, dy, l.back, matmul.Epilogue{})
			}
			return
		}
		d := tensor.Of(m, l.in, g.hidden[i%2].Data[:m*l.in])
		g.pass.dev.MatMul(d, dy, l.back, matmul.Epilogue{})
		g.slope.d, g.slope.h, g.slope.mask = d, in, tensor.Tensor{}
		if g.pass.dropping() {
			g.slope.mask = st.mask[i-1].Slice(0, m)
		}
		g.pass.dev.Run(&g.slope, tiles(m))
		if n.norms != nil {
			n.norms[i-1].backward(g, d, st.xhat[i-1].Slice(0, m), st.rstd[i-1].Data)
		}
		dy = d
	}
}
