package flow

import (
	"math"

	"netfusion/tensor"
)

// norm is LayerNorm (each row by its own moments) or BatchNorm (each column by those of the batch in training, and by running
// averages elsewhere), scaled by gamma and shifted by beta.
type norm struct {
	n              int
	batch          bool
	gamma, beta    int       // offsets, [n] each
	mean, variance []float32 // running, [n]; BatchNorm only
}

const (
	normEpsilon  = 1e-5
	normMomentum = 0.1
)

func newNorm(b *builder, prefix string, n int, kind normKind) norm {
	l := norm{n: n, batch: kind == batchNorm, gamma: b.param(prefix+"weight", n), beta: b.param(prefix+"bias", n)}
	if l.batch {
		l.mean = b.buffer(prefix+"running_mean", 0, n)
		l.variance = b.buffer(prefix+"running_var", 1, n)
	}
	return l
}

// forward writes y = gamma·x̂ + beta; x becomes x̂, and rstd the 1/σ of each row, or of each column for BatchNorm.
func (l *norm) forward(p *pass, y, x tensor.Tensor, rstd []float32) {
	switch {
	case !l.batch:
		layerMoments(x, rstd)
	case p.training:
		l.batchMoments(x, rstd)
	default:
		for j := range rstd[:l.n] {
			rstd[j] = float32(1 / math.Sqrt(float64(l.variance[j])+normEpsilon))
		}
		for i := range x.Rows {
			for j, v := range x.Row(i) {
				x.Row(i)[j] = (v - l.mean[j]) * rstd[j]
			}
		}
	}
	gamma, beta := p.flow.values[l.gamma:][:l.n], p.flow.values[l.beta:][:l.n]
	for i := range x.Rows {
		xi, yi := x.Row(i), y.Row(i)
		for j, v := range xi {
			yi[j] = float32(v*gamma[j]) + beta[j]
		}
	}
}

func layerMoments(x tensor.Tensor, rstd []float32) {
	n := float64(x.Cols)
	for i := range x.Rows {
		row := x.Row(i)
		var sum, squares float64
		for _, v := range row {
			sum += float64(v)
		}
		mean := sum / n
		for _, v := range row {
			d := float64(v) - mean
			squares += float64(d * d)
		}
		r := 1 / math.Sqrt(squares/n+normEpsilon)
		rstd[i] = float32(r)
		for j, v := range row {
			row[j] = float32((float64(v) - mean) * r)
		}
	}
}

// batchMoments normalises by the moments of the batch and moves the running ones, whose variance is the unbiased one.
func (l *norm) batchMoments(x tensor.Tensor, rstd []float32) {
	m := float64(x.Rows)
	for j := range l.n {
		var sum, squares float64
		for i := range x.Rows {
			sum += float64(x.Data[i*x.Cols+j])
		}
		mean := sum / m
		for i := range x.Rows {
			d := float64(x.Data[i*x.Cols+j]) - mean
			squares += float64(d * d)
		}
		r := 1 / math.Sqrt(squares/m+normEpsilon)
		rstd[j] = float32(r)
		for i := range x.Rows {
			x.Data[i*x.Cols+j] = float32((float64(x.Data[i*x.Cols+j]) - mean) * r)
		}
		l.mean[j] += float32(normMomentum * (mean - float64(l.mean[j])))
		l.variance[j] += float32(normMomentum * (squares/max(m-1, 1) - float64(l.variance[j])))
	}
}

// backward turns d = ∂L/∂y into ∂L/∂x in place and writes the gradients of gamma and beta.
func (l *norm) backward(g *Gradient, d, xhat tensor.Tensor, rstd []float32) {
	gamma := g.pass.flow.values[l.gamma:][:l.n]
	dgamma, dbeta := g.values[l.gamma:][:l.n], g.values[l.beta:][:l.n]
	for j := range l.n {
		var a, b float64
		for i := range d.Rows {
			v := float64(d.Data[i*l.n+j])
			a += float64(v * float64(xhat.Data[i*l.n+j]))
			b += v
		}
		dgamma[j], dbeta[j] = float32(a), float32(b)
	}
	if l.batch {
		// ∂L/∂x̂ = gamma·d, less its mean and its part along x̂, both over the batch: those are dbeta and dgamma.
		m := float32(d.Rows)
		for i := range d.Rows {
			di, xi := d.Row(i), xhat.Row(i)
			for j := range di {
				di[j] = gamma[j] * rstd[j] * (di[j] - dbeta[j]/m - float32(xi[j]*dgamma[j])/m)
			}
		}
		return
	}
	for i := range d.Rows {
		di, xi := d.Row(i), xhat.Row(i)
		var mean, along float64
		for j := range di {
			di[j] *= gamma[j]
			mean += float64(di[j])
			along += float64(float64(di[j]) * float64(xi[j]))
		}
		mean /= float64(l.n)
		along /= float64(l.n)
		for j := range di {
			di[j] = rstd[i] * float32(float64(di[j])-mean-float64(along*float64(xi[j])))
		}
	}
}
