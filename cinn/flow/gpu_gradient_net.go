package flow

import (
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// gpuTrainNet is mlps of one shape that read the same input, in training. Their first layers are one, and what they leave lies side by
// side.
type gpuTrainNet struct {
	ids    []uint32
	layers []gpuTrainLayer
}

type gpuTrainLayer struct {
	parts []gpuTrainPart // of each mlp, or one for all
	out   int            // outputs that each mlp has
	wide  int            // and with the gap behind them
	norm  *gpuTrainNorm  // behind the layer of the only mlp, or nil
}

// gpuTrainPart is a linear layer.
type gpuTrainPart struct {
	weight, bias gpuView
	squares      [2]int
}

type gpuTrainNorm struct {
	host                 *norm
	gamma, beta          *gpuPiece
	mean, variance, rstd tensor.Array[float32] // of BatchNorm
	widen                tensor.ColumnMap      // see gpuNorm
}

// network lays out mlps, whose input is width wide with its elements in columns, or as they come if that is nil.
func (d *GPUGradient) network(b *slabBuilder, columns []int, width int, kind gpuKind, mlps ...*mlp) *gpuTrainNet {
	t, first := &gpuTrainNet{}, mlps[0]
	for _, n := range mlps {
		t.ids = append(t.ids, n.id)
	}
	for i := range first.layers {
		hidden := i < len(first.layers)-1
		layer := gpuTrainLayer{out: first.layers[i].out, wide: first.layers[i].out}
		if hidden && (first.norms == nil || first.norms[i].batch) {
			layer.wide = up(layer.out)
		}
		var weights, biases []*gpuPiece
		for _, n := range mlps {
			weights = append(weights, b.add(n.layers[i].w, kind, layer.wide, width, columns))
		}
		for _, n := range mlps {
			biases = append(biases, b.add(n.layers[i].b, vectorKind, 1, layer.wide, nil))
		}
		together := 1
		if i == 0 {
			together = len(mlps)
		}
		for k := 0; k < len(mlps); k += together {
			layer.parts = append(layer.parts, gpuTrainPart{weight: gpuView{weights[k], together}, bias: gpuView{biases[k], together}})
		}
		if hidden && first.norms != nil {
			layer.norm = d.trainNorm(b, &first.norms[i], layer.wide)
		}
		t.layers = append(t.layers, layer)
		columns, width = nil, up(layer.wide)
	}
	return t
}

func (d *GPUGradient) trainNorm(b *slabBuilder, n *norm, width int) *gpuTrainNorm {
	g := d.q.GPU()
	t := &gpuTrainNorm{host: n, gamma: b.add(n.gamma, vectorKind, 1, width, nil), beta: b.add(n.beta, vectorKind, 1, width, nil)}
	switch {
	case n.batch:
		mean, variance := make([]float32, width), constant(width, 1)
		copy(mean, n.mean)
		copy(variance, n.variance)
		t.mean, t.variance, t.rstd = tensor.Put(g, mean), tensor.Put(g, variance), tensor.Alloc[float32](g, width)
	case n.n%gpuUnit != 0:
		t.widen = gapped(g, n.n)
	}
	return t
}

// gpuRun is one recording of a GPUGradient.
type gpuRun struct {
	*GPUGradient
	values tensor.Array[float32] // the slab of parameters
	draw   tensor.Array[uint64]  // of masks and noise
	frozen bool                  // no dropout, no noise, and BatchNorm by its running averages

	// What the way forth leaves.
	u        tensor.Buffer // [rows][inputs], the condition
	scores   tensor.Buffer // [rows][Classes], log N(e; E_k, σ²I) without its constant
	embedded gpuTrace
	traces   []gpuBlockTrace
	looked   []gpuMapTrace
}

// gpuTrace is what the way forth through a network leaves for the way back.
type gpuTrace struct {
	inputs []tensor.Buffer // what each layer read
	normal []tensor.Buffer // what the norm behind each layer read; of a BatchNorm, x̂
}

// columnsOf cuts x into so many parts beside each other.
func columnsOf(x tensor.Buffer, parts int) (all []tensor.Buffer) {
	n := x.Cols / parts
	for k := range parts {
		all = append(all, x.Columns(k*n, (k+1)*n))
	}
	return all
}

// forward computes the outputs of n's mlps, [rows][out] each, from x.
func (r *gpuRun) forward(n *gpuTrainNet, outs []tensor.Buffer, x tensor.Buffer) (t gpuTrace) {
	q, m := r.q, r.Rows
	for i := range n.layers {
		l := &n.layers[i]
		t.inputs = append(t.inputs, x)
		if i == len(n.layers)-1 {
			r.multiply(l, outs, x, matmul.None)
			break
		}
		var h, read tensor.Buffer
		switch norm := l.norm; {
		case norm == nil:
			h = q.Take(m, len(n.ids)*l.wide)
			r.multiply(l, columnsOf(h, len(l.parts)), x, matmul.LeakyReLU)
		case norm.host.batch:
			h, read = q.Take(m, l.wide), q.Take(m, l.wide)
			r.multiply(l, []tensor.Buffer{read}, x, matmul.None)
			q.BatchNorm(h, read, norm.gamma.vector(r.values), norm.beta.vector(r.values), norm.mean, norm.variance, norm.rstd,
				normMomentum, normEpsilon, r.frozen)
		default:
			h, read = q.TakePacked(m, l.wide), q.TakePacked(m, l.wide)
			r.multiply(l, []tensor.Buffer{read}, x, matmul.None)
			q.LayerNorm(h, read, tensor.Buffer{}, norm.gamma.vector(r.values), norm.beta.vector(r.values), normEpsilon, matmul.LeakyReLU)
		}
		r.dropout(h, n, i)
		if x = h; l.norm != nil && l.norm.widen.From.Len > 0 {
			x = q.Take(m, up(l.wide))
			q.Columns(x, h, l.norm.widen)
		}
		t.normal = append(t.normal, read)
	}
	return t
}

// multiply computes act(x·Wᵀ + b) of each part of l.
func (r *gpuRun) multiply(l *gpuTrainLayer, outs []tensor.Buffer, x tensor.Buffer, act matmul.Act) {
	from := columnsOf(x, len(l.parts))
	for k, p := range l.parts {
		r.q.MatMul(outs[k], from[k], tensor.AsWeight(p.weight.matrix(r.values)), tensor.GPUEpilogue{Bias: p.bias.vector(r.values), Act: act})
	}
}

// dropout applies the masks of the outputs h of layer i of n, which are the same on the way forth and back.
func (r *gpuRun) dropout(h tensor.Buffer, n *gpuTrainNet, i int) {
	cut := uint32(r.regularisation.Dropout * 256)
	if cut == 0 || r.frozen {
		return
	}
	for k, part := range columnsOf(h, len(n.ids)) {
		r.q.Dropout(part.Columns(0, n.layers[i].out), r.draw, dropoutStream|n.ids[k]<<4|uint32(i), cut, 256/float32(256-cut))
	}
}

// backward writes the gradients of n's parameters, and that of its input to dx unless that is none, from those of its outputs; with add
// it adds to dx.
func (r *gpuRun) backward(n *gpuTrainNet, dx tensor.Buffer, dy []tensor.Buffer, t gpuTrace, add bool) {
	q := r.q
	defer q.Release(q.Taken())
	for i := len(n.layers) - 1; i >= 0; i-- {
		l, x := &n.layers[i], t.inputs[i]
		d := dx
		if i > 0 {
			d = q.Take(r.Rows, x.Cols)
		}
		var back []tensor.LinearBack
		for k, p := range l.parts {
			b := tensor.LinearBack{DX: d, Add: add, X: x, DY: dy[k], W: p.weight.matrix(r.values),
				DW: p.weight.matrix(r.Gradient), DB: p.bias.vector(r.Gradient), Squares: r.Squares.Slice(p.squares[0], p.squares[1])}
			if i > 0 {
				b.X = columnsOf(x, len(l.parts))[k]
				b.DX, b.Add, b.H = columnsOf(d, len(l.parts))[k], false, b.X
			}
			back = append(back, b)
		}
		q.LinearBack(back...)
		if i > 0 {
			r.dropout(d, n, i-1)
			dy = columnsOf(r.normBack(n.layers[i-1].norm, d, t.normal[i-1]), len(n.layers[i-1].parts))
		}
	}
}

// normBack returns the gradient of what norm read from that of what it gave.
func (r *gpuRun) normBack(norm *gpuTrainNorm, d, read tensor.Buffer) tensor.Buffer {
	q := r.q
	if norm == nil {
		return d
	}
	gamma, dgamma, dbeta := norm.gamma.vector(r.values), norm.gamma.vector(r.Gradient), norm.beta.vector(r.Gradient)
	if norm.host.batch {
		q.BatchNormBack(d, read, gamma, norm.rstd, dgamma, dbeta)
		return d
	}
	narrow, old := q.TakePacked(r.Rows, read.Cols), q.TakePacked(r.Rows, read.Cols)
	q.Copy(narrow, d.Columns(0, read.Cols))
	q.LayerNormBack(narrow, read, old, gamma, normEpsilon)
	q.ColumnSums(dgamma, old, read)
	q.ColumnSums(dbeta, old, tensor.Buffer{})
	if norm.widen.From.Len == 0 {
		return narrow
	}
	q.Columns(d, narrow, norm.widen)
	return d.Columns(0, read.Cols)
}
