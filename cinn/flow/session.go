package flow

import (
	"errors"

	"netfusion/kernels/activation"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Session is one caller's memory for up to a fixed number of rows at a time; longer batches are cut. It allocates nothing
// after NewSession. A Session serves one goroutine at a time.
type Session struct {
	pass
	null    tensor.Tensor // [rows][Embed], the embedding without text
	nothing tensor.Tensor // [1][features], what the embedder reads of no text
}

// NewSession returns a Session that works on up to rows at a time on dev, which must not be in use elsewhere meanwhile.
func (f *Flow) NewSession(dev *tensor.Device, rows int) (*Session, error) {
	if rows < 1 {
		return nil, errors.New("flow: a session needs at least one row")
	}
	f.use()
	s := &Session{pass: pass{front: front{flow: f, dev: dev, rows: rows}}}
	tensor.Plan(func(a *tensor.Arena) {
		s.pass.layout(a)
		s.null, s.nothing = a.Take(rows, f.Config.Embed), a.Take(1, f.Config.features())
	})
	f.networks(func(n *network) { n.reserve(dev, rows) })
	f.maps.reserve(dev, min(rows, mapRows))
	return s, nil
}

// split copies the rows of x = [z ; e] into dst [m][Latent], and e into the pass.
func (p *front) split(dst, x tensor.Tensor) {
	n := p.flow.Config.Latent
	for i := range x.Rows {
		copy(dst.Row(i), x.Row(i)[:n])
		if p.flow.Config.Class > 0 {
			copy(p.e.Row(i), x.Row(i)[n:])
		}
	}
}

func (s *Session) check(x, c tensor.Tensor) {
	if x.Rows != c.Rows || x.Cols != s.flow.Config.dims() || c.Cols != s.flow.Config.Cond {
		panic("flow: x or c has the wrong shape")
	}
}

// Forward computes the residual v [m][Latent] of x [m][Latent+Class] under c [m][Cond], and in logdet [m], unless it is nil,
// log|det ∂v/∂z|.
func (s *Session) Forward(v tensor.Tensor, logdet []float32, x, c tensor.Tensor) {
	s.check(x, c)
	for i := 0; i < x.Rows; i += s.rows {
		j := min(i+s.rows, x.Rows)
		s.residual(x.Slice(i, j), c.Slice(i, j))
		copy(v.Slice(i, j).Data, s.v.Data)
		if logdet != nil {
			copy(logdet[i:j], s.logdet)
		}
	}
}

// residual leaves v and logdet of up to rows in the pass.
func (s *Session) residual(x, c tensor.Tensor) {
	s.back = false
	z := s.y.Slice(0, x.Rows)
	s.split(z, x)
	s.guide(c, tensor.Tensor{}, 1)
	s.forward(z)
}

// Inverse computes the z of x = [z ; e] [m][Latent+Class] from the residual v [m][Latent] under c [m][Cond]; the class part e
// of x is given.
func (s *Session) Inverse(x, v, c tensor.Tensor) {
	s.Restore(x, v, c, tensor.Tensor{}, 1)
}

// draw runs the residuals in the pass back and stores the z part of x.
func (s *Session) draw(x tensor.Tensor) {
	z := s.y.Slice(0, x.Rows)
	s.inverse(z)
	for i := range x.Rows {
		copy(x.Row(i), z.Row(i))
	}
}

// LogProb computes the exact log-likelihood in nats of x [m][Latent+Class] given c [m][Cond], in two parts: z [m] gets
// log p(z | c, ê), and class [m] gets log Σ_k p(k|c)·N(e; E_k, σ²I), or nothing if it is nil. A Flow without a class head
// has only the first.
func (s *Session) LogProb(z, class []float64, x, c tensor.Tensor) {
	s.check(x, c)
	for i := 0; i < x.Rows; i += s.rows {
		j := min(i+s.rows, x.Rows)
		m := j - i
		s.residual(x.Slice(i, j), c.Slice(i, j))
		for r := range m {
			z[i+r] = normalLogProb(s.v.Row(r)) + float64(s.logdet[r])
		}
		if class == nil || s.flow.Config.Classes == 0 {
			continue
		}
		s.flow.head.packed.forward(&s.pass, s.logits.Slice(0, m), s.c.Slice(0, m))
		for r := range m {
			class[i+r], _, _ = s.flow.classLogProb(s.logits.Row(r), s.scores.Row(r))
		}
	}
}

// normalLogProb is log N(v; 0, I).
func normalLogProb(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(float64(x) * float64(x))
	}
	return -0.5*sum - float64(len(v))*halfLog2Pi
}

