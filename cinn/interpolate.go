package cinn

import (
	"context"
	"fmt"
	"image"
	"math"
)

// Interpolation leads from one picture to another: with residuals v₀ and v₁, conditions c₀ and c₁ and t from 0 to 1,
//
//	z(t) = τ(slerp(v₀, v₁, t) | (1-t)·c₀ + t·c₁)
//
// where slerp turns v₀ into the direction of v₁ at constant speed while its length changes linearly: what lies on a straight line
// between two residuals is shorter than either, and so looks like nothing in particular. The class embedding changes linearly, both
// in the generator and in the flow.
type Interpolation struct {
	From, To           Subject
	FromShows, ToShows Condition // may be empty, as From of an Edit
	Guidance           float32   // 0 means that of From, where it is a Draw, or else the pack's default
}

// Interpolate draws p into frames, 2 or more, at equal steps of t from 0 to 1. Their bounds must have the size of Model.Bounds. When
// it returns an error, some frames may be drawn.
func (s *Session) Interpolate(ctx context.Context, frames []*image.NRGBA, p Interpolation) error {
	if len(frames) < 2 {
		return fmt.Errorf("cinn: %d frames, want 2 or more", len(frames))
	}
	for _, f := range frames[1:] {
		if err := s.checkBounds(f); err != nil {
			return err
		}
	}
	guidance, err := s.ends(ctx, frames[0], p)
	if err != nil {
		return err
	}
	for i, f := range frames {
		s.between(float64(i)/float64(len(frames)-1), guidance)
		if err := s.render(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// ends leaves both pictures in operations: latents, conditions, residuals and class means. It returns the guidance.
func (s *Session) ends(ctx context.Context, frame *image.NRGBA, p Interpolation) (float32, error) {
	// The null condition stands for the one that an interpolation, unlike an edit, does not lead to.
	if _, err := s.begin(frame, p.To, &p.ToShows, Request{Vector: s.model.flow.NullCondition()}); err != nil {
		return 0, err
	}
	d, err := s.begin(frame, p.From, &p.FromShows, Request{Vector: s.model.flow.NullCondition(), Guidance: p.Guidance})
	if err != nil {
		return 0, err
	}
	o := s.operations
	for i, end := range []struct {
		p Subject
		c Condition
	}{{p.From, p.FromShows}, {p.To, p.ToShows}} {
		if err := s.encodeInto(ctx, i, end.c); err != nil {
			return 0, err
		}
		if err := s.place(ctx, o.x.Row(i), end.p, i); err != nil {
			return 0, err
		}
	}
	both := o.x.Slice(first, second+1)
	o.flow.Residual(o.v.Slice(first, second+1), both, o.c.Slice(first, second+1), d.Guidance)
	if s.model.flow.Config.Classes > 0 {
		o.flow.ClassMeans(o.hat.Slice(first, second+1), both)
	}
	return d.Guidance, nil
}

// between leaves the latent at t in the last row of operations.x.
func (s *Session) between(t float64, guidance float32) {
	o := s.operations
	slerp(o.v.Row(neither), o.v.Row(first), o.v.Row(second), t)
	lerp(o.c.Row(neither), o.c.Row(first), o.c.Row(second), t)
	lerp(o.x.Row(neither), o.x.Row(first), o.x.Row(second), t)
	lerp(o.hat.Row(neither), o.hat.Row(first), o.hat.Row(second), t)
	o.flow.Restore(row(o.x, neither), row(o.v, neither), row(o.c, neither), row(o.hat, neither), guidance)
}

// lerp is (1-t)·a + t·b.
func lerp(dst, a, b []float32, t float64) { mix(dst, a, b, 1-t, t) }

// mix is wa·a + wb·b.
func mix(dst, a, b []float32, wa, wb float64) {
	for i, v := range a {
		dst[i] = float32(float64(wa*float64(v)) + float64(wb*float64(b[i])))
	}
}

// slerp turns a into the direction of b by the part t of the angle between them, and changes its length linearly. Where there is no
// such plane, for vectors that are parallel or zero, it is lerp.
func slerp(dst, a, b []float32, t float64) {
	var aa, bb, ab float64
	for i, v := range a {
		x, y := float64(v), float64(b[i])
		aa += float64(x * x)
		bb += float64(y * y)
		ab += float64(x * y)
	}
	la, lb := math.Sqrt(aa), math.Sqrt(bb)
	angle := math.Acos(max(-1, min(1, ab/(la*lb))))
	sine := math.Sin(angle)
	if !(sine > 1e-4) {
		lerp(dst, a, b, t)
		return
	}
	length := (1-t)*la + t*lb
	mix(dst, a, b, length*math.Sin((1-t)*angle)/(sine*la), length*math.Sin(t*angle)/(sine*lb))
}
