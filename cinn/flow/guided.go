package flow

import (
	"math"

	"netfusion/kernels/activation"
	"netfusion/tensor"
)

// Residual computes the residual v [m][Latent] of x [m][Latent+Class] under c [m][Cond], v = τ⁻¹(z | c, ê), where guidance g
// pulls the condition as it does in Sample: Restore with the same g is its inverse. With g 1 it is Forward.
func (s *Session) Residual(v, x, c tensor.Tensor, g float32) {
	s.check(x, c)
	for i := 0; i < x.Rows; i += s.rows {
		j := min(i+s.rows, x.Rows)
		z := s.y.Slice(0, j-i)
		s.back = false
		s.split(z, x.Slice(i, j))
		s.guide(c.Slice(i, j), tensor.Tensor{}, g)
		s.forward(z)
		copy(v.Slice(i, j).Data, s.v.Data)
	}
}

// Restore computes the z of x = [z ; e] [m][Latent+Class] from the residual v [m][Latent] under c [m][Cond], z = τ(v | c, ê), with
// guidance g. The class part e of x is given. hat [m][Class] takes the place of ê(e), unless it is empty.
func (s *Session) Restore(x, v, c, hat tensor.Tensor, g float32) {
	s.check(x, c)
	for i := 0; i < x.Rows; i += s.rows {
		j := min(i+s.rows, x.Rows)
		xs, h := x.Slice(i, j), hat
		if hat.Cols > 0 {
			h = hat.Slice(i, j)
		}
		s.back = true
		s.split(s.y.Slice(0, j-i), xs)
		copy(s.v.Data, v.Slice(i, j).Data)
		s.guide(c.Slice(i, j), h, g)
		s.draw(xs)
	}
}

// guide leaves the embedding and the linear layer's input for c, pulled by g, in the pass. The class part of x is there
// already; hat takes the place of ê(e), unless it is empty.
func (s *Session) guide(c, hat tensor.Tensor, g float32) {
	f, m := s.flow, c.Rows
	s.condition(c, 1)
	if f.Config.Classes > 0 {
		if hat.Cols > 0 {
			copy(s.hat.Data, hat.Data)
		} else {
			s.posterior(m)
		}
		s.classCondition(m)
	}
	s.read(c)
	if f.Config.Side > 0 && g != 1 {
		s.features(s.nothing, tensor.Of(1, f.Config.Cond, f.NullCondition()))
	}
	s.mix(&f.embedder.packed, s.embed, s.null, s.input, m, g, s.nothing.Data)
	s.condition(c, g)
}

// ClassMeans computes ê(e), [m][Class], of the class parts of x [m][Latent+Class].
func (s *Session) ClassMeans(hat, x tensor.Tensor) {
	for i := 0; i < x.Rows; i += s.rows {
		j := min(i+s.rows, x.Rows)
		s.split(s.y.Slice(0, j-i), x.Slice(i, j))
		s.posterior(j - i)
		copy(hat.Slice(i, j).Data, s.hat.Data)
	}
}

// LogClasses computes log p(k|c), [m][Classes], from c [m][Cond].
func (s *Session) LogClasses(dst, c tensor.Tensor) {
	for i := 0; i < c.Rows; i += s.rows {
		j := min(i+s.rows, c.Rows)
		p := dst.Slice(i, j)
		s.condition(c.Slice(i, j), 1)
		s.flow.head.packed.forward(&s.pass, p, s.c.Slice(0, j-i))
		for r := range p.Rows {
			logSoftmax(p.Row(r))
		}
	}
}

// logSoftmax turns logits into the logarithms of probabilities.
func logSoftmax(logits []float32) {
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, float64(v))
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	prior := top + math.Log(sum)
	for k, v := range logits {
		logits[k] = float32(float64(v) - prior)
	}
}

// ClassDraw computes the probabilities, [m][Classes], from which Sample draws classes given c [m][Cond]: those of d's guidance,
// raised to the power 1/T² of its temperature.
func (s *Session) ClassDraw(dst, c tensor.Tensor, d Draw) {
	for i := 0; i < c.Rows; i += s.rows {
		j := min(i+s.rows, c.Rows)
		p := dst.Slice(i, j)
		s.condition(c.Slice(i, j), 1)
		s.mix(&s.flow.head.packed, p, s.scores, s.c, j-i, d.Guidance, nil)
		sharpen(p, d.Temperature)
	}
}

// sharpen turns logits into probabilities, raised to the power 1/T².
func sharpen(logits tensor.Tensor, temperature float32) {
	power := 1 / (temperature * temperature)
	for r := range logits.Rows {
		row := logits.Row(r)
		top := float32(math.Inf(-1))
		for _, v := range row {
			top = max(top, v)
		}
		for k, v := range row {
			row[k] = (v - top) * power
		}
	}
	activation.Softmax(logits.Data, logits.Rows, logits.Cols, logits.Cols)
}
