package train

import (
	"context"
	"math"
	"slices"

	"netfusion/cinn/pairs"
	"netfusion/kernels/matmul"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// mlp is the regression baseline: a network with one hidden layer predicts the mean of x from c, the variance of each dimension
// is that of the errors on validation. It learns by least squares on standardised x (AdamW), and stops by validation.
type mlp struct {
	e             *Eval
	mean, std     []float32 // of x, [Latent+Class]
	center, scale []float32 // of c: mean and 1/standard deviation, [Cond]
	weights       []float32 // [hidden][Cond], [hidden], [dims][hidden], [dims]
	variance      []float64 // of x around the prediction, [dims]
	cond, dims    int
}

const (
	mlpHidden   = 512
	mlpBatch    = 128
	mlpEpochs   = 30
	mlpPatience = 5
	mlpRate     = 1e-3
	mlpDecay    = 0.1
)

// slices of the weights.
func (m *mlp) parts(w []float32) (w1, b1, w2, b2 []float32) {
	n1, n2 := mlpHidden*m.cond, m.dims*mlpHidden
	return w[:n1], w[n1:][:mlpHidden], w[n1+mlpHidden:][:n2], w[n1+mlpHidden+n2:]
}

func (e *Eval) fitMLP(ctx context.Context, r *Report) (*mlp, error) {
	m := &mlp{e: e, cond: e.Conditions.Dim, dims: e.Set.Latent + e.Table.Cols}
	first := e.captions(1, 0)
	m.mean, m.std = moments(first.x)
	m.center, m.scale = moments(first.c)
	for i, s := range m.scale {
		m.scale[i] = 1 / s
	}
	m.weights = make([]float32, mlpHidden*m.cond+mlpHidden+m.dims*mlpHidden+m.dims)
	w1, _, w2, _ := m.parts(m.weights)
	for layer, w := range [][]float32{w1, w2} {
		random.Normal(w, e.Seed, mlpStream, uint64(layer), 0)
		scale := float32(1 / math.Sqrt(float64([]int{m.cond, mlpHidden}[layer])))
		for i := range w {
			w[i] *= scale
		}
	}
	judge := e.names(e.Set.Rows(pairs.Validation), tuneDraws, evalDraws)
	best, bestWeights := math.Inf(1), m.weights
	t := &mlpTrainer{mlp: m, grad: make([]float32, len(m.weights)), first: make([]float32, len(m.weights)), second: make([]float32, len(m.weights))}
	for epoch := range mlpEpochs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t.epoch(e.captions(1, 1+epoch), epoch)
		m.fitVariance(judge)
		if nll := meanNLL(m, judge); nll < best {
			best, bestWeights, r.Tuned.MLPEpochs = nll, slices.Clone(m.weights), epoch+1
		} else if epoch+1-r.Tuned.MLPEpochs == mlpPatience {
			break
		}
	}
	m.weights = bestWeights
	m.fitVariance(judge)
	r.Tuned.MLPNLL = best
	return m, nil
}

// moments returns the mean and the standard deviation of each column, 1 where a column is constant.
func moments(t tensor.Tensor) (mean, std []float32) {
	mean, std = make([]float32, t.Cols), make([]float32, t.Cols)
	for j := range t.Cols {
		var sum, squares float64
		for i := range t.Rows {
			sum += float64(t.Data[i*t.Cols+j])
		}
		m := sum / float64(t.Rows)
		for i := range t.Rows {
			d := float64(t.Data[i*t.Cols+j]) - m
			squares += float64(d * d)
		}
		mean[j], std[j] = float32(m), 1
		if s := math.Sqrt(squares / float64(t.Rows)); s > 1e-6 {
			std[j] = float32(s)
		}
	}
	return mean, std
}

// hidden computes the standardised condition and the hidden layer.
func (m *mlp) hidden(c tensor.Tensor) (u, h tensor.Tensor) {
	u, h = tensor.New(c.Rows, m.cond), tensor.New(c.Rows, mlpHidden)
	for i, v := range c.Data {
		u.Data[i] = (v - m.center[i%m.cond]) * m.scale[i%m.cond]
	}
	w1, b1, _, _ := m.parts(m.weights)
	m.e.Device.MatMul(h, u, tensor.NewWeight(w1, mlpHidden, m.cond), matmul.Epilogue{Bias: b1, Act: matmul.LeakyReLU})
	return u, h
}