// ClassProbabilities computes p(k|c), [m][Classes], from c [m][Cond].
func (s *Session) ClassProbabilities(dst, c tensor.Tensor) {
	for i := 0; i < c.Rows; i += s.rows {
		j := min(i+s.rows, c.Rows)
		s.condition(c.Slice(i, j), 1)
		s.flow.head.packed.forward(&s.pass, dst.Slice(i, j), s.c.Slice(0, j-i))
		activation.Softmax(dst.Slice(i, j).Data, j-i, dst.Cols, dst.Cols)
	}
}

// Draw says which samples to take. Row i of a batch is sample number Sample+i of Seed.
type Draw struct {
	Seed, Sample uint64
	// Temperature T scales Gaussian noise, which makes its density N^(1/T²) but for a constant; class probabilities are
	// raised to the same power. 1 is the model's own distribution.
	Temperature float32
	Guidance    float32 // e∅ + g·(e - e∅) for the embedding, the linear layer and the class logits; 1 is off
	Snap        bool    // the class part exactly a class embedding, without noise
}

// Sample draws x [m][Latent+Class] given c [m][Cond].
func (s *Session) Sample(x, c tensor.Tensor, d Draw) {
	s.check(x, c)
	for i := 0; i < x.Rows; i += s.rows {
		j := min(i+s.rows, x.Rows)
		s.sample(x.Slice(i, j), c.Slice(i, j), d)
		d.Sample += uint64(j - i)
	}
}

func (s *Session) sample(x, c tensor.Tensor, d Draw) {
	f, m := s.flow, x.Rows
	s.back = true
	if f.Config.Classes > 0 {
		s.condition(c, 1)
		s.mix(&f.head.packed, s.logits, s.scores, s.c, m, d.Guidance, nil)
	}
	s.noise(x, s.v.Slice(0, m), d)
	s.guide(c, tensor.Tensor{}, d.Guidance)
	s.draw(x)
}

// noise draws the residuals v [m][Latent] of samples x [m][Latent+Class], and their class parts by the logits in the pass.
func (p *front) noise(x, v tensor.Tensor, d Draw) {
	f, n := p.flow, p.flow.Config.Latent
	for i := range x.Rows {
		v, sample := v.Row(i), d.Sample+uint64(i)
		random.Normal(v, d.Seed, noiseStream, sample, 0)
		for k := range v {
			v[k] *= d.Temperature
		}
		if f.Config.Classes == 0 {
			continue
		}
		var u [1]float32
		random.Uniform(u[:], d.Seed, classStream, sample, 0)
		class := f.table.Row(pick(p.logits.Row(i), d.Temperature*d.Temperature, u[0]))
		e := x.Row(i)[n:]
		clear(e)
		if !d.Snap {
			random.Normal(e, d.Seed, noiseStream, sample, n)
		}
		for k, v := range class {
			e[k] = v + float32(e[k]*d.Temperature*f.Config.ClassNoise)
		}
		copy(p.e.Row(i), e)
	}
}

// mix computes dst = n(∅) + g·(n(in) - n(∅)), where ∅ is in that begins with nothing, or without that is zero. null is scratch; in
// is spoilt unless g is 1.
func (s *Session) mix(n *network, dst, null, in tensor.Tensor, m int, g float32, nothing []float32) {
	dst, null, in = dst.Slice(0, m), null.Slice(0, m), in.Slice(0, m)
	n.forward(&s.pass, dst, in)
	if g == 1 {
		return
	}
	if nothing == nil {
		clear(in.Data)
	}
	for i := range m {
		copy(in.Row(i), nothing)
	}
	n.forward(&s.pass, null, in)
	for i, v := range null.Data {
		dst.Data[i] = v + float32(g*(dst.Data[i]-v))
	}
}
