package flow

import (
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// network is mlps that read the same input, packed as Sessions run them, with their outputs side by side. For one row all the
// time goes into reading weights, and each product costs a meeting of the workers: so the first layers are one product, and the
// others are one operation each.
type network struct {
	layers []layer
	norms  []norm          // of an mlp that is alone
	undo   []tensor.Weight // the last layer once more, followed by what comes next on the way from v to z
}

type layer struct {
	weights []tensor.Weight // of each mlp, or one for all
	bias    []float32       // of all
}

// reader fills dst [rows][in] with the rows of a layer's weight [out][in] from row i on.
type reader func(d *dense, dst []float32, i int)

// pack fills n from nets, whose vectors are in values.
func (n *network) pack(p tensor.Precision, values []float32, read reader, nets ...mlp) {
	first := &nets[0]
	if n.layers == nil {
		n.layers, n.norms = make([]layer, len(first.layers)), first.norms
	}
	for i := range n.layers {
		l, d := &n.layers[i], &first.layers[i]
		l.bias = l.bias[:0]
		for k := range nets {
			l.bias = append(l.bias, values[nets[k].layers[i].b:][:d.out]...)
		}
		together := 1 // so many in one weight
		if i == 0 {
			together = len(nets)
		}
		for k := 0; k < len(nets); k += together {
			l.pack(k/together, p, together*d.out, d.in, func(dst []float32, row int) {
				for len(dst) > 0 {
					rows := min(d.out-row%d.out, len(dst)/d.in)
					read(&nets[k+row/d.out].layers[i], dst[:rows*d.in], row%d.out)
					dst, row = dst[rows*d.in:], row+rows
				}
			})
		}
	}
}

func (l *layer) pack(k int, p tensor.Precision, out, in int, read func(dst []float32, i int)) {
	if k < len(l.weights) {
		l.weights[k].PackFrom(read)
		return
	}
	l.weights = append(l.weights, tensor.NewWeightFrom(p, out, in, read))
}

// then says which networks are run after n, on the way from z to v and on the way back; nil is none.
func (n *network) then(forth, back *network) {
	last := n.layers[len(n.layers)-1].weights
	n.undo = append(n.undo[:0], last...)
	for i := range n.layers[:len(n.layers)-1] {
		n.layers[i].weights[0].Then(n.layers[i+1].weights...)
	}
	last[0].Then(forth.first()...)
	n.undo[0].Then(back.first()...)
}

// first is the first layer's weights.
func (n *network) first() []tensor.Weight {
	if n == nil {
		return nil
	}
	return n.layers[0].weights
}

// out is the width of all outputs together.
func (l *layer) out() int { return len(l.bias) }

// runner is the memory in which a Session runs one network at a time.
type runner struct {
	hidden [2]tensor.Tensor // [rows][widest hidden layer]
	xhat   tensor.Tensor    // [rows][widest normalised layer]
	rstd   tensor.Tensor    // [1][max(rows, widest normalised layer)]
}

// layout takes the memory for up to rows of f's networks.
func (r *runner) layout(a *tensor.Arena, f *Flow, rows int) {
	width, normal := 0, 0
	f.networks(func(n *network) {
		for i := range n.layers[:len(n.layers)-1] {
			width = max(width, n.layers[i].out())
			if n.norms != nil {
				normal = max(normal, n.layers[i].out())
			}
		}
	})
	r.hidden = [2]tensor.Tensor{a.Take(rows, width), a.Take(rows, width)}
	r.xhat, r.rstd = a.Take(rows, normal), a.Take(1, max(rows, normal))
}

// reserve prepares dev for n and up to rows.
func (n *network) reserve(dev *tensor.Device, rows int) {
	for _, l := range n.layers {
		l.weights[0].Reserve(dev, len(l.weights)*rows)
	}
}

// forward computes dst [m][out] from x [m][in].
func (n *network) forward(p *pass, dst, x tensor.Tensor) {
	r, last := &p.runner, len(n.layers)-1
	for i := range last {
		l := &n.layers[i]
		h := r.hidden[i%2].Front(x.Rows, l.out())
		if n.norms == nil {
			p.dev.GroupedMatMul(h, x, l.weights, matmul.Epilogue{Bias: l.bias, Act: matmul.LeakyReLU})
		} else {
			xhat := r.xhat.Front(x.Rows, l.out())
			p.dev.GroupedMatMul(xhat, x, l.weights, matmul.Epilogue{Bias: l.bias})
			n.norms[i].forward(p.flow.values, h, xhat, r.rstd.Data)
			leakyReLU(h.Data)
		}
		x = h
	}
	weights := n.layers[last].weights
	if p.back {
		weights = n.undo
	}
	p.dev.GroupedMatMul(dst, x, weights, matmul.Epilogue{Bias: n.layers[last].bias})
}
