package flow

import (
	"errors"
	"math"
	"slices"

	"netfusion/nn"
	"netfusion/tensor"
)

// GPUFlow is a Flow's weights on a GPU, in whose Queues it computes what a Session computes. It never changes.
//
// Its products are those of the precision that it was loaded in. In float32 they are float32 throughout, unless the GPU was opened to
// round to tf32: a flow is a long chain whose errors multiply, and of few rows, as when one sample is drawn, the time goes into
// reading weights either way. The class head and the linear layer are float32 always, as in a Session.
type GPUFlow struct {
	Config Config
	gpuInputs
	row gpuRow

	embedder, head gpuNetwork
	linear         gpuLinear
	blocks         []gpuBlock
	enter, leave   tensor.ColumnMap // the linear layer's outputs, as the first block reads them; and what the last one leaves, as v
	undo, out      tensor.ColumnMap // v, as the last block left it; and what the first one read, as the linear layer's outputs
	whole          tensor.ColumnMap // elements of z with zeros behind them
	zero           tensor.Array[int32]
	table          tensor.GPUTable // [Classes][Class]
	constant       float64         // what log|det ∂v/∂z| has beside the sums of log-scales
}

// gpuBlock is a block's couplings, and what lies between it and its neighbours, an ActNorm and a permutation.
type gpuBlock struct {
	nets [2]gpuNetwork
	next tensor.ColumnMap // what this block leaves, as the next one reads it
	back tensor.ColumnMap // what this block read, as the one before left it
}

// gpuNetwork is mlps that read the same input, as network is: the first layers are one product.
type gpuNetwork struct{ layers []gpuLayer }

type gpuLayer struct {
	weights []tensor.GPUWeight
	bias    tensor.Array[float32] // of all
	norm    gpuNorm
}

// gpuNorm stands behind a layer; the zero gpuNorm is none.
type gpuNorm struct {
	gamma, beta tensor.Array[float32] // LayerNorm
	widen       tensor.ColumnMap      // brings its rows to multiples of gpuUnit values, if they are none
	fixed       tensor.ColumnMap      // BatchNorm by its running averages
	offset      tensor.Array[float32] // what fixed adds to scaled values
}

// gpuLinear is the closed-form first layer; see affine. Without weights it is the identity.
type gpuLinear struct {
	white, whiteA, unwhite, predict tensor.GPUWeight
	whiteB, b                       tensor.Array[float32]
}

