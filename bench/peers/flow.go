package main

import (
	"errors"
	"os"

	"netfusion/cinn/flow"
	"netfusion/kernels/memory"
	"netfusion/kernels/optimizer"
	"netfusion/tensor"
)

// published is the flow that the paper puts between a sentence encoder and BigGAN: 254.7 million parameters.
var published = flow.Config{Dialect: flow.Net2Net, Latent: 268, Cond: 768, Blocks: 24, Hidden: 1024, Depth: 2, Clamp: 1,
	Embed: 268, EmbedWidth: 256, EmbedDepth: 2}

// flowCase draws rows from given residuals: model=FILE data=FILE rows=R precision=P threads=N.
func flowCase(a arguments) (func() ([]float32, error), error) {
	p, err := a.precision()
	if err != nil {
		return nil, err
	}
	in, err := a.flow(func(path string) (*flow.Flow, error) { return flow.OpenPacked(path, p) })
	if err != nil {
		return nil, err
	}
	s, err := in.flow.NewSession(in.dev, in.x.Rows)
	if err != nil {
		return nil, err
	}
	dst := tensor.New(in.x.Rows, in.x.Cols)
	return func() ([]float32, error) {
		s.Inverse(dst, in.x, in.c)
		return dst.Data, nil
	}, nil
}

// trainCase is a step of training, and its result the loss before it: model=FILE data=FILE rows=R threads=N.
func trainCase(a arguments) (func() ([]float32, error), error) {
	in, err := a.flow(flow.Open)
	if err != nil {
		return nil, err
	}
	g, err := in.flow.NewGradient(in.dev, in.x.Rows, flow.Regularisation{}, 1)
	if err != nil {
		return nil, err
	}
	n := len(in.flow.Values())
	adam := adamJob{values: in.flow.Values(), gradient: g.Values(), first: memory.Make[float32](n), second: memory.Make[float32](n)}
	adam.Rate, adam.Beta1, adam.Beta2, adam.Epsilon = 7.2e-5, 0.5, 0.9, 1e-8
	return func() ([]float32, error) {
		adam.Step++
		loss, _ := g.Step(in.x, in.c, uint64(adam.Step))
		in.dev.Run(&adam, (n+adamTile-1)/adamTile)
		return []float32{float32(loss)}, nil
	}, nil
}

// adamJob updates all parameters, some to a tile.
type adamJob struct {
	optimizer.Adam
	values, gradient, first, second []float32
}

const adamTile = 1 << 14

func (j *adamJob) Tile(i int) {
	b, e := i*adamTile, min((i+1)*adamTile, len(j.values))
	j.Apply(j.values[b:e], j.gradient[b:e], j.first[b:e], j.second[b:e], nil, 1)
}

// flowInput is the case that both share.
type flowInput struct {
	flow *flow.Flow
	dev  *tensor.Device
	x, c tensor.Tensor // [rows][Latent], [rows][Cond]: a file of random numbers has them in this order
}

// flow opens the model, which it makes if it is not there.
func (a arguments) flow(open func(path string) (*flow.Flow, error)) (in flowInput, err error) {
	s, err := a.numbers("rows")
	if err != nil {
		return in, err
	}
	if in.dev, err = a.device(); err != nil {
		return in, err
	}
	if err := writeFlow(a["model"]); err != nil {
		return in, err
	}
	if in.flow, err = open(a["model"]); err != nil {
		return in, err
	}
	data, err := readRandom(a["data"])
	if err != nil {
		return in, err
	}
	x, errX := data.take(s[0] * published.Latent)
	c, errC := data.take(s[0] * published.Cond)
	in.x, in.c = tensor.Of(s[0], published.Latent, x), tensor.Of(s[0], published.Cond, c)
	return in, errors.Join(errX, errC)
}

// writeFlow makes a flow of the published size with fresh weights unless there is one.
func writeFlow(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := flow.New(published, 1)
	if err != nil {
		return err
	}
	return f.Save(path, false)
}
