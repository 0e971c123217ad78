package main

import (
	"errors"
	"fmt"

	"netfusion/cinn/flow"
	"netfusion/kernels/optimizer"
	"netfusion/tensor"
)

// training takes steps of training on the same rows, from inputs on the host to the loss there: forwards, backwards, and Adam as the
// paper sets it. The learning rate is 0, so that all steps have the same loss.
func training(g *tensor.GPU, file string, rows int) (n network, err error) {
	f, err := flow.Open(file)
	if err != nil {
		return n, err
	}
	c := f.Config
	q, err := g.NewQueue(4*rows*(c.Latent+c.Cond+2) + 1<<10)
	if err != nil {
		return n, err
	}
	d, err := f.NewGPUGradient(q, rows, flow.Regularisation{})
	if err != nil {
		return n, err
	}
	x, cond := tensor.Stage[float32](q, rows*c.Latent), tensor.Stage[float32](q, rows*c.Cond)
	draw, step := tensor.Stage[uint64](q, 2), tensor.Stage[float32](q, tensor.AdamStep)
	losses, logs, norm := tensor.Stage[float32](q, rows), tensor.Stage[float64](q, 1), tensor.Keep[float64](q, 1)
	for i := range x.Host {
		x.Host[i] = number(i)
	}
	for i := range cond.Host {
		cond.Host[i] = number(len(x.Host) + i)
	}
	scalars := optimizer.Adam{Beta1: 0.5, Beta2: 0.9, Epsilon: 1e-8, Step: 1}.Scalars()
	copy(step.Host, scalars[:])
	d.Losses.Z, d.Losses.LogScales = losses.Array, logs.Array
	slab := func() tensor.Array[float32] { return tensor.Keep[float32](q, d.Size()) }
	values, first, second := slab(), slab(), slab()
	if err := errors.Join(q.Err(), d.Upload(values, f.Values())); err != nil {
		return n, err
	}
	graph, err := q.Capture(func() {
		q.Upload(x, cond, draw, step)
		q.Copy(d.In.Z, tensor.Matrix(x.Array, rows, c.Latent))
		q.Copy(d.In.C, tensor.Matrix(cond.Array, rows, c.Cond))
		d.Step(values, draw.Array)
		q.Clip(norm, step.Array, d.Squares, 0)
		q.Adam(values, d.Gradient, first, second, tensor.Array[float32]{}, tensor.Array[float32]{}, step.Array)
		q.Download(losses, logs)
	})
	constant, _ := d.Constant()
	loss := make([]float32, 1)
	return network{"step", fmt.Sprintf("rows=%d", rows), tensor.F32, q.Work(), func() error {
		q.Replay(graph)
		if err := q.Wait(); err != nil {
			return err
		}
		mean := constant - logs.Host[0]
		for _, v := range losses.Host {
			mean += float64(v) / float64(rows)
		}
		loss[0] = float32(mean)
		return nil
	}, func() []float32 { return loss }, q.Close}, err
}
