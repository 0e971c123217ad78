package train

import (
	"context"
	"math"

	"netfusion/cinn/flow"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// mixture is the mixture density network (Bishop 1994): a network tells the weights, means and standard deviations of a few Gaussians of the
// standardised x.
type mixture struct {
	*network
	latent, dims int
	mean, std    []float32  // of x
	constant     [2]float64 // -Σ log std, of the z part and of the class part
}

const (
	components = 8
	leastLog   = -4 // of a logarithm of a standard deviation, in units of x's own
	mostLog    = 2
)

func (e *Eval) fitMixture(ctx context.Context, r *Report) (*mixture, error) {
	first := e.captions(1, 0)
	m := &mixture{latent: e.Set.Latent, dims: first.x.Cols}
	m.mean, m.std = moments(first.x)
	for d, s := range m.std {
		if d < m.latent {
			m.constant[0] -= math.Log(float64(s))
		} else {
			m.constant[1] -= math.Log(float64(s))
		}
	}
	m.network = e.newNetwork(first.c, components*(1+2*m.dims), 2)
	b := e.judge()
	var err error
	r.Tuned.MixtureEpochs, r.Tuned.MixtureNLL, err = m.fit(ctx, m.loss, func() float64 { return meanNLL(m, b) })
	return m, err
}

// component returns where component k of a row of outputs has its means and the logarithms of its standard deviations.
func (m *mixture) component(y []float32, k int) (mean, log []float32) {
	at := y[components+2*k*m.dims:]
	return at[:m.dims], at[m.dims:][:m.dims]
}

// clampLog bounds a logarithm of a standard deviation; inside the bounds a gradient passes.
func clampLog(v float32) (clamped float32, inside bool) {
	clamped = min(max(v, leastLog), mostLog)
	return clamped, clamped == v
}

// terms computes the logarithms of the weights, and of each component's density of the standardised x in its two parts.
func (m *mixture) terms(y, x []float32) (weight, z, class [components]float64) {
	top := math.Inf(-1)
	for _, v := range y[:components] {
		top = max(top, float64(v))
	}
	var sum float64
	for _, v := range y[:components] {
		sum += math.Exp(float64(v) - top)
	}
	for k := range components {
		weight[k] = float64(y[k]) - top - math.Log(sum)
		mean, log := m.component(y, k)
		for d, v := range x {
			l, _ := clampLog(log[d])
			u := float64((v-m.mean[d])/m.std[d]-mean[d]) * math.Exp(-float64(l))
			p := -0.5*float64(u*u) - float64(l) - 0.5*math.Log(2*math.Pi)
			if d < m.latent {
				z[k] += p
			} else {
				class[k] += p
			}
		}
	}
	return weight, z, class
}

// loss is the gradient of the negative log-likelihood.
func (m *mixture) loss(y, x tensor.Tensor) {
	one := 1 / float64(x.Rows)
	for i := range x.Rows {
		row, xs := y.Row(i), x.Row(i)
		weight, z, class := m.terms(row, xs)
		var joint [components]float64
		for k := range joint {
			joint[k] = weight[k] + z[k] + class[k]
		}
		all := logSumExp(joint[:])
		for k := range joint {
			share := math.Exp(joint[k] - all)
			row[k] = float32(one * (math.Exp(weight[k]) - share))
			mean, log := m.component(row, k)
			for d, v := range xs {
				l, inside := clampLog(log[d])
				inverse := math.Exp(-float64(l))
				u := float64((v-m.mean[d])/m.std[d]-mean[d]) * inverse
				mean[d] = float32(-one * share * u * inverse)
				log[d] = 0
				if inside {
					log[d] = float32(one * share * (1 - float64(u*u)))
				}
			}
		}
	}
}

func logSumExp(v []float64) float64 {
	sum := math.Inf(-1)
	for _, x := range v {
		sum = logAdd(sum, x)
	}
	return sum
}

// LogProb implements Density: the class part is that of the mixture's marginal, the z part what is left of the joint density.
func (m *mixture) LogProb(z, class []float64, x, c tensor.Tensor) {
	y := m.forward(c)
	for i := range x.Rows {
		weight, zs, classes := m.terms(y.Row(i), x.Row(i))
		var joint, marginal [components]float64
		for k := range joint {
			marginal[k] = weight[k] + classes[k]
			joint[k] = marginal[k] + zs[k]
		}
		class[i] = logSumExp(marginal[:])
		z[i] = logSumExp(joint[:]) - class[i] + m.constant[0]
		class[i] += m.constant[1]
	}
}

// Sample implements Sampler.
func (m *mixture) Sample(x, c tensor.Tensor, d flow.Draw) {
	y := m.forward(c)
	for i := range x.Rows {
		row, sample := x.Row(i), d.Sample+uint64(i)
		weight, _, _ := m.terms(y.Row(i), m.mean)
		var u [1]float32
		random.Uniform(u[:], d.Seed, evalPickStream, sample, 0)
		left, k := float64(u[0]), 0
		for k < components-1 && left >= math.Exp(weight[k]) {
			left -= math.Exp(weight[k])
			k++
		}
		random.Normal(row, d.Seed, evalSampleStream, sample, 0)
		mean, log := m.component(y.Row(i), k)
		for j, v := range row {
			l, _ := clampLog(log[j])
			row[j] = m.mean[j] + m.std[j]*(mean[j]+float32(v*d.Temperature*float32(math.Exp(float64(l)))))
		}
	}
}
