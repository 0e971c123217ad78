package train

import (
	"fmt"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/tensor"
)

// ridge is the linear-Gaussian baseline. A joint Gaussian of [z ; e] given c is a Gaussian of e given c and one of z given
// [c ; e], both linear with a full covariance. Each is a flow without blocks, which is exactly its closed-form layer:
// penalties and shrinkage by cross-validation over groups of concepts, covariance of the out-of-fold residuals.
type ridge struct {
	e        *Eval
	z, class *flow.Session
}

func (e *Eval) fitRidge(r *Report) (*ridge, error) {
	b := e.captions(fitRepeats, 0)
	groups := map[string]int{}
	group := make([]int, len(b.image))
	for i, image := range b.image {
		name := pairs.Group(e.Set.Concepts[e.Set.Images[image].Concept].Name)
		if _, ok := groups[name]; !ok {
			groups[name] = len(groups)
		}
		group[i] = groups[name]
	}
	z, class := parts(b.x, e.Set.Latent)
	m := ridge{e: e}
	c := e.Config.Averages(b.c)
	var err error
	if m.class, err = e.linear(class, c, group, &r.Tuned.RidgeClass); err != nil {
		return nil, err
	}
	m.z, err = e.linear(z, beside(c, class), group, &r.Tuned.RidgeZ)
	return &m, err
}

func (e *Eval) linear(x, c tensor.Tensor, group []int, tuned *[3]float64) (*flow.Session, error) {
	f, err := flow.New(flow.Config{Dialect: flow.NetFusion, Latent: x.Cols, Cond: c.Cols, Hidden: 1, Clamp: 1, Embed: 1, EmbedWidth: 1}, 0)
	if err != nil {
		return nil, err
	}
	fit, err := f.Fit(x, c, group)
	if err != nil {
		return nil, fmt.Errorf("ridge baseline: %w", err)
	}
	*tuned = [3]float64{fit.Ridge, fit.Shrinkage, fit.NLL}
	return f.NewSession(e.Device, 256)
}

// LogProb implements Density.
func (m *ridge) LogProb(z, class []float64, x, c tensor.Tensor) {
	xz, xe := parts(x, m.e.Set.Latent)
	c = m.e.Config.Averages(c)
	m.class.LogProb(class, nil, xe, c)
	m.z.LogProb(z, nil, xz, beside(c, xe))
}

// Sample implements Sampler: first the class part, then z given it.
func (m *ridge) Sample(x, c tensor.Tensor, d flow.Draw) {
	c = m.e.Config.Averages(c)
	latent := m.e.Set.Latent
	z, class := tensor.New(x.Rows, latent), tensor.New(x.Rows, x.Cols-latent)
	d.Guidance, d.Snap = 1, false
	m.class.Sample(class, c, d)
	d.Seed ^= ridgeSeed
	m.z.Sample(z, beside(c, class), d)
	copy(x.Data, beside(z, class).Data)
}

// ridgeSeed parts the noise of the two halves.
const ridgeSeed = 0x7269646765

// parts copies the columns before and from split on.
func parts(x tensor.Tensor, split int) (a, b tensor.Tensor) {
	a, b = tensor.New(x.Rows, split), tensor.New(x.Rows, x.Cols-split)
	for i := range x.Rows {
		copy(a.Row(i), x.Row(i))
		copy(b.Row(i), x.Row(i)[split:])
	}
	return a, b
}

// beside is [a ; b], row by row.
func beside(a, b tensor.Tensor) tensor.Tensor {
	both := tensor.New(a.Rows, a.Cols+b.Cols)
	for i := range a.Rows {
		copy(both.Row(i), a.Row(i))
		copy(both.Row(i)[a.Cols:], b.Row(i))
	}
	return both
}
