package flow

import (
	"errors"
	"math"

	"netfusion/tensor"
)

// GPUGradient is a Gradient on a GPU: what it records computes the loss of a batch and its gradient, by parameters in a slab that
// its caller owns and an optimizer changes. Products are float32; those of the way forth are rounded to tf32 if the GPU was opened to.
//
// A batch is [rows][n], one sample to a row. What lies between the subnets of a block is one row of a matrix that the way back finds as
// the way forth left it, [b' ; e ; a ; b ; a'] with the letters of block; its gradient is a row [b ; e ; a] that goes from block to block.
type GPUGradient struct {
	Rows     int
	In       GPUBatch
	Gradient tensor.Array[float32] // the slab of the gradient
	Squares  tensor.Array[float64] // parts of the sum of its squares
	Losses   GPULosses

	flow           *Flow
	q              *tensor.Queue
	regularisation Regularisation
	gpuInputs
	row    gpuRow
	slab   *gpuSlab
	linear gpuLinear
	table  tensor.Array[float32]

	embedder, head gpuTrainNet
	blocks         []gpuTrainBlock
	convs          []gpuTrainConv        // of a condition that is a map
	unlast         tensor.Array[int32]   // what of the embedder's input is the last map
	logdet         tensor.Array[float32] // [rows]
	zero           tensor.Array[int32]   // [1], a column that is not there
	last           tensor.Array[int32]   // what of the last block's row the loss is of, as the gradient lies
	leave          tensor.ColumnMap      // the same, as the residual
	noise          tensor.Array[float32] // [1], of the condition
	blur           tensor.Buffer         // [rows][inputs], noise, with zeros in the gaps
	drawn          tensor.Buffer         // [rows][Classes], the logits and then their gradient
}

// GPUBatch is what a Step reads.
type GPUBatch struct {
	C tensor.Buffer // [rows][Cond], one right behind the other
	Z tensor.Buffer // [rows][Latent], from multiples of 16 bytes on, with zeros in the gaps
	E tensor.Buffer // [rows][Class], with a class head, one right behind the other
}

// GPULosses is where a Step and a LogProb leave what they are of: the loss of a row is Z - LogScales, and Class, with what Constant
// returns added to each.
type GPULosses struct {
	Z         tensor.Array[float32] // [rows]
	Class     tensor.Array[float32] // [rows]
	LogScales tensor.Array[float64] // [1]
}

// gpuTrainBlock is a block in training.
type gpuTrainBlock struct {
	loc, scale *gpuPiece
	nets       [2]*gpuTrainNet
	row        tensor.Buffer // [rows][b' ; e ; a ; b ; a']
	draw       [2][]tensor.Buffer

	from         tensor.Array[int32] // what of the block before is e, a and b
	back, which  tensor.Array[int32] // what of the gradient is that of the block before, and by which scale
	grads, reads tensor.Array[int32] // what of the gradient and of the row belongs to each element of loc and scale
}

