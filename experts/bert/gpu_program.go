package bert

import (
	"netfusion/kernels/program"
	"netfusion/tensor"
)

// gpuChain is the whole encoder for one short text as one launch: its layers take the time in which one is done and the next is told so,
// which a program.Program has least of.
type gpuChain struct {
	out     tensor.Buffer // [1][Hidden]
	program *tensor.GPUProgram
}

// chainValues is how many values a text's states may have for which a chain is faster than launches: its blocks read all rows of what
// they multiply, each value with the number of the launch beside it. That is 85 tokens of a small encoder, and 42 of BERT-base.
const chainValues = 1 << 15

// gpuChainKey tells the chains of a Queue apart.
type gpuChainKey struct {
	m                  *GPUModel
	tokens             int
	ids, types, starts tensor.DevicePtr
}

// chain returns the one for x, of one text whose places are 0, 1, 2, …, or nil if launches do as well or there is no Program for it.
func (m *GPUModel) chain(q *tensor.Queue, x GPUTokens) *gpuChain {
	c, n := m.Config, x.IDs.Len
	format, ok := tensor.ProgramFormat(m.precision)
	if !ok || x.Starts.Len != 2 || n*c.Hidden > chainValues || n > c.MaxPositions || c.Hidden/c.Heads%4 != 0 || activations[c.Activation].tanhGELU {
		return nil
	}
	chain := tensor.Kept(q, gpuChainKey{m, n, x.IDs.Ptr, x.Types.Ptr, x.Starts.Ptr}, func() *gpuChain {
		b := &gpuChain{out: q.KeepBuffer(1, c.Hidden)}
		b.program = q.NewProgram(m.chainProgram(format, b.out, x))
		return b
	})
	if chain.program == nil {
		return nil
	}
	return chain
}

// chainProgram makes the Program of a chain.
func (m *GPUModel) chainProgram(format program.Format, out tensor.Buffer, x GPUTokens) *program.Program {
	p, c, t := &program.Program{Format: format}, m.Config, &m.tables
	n, h, r := x.IDs.Len, c.Hidden, c.Representation
	count := x.Starts.Slice(1, 2).Address()
	table := func(a tensor.Array[float32]) program.Matrix { return tensor.Matrix(a, a.Len/h, h).Program() }
	embed := &program.Embed{M: n, N: h, IDs: x.IDs.Address(), Kinds: x.Types.Address(), Table: t.Words.F32.Address(), Stride: 4 * h,
		Places: table(t.Positions), Types: table(t.Types), Out: p.Singles(n, h)}
	if t.Words.I8.Len > 0 {
		embed.Table, embed.Stride, embed.Scale = t.Words.I8.Address(), h, t.Words.Scale.Address()
	}
	p.Add(embed)
	// Sums are states before their normalisation, which is done by all who read them.
	sums, norm := embed.Out, gpuNorm{t.Gamma, t.Beta}
	normalised := func(kept program.Matrix) *program.Norm {
		return &program.Norm{Gamma: norm.gamma.Address(), Beta: norm.beta.Address(), Epsilon: c.Epsilon, Copy: kept}
	}
	for i := range m.layers[:r.Layer] {
		l := &m.layers[i]
		states, qkv, mixed := p.Singles(n, h), p.Hidden(n, 3*h), p.Hidden(n, h)
		p.Add(&program.MatMul{M: n, N: 3 * h, K: h, X: sums, Norm: normalised(states), Weights: l.qkv.W.Program(), Bias: l.qkv.Bias.Address(), Out: qkv},
			&program.Attend{Tokens: n, Heads: c.Heads, Depth: h / c.Heads, Count: count, Q: qkv, K: qkv.Column(h), V: qkv.Column(2 * h), Out: mixed})
		sums = p.Singles(n, h)
		p.Add(&program.MatMul{M: n, N: h, K: h, X: mixed, Weights: l.out.W.Program(), Bias: l.out.Bias.Address(), Residual: states, Out: sums})
		norm = l.outNorm
		states, inner := p.Singles(n, h), p.Hidden(n, c.Intermediate)
		p.Add(&program.MatMul{M: n, N: c.Intermediate, K: h, X: sums, Norm: normalised(states), Weights: l.up.W.Program(), Bias: l.up.Bias.Address(),
			Act: activations[c.Activation].act, Out: inner})
		sums = p.Singles(n, h)
		p.Add(&program.MatMul{M: n, N: h, K: c.Intermediate, X: inner, Weights: l.down.W.Program(), Bias: l.down.Bias.Address(), Residual: states, Out: sums})
		norm = l.downNorm
	}
	pool := &program.Pool{M: n, N: h, Count: count, X: sums, Norm: *normalised(program.Matrix{}), Unit: r.Normalize, Out: out.Program()}
	if r.Pooling == CLS {
		pool.M, pool.Count = 1, 0
	}
	p.Add(pool)
	return p
}
