package train

import (
	"errors"

	"netfusion/cinn/flow"
	"netfusion/tensor"
)

// UseGPU makes a Trainer that New or Resume returned, and that has not run, compute on g. Weights, moments and the average lie there
// from then on, and pairs in memory, too, so that a step is one graph that nothing is uploaded for; the host has the weights again
// in checkpoints and when Run ends. Batches, noise and masks are the same as without, and so are the losses, but for the rounding of
// sums; equal runs on equal GPUs end with the same bytes.
func (t *Trainer) UseGPU(g *tensor.GPU) error {
	r, err := newGPURun(t, g)
	if err != nil {
		return err
	}
	t.gpu = r
	return r.push()
}

// gpuRun is what a Trainer has on a GPU.
type gpuRun struct {
	t *Trainer
	q *tensor.Queue
	d *flow.GPUGradient

	values, first, second, peak, ema tensor.Array[float32] // slabs; peak and ema may be none
	stale                            bool                  // the host has other weights

	numbers tensor.Staged[uint64]  // the seed, and the first sample of the step
	updates tensor.Staged[float32] // [3][AdamStep]: of what decays, of what decays in the class head, and of the rest
	x, c, v tensor.Staged[float32] // [rows][…]: batches from the host, and residuals

	losses, classes tensor.Staged[float32] // [rows]
	logs, norm      tensor.Staged[float64]

	pairs     *gpuPairs // nil where batches come from the host
	train     tensor.Graph
	validated tensor.Graph
}

// gpuPairs is Data on a GPU.
type gpuPairs struct {
	list      tensor.PairList       // of condition, image and class
	cond      tensor.GPUTable       // and the null condition behind the others
	mean, std tensor.Array[float32] // [images][Latent]
	table     tensor.Array[float32] // [Classes][Class]
	ids       tensor.Array[int32]   // [3][rows]
}

func newGPURun(t *Trainer, g *tensor.GPU) (*gpuRun, error) {
	o, c := t.Options, t.flow.Config
	r := &gpuRun{t: t}
	const small = 1 << 10 // of staging memory, for what does not grow with a batch
	rows := o.Batch
	var err error
	if r.q, err = g.NewQueue(small + 4*rows*(c.Latent+c.Class+c.Cond+c.Latent+2)); err != nil {
		return nil, err
	}
	if r.d, err = t.flow.NewGPUGradient(r.q, rows, flow.Regularisation{Dropout: o.Dropout, Noise: o.ConditionNoise}); err != nil {
		return nil, errors.Join(err, r.q.Close())
	}
	n := r.d.Size()
	r.values, r.first, r.second = tensor.Keep[float32](r.q, n), tensor.Keep[float32](r.q, n), tensor.Keep[float32](r.q, n)
	if t.peak != nil {
		r.peak = tensor.Keep[float32](r.q, n)
	}
	if t.ema != t.flow {
		r.ema = tensor.Keep[float32](r.q, n)
	}
	r.numbers, r.updates = tensor.Stage[uint64](r.q, 2), tensor.Stage[float32](r.q, 3*tensor.AdamStep)
	r.x, r.c = tensor.Stage[float32](r.q, rows*(c.Latent+c.Class)), tensor.Stage[float32](r.q, rows*c.Cond)
	r.losses, r.classes = tensor.Stage[float32](r.q, rows), tensor.Stage[float32](r.q, rows)
	r.logs, r.norm = tensor.Stage[float64](r.q, 1), tensor.Stage[float64](r.q, 1)
	r.v = tensor.Stage[float32](r.q, rows*c.Latent)
	r.d.Losses = flow.GPULosses{Z: r.losses.Array, Class: r.classes.Array, LogScales: r.logs.Array}
	if data, ok := t.train.source.(*Data); ok {
		r.pairs = r.upload(data, g)
	}
	if err := errors.Join(g.Err(), r.q.Err()); err != nil {
		return nil, err
	}
	if r.train, err = r.q.Capture(r.recordStep); err != nil {
		return nil, err
	}
	r.validated, err = r.q.Capture(r.recordLogProb)
	return r, err
}

// upload copies d to the GPU.
func (r *gpuRun) upload(d *Data, g *tensor.GPU) *gpuPairs {
	f, captions := r.t.flow, d.Cond.Rows
	members := make([]int32, 0, 3*len(d.Pairs))
	for _, p := range d.Pairs {
		class := 0
		if d.Class != nil {
			class = d.Class[p.Image]
		}
		members = append(members, int32(p.Caption), int32(p.Image), int32(class))
	}
	cond := append(append(make([]float32, 0, len(d.Cond.Data)+d.Cond.Cols), d.Cond.Data...), f.NullCondition()...)
	p := &gpuPairs{
		list: tensor.PairList{Members: tensor.Put(g, members), Sums: tensor.Put(g, d.weights()), Columns: 3, Drop: r.t.train.drop, Null: captions},
		cond: tensor.GPUTable{Rows: captions + 1, Cols: d.Cond.Cols, F32: tensor.Put(g, cond)},
		mean: tensor.Put(g, d.Mean.Data), std: tensor.Put(g, d.Std.Data),
		ids: tensor.Keep[int32](r.q, 3*r.t.Options.Batch),
	}
	if c := f.Config; c.Classes > 0 {
		var table []float32
		for k := range c.Classes {
			table = append(table, f.ClassEmbedding(k)...)
		}
		p.table = tensor.Put(g, table)
	}
	return p
}

