package flow

import (
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// gpuTrainNet is an mlp in training.
type gpuTrainNet struct {
	id     uint32
	layers []gpuTrainLayer
}

type gpuTrainLayer struct {
	weight, bias *gpuPiece
	squares      [2]int
	out          int           // outputs that there are
	norm         *gpuTrainNorm // behind it, or nil
}

type gpuTrainNorm struct {
	host                 *norm
	gamma, beta          *gpuPiece
	mean, variance, rstd tensor.Array[float32] // of BatchNorm
	widen                tensor.ColumnMap      // see gpuNorm
}

// network lays out n, whose input is width wide with its elements in columns, or as they come if that is nil.
func (d *GPUGradient) network(b *slabBuilder, n *mlp, columns []int, width int, kind gpuKind) *gpuTrainNet {
	t := &gpuTrainNet{id: n.id}
	for i := range n.layers {
		l := &n.layers[i]
		hidden, rows := i < len(n.layers)-1, l.out
		wide := hidden && n.norms == nil || hidden && n.norms[i].batch
		if wide {
			rows = up(l.out)
		}
		layer := gpuTrainLayer{weight: b.add(l.w, kind, rows, width, columns), bias: b.add(l.b, vectorKind, 1, rows, nil), out: l.out}
		if hidden && n.norms != nil {
			layer.norm = d.trainNorm(b, &n.norms[i], rows)
		}
		t.layers = append(t.layers, layer)
		columns, width = nil, up(rows)
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
	likely tensor.Buffer         // see scores
	frozen bool                  // no dropout, no noise, and BatchNorm by its running averages
}

// gpuTrace is what the way forth through a network leaves for the way back.
type gpuTrace struct {
	inputs []tensor.Buffer // what each layer read
	normal []tensor.Buffer // what the norm behind each layer read; of a BatchNorm, x̂
}

// forward computes y [rows][out] from x.
func (r *gpuRun) forward(n *gpuTrainNet, y, x tensor.Buffer) (t gpuTrace) {
	q, m := r.q, r.Rows
	for i := range n.layers {
		l := &n.layers[i]
		t.inputs = append(t.inputs, x)
		w, e := tensor.AsWeight(l.weight.matrix(r.values)), tensor.GPUEpilogue{Bias: l.bias.vector(r.values)}
		if i == len(n.layers)-1 {
			q.MatMul(y, x, w, e)
			break
		}
		var h, read tensor.Buffer
		switch norm := l.norm; {
		case norm == nil:
			h = q.Take(m, w.N)
			e.Act = matmul.LeakyReLU
			q.MatMul(h, x, w, e)
		case norm.host.batch:
			h, read = q.Take(m, w.N), q.Take(m, w.N)
			q.MatMul(read, x, w, e)
			q.BatchNorm(h, read, norm.gamma.vector(r.values), norm.beta.vector(r.values), norm.mean, norm.variance, norm.rstd,
				normMomentum, normEpsilon, r.frozen)
		default:
			h, read = q.TakePacked(m, w.N), q.TakePacked(m, w.N)
			q.MatMul(read, x, w, e)
			q.LayerNorm(h, read, tensor.Buffer{}, norm.gamma.vector(r.values), norm.beta.vector(r.values), normEpsilon, matmul.LeakyReLU)
		}
		r.dropout(h, n, i)
		if x = h; l.norm != nil && l.norm.widen.From.Len > 0 {
			x = q.Take(m, up(w.N))
			q.Columns(x, h, l.norm.widen)
		}
		t.normal = append(t.normal, read)
	}
	return t
}

// dropout applies the masks of the outputs h of layer i of n, which are the same on the way forth and back.
func (r *gpuRun) dropout(h tensor.Buffer, n *gpuTrainNet, i int) {
	cut := uint32(r.regularisation.Dropout * 256)
	if cut == 0 || r.frozen {
		return
	}
	r.q.Dropout(h.Columns(0, n.layers[i].out), r.draw, dropoutStream|n.id<<4|uint32(i), cut, 256/float32(256-cut))
}

// backward writes the gradients of n's parameters, and that of its input to dx unless that is none, from that of its outputs; with add
// it adds to dx.
func (r *gpuRun) backward(n *gpuTrainNet, dx, dy tensor.Buffer, t gpuTrace, add bool) {
	q := r.q
	defer q.Release(q.Taken())
	for i := len(n.layers) - 1; i >= 0; i-- {
		l, x := &n.layers[i], t.inputs[i]
		w := l.weight.matrix(r.values)
		q.LinearWeights(l.weight.matrix(r.Gradient), l.bias.vector(r.Gradient), r.Squares.Slice(l.squares[0], l.squares[1]), dy, x)
		if i == 0 {
			if !dx.None() {
				q.LinearInputs(dx, dy, w, tensor.Buffer{}, add)
			}
			break
		}
		d := q.Take(r.Rows, x.Cols)
		q.LinearInputs(d, dy, w, x, false)
		r.dropout(d, n, i-1)
		dy = r.normBack(n.layers[i-1].norm, d, t.normal[i-1])
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
