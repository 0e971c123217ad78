package flow

import (
	"errors"

	"netfusion/tensor"
)

// GPUSession is Session on a GPU, for callers whose rows are on the host: what is computed is what a Session of the same Flow
// computes, to the precision of the products. Each method is one graph, captured at its first call, that works on all rows of the
// GPUSession at a time. After a failure, which Err tells, results mean nothing.
type GPUSession struct {
	f    *GPUFlow
	q    *tensor.Queue
	rows int

	draw          GPUDraw
	x, c, v, hat  tensor.Staged[float32] // [rows][…]
	logits        tensor.Staged[float32]
	logdet, class tensor.Staged[float32]

	graphs   [gpuCalls]tensor.Graph
	captured [gpuCalls]bool
}

// gpuCall is one of a GPUSession's graphs.
type gpuCall int

const (
	callSample gpuCall = iota
	callScore
	callRestore
	callRestoreHat
	callMeans
	callLogits
	gpuCalls
)

// NewSession returns a GPUSession that works on up to rows at a time.
func (f *GPUFlow) NewSession(g *tensor.GPU, rows int) (*GPUSession, error) {
	if rows < 1 {
		return nil, errors.New("flow: a session needs at least one row")
	}
	c := f.Config
	sizes := []int{rows * c.dims(), rows * c.Cond, rows * c.Latent, rows * c.Class, rows * c.Classes, rows, rows}
	const unit = 16 // of which each part begins at a multiple
	bytes := DrawStaging
	for _, n := range sizes {
		bytes += (4*n + unit - 1) / unit * unit
	}
	q, err := g.NewQueue(bytes)
	if err != nil {
		return nil, err
	}
	s := &GPUSession{f: f, q: q, rows: rows, draw: StageDraw(q)}
	for i, p := range []*tensor.Staged[float32]{&s.x, &s.c, &s.v, &s.hat, &s.logits, &s.logdet, &s.class} {
		*p = tensor.Stage[float32](q, sizes[i])
	}
	return s, nil
}

// Err is the first failure.
func (s *GPUSession) Err() error { return s.q.Err() }

// Close frees the memory of s.
func (s *GPUSession) Close() error { return s.q.Close() }

// on views staged values as the rows of a matrix.
func (s *GPUSession) on(v tensor.Staged[float32]) tensor.Buffer {
	return tensor.Matrix(v.Array, s.rows, v.Len/s.rows)
}

// record records a call.
func (s *GPUSession) record(call gpuCall) {
	q, f := s.q, s.f
	guidance := s.draw.guidance()
	q.Upload(s.draw.Numbers, s.draw.Factors, s.x, s.c, s.v, s.hat)
	switch call {
	case callSample:
		f.Sample(q, s.on(s.x), s.on(s.c), s.draw)
		q.Download(s.x)
	case callScore:
		f.Score(q, GPUScore{s.on(s.v), s.logdet.Array, s.class.Array}, s.on(s.x), s.on(s.c), guidance)
		q.Download(s.v, s.logdet, s.class)
	case callRestore:
		f.Restore(q, s.on(s.x), s.on(s.v), s.on(s.c), tensor.Buffer{}, guidance)
		q.Download(s.x)
	case callRestoreHat:
		f.Restore(q, s.on(s.x), s.on(s.v), s.on(s.c), s.on(s.hat), guidance)
		q.Download(s.x)
	case callMeans:
		f.ClassMeans(q, s.on(s.hat), s.on(s.x))
		q.Download(s.hat)
	case callLogits:
		f.Logits(q, s.on(s.logits), s.on(s.c), guidance)
		q.Download(s.logits)
	}
}

// run runs a call on what is staged.
func (s *GPUSession) run(call gpuCall) {
	if !s.captured[call] {
		s.graphs[call], _ = s.q.Capture(func() { s.record(call) })
		s.captured[call] = true
	}
	s.q.Replay(s.graphs[call])
	s.q.Wait()
}

// each calls do with the rows [i, j) of a batch of m that are computed together.
func (s *GPUSession) each(m int, do func(i, j int)) {
	for i := 0; i < m; i += s.rows {
		do(i, min(i+s.rows, m))
	}
}

func (s *GPUSession) guide(g float32) { s.draw.Set(Draw{Guidance: g}, s.f.Config) }

