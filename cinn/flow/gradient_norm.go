package flow

import (
	"math"

	kernel "netfusion/kernels/dense"
	"netfusion/tensor"
)

// normJob normalises a batch and goes back through that: features to a tile where sums are over the batch, and 16 samples to a tile
// where they are over the features.
type normJob struct {
	g     *Gradient
	norm  *norm
	phase normPhase
	x, y  tensor.Tensor // [n][ld]; on the way back x is x̂ and y the gradient
	rstd  []float32     // 1/σ, [n] or [ld]
}

type normPhase uint8

const (
	normFeatures     normPhase = iota // BatchNorm
	normSamples                       // LayerNorm
	normFeaturesBack                  // the gradients of gamma and beta; BatchNorm's whole way back
	normSamplesBack                   // LayerNorm's
)

// normalise writes y = gamma·x̂ + beta and leaves x̂ in x, and in rstd what backward needs.
func (l *norm) normalise(g *Gradient, y, x tensor.Tensor, rstd []float32) {
	g.norm = normJob{g: g, norm: l, x: x, y: y, rstd: rstd}
	if l.batch {
		g.norm.run(normFeatures, strips(l.n))
	} else {
		g.norm.run(normSamples, g.ld/kernel.Width)
	}
}

// backward turns d = ∂L/∂y into ∂L/∂x in place and writes the gradients of gamma and beta.
func (l *norm) backward(g *Gradient, d, xhat tensor.Tensor, rstd []float32) {
	g.norm = normJob{g: g, norm: l, x: xhat, y: d, rstd: rstd}
	g.norm.run(normFeaturesBack, strips(l.n))
	if !l.batch {
		g.norm.run(normSamplesBack, g.ld/kernel.Width)
	}
}

func (j *normJob) run(phase normPhase, tiles int) {
	j.phase = phase
	j.g.dev.Run(j, tiles)
}

func (j *normJob) Tile(tile int) {
	i0, i1 := strip(tile, j.norm.n)
	switch j.phase {
	case normFeatures:
		for i := i0; i < i1; i++ {
			j.feature(i)
		}
	case normSamples:
		j.samples(tile * kernel.Width)
	case normFeaturesBack:
		for i := i0; i < i1; i++ {
			j.featureBack(i)
		}
	case normSamplesBack:
		j.samplesBack(tile * kernel.Width)
	}
}

// feature normalises feature i by the moments of the batch, and moves the running ones, whose variance is the unbiased one; or by
// the running ones.
func (j *normJob) feature(i int) {
	l, x := j.norm, j.x.Row(i)
	mean, variance := float64(l.mean[i]), float64(l.variance[i])
	if !j.g.frozen {
		m := float64(j.g.m)
		var sum, squares float64
		for _, v := range x[:j.g.m] {
			sum += float64(v)
		}
		mean = sum / m
		for _, v := range x[:j.g.m] {
			d := float64(v) - mean
			squares += float64(d * d)
		}
		l.mean[i] += float32(normMomentum * (mean - float64(l.mean[i])))
		l.variance[i] += float32(normMomentum * (squares/max(m-1, 1) - variance))
		variance = squares / m
	}
	r := 1 / math.Sqrt(variance+normEpsilon)
	j.rstd[i] = float32(r)
	gamma, beta := j.g.flow.values[l.gamma+i], j.g.flow.values[l.beta+i]
	y := j.y.Row(i)
	for k, v := range x {
		x[k] = float32((float64(v) - mean) * r)
		y[k] = float32(x[k]*gamma) + beta
	}
}

// samples normalises the samples of 16 columns from at.
func (j *normJob) samples(at int) {
	var sums, squares, r [kernel.Width]float64
	n := float64(j.norm.n)
	for i := range j.x.Rows {
		for k, v := range j.x.Row(i)[at:][:kernel.Width] {
			sums[k] += float64(v)
		}
	}
	for i := range j.x.Rows {
		for k, v := range j.x.Row(i)[at:][:kernel.Width] {
			d := float64(v) - sums[k]/n
			squares[k] += float64(d * d)
		}
	}
	for k := range r {
		sums[k] /= n
		r[k] = 1 / math.Sqrt(squares[k]/n+normEpsilon)
		j.rstd[at+k] = float32(r[k])
	}
	gamma, beta := j.g.flow.values[j.norm.gamma:], j.g.flow.values[j.norm.beta:]
	for i := range j.x.Rows {
		x, y := j.x.Row(i)[at:][:kernel.Width], j.y.Row(i)[at:][:kernel.Width]
		for k, v := range x {
			x[k] = float32((float64(v) - sums[k]) * r[k])
			y[k] = float32(x[k]*gamma[i]) + beta[i]
		}
	}
}

func (j *normJob) featureBack(i int) {
	l, m := j.norm, j.g.m
	d, x := j.y.Row(i), j.x.Row(i)
	var along, total float64
	for k, v := range d[:m] {
		along += float64(float64(v) * float64(x[k]))
		total += float64(v)
	}
	dgamma, dbeta := float32(along), float32(total)
	j.g.values[l.gamma+i], j.g.values[l.beta+i] = dgamma, dbeta
	if !l.batch {
		return
	}
	// ∂L/∂x̂ = gamma·d, less its mean and its part along x̂, both over the batch: those are dbeta and dgamma.
	gamma := j.g.flow.values[l.gamma+i] * j.rstd[i]
	dgamma, dbeta = dgamma/float32(m), dbeta/float32(m)
	for k := range d {
		d[k] = gamma * (d[k] - dbeta - float32(x[k]*dgamma))
	}
}

func (j *normJob) samplesBack(at int) {
	var mean, along [kernel.Width]float64
	gamma, n := j.g.flow.values[j.norm.gamma:], float64(j.norm.n)
	for i := range j.y.Rows {
		d, x := j.y.Row(i)[at:][:kernel.Width], j.x.Row(i)[at:][:kernel.Width]
		for k := range d {
			d[k] *= gamma[i]
			mean[k] += float64(d[k])
			along[k] += float64(float64(d[k]) * float64(x[k]))
		}
	}
	for k := range mean {
		mean[k] /= n
		along[k] /= n
	}
	for i := range j.y.Rows {
		d, x := j.y.Row(i)[at:][:kernel.Width], j.x.Row(i)[at:][:kernel.Width]
		for k, v := range d {
			d[k] = j.rstd[at+k] * float32(float64(v)-mean[k]-float64(along[k]*float64(x[k])))
		}
	}
}
