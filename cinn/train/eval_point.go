package train

import (
	"context"
	"math"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// point is a baseline that answers a condition with one x. Its density is a Gaussian around that, with the variance that the errors on
// validation have in each dimension; drawn from, it gives the point itself, whatever the noise.
type point struct {
	latent   int
	predict  func(c tensor.Tensor) tensor.Tensor // [m][Cond] → [m][Latent+Class]
	variance []float64                           // [Latent+Class]
}

// newPoint fits the variance of predict to validation.
func (e *Eval) newPoint(predict func(c tensor.Tensor) tensor.Tensor) *point {
	p := &point{latent: e.Set.Latent, predict: predict}
	p.fitVariance(e.judge())
	return p
}

// judge is the validation images by name, on which baselines are tuned.
func (e *Eval) judge() batch { return e.names(e.Set.Rows(pairs.Validation), tuneDraws, evalDraws) }

func (p *point) fitVariance(b batch) {
	y := p.predict(b.c)
	p.variance = make([]float64, b.x.Cols)
	for i, v := range b.x.Data {
		d := float64(v) - float64(y.Data[i])
		p.variance[i%b.x.Cols] += float64(d*d) / float64(b.x.Rows)
	}
	for d := range p.variance {
		p.variance[d] += 1e-9
	}
}

// LogProb implements Density. Given c, z and e are independent here.
func (p *point) LogProb(z, class []float64, x, c tensor.Tensor) {
	y := p.predict(c)
	for i := range x.Rows {
		z[i], class[i] = 0, 0
		mean := y.Row(i)
		for d, v := range x.Row(i) {
			v := float64(v) - float64(mean[d])
			log := -0.5 * (float64(v*v)/p.variance[d] + math.Log(2*math.Pi*p.variance[d]))
			if d < p.latent {
				z[i] += log
			} else {
				class[i] += log
			}
		}
	}
}

// Sample implements Sampler.
func (p *point) Sample(x, c tensor.Tensor, _ flow.Draw) { copy(x.Data, p.predict(c).Data) }

// fitMean is the baseline that does not look at the condition.
func (e *Eval) fitMean() *point {
	mean, _ := moments(e.captions(1, 0).x)
	return e.newPoint(func(c tensor.Tensor) tensor.Tensor {
		y := tensor.New(c.Rows, len(mean))
		for i := range y.Rows {
			copy(y.Row(i), mean)
		}
		return y
	})
}

// fitMLP is the regression baseline: a network predicts the standardised mean of x, by least squares.
func (e *Eval) fitMLP(ctx context.Context, r *Report) (*point, error) {
	first := e.captions(1, 0)
	mean, std := moments(first.x)
	n := e.newNetwork(first.c, first.x.Cols, 0)
	p := &point{latent: e.Set.Latent, predict: func(c tensor.Tensor) tensor.Tensor {
		y := n.forward(c)
		for i, v := range y.Data {
			d := i % y.Cols
			y.Data[i] = mean[d] + float32(v*std[d])
		}
		return y
	}}
	loss := func(y, x tensor.Tensor) {
		for i, v := range x.Data {
			d := i % x.Cols
			y.Data[i] = (y.Data[i] - (v-mean[d])/std[d]) / float32(x.Rows)
		}
	}
	b := e.judge()
	var err error
	r.Tuned.MLPEpochs, r.Tuned.MLPNLL, err = n.fit(ctx, loss, func() float64 {
		p.fitVariance(b)
		return meanNLL(p, b)
	})
	p.fitVariance(b)
	return p, err
}

// fitProcrustes is the orthogonal baseline (Schönemann 1966; Maiorca et al. 2023 stitch latent spaces by it): x = mean + s·R·(c - mean),
// where R has orthonormal rows or columns and s is one scale, both by least squares on the training captions.
func (e *Eval) fitProcrustes() *point {
	b := e.captions(fitRepeats, 0)
	from, to := b.c.Cols, b.x.Cols
	center, _ := moments(b.c)
	mean, _ := moments(b.x)
	cross := make([]float64, to*from) // Σ (x - mean)·(c - center)ᵀ
	var square float64
	row := make([]float64, from)
	for i := range b.x.Rows {
		for k, v := range b.c.Row(i) {
			row[k] = float64(v - center[k])
			square += float64(row[k] * row[k])
		}
		for j, v := range b.x.Row(i) {
			axpy(cross[j*from:][:from], float64(v-mean[j]), row)
		}
	}
	rotation := polar(cross, to, from)
	var scale float64
	for i, v := range rotation {
		scale += float64(v * cross[i])
	}
	scale /= max(square, math.SmallestNonzeroFloat32)
	weight := make([]float32, len(rotation))
	for i, v := range rotation {
		weight[i] = float32(scale * v)
	}
	w := tensor.NewWeight(weight, to, from)
	return e.newPoint(func(c tensor.Tensor) tensor.Tensor {
		centred, y := tensor.New(c.Rows, from), tensor.New(c.Rows, to)
		for i, v := range c.Data {
			centred.Data[i] = v - center[i%from]
		}
		e.Device.MatMul(y, centred, w, matmul.Epilogue{Bias: mean})
		return y
	})
}
