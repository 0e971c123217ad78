package cinn

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
)

// Condition is what an image is to show. Exactly one field is set: the one that the pack's source reads, or Vector, which
// stands for the source's output and so fits any pack.
type Condition struct {
	Prompt string
	Image  *image.NRGBA
	Vector []float32 // [Info.Condition]
}

// ErrCondition is returned for a Condition with more than one field set.
var ErrCondition = errors.New("cinn: more than one condition: a prompt, an image or a vector")

// check tells whether c can be encoded, but for what only the source finds out.
func (m *Model) check(c Condition) error {
	switch {
	case c.Image != nil && c.Vector != nil, c.Prompt != "" && (c.Image != nil || c.Vector != nil):
		return ErrCondition
	case c.Vector != nil:
		return m.checkVector(c.Vector)
	}
	return m.source.check(c)
}

func (m *Model) checkVector(v []float32) error {
	if n := m.source.width(); len(v) != n {
		return fmt.Errorf("cinn: a condition of %d numbers, want %d", len(v), n)
	}
	for i, x := range v {
		if x := float64(x); math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("cinn: number %d of the condition is %v", i, x)
		}
	}
	return nil
}

// encode leaves what the source makes of c, which has passed check, in s.text. Draws of one prompt after another encode it
// once.
func (s *Session) encode(ctx context.Context, c Condition) error {
	if c.Vector != nil {
		s.hasPrompt = false
		copy(s.text.Data, c.Vector)
		return ctx.Err()
	}
	if s.hasPrompt && c.Image == nil && s.prompt == c.Prompt {
		return ctx.Err()
	}
	s.hasPrompt = false
	if err := s.source.encode(ctx, s.text.Data, c); err != nil {
		return err
	}
	s.prompt, s.hasPrompt = c.Prompt, c.Image == nil
	return nil
}

func (r *Request) condition() Condition { return Condition{r.Prompt, r.Image, r.Vector} }
