package flow

import "netfusion/tensor"

// gpuBlockTrace is what the way forth through a block leaves beside its row.
type gpuBlockTrace struct {
	nets [2]gpuTrace
	s    [2]tensor.Buffer // [rows][half], clamped log-scales
}

// Step records the loss of In and its gradient, by the parameters in the slab values. draw [2] is the seed and the first sample of masks
// and noise: the step's number times 2¹⁶.
func (d *GPUGradient) Step(values tensor.Array[float32], draw tensor.Array[uint64]) {
	r := &gpuRun{GPUGradient: d, values: values, draw: draw}
	q := d.q
	r.run()
	weight := 1 / float32(d.Rows)
	grad, next := q.Take(d.Rows, d.row.end), q.Take(d.Rows, d.row.end)
	q.CoupleLoss(d.Losses.Z, grad, d.blocks[len(d.blocks)-1].row, d.last, d.logdet, weight)
	for i := len(d.blocks) - 1; i >= 0; i-- {
		t := &d.blocks[i]
		r.blockBack(t, grad, r.traces[i])
		scale := t.scale.vector(values)
		q.ColumnsSums(t.loc.vector(d.Gradient), t.scale.vector(d.Gradient), grad, t.grads, t.row, t.reads, scale)
		if i > 0 {
			q.ColumnsBack(next, grad, t.back, scale, t.which)
			grad, next = next, grad
		}
	}
	var read tensor.Buffer // the gradient of what the embedder read, where that comes of parameters
	if len(d.convs) > 0 {
		read = q.Take(d.Rows, d.reads)
	}
	r.backward(&d.embedder, read, []tensor.Buffer{grad.Columns(d.row.e, d.row.e+d.row.ne)}, r.embedded, false)
	r.lookBack(read)
	if d.flow.Config.Classes > 0 {
		trace := r.classes(weight)
		r.backward(&d.head, tensor.Buffer{}, []tensor.Buffer{d.drawn}, trace, false)
	}
	q.SumSquares(d.Squares.Slice(d.Squares.Len-vectorParts, d.Squares.Len), d.Gradient.Slice(d.slab.regions[1], d.slab.size))
}

// LogProb records the losses of In without their gradient: Dropout and noise are off, and BatchNorm goes by its running averages. v
// [rows][Latent], unless it is none, gets the residuals.
func (d *GPUGradient) LogProb(values tensor.Array[float32], v tensor.Buffer) {
	r := &gpuRun{GPUGradient: d, values: values, frozen: true}
	q := d.q
	r.run()
	row := d.blocks[len(d.blocks)-1].row
	q.CoupleLoss(d.Losses.Z, tensor.Buffer{}, row, d.last, d.logdet, 0)
	if !v.None() {
		q.Columns(v, row, d.leave)
	}
	if d.flow.Config.Classes > 0 {
		r.classes(0)
	}
}

// run runs In to the last block's row.
func (r *gpuRun) run() {
	d, q := r.GPUGradient, r.q
	u := q.Take(d.Rows, d.inputs)
	r.u = u
	d.condition(q, u, d.In.C)
	if c := d.flow.Config; c.Classes > 0 {
		hat := q.TakePacked(d.Rows, c.Class)
		r.scores = q.TakePacked(d.Rows, c.Classes)
		q.Posterior(hat, r.scores, d.In.E, tensor.Matrix(d.table, c.Classes, c.Class), 0.5/(c.ClassNoise*c.ClassNoise))
		q.Columns(u.Columns(d.text, d.inputs), hat, d.standardiseClass)
	}
	z := d.In.Z
	z.Cols = z.Ld
	x := d.linear.forward(q, z, u)
	q.Columns(tensor.Matrix(d.logdet, d.Rows, 1), d.In.C, tensor.ColumnMap{From: d.zero})
	q.LogScales(d.Losses.LogScales, r.values.Slice(d.slab.scales[0], d.slab.scales[1]))
	for i := range d.blocks {
		t := &d.blocks[i]
		q.Columns(t.row.Columns(d.row.e, d.second()), x, tensor.ColumnMap{From: t.from, Before: t.loc.vector(r.values), Scale: t.scale.vector(r.values)})
		if i == 0 {
			r.embedded = r.forward(&d.embedder, []tensor.Buffer{t.row.Columns(d.row.e, d.row.e+d.row.ne)}, r.read())
		}
		r.traces = append(r.traces, r.block(t))
		x = t.row
	}
}