// LoadGPU reads the Flow that is all of source onto a GPU. Its Config is JSON.
func LoadGPU(source nn.Source, config []byte, p tensor.Precision, g *tensor.GPU) (*GPUFlow, error) {
	var d *GPUFlow
	f, err := loadExpert(source, config, p, func(f *Flow, read reader) { d = f.gpu(p, g, read) })
	if err == nil {
		err = f.onGPU(g)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// GPU copies f to a GPU, to be multiplied in precision p.
func (f *Flow) GPU(p tensor.Precision, g *tensor.GPU) (*GPUFlow, error) {
	if f.lean {
		return nil, errors.New("flow: a flow that was loaded for sessions cannot be copied")
	}
	return f.gpu(p, g, f.view), f.onGPU(g)
}

// onGPU tells why f cannot be on a GPU, or what went wrong while it was loaded.
func (f *Flow) onGPU(g *tensor.GPU) error {
	return g.Err()
}

// gpu uploads f, whose matrices read reads.
func (f *Flow) gpu(p tensor.Precision, g *tensor.GPU, read reader) *GPUFlow {
	c := f.Config
	if f.onGPU(g) != nil {
		return nil
	}
	d := &GPUFlow{Config: c, gpuInputs: f.gpuInputs(g), row: newGPURow(c)}
	l := gpuLoader{g, f, read}
	if d.maps != nil {
		l.maps(p, d.maps)
	}
	d.embedder = l.network(p, d.readColumns, d.reads, c.Embed, f.embedder)
	for i := range f.blocks {
		var b gpuBlock
		for k, nets := range f.blocks[i].nets {
			columns, width := d.row.reads(k)
			_, out := halves(c.Latent, k)
			b.nets[k] = l.network(p, columns, width, d.row.outputs(c, out), nets...)
		}
		d.blocks = append(d.blocks, b)
	}
	f.connect(g, d)
	d.whole, d.zero = gapped(g, c.Latent), tensor.Put(g, []int32{-1})
	for i := range f.blocks {
		d.constant += f.blocks[i].logScale(f)
	}
	d.linear = l.linear(&d.gpuInputs)
	d.constant += float64(f.linear.logdet)
	if c.Classes > 0 {
		d.head = l.network(tensor.F32, nil, d.text, c.Classes, f.head)
		d.table = tensor.GPUTable{Rows: c.Classes, Cols: c.Class, F32: tensor.Put(g, f.table.Data)}
	}
	return d
}

// gpuUnit is how many values are 16 bytes, at multiples of which rows begin that products read.
const gpuUnit = 4

func up(n int) int { return (n + gpuUnit - 1) / gpuUnit * gpuUnit }

// gpuInputs is how the condition u = [c ; ê] lies on a GPU: both parts begin at multiples of gpuUnit, with zeros in the gaps.
type gpuInputs struct {
	text, inputs int   // width of c, and of u, with the gap behind
	inputColumns []int // where the elements of u are
	reads        int   // the same of what the embedder reads, which is u unless the condition is a map
	readColumns  []int
	maps         *gpuMaps // or nil

	standardise, standardiseClass tensor.ColumnMap // c, and ê, as they are in u
	nothing                       tensor.ColumnMap // no c
}

func (f *Flow) gpuInputs(g *tensor.GPU) gpuInputs {
	c := f.Config
	in := gpuInputs{text: up(c.pooled()), maps: f.gpuMaps(g)}
	in.inputs, in.inputColumns = beside(c.pooled(), c.Class)
	in.reads, in.readColumns = beside(c.features(), c.Class)
	in.standardise = f.standardise(g, 0, c.pooled(), max(1, c.Pool*c.Pool))
	in.nothing = tensor.ColumnMap{From: tensor.Put(g, slices.Repeat([]int32{-1}, in.text))}
	if c.Class > 0 {
		in.standardiseClass = f.standardise(g, c.pooled(), c.Class, 1)
	}
	return in
}

// beside is the width of n and m values, each from a multiple of gpuUnit on, and where they are.
func beside(n, m int) (width int, columns []int) {
	for i := range n {
		columns = append(columns, i)
	}
	for i := range m {
		columns = append(columns, up(n)+i)
	}
	return up(n) + up(m), columns
}

// condition records the text part of u for c [m][Cond].
func (in *gpuInputs) condition(q *tensor.Queue, u, c tensor.Buffer) {
	defer q.Release(q.Taken())
	if in.maps != nil {
		sums := q.TakePacked(c.Rows, in.maps.average.Len/in.maps.pixels)
		q.Gather(sums, c, in.maps.average, in.maps.pixels)
		c = sums
	}
	q.Columns(u.Columns(0, in.text), c, in.standardise)
}

// standardise is what makes the elements [at, at+n) of u, of sums of so many values.
func (f *Flow) standardise(g *tensor.GPU, at, n, values int) tensor.ColumnMap {
	m, count := newColumns(up(n)), float32(values)
	for i := range n {
		m.from[i], m.before[i], m.scale[i] = int32(i), -f.mean[at+i]*count, f.inverse[at+i]/count
	}
	return m.put(g)
}

// columnPlan is a ColumnMap in the making. Columns that nothing is done about are zeros.
type columnPlan struct {
	from                 []int32
	before, scale, after []float32
}

func newColumns(n int) columnPlan {
	return columnPlan{slices.Repeat([]int32{-1}, n), make([]float32, n), constant(n, 1), make([]float32, n)}
}

func (m *columnPlan) put(g *tensor.GPU) tensor.ColumnMap {
	c := tensor.ColumnMap{From: tensor.Put(g, m.from)}
	if slices.ContainsFunc(m.before, nonzero) {
		c.Before = tensor.Put(g, m.before)
	}
	if slices.ContainsFunc(m.scale, func(v float32) bool { return v != 1 }) {
		c.Scale = tensor.Put(g, m.scale)
	}
	if slices.ContainsFunc(m.after, nonzero) {
		c.After = tensor.Put(g, m.after)
	}
	return c
}

// gapped is n columns as they are, with zeros behind them up to a multiple of gpuUnit.
func gapped(g *tensor.GPU, n int) tensor.ColumnMap {
	m := newColumns(up(n))
	for i := range n {
		m.from[i] = int32(i)
	}
	return m.put(g)
}

func nonzero(v float32) bool { return v != 0 }

// gpuRow is how a row between the subnets of a block lies on a GPU: [b ; e ; a], each part from a multiple of gpuUnit values on, with
// zeros in the gaps. So what either coupling reads, [b' ; e] or [e ; a], is one part of it, and couplings work in place.
type gpuRow struct {
	na, nb, ne int // elements
	e, a, end  int // where e and a begin, and the width
}

func newGPURow(c Config) gpuRow {
	r := gpuRow{na: c.Latent - c.Latent/2, nb: c.Latent / 2, ne: c.Embed}
	r.e = up(r.nb)
	r.a = r.e + up(r.ne)
	r.end = r.a + up(r.na)
	return r
}

// normal is the column of element i of [a ; b], the order of a block's input.
func (r gpuRow) normal(i int) int {
	if i < r.na {
		return r.a + i
	}
	return i - r.na
}

// coupled is the column of element i of [b' ; a'], the order of which the permutation makes the output.
func (r gpuRow) coupled(i int) int {
	if i < r.nb {
		return i
	}
	return r.a + i - r.nb
}

// reads is what the subnets of coupling k read: where the elements of [a ; e], or of [b' ; e], are in it, and its width.
func (r gpuRow) reads(k int) (columns []int, width int) {
	half, at, e := r.na, r.a-r.e, 0
	width = r.end - r.e
	if k == 1 {
		half, at, e = r.nb, 0, r.e
		width = r.a
	}
	for i := range half {
		columns = append(columns, at+i)
	}
	for i := range r.ne {
		columns = append(columns, e+i)
	}
	return columns, width
}

// outputs is how wide each subnet's outputs are that change out elements: one makes [s ; t], two make s and t.
func (r gpuRow) outputs(c Config, out int) int {
	if c.Dialect == Net2Net {
		return out
	}
	return 2 * out
}

// keepEmbedding leaves the embedding where it is.
func (r gpuRow) keepEmbedding(m *columnPlan) {
	for i := r.e; i < r.e+r.ne; i++ {
		m.from[i] = int32(i)
	}
}

// connect makes what lies between the blocks of d.
func (f *Flow) connect(g *tensor.GPU, d *GPUFlow) {
	n, r, last := f.Config.Latent, d.row, len(f.blocks)-1
	if last < 0 {
		return
	}
	norm := func(i, j int) (loc, scale float32) {
		return f.values[f.blocks[i].loc+j], f.values[f.blocks[i].scale+j]
	}
	enter, leave, undo, out := newColumns(r.end), newColumns(n), newColumns(r.end), newColumns(up(n))
	for j := range n {
		loc, scale := norm(0, j)
		at, from := r.normal(j), r.coupled(f.blocks[last].perm[j])
		enter.from[at], enter.before[at], enter.scale[at] = int32(j), loc, scale
		out.from[j], out.scale[j], out.after[j] = int32(at), 1/scale, -loc
		leave.from[j], undo.from[from] = int32(from), int32(j)
	}
	d.enter, d.leave, d.undo, d.out = enter.put(g), leave.put(g), undo.put(g), out.put(g)
	for i := range last {
		next, back := newColumns(r.end), newColumns(r.end)
		r.keepEmbedding(&next)
		r.keepEmbedding(&back)
		for j := range n {
			loc, scale := norm(i+1, j)
			at, from := r.normal(j), r.coupled(f.blocks[i].perm[j])
			next.from[at], next.before[at], next.scale[at] = int32(from), loc, scale
			back.from[from], back.scale[from], back.after[from] = int32(at), 1/scale, -loc
		}
		d.blocks[i].next, d.blocks[i+1].back = next.put(g), back.put(g)
	}
}

// gpuLoader uploads what read reads of a Flow.
type gpuLoader struct {
	g    *tensor.GPU
	f    *Flow
	read reader
}

// linear uploads the linear layer.
func (l gpuLoader) linear(in *gpuInputs) gpuLinear {
	a := &l.f.linear
	if a.l == nil {
		return gpuLinear{}
	}
	n, u := l.f.Config.Latent, l.f.Config.inputs()
	white, wa := a.invert()
	return gpuLinear{
		white: l.matrix(white, n, n, nil, up(n)), unwhite: l.matrix(a.l, n, n, nil, up(n)),
		whiteA: l.matrix(wa, n, u, in.inputColumns, in.inputs), predict: l.matrix(a.a, n, u, in.inputColumns, in.inputs),
		whiteB: tensor.Put(l.g, a.whiteB), b: tensor.Put(l.g, a.b),
	}
}

// network uploads nets, whose input is width wide with its elements in columns, or as they come if that is nil; each has out
// outputs.
func (l gpuLoader) network(p tensor.Precision, columns []int, width, out int, nets ...mlp) (n gpuNetwork) {
	first := &nets[0]
	for i := range first.layers {
		hidden := i < len(first.layers)-1
		rows := out
		switch {
		case hidden && first.norms != nil && !first.norms[i].batch:
			rows = first.layers[i].out
		case hidden:
			rows = up(first.layers[i].out)
		}
		together := 1
		if i == 0 {
			together = len(nets)
		}
		var layer gpuLayer
		bias := make([]float32, len(nets)*rows)
		for k := range nets {
			d := &nets[k].layers[i]
			copy(bias[k*rows:], l.f.values[d.b:][:d.out])
		}
		layer.bias = tensor.Put(l.g, bias)
		for k := 0; k < len(nets); k += together {
			layer.weights = append(layer.weights, l.g.NewWeightFrom(p, together*rows, width, func(dst []float32, row int) {
				for ; len(dst) > 0; dst, row = dst[width:], row+1 {
					l.layerRow(dst[:width], &nets[k+row/rows].layers[i], row%rows, columns)
				}
			}))
		}
		if hidden && first.norms != nil {
			layer.norm = l.norm(&first.norms[i], rows)
		}
		n.layers = append(n.layers, layer)
		columns, width = nil, up(rows)
	}
	return n
}

// layerRow reads a row of d, zeros if it has not so many.
func (l gpuLoader) layerRow(dst []float32, d *dense, row int, columns []int) {
	clear(dst)
	switch {
	case row >= d.out:
	case columns == nil:
		l.read(d, dst[:d.in], row)
	default:
		values := make([]float32, d.in)
		l.read(d, values, row)
		spread(dst, values, columns)
	}
}

func spread(dst, values []float32, columns []int) {
	for i, at := range columns {
		dst[at] = values[i]
	}
}

// matrix uploads w [n][k] in float32 with its columns spread over width, or with zeros behind them if columns is nil.
func (l gpuLoader) matrix(w []float32, n, k int, columns []int, width int) tensor.GPUWeight {
	return l.g.NewWeightFrom(tensor.F32, n, width, func(dst []float32, row int) {
		clear(dst)
		for ; len(dst) > 0; dst, row = dst[width:], row+1 {
			if values := w[row*k:][:k]; columns == nil {
				copy(dst, values)
			} else {
				spread(dst, values, columns)
			}
		}
	})
}

func (l gpuLoader) norm(n *norm, width int) gpuNorm {
	gamma, beta := l.f.values[n.gamma:][:n.n], l.f.values[n.beta:][:n.n]
	if !n.batch {
		m := gpuNorm{gamma: tensor.Put(l.g, gamma), beta: tensor.Put(l.g, beta)}
		if n.n%gpuUnit != 0 {
			m.widen = gapped(l.g, n.n)
		}
		return m
	}
	before, scale, after, offset := make([]float32, width), make([]float32, width), make([]float32, width), make([]float32, width)
	for j := range n.n {
		before[j], scale[j], after[j] = -n.mean[j], float32(float64(gamma[j])/math.Sqrt(float64(n.variance[j])+normEpsilon)), beta[j]
		offset[j] = float32(float64(before[j])*float64(scale[j]) + float64(after[j]))
	}
	return gpuNorm{fixed: tensor.ColumnMap{Before: tensor.Put(l.g, before), Scale: tensor.Put(l.g, scale), After: tensor.Put(l.g, after)},
		offset: tensor.Put(l.g, offset)}
}