// NewGPUGradient returns a GPUGradient for batches of rows, whose memory is q's.
func (f *Flow) NewGPUGradient(q *tensor.Queue, rows int, r Regularisation) (*GPUGradient, error) {
	g := q.GPU()
	switch {
	case f.lean:
		return nil, errors.New("flow: a flow that was loaded for sessions cannot be trained")
	case rows < 2:
		return nil, errors.New("flow: a gradient needs at least two rows")
	case len(f.blocks) == 0:
		return nil, errors.New("flow: without blocks there is nothing to train on a GPU")
	}
	if err := f.onGPU(g); err != nil {
		return nil, err
	}
	c := f.Config
	r.Dropout = float32(math.Floor(float64(r.Dropout)*256)) / 256
	d := &GPUGradient{Rows: rows, flow: f, q: q, regularisation: r, gpuInputs: f.gpuInputs(g), row: newGPURow(c)}
	b := f.slabBuilder()
	d.networks(b)
	b.place()
	d.slab = &b.gpuSlab
	d.linear = gpuLoader{g: g, f: f}.linear(&d.gpuInputs)
	d.In = GPUBatch{C: tensor.Matrix(tensor.Keep[float32](q, rows*c.Cond), rows, c.Cond), Z: q.KeepBuffer(rows, c.Latent)}
	d.Gradient = tensor.Keep[float32](q, d.slab.size)
	d.logdet, d.zero = tensor.Keep[float32](q, rows), tensor.Put(g, []int32{-1})
	d.Losses = GPULosses{tensor.Keep[float32](q, rows), tensor.Keep[float32](q, rows), tensor.Keep[float64](q, 1)}
	d.noise = tensor.Put(g, []float32{r.Noise})
	if r.Noise > 0 && d.maps == nil {
		d.blur = q.KeepBuffer(rows, d.inputs)
	}
	if c.Classes > 0 {
		d.In.E = tensor.Matrix(tensor.Keep[float32](q, rows*c.Class), rows, c.Class)
		d.table, d.drawn = tensor.Put(g, f.table.Data), q.KeepBuffer(rows, c.Classes)
	}
	d.connect()
	squares := 0
	d.trained(func(p *gpuTrainPart) {
		n := tensor.SquaresOf(p.weight.count*p.weight.rows, p.weight.width)
		p.squares = [2]int{squares, squares + n}
		squares += n
	})
	d.Squares = tensor.Keep[float64](q, squares+vectorParts)
	return d, errors.Join(g.Err(), q.Err())
}

// vectorParts is how many parts the sum of squares of all vectors has.
const vectorParts = 64

// networks lays out the parameters.
func (d *GPUGradient) networks(b *slabBuilder) {
	f := d.flow
	d.convolutions(b)
	d.embedder = *d.network(b, d.readColumns, d.reads, matrixKind, &f.embedder)
	elements := d.elements()
	for i := range f.blocks {
		bl := &f.blocks[i]
		var t gpuTrainBlock
		t.scale = b.add(bl.scale, scaleKind, 1, d.widthOfNorm(), elements)
		t.scale.gap = 1
		t.loc = b.add(bl.loc, vectorKind, 1, d.widthOfNorm(), elements)
		for k := range bl.nets {
			columns, width := d.row.reads(k)
			var nets []*mlp
			for j := range bl.nets[k] {
				nets = append(nets, &bl.nets[k][j])
			}
			t.nets[k] = d.network(b, columns, width, matrixKind, nets...)
		}
		d.blocks = append(d.blocks, t)
	}
	if f.Config.Classes > 0 {
		d.head = *d.network(b, nil, d.text, headKind, &f.head)
	}
}

// trained calls each with every layer's parts.
func (d *GPUGradient) trained(each func(*gpuTrainPart)) {
	visit := func(n *gpuTrainNet) {
		for i := range n.layers {
			for k := range n.layers[i].parts {
				each(&n.layers[i].parts[k])
			}
		}
	}
	for i := range d.convs {
		each(&d.convs[i].gpuTrainPart)
	}
	visit(&d.embedder)
	for i := range d.blocks {
		for _, n := range d.blocks[i].nets {
			visit(n)
		}
	}
	visit(&d.head)
}

// An ActNorm writes [e ; a ; b] of a row; its loc and scale lie so, too.

func (d *GPUGradient) widthOfNorm() int { return d.row.end - d.row.e + up(d.row.nb) }

// elements is where the ActNorm has element i of [a ; b].
func (d *GPUGradient) elements() (columns []int) {
	r := &d.row
	for i := range r.na + r.nb {
		at := r.a - r.e + i
		if i >= r.na {
			at = r.end - r.e + i - r.na
		}
		columns = append(columns, at)
	}
	return columns
}

// second is where a' is in a row, and width that of a row.
func (d *GPUGradient) second() int { return d.row.end + up(d.row.nb) }
func (d *GPUGradient) width() int  { return d.second() + up(d.row.na) }