// Sample is Session.Sample.
func (s *GPUSession) Sample(x, c tensor.Tensor, d Draw) {
	s.each(x.Rows, func(i, j int) {
		s.draw.Set(d, s.f.Config)
		d.Sample += uint64(j - i)
		copy(s.c.Host, c.Slice(i, j).Data)
		s.run(callSample)
		copy(x.Slice(i, j).Data, s.x.Host)
	})
}

// score scores rows [i, j).
func (s *GPUSession) score(x, c tensor.Tensor, i, j int, g float32) {
	s.guide(g)
	copy(s.x.Host, x.Slice(i, j).Data)
	copy(s.c.Host, c.Slice(i, j).Data)
	s.run(callScore)
}

// Forward is Session.Forward.
func (s *GPUSession) Forward(v tensor.Tensor, logdet []float32, x, c tensor.Tensor) {
	s.each(x.Rows, func(i, j int) {
		s.score(x, c, i, j, 1)
		copy(v.Slice(i, j).Data, s.v.Host)
		if logdet != nil {
			for r := i; r < j; r++ {
				logdet[r] = float32(float64(s.logdet.Host[r-i]) + s.f.constant)
			}
		}
	})
}

// Residual is Session.Residual.
func (s *GPUSession) Residual(v, x, c tensor.Tensor, g float32) {
	s.each(x.Rows, func(i, j int) {
		s.score(x, c, i, j, g)
		copy(v.Slice(i, j).Data, s.v.Host)
	})
}

// LogProb is Session.LogProb.
func (s *GPUSession) LogProb(z, class []float64, x, c tensor.Tensor) {
	f := s.f
	s.each(x.Rows, func(i, j int) {
		s.score(x, c, i, j, 1)
		for r := i; r < j; r++ {
			z[r] = normalLogProb(s.v.Host[(r-i)*f.Config.Latent:][:f.Config.Latent]) + float64(s.logdet.Host[r-i]) + f.constant
			if class != nil && f.Config.Classes > 0 {
				class[r] = -float64(s.class.Host[r-i]) - f.Config.classConstant()
			}
		}
	})
}

// Inverse is Session.Inverse.
func (s *GPUSession) Inverse(x, v, c tensor.Tensor) { s.Restore(x, v, c, tensor.Tensor{}, 1) }

// Restore is Session.Restore.
func (s *GPUSession) Restore(x, v, c, hat tensor.Tensor, g float32) {
	s.each(x.Rows, func(i, j int) {
		s.guide(g)
		call := callRestore
		copy(s.x.Host, x.Slice(i, j).Data)
		copy(s.v.Host, v.Slice(i, j).Data)
		copy(s.c.Host, c.Slice(i, j).Data)
		if hat.Cols > 0 {
			copy(s.hat.Host, hat.Slice(i, j).Data)
			call = callRestoreHat
		}
		s.run(call)
		copy(x.Slice(i, j).Data, s.x.Host)
	})
}

// ClassMeans is Session.ClassMeans.
func (s *GPUSession) ClassMeans(hat, x tensor.Tensor) {
	s.each(x.Rows, func(i, j int) {
		copy(s.x.Host, x.Slice(i, j).Data)
		s.run(callMeans)
		copy(hat.Slice(i, j).Data, s.hat.Host)
	})
}

// logitsOf leaves the class head's logits in dst [m][Classes].
func (s *GPUSession) logitsOf(dst, c tensor.Tensor, g float32) {
	s.each(c.Rows, func(i, j int) {
		s.guide(g)
		copy(s.c.Host, c.Slice(i, j).Data)
		s.run(callLogits)
		copy(dst.Slice(i, j).Data, s.logits.Host)
	})
}

// ClassProbabilities is Session.ClassProbabilities.
func (s *GPUSession) ClassProbabilities(dst, c tensor.Tensor) {
	s.ClassDraw(dst, c, Draw{Guidance: 1, Temperature: 1})
}

// LogClasses is Session.LogClasses.
func (s *GPUSession) LogClasses(dst, c tensor.Tensor) {
	s.logitsOf(dst, c, 1)
	for r := range dst.Rows {
		logSoftmax(dst.Row(r))
	}
}

// ClassDraw is Session.ClassDraw.
func (s *GPUSession) ClassDraw(dst, c tensor.Tensor, d Draw) {
	s.logitsOf(dst, c, d.Guidance)
	sharpen(dst, d.Temperature)
}