// output computes the standardised prediction.
func (m *mlp) output(h tensor.Tensor) tensor.Tensor {
	y := tensor.New(h.Rows, m.dims)
	_, _, w2, b2 := m.parts(m.weights)
	m.e.Device.MatMul(y, h, tensor.NewWeight(w2, m.dims, mlpHidden), matmul.Epilogue{Bias: b2})
	return y
}

// errors returns (x - mean)/std minus the prediction.
func (m *mlp) errors(x, h tensor.Tensor) tensor.Tensor {
	y := m.output(h)
	for i, v := range x.Data {
		d := i % m.dims
		y.Data[i] = (v-m.mean[d])/m.std[d] - y.Data[i]
	}
	return y
}

func (m *mlp) fitVariance(b batch) {
	_, h := m.hidden(b.c)
	r := m.errors(b.x, h)
	m.variance = make([]float64, m.dims)
	for i, v := range r.Data {
		d := i % m.dims
		v := float64(v) * float64(m.std[d])
		m.variance[d] += float64(v*v) / float64(b.x.Rows)
	}
	for d := range m.variance {
		m.variance[d] += 1e-9
	}
}

// LogProb implements Density. Given c, z and e are independent here.
func (m *mlp) LogProb(z, class []float64, x, c tensor.Tensor) {
	_, h := m.hidden(c)
	r := m.errors(x, h)
	for i := range x.Rows {
		z[i], class[i] = 0, 0
		for d, v := range r.Row(i) {
			v := float64(v) * float64(m.std[d])
			p := -0.5 * (float64(v*v)/m.variance[d] + math.Log(2*math.Pi*m.variance[d]))
			if d < m.e.Set.Latent {
				z[i] += p
			} else {
				class[i] += p
			}
		}
	}
}

// mlpTrainer holds the gradient and the optimizer's moments, laid out as the weights.
type mlpTrainer struct {
	*mlp
	grad, first, second []float32
	steps               int
}

// epoch goes through the rows of b once, in an order of its own.
func (t *mlpTrainer) epoch(b batch, epoch int) {
	n := b.x.Rows
	key, order := make([]uint32, n), make([]int, n)
	random.Words(key, t.e.Seed, mlpOrderStream, uint64(epoch), 0)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return int(int64(key[i]) - int64(key[j])) })
	for at := 0; at < n; at += mlpBatch {
		rows := order[at:min(at+mlpBatch, n)]
		x, c := tensor.New(len(rows), t.dims), tensor.New(len(rows), t.cond)
		for i, r := range rows {
			copy(x.Row(i), b.x.Row(r))
			copy(c.Row(i), b.c.Row(r))
		}
		t.step(x, c)
	}
}

// step descends the mean over rows of |error|²/2.
func (t *mlpTrainer) step(x, c tensor.Tensor) {
	u, h := t.hidden(c)
	dy := t.errors(x, h)
	for i := range dy.Data {
		dy.Data[i] *= -1 / float32(x.Rows)
	}
	_, _, w2, _ := t.parts(t.weights)
	g1, gb1, g2, gb2 := t.parts(t.grad)
	t.gradient(g2, gb2, dy, h)
	dh := tensor.New(h.Rows, mlpHidden)
	t.e.Device.MatMul(dh, dy, transposed(w2, mlpHidden, t.dims), matmul.Epilogue{})
	for i, v := range h.Data {
		if v < 0 {
			dh.Data[i] *= 0.01
		}
	}
	t.gradient(g1, gb1, dh, u)
	t.steps++
	adam := optimizer.Adam{Rate: mlpRate, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Decay: mlpDecay, Step: t.steps}
	adam.Apply(t.weights, t.grad, t.first, t.second, nil, 1)
}

// gradient computes the gradients w = dyᵀ·in [out][in] and b = Σ dy of a layer.
func (t *mlpTrainer) gradient(w, b []float32, dy, in tensor.Tensor) {
	turned := tensor.New(dy.Cols, dy.Rows)
	clear(b)
	for i := range dy.Rows {
		for j, v := range dy.Row(i) {
			turned.Data[j*dy.Rows+i] = v
			b[j] += v
		}
	}
	t.e.Device.MatMul(tensor.Of(dy.Cols, in.Cols, w), turned, transposed(in.Data, in.Cols, in.Rows), matmul.Epilogue{})
}

// transposed packs W [n][k] from Wᵀ [k][n].
func transposed(wt []float32, n, k int) tensor.Weight {
	w := tensor.Weight{N: n, K: k, Panels: make([]float32, matmul.PackedLen(n, k))}
	matmul.PackT(w.Panels, wt, n, k)
	return w
}