// read returns what the embedder reads: the features of a map beside ê, or the condition with noise on its text part.
func (r *gpuRun) read() tensor.Buffer {
	q := r.q
	if r.maps != nil {
		x, features := q.Take(r.Rows, r.reads), up(r.flow.Config.features())
		r.looked = r.look(x.Columns(0, features), r.In.C)
		q.Copy(x.Columns(features, r.reads), r.u.Columns(r.text, r.inputs))
		return x
	}
	if r.frozen || r.blur.None() {
		return r.u
	}
	noisy := q.Take(r.Rows, r.inputs)
	q.Copy(noisy, r.u)
	q.Normal(r.blur.Columns(0, r.flow.Config.Cond), r.draw, blurStream, 0)
	q.AddScaled(noisy, r.blur, r.noise)
	return noisy
}

// block runs the row of t through its couplings.
func (r *gpuRun) block(t *gpuTrainBlock) (b gpuBlockTrace) {
	q, p := r.q, &r.row
	second := r.second()
	for k := range t.nets {
		in, x, y := t.row.Columns(p.e, p.end), t.row.Columns(p.end, p.end+p.nb), t.row.Columns(0, p.nb)
		if k == 1 {
			in, x, y = t.row.Columns(0, p.a), t.row.Columns(p.a, p.a+p.na), t.row.Columns(second, second+p.na)
		}
		var outs []tensor.Buffer
		n := t.nets[k]
		for range n.ids {
			outs = append(outs, q.Take(r.Rows, n.layers[len(n.layers)-1].out))
		}
		b.nets[k] = r.forward(n, outs, in)
		raw, shift := parts(outs, x.Cols)
		b.s[k] = q.TakePacked(r.Rows, x.Cols)
		q.Couple(y, x, raw, shift, b.s[k], r.logdet, r.flow.Config.Clamp)
	}
	return b
}

// parts returns the log-scales and the shifts of n elements, which are the outputs of one subnet or of two.
func parts(outs []tensor.Buffer, n int) (s, t tensor.Buffer) {
	if len(outs) == 1 {
		return outs[0].Columns(0, n), outs[0].Columns(n, 2*n)
	}
	return outs[0], outs[1]
}

// blockBack turns the gradient of what t left into that of what it read, [b ; e ; a], and adds to that of the embedding.
func (r *gpuRun) blockBack(t *gpuTrainBlock, grad tensor.Buffer, b gpuBlockTrace) {
	q, p := r.q, &r.row
	for k := 1; k >= 0; k-- {
		g, x, in := grad.Columns(0, p.nb), t.row.Columns(p.end, p.end+p.nb), grad.Columns(p.e, p.end)
		if k == 1 {
			g, x, in = grad.Columns(p.a, p.a+p.na), t.row.Columns(p.a, p.a+p.na), grad.Columns(0, p.a)
		}
		raw, shift := parts(t.draw[k], x.Cols)
		q.CoupleBack(g, raw, shift, x, b.s[k], -1/float32(r.Rows), r.flow.Config.Clamp)
		r.backward(t.nets[k], in, t.draw[k], b.nets[k], true)
	}
}

// classes runs the class head; its logits become weight times their gradient.
func (r *gpuRun) classes(weight float32) gpuTrace {
	t := r.forward(&r.head, []tensor.Buffer{r.drawn}, r.u.Columns(0, r.text))
	r.q.MixtureLoss(r.Losses.Class, r.drawn, r.scores, weight)
	return t
}