// coupled is the column of a row of element i of [b' ; a'].
func (d *GPUGradient) coupled(i int) int {
	if i < d.row.nb {
		return i
	}
	return d.second() + i - d.row.nb
}

// connect makes the columns by which blocks are joined.
func (d *GPUGradient) connect() {
	f, r, q := d.flow, &d.row, d.q
	g, elements := q.GPU(), d.elements()
	grads, reads := newColumns(d.widthOfNorm()).from, newColumns(d.widthOfNorm()).from
	for j, at := range elements {
		grads[at], reads[at] = int32(r.normal(j)), int32(r.e+at)
	}
	gradsOn, readsOn := tensor.Put(g, grads), tensor.Put(g, reads)
	for i := range d.blocks {
		t := &d.blocks[i]
		t.row, t.grads, t.reads = q.KeepBuffer(d.Rows, d.width()), gradsOn, readsOn
		for k, n := range t.nets {
			for range n.ids {
				t.draw[k] = append(t.draw[k], q.KeepBuffer(d.Rows, n.layers[len(n.layers)-1].out))
			}
		}
		from, back := newColumns(d.widthOfNorm()).from, newColumns(r.end).from
		which := make([]int32, r.end)
		for j, at := range elements {
			if i == 0 {
				from[at] = int32(j)
				continue
			}
			y := f.blocks[i-1].perm[j]
			from[at] = int32(d.coupled(y))
			back[r.coupled(y)], which[r.coupled(y)] = int32(r.normal(j)), int32(at)
		}
		for e := range r.ne {
			if i > 0 {
				from[e] = int32(r.e + e)
				back[r.e+e], which[r.e+e] = int32(r.e+e), int32(e)
			}
		}
		t.from, t.back, t.which = tensor.Put(g, from), tensor.Put(g, back), tensor.Put(g, which)
	}
	last, leave := newColumns(r.end).from, newColumns(f.Config.Latent)
	for i := range f.Config.Latent {
		last[r.coupled(i)] = int32(d.coupled(i))
		leave.from[i] = int32(d.coupled(f.blocks[len(f.blocks)-1].perm[i]))
	}
	d.last, d.leave = tensor.Put(g, last), leave.put(g)
}

// Size is how many values a slab has, and Regions where in it the matrices end that decay, those of the class head, and the rest.
func (d *GPUGradient) Size() int       { return d.slab.size }
func (d *GPUGradient) Regions() [3]int { return d.slab.regions }

// Upload copies parameters, laid out as Flow.Values, to a slab, and UploadMoments what else is laid out so; Download is the way back.
func (d *GPUGradient) Upload(slab tensor.Array[float32], values []float32) error {
	return d.slab.upload(d.q, slab, values, true)
}
func (d *GPUGradient) UploadMoments(slab tensor.Array[float32], values []float32) error {
	return d.slab.upload(d.q, slab, values, false)
}
func (d *GPUGradient) Download(values []float32, slab tensor.Array[float32]) error {
	return d.slab.download(d.q, values, slab)
}

// Statistics copies the running averages of a BatchNorm to the Flow.
func (d *GPUGradient) Statistics() error {
	for i := range d.embedder.layers {
		n := d.embedder.layers[i].norm
		if n == nil || !n.host.batch {
			continue
		}
		for _, p := range []struct {
			host []float32
			on   tensor.Array[float32]
		}{{n.host.mean, n.mean}, {n.host.variance, n.variance}} {
			if err := tensor.Get(d.q, p.host, p.on.Slice(0, len(p.host))); err != nil {
				return err
			}
		}
	}
	return nil
}

// Constant is what the two parts of the loss have beside Losses.
func (d *GPUGradient) Constant() (z, class float64) {
	c := d.flow.Config
	z = float64(c.Latent)*halfLog2Pi - float64(d.flow.linear.logdet)
	if c.Classes > 0 {
		class = c.classConstant()
	}
	return z, class
}
