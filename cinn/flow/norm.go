package flow

import (
	"math"

	"netfusion/tensor"
)

// norm is LayerNorm (each sample by its own moments) or BatchNorm (each feature by those of the batch in training, and by running
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

// forward writes y = gamma·x̂ + beta for a Session; x [m][n] becomes x̂, and rstd is scratch of max(m, n) values.
func (l *norm) forward(values []float32, y, x tensor.Tensor, rstd []float32) {
	if l.batch {
		l.running(rstd)
		for i := range x.Rows {
			row := x.Row(i)
			for j, v := range row {
				row[j] = (v - l.mean[j]) * rstd[j]
			}
		}
	} else {
		layerMoments(x)
	}
	gamma, beta := values[l.gamma:][:l.n], values[l.beta:][:l.n]
	for i := range x.Rows {
		xi, yi := x.Row(i), y.Row(i)
		for j, v := range xi {
			yi[j] = float32(v*gamma[j]) + beta[j]
		}
	}
}

// running writes the 1/σ of the running averages.
func (l *norm) running(rstd []float32) {
	for j := range rstd[:l.n] {
		rstd[j] = float32(1 / math.Sqrt(float64(l.variance[j])+normEpsilon))
	}
}

func layerMoments(x tensor.Tensor) {
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
		for j, v := range row {
			row[j] = float32((float64(v) - mean) * r)
		}
	}
}