// recordStep records a step: its batch, its gradient and the update.
func (r *gpuRun) recordStep() {
	q, o := r.q, r.t.Options
	if r.pairs != nil {
		q.Upload(r.numbers, r.updates)
		r.recordBatch()
	} else {
		q.Upload(r.numbers, r.updates, r.x, r.c)
		r.recordCopy()
	}
	r.d.Step(r.values, r.numbers.Array)
	q.Clip(r.norm.Array, r.updates.Array, r.d.Squares, float32(o.Clip))
	begin := 0
	for i, end := range r.d.Regions() {
		part := func(slab tensor.Array[float32]) tensor.Array[float32] {
			if slab.Len == 0 {
				return slab
			}
			return slab.Slice(begin, end)
		}
		step := r.updates.Array.Slice(i*tensor.AdamStep, (i+1)*tensor.AdamStep)
		q.Adam(part(r.values), part(r.d.Gradient), part(r.first), part(r.second), part(r.peak), part(r.ema), step)
		begin = end
	}
	q.Download(r.losses, r.classes, r.logs, r.norm)
}

// recordBatch records what a sampler draws.
func (r *gpuRun) recordBatch() {
	q, p, in, c, rows := r.q, r.pairs, &r.d.In, r.t.flow.Config, r.t.Options.Batch
	q.Pairs(p.ids, &p.list, r.numbers.Array, pairStream)
	q.Embed(in.C, &p.cond, p.ids.Slice(0, rows))
	q.Normal(in.Z, r.numbers.Array, latentStream, 0)
	q.EmbedDraw(in.Z, p.mean, p.std, 0, p.ids.Slice(rows, 2*rows))
	if c.Classes > 0 {
		q.Normal(in.E, r.numbers.Array, latentStream, c.Latent)
		q.EmbedDraw(in.E, p.table, tensor.Array[float32]{}, c.ClassNoise, p.ids.Slice(2*rows, 3*rows))
	}
}

// recordCopy records the way of a batch from the staging memory.
func (r *gpuRun) recordCopy() {
	q, in, c, rows := r.q, &r.d.In, r.t.flow.Config, r.t.Options.Batch
	x := tensor.Matrix(r.x.Array, rows, c.Latent+c.Class)
	q.Copy(in.C, tensor.Matrix(r.c.Array, rows, c.Cond))
	q.Copy(in.Z, x.Columns(0, c.Latent))
	if c.Classes > 0 {
		q.Copy(in.E, x.Columns(c.Latent, c.Latent+c.Class))
	}
}

// recordLogProb records a validation batch.
func (r *gpuRun) recordLogProb() {
	q, values := r.q, r.values
	if r.ema.Len > 0 {
		values = r.ema
	}
	q.Upload(r.x, r.c)
	r.recordCopy()
	r.d.LogProb(values, tensor.Matrix(r.v.Array, r.t.Options.Batch, r.t.flow.Config.Latent))
	q.Download(r.losses, r.classes, r.logs, r.v)
}

// step takes a step and returns what Trainer.step does, and the gradient's norm.
func (r *gpuRun) step(step int) (z, class, norm float64, err error) {
	t := r.t
	copy(r.numbers.Host, []uint64{t.Options.Seed, uint64(step) << 16})
	for i, decay := range []float64{t.Options.Decay, t.Options.HeadDecay, 0} {
		adam, ema := t.Options.update(step)
		adam.Decay = decay
		scalars := adam.Scalars()
		copy(r.updates.Host[i*tensor.AdamStep:], append(scalars[:], 1, float32(1-ema)))
	}
	if r.pairs == nil {
		x, c := t.train.draw(t.dev, uint64(step))
		copy(r.x.Host, x.Data)
		copy(r.c.Host, c.Data)
	}
	r.stale = true
	r.q.Replay(r.train)
	if err := r.q.Wait(); err != nil {
		return 0, 0, 0, err
	}
	m := float64(t.Options.Batch)
	for i, v := range r.losses.Host {
		z += float64(v) / m
		class += float64(r.classes.Host[i]) / m
	}
	constant, classConstant := r.d.Constant()
	return z - r.logs.Host[0] + constant, class + classConstant, r.norm.Host[0], nil
}

// logProb is flow.Gradient.LogProb, and Residuals, by the average of the weights.
func (r *gpuRun) logProb(z, class []float64, v, x, c tensor.Tensor) error {
	copy(r.x.Host, x.Data)
	copy(r.c.Host, c.Data)
	r.q.Replay(r.validated)
	if err := r.q.Wait(); err != nil {
		return err
	}
	constant, classConstant := r.d.Constant()
	for i := range x.Rows {
		z[i] = r.logs.Host[0] - float64(r.losses.Host[i]) - constant
		class[i] = -float64(r.classes.Host[i]) - classConstant
	}
	copy(v.Data, r.v.Host)
	return nil
}

// push brings what the host has to the GPU.
func (r *gpuRun) push() error {
	t, d := r.t, r.d
	r.stale = false
	err := errors.Join(d.Upload(r.values, t.flow.Values()), d.UploadMoments(r.first, t.first), d.UploadMoments(r.second, t.second))
	if t.peak != nil {
		err = errors.Join(err, d.UploadMoments(r.peak, t.peak))
	}
	if t.ema != t.flow {
		err = errors.Join(err, d.Upload(r.ema, t.ema.Values()))
	}
	return err
}

// pull is push the other way.
func (r *gpuRun) pull() error {
	t, d := r.t, r.d
	if !r.stale {
		return nil
	}
	r.stale = false
	err := errors.Join(d.Download(t.flow.Values(), r.values), d.Download(t.first, r.first), d.Download(t.second, r.second), d.Statistics())
	if t.peak != nil {
		err = errors.Join(err, d.Download(t.peak, r.peak))
	}
	if t.ema != t.flow {
		err = errors.Join(err, d.Download(t.ema.Values(), r.ema), t.ema.CopyBuffers(t.flow))
	}
	return err
}
