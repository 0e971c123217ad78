package flow

import (
	"netfusion/kernels/matmul"
	"netfusion/kernels/program"
	"netfusion/tensor"
)

// gpuChain is all that lies between a condition with residuals and the linear layer, on the way from v to z, as one launch: the
// embedder, its guidance, and every block. Layers of few rows take the time in which one is read and the next is told that it may
// begin; a program.Program makes the most of the first and the least of the second.
type gpuChain struct {
	u, v, x tensor.Buffer // [2m][inputs] as in gpuPass, [m][Latent], and what comes out, [m][Latent] with zeros behind
	program *tensor.GPUProgram
}

// chainRows is up to how many rows a chain is faster than a launch for each layer: more take longer to hand on than weights to read.
const chainRows = 8

// gpuChainKey tells the chains of a Queue apart.
type gpuChainKey struct {
	f        *GPUFlow
	m        int
	guidance tensor.DevicePtr
}

// chain returns the one for m rows and guidance [1], or nil if launches do as well.
func (f *GPUFlow) chain(q *tensor.Queue, m int, guidance tensor.Array[float32]) *gpuChain {
	format, ok := tensor.ProgramFormat(f.embedder.layers[0].weights[0].Precision)
	if !ok || m > chainRows || len(f.blocks) == 0 || f.maps != nil {
		return nil
	}
	c := tensor.Kept(q, gpuChainKey{f, m, guidance.Ptr}, func() *gpuChain {
		n := f.Config.Latent
		c := &gpuChain{u: q.KeepBuffer(2*m, f.inputs), v: q.KeepBuffer(m, n), x: q.KeepBuffer(m, up(n))}
		b := chainBuilder{program.Program{Format: format}, f, m}
		b.build(c, guidance)
		c.program = q.NewProgram(&b.Program)
		return c
	})
	if c.program == nil {
		return nil
	}
	return c
}

// chainBuilder makes the Program of a chain.
type chainBuilder struct {
	program.Program
	f *GPUFlow
	m int
}

func (b *chainBuilder) build(c *gpuChain, guidance tensor.Array[float32]) {
	f, m := b.f, b.m
	r := &f.row
	embed := b.network(&f.embedder, c.u.Program(), 2*m, f.Config.Embed)[0]
	row, next := b.Locals(m, r.end), b.Locals(m, r.end)
	b.move(row, c.v.Program(), f.undo)
	b.Add(&program.Move{M: m, N: r.ne, X: embed, Base: embed.Row(m), Factor: guidance.Address(), Out: row.Column(r.e)})
	for i := len(f.blocks) - 1; i >= 0; i-- {
		bl := &f.blocks[i]
		for k := 1; k >= 0; k-- {
			in, y, n := row.Column(r.e), row, r.nb
			if k == 1 {
				in, y, n = row, row.Column(r.a), r.na
			}
			out := b.network(&bl.nets[k], in, m, n, n)
			b.Add(&program.Uncouple{M: m, N: n, Raw: out[0], Shift: out[1], State: y, Alpha: f.Config.Clamp})
		}
		if i > 0 {
			b.move(next, row, bl.back)
			row, next = next, row
		}
	}
	b.move(c.x.Program(), row, f.out)
}

// move is tensor.Queue.Columns.
func (b *chainBuilder) move(to, x program.Matrix, m tensor.ColumnMap) {
	b.Add(&program.Move{M: b.m, N: m.From.Len, X: x, From: m.From.Address(), Before: m.Before.Address(), Scale: m.Scale.Address(),
		After: m.After.Address(), Out: to})
}

// network adds n for m rows of x, and returns its outputs, parts of so many columns.
func (b *chainBuilder) network(n *gpuNetwork, x program.Matrix, m int, parts ...int) (out []program.Matrix) {
	var norm *program.Norm
	width := 0 // of what each mlp reads, where that is not all that its weights have columns for
	for i := range n.layers {
		l := &n.layers[i]
		product := func(k, from, columns int, act matmul.Act, to program.Matrix) {
			w := l.weights[k].Rows(from, from+columns)
			bias := l.bias.Slice(k*l.weights[k].N, (k+1)*l.weights[k].N).Slice(from, from+columns)
			p := &program.MatMul{M: m, N: columns, K: w.K, X: x, Norm: norm, Weights: w.Program(), Bias: bias.Address(), Act: act, Out: to}
			if width > 0 {
				p.K = width
			}
			if len(l.weights) > 1 {
				p.X = x.Column(k * w.K)
			}
			b.Add(p)
		}
		if i == len(n.layers)-1 {
			for j, columns := range parts {
				k, from := 0, j*columns
				if len(l.weights) > 1 {
					k, from = j, 0
				}
				out = append(out, b.Singles(m, columns))
				product(k, from, columns, matmul.None, out[j])
			}
			return out
		}
		next, act := l.norm.program(), matmul.LeakyReLU
		h := b.Hidden
		if next != nil {
			h, act = b.Singles, matmul.None
		}
		y := h(m, l.bias.Len)
		for k, w := range l.weights {
			product(k, 0, w.N, act, y.Column(k*w.N))
		}
		x, norm, width = y, next, 0
		if len(l.weights) == 1 && len(n.layers[i+1].weights) == 1 {
			width = l.bias.Len
		}
	}
	return nil
}

// program is what the product that follows n does to its rows; nil for no norm.
func (n *gpuNorm) program() *program.Norm {
	switch {
	case n.gamma.Len > 0:
		return &program.Norm{Gamma: n.gamma.Address(), Beta: n.beta.Address(), Epsilon: normEpsilon, Act: matmul.LeakyReLU}
	case n.fixed.Scale.Len > 0:
		return &program.Norm{Gamma: n.fixed.Scale.Address(), Beta: n.offset.Address(), Fixed: true, Act: matmul.LeakyReLU}
	}
	return nil
}
