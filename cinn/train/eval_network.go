package train

import (
	"context"
	"math"
	"slices"

	"netfusion/kernels/matmul"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// network is what the learned baselines have in common: one hidden layer from the standardised condition to some outputs, trained
// with AdamW on the training captions, and stopped by validation.
type network struct {
	e             *Eval
	cond, outputs int
	center, scale []float32 // of c: mean and 1/standard deviation, [Cond]
	weights       []float32 // [hidden][Cond], [hidden], [outputs][hidden], [outputs]
}

const (
	netHidden   = 512
	netBatch    = 128
	netEpochs   = 30
	netPatience = 5
	netRate     = 1e-3
	netDecay    = 0.1
)

// newNetwork returns a network with fresh weights for conditions like those of c. Their noise is sample base and base+1 of netStream.
func (e *Eval) newNetwork(c tensor.Tensor, outputs int, base uint64) *network {
	n := &network{e: e, cond: c.Cols, outputs: outputs}
	n.center, n.scale = e.conditionMoments(c)
	for i, s := range n.scale {
		n.scale[i] = 1 / s
	}
	n.weights = make([]float32, netHidden*n.cond+netHidden+outputs*netHidden+outputs)
	w1, _, w2, _ := n.parts(n.weights)
	for layer, w := range [][]float32{w1, w2} {
		random.Normal(w, e.Seed, netStream, base+uint64(layer), 0)
		scale := float32(1 / math.Sqrt(float64([]int{n.cond, netHidden}[layer])))
		for i := range w {
			w[i] *= scale
		}
	}
	return n
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

// conditionMoments are the moments of conditions. The pixels of a map share the deviation of their channel, as they do in a flow: by its
// own, a pixel that hardly ever changes would be all that is seen where it does.
func (e *Eval) conditionMoments(c tensor.Tensor) (mean, std []float32) {
	mean, std = moments(c)
	if e.Config.Side == 0 {
		return mean, std
	}
	channels := c.Cols / (e.Config.Side * e.Config.Side)
	for k := range channels {
		var sum float64
		for j := k; j < c.Cols; j += channels {
			for i := range c.Rows {
				d := float64(c.Row(i)[j] - mean[j])
				sum += float64(d * d)
			}
		}
		shared := float32(math.Sqrt(sum * float64(channels) / float64(len(c.Data))))
		for j := k; j < c.Cols; j += channels {
			std[j] = max(shared, 1e-6)
		}
	}
	return mean, std
}

// parts are slices of the weights, or of what is laid out like them.
func (n *network) parts(w []float32) (w1, b1, w2, b2 []float32) {
	n1, n2 := netHidden*n.cond, n.outputs*netHidden
	return w[:n1], w[n1:][:netHidden], w[n1+netHidden:][:n2], w[n1+netHidden+n2:]
}

// hidden computes the standardised condition and the hidden layer.
func (n *network) hidden(c tensor.Tensor) (u, h tensor.Tensor) {
	u, h = tensor.New(c.Rows, n.cond), tensor.New(c.Rows, netHidden)
	for i, v := range c.Data {
		u.Data[i] = (v - n.center[i%n.cond]) * n.scale[i%n.cond]
	}
	w1, b1, _, _ := n.parts(n.weights)
	n.e.Device.MatMul(h, u, tensor.NewWeight(w1, netHidden, n.cond), matmul.Epilogue{Bias: b1, Act: matmul.LeakyReLU})
	return u, h
}

// output computes the outputs, [rows][outputs].
func (n *network) output(h tensor.Tensor) tensor.Tensor {
	y := tensor.New(h.Rows, n.outputs)
	_, _, w2, b2 := n.parts(n.weights)
	n.e.Device.MatMul(y, h, tensor.NewWeight(w2, n.outputs, netHidden), matmul.Epilogue{Bias: b2})
	return y
}

// forward computes the outputs for c.
func (n *network) forward(c tensor.Tensor) tensor.Tensor {
	_, h := n.hidden(c)
	return n.output(h)
}

// fit trains n until judge, a negative log-likelihood on validation, has not sunk for some epochs, and leaves the best weights in
// it. loss replaces the outputs y for a batch x by the gradient of the mean loss with respect to them.
func (n *network) fit(ctx context.Context, loss func(y, x tensor.Tensor), judge func() float64) (epochs int, least float64, err error) {
	least = math.Inf(1)
	best := n.weights
	t := &netTrainer{network: n, loss: loss}
	for _, buffer := range []*[]float32{&t.grad, &t.first, &t.second} {
		*buffer = make([]float32, len(n.weights))
	}
	for epoch := range netEpochs {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		t.epoch(n.e.captions(1, 1+epoch), epoch)
		if nll := judge(); nll < least {
			least, best, epochs = nll, slices.Clone(n.weights), epoch+1
		} else if epoch+1-epochs == netPatience {
			break
		}
	}
	n.weights = best
	return epochs, least, nil
}

// netTrainer holds the gradient and the optimizer's moments, laid out as the weights.
type netTrainer struct {
	*network
	loss                func(y, x tensor.Tensor)
	grad, first, second []float32
	steps               int
}

// epoch goes through the rows of b once, in an order of its own.
func (t *netTrainer) epoch(b batch, epoch int) {
	n := b.x.Rows
	key, order := make([]uint32, n), make([]int, n)
	random.Words(key, t.e.Seed, netOrderStream, uint64(epoch), 0)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return int(int64(key[i]) - int64(key[j])) })
	for at := 0; at < n; at += netBatch {
		rows := order[at:min(at+netBatch, n)]
		x, c := tensor.New(len(rows), b.x.Cols), tensor.New(len(rows), t.cond)
		for i, r := range rows {
			copy(x.Row(i), b.x.Row(r))
			copy(c.Row(i), b.c.Row(r))
		}
		t.step(x, c)
	}
}

// step descends the mean loss of a batch.
func (t *netTrainer) step(x, c tensor.Tensor) {
	u, h := t.hidden(c)
	dy := t.output(h)
	t.loss(dy, x)
	_, _, w2, _ := t.parts(t.weights)
	g1, gb1, g2, gb2 := t.parts(t.grad)
	t.gradient(g2, gb2, dy, h)
	dh := tensor.New(h.Rows, netHidden)
	t.e.Device.MatMul(dh, dy, transposed(w2, netHidden, t.outputs), matmul.Epilogue{})
	for i, v := range h.Data {
		if v < 0 {
			dh.Data[i] *= 0.01
		}
	}
	t.gradient(g1, gb1, dh, u)
	t.steps++
	adam := optimizer.Adam{Rate: netRate, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Decay: netDecay, Step: t.steps}
	adam.Apply(t.weights, t.grad, t.first, t.second, nil, 1)
}

// gradient computes the gradients w = dyᵀ·in [out][in] and b = Σ dy of a layer.
func (t *netTrainer) gradient(w, b []float32, dy, in tensor.Tensor) {
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
