package cinn

import (
	"context"
	"image"
	"netfusion/cinn/flow"

	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Edit changes what a picture shows and keeps how it shows it:
//
//	v = τ⁻¹(z | From)    z' = τ(v | To)
//
// The class is changed no more than it must: it stays with probability min(1, p(class|To)/p(class|From)) and is drawn from what
// To makes likelier otherwise, so that pictures drawn for From become pictures drawn for To. If From is To, nothing changes.
type Edit struct {
	Subject  Subject
	From, To Condition // From may be empty: for a Draw it is the Draw's own condition, otherwise none at all
	Guidance float32   // both ways; 0 means the Draw's, or else the pack's default
	Seed     uint64    // of the draw of the class
	Sample   uint64
}

// Exemplar draws what a condition says in the style of a picture:
//
//	v = τ⁻¹(z | StyleShows)    z' = τ(v | Content)
//
// The class is drawn as Generate draws it for the same Seed and Sample.
type Exemplar struct {
	Style       Subject
	StyleShows  Condition // may be empty, as From of an Edit
	Content     Condition
	Guidance    float32 // both ways; 0 means the Draw's, or else the pack's default
	Temperature float32 // of the class; 0 means the pack's default
	Seed        uint64
	Sample      uint64
}

// Edit draws e into dst, whose bounds must have the size of Model.Bounds. When it returns an error, dst is as it was.
func (s *Session) Edit(ctx context.Context, dst *image.NRGBA, e Edit) error {
	if err := s.edit(ctx, dst, e); err != nil {
		return err
	}
	return s.render(ctx, dst)
}

func (s *Session) edit(ctx context.Context, dst *image.NRGBA, e Edit) error {
	d, err := s.begin(dst, e.Subject, &e.From, Request{Prompt: e.To.Prompt, Image: e.To.Image, Vector: e.To.Vector, Guidance: e.Guidance, Seed: e.Seed, Sample: e.Sample})
	if err != nil {
		return err
	}
	if err := s.take(ctx, e.Subject, e.From, e.To, d.Guidance); err != nil {
		return err
	}
	o := s.operations
	x := row(o.x, neither)
	copy(x.Data, o.x.Row(first))
	if s.model.flow.Config.Classes > 0 {
		o.flow.ClassDraw(o.p, o.c.Slice(first, second+1), d)
		s.moveClass(x.Data[s.model.target.ZDim:], o.p.Row(first), o.p.Row(second), d.Seed, d.Sample)
	}
	o.flow.Restore(x, row(o.v, first), row(o.c, second), tensor.Tensor{}, d.Guidance)
	return nil
}

// Exemplar draws e into dst, as Edit does.
func (s *Session) Exemplar(ctx context.Context, dst *image.NRGBA, e Exemplar) error {
	if err := s.exemplar(ctx, dst, e); err != nil {
		return err
	}
	return s.render(ctx, dst)
}

func (s *Session) exemplar(ctx context.Context, dst *image.NRGBA, e Exemplar) error {
	d, err := s.begin(dst, e.Style, &e.StyleShows, Request{Prompt: e.Content.Prompt, Image: e.Content.Image, Vector: e.Content.Vector,
		Guidance: e.Guidance, Temperature: e.Temperature, Seed: e.Seed, Sample: e.Sample})
	if err != nil {
		return err
	}
	if err := s.take(ctx, e.Style, e.StyleShows, e.Content, d.Guidance); err != nil {
		return err
	}
	o := s.operations
	x, c := row(o.x, neither), row(o.c, second)
	o.flow.Sample(x, c, d)
	o.flow.Restore(x, row(o.v, first), c, tensor.Tensor{}, d.Guidance)
	return nil
}

// begin checks what an operation is asked for, and fills in what is left out.
func (s *Session) begin(dst *image.NRGBA, p Subject, shows *Condition, r Request) (flow.Draw, error) {
	if err := s.openOperations(); err != nil {
		return flow.Draw{}, err
	}
	if err := s.checkBounds(dst); err != nil {
		return flow.Draw{}, err
	}
	if p.Draw != nil {
		if shows.none() {
			*shows = p.Draw.condition()
		}
		if r.Guidance == 0 {
			r.Guidance = p.Draw.Guidance
		}
	}
	return s.draw(r)
}

// take leaves the picture p, which shows from, in the first row of operations.x, its residual in that of operations.v, and the
// condition to in the second row of operations.c.
func (s *Session) take(ctx context.Context, p Subject, from, to Condition, guidance float32) error {
	o := s.operations
	if err := s.encodeInto(ctx, second, to); err != nil {
		return err
	}
	if err := s.encodeInto(ctx, first, from); err != nil {
		return err
	}
	if err := s.place(ctx, o.x.Row(first), p, first); err != nil {
		return err
	}
	o.flow.Residual(row(o.v, first), row(o.x, first), row(o.c, first), guidance)
	return nil
}

// editStream is the stream of the noise generator that decides about classes.
const editStream = 40

// moveClass moves the class part e from the class of the embedding that is nearest to it, which is drawn from p, to one that is drawn
// from q. What e is beside the embedding stays.
func (s *Session) moveClass(e, p, q []float32, seed, sample uint64) {
	var u [2]float32
	random.Uniform(u[:], seed, editStream, sample, 0)
	k := s.nearestClass(e)
	was, is := s.model.target.Class(k), s.model.target.Class(couple(k, p, q, u))
	for i := range e {
		e[i] += is[i] - was[i]
	}
}

// couple turns a draw k from p into one from q, and changes it no more than that takes (the maximal coupling of p and q): it stays with
// probability min(1, q_k/p_k), and is drawn from what q has in excess of p otherwise. u are two uniform numbers.
func couple(k int, p, q []float32, u [2]float32) int {
	if float32(u[0]*p[k]) <= q[k] {
		return k
	}
	var total float64
	for j, v := range q {
		total += float64(max(0, v-p[j]))
	}
	to, left := k, float64(u[1])*total
	for j, v := range q {
		if excess := float64(v - p[j]); excess > 0 {
			to = j
			if left -= excess; left < 0 {
				break
			}
		}
	}
	return to
}
