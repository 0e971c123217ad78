package cinn

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Score is how well a condition fits a picture: the exact log-likelihood of its latent, in nats,
//
//	log p(latent | condition) = log p(z | class, condition) + log p(class | condition)
//
// Of a Draw or a Latent, the class part is the density of its class embedding, as flow.Session.LogProb gives it. An image has no
// latent of its own: z is the encoder's mean, and the classes in which the generator redraws it are summed over, with weights w that
// say how alike, log Σ_k w_k·p(k | condition)·p(z | k, condition).
type Score struct {
	Z, Class           float64
	PriorZ, PriorClass float64 // the same without any condition
}

// LogProb is log p(latent | condition).
func (s Score) LogProb() float64 { return s.Z + s.Class }

// Gain is log p(latent | condition) - log p(latent): by how much the condition makes the picture more likely. What is typical of all
// conditions has a high likelihood under each of them. Gain doesn't count it, and so compares pictures, too.
func (s Score) Gain() float64 { return s.LogProb() - s.PriorZ - s.PriorClass }

// zWeight is what the z part counts in Match. On the validation split, among 100 texts and among 100 pictures, 1/4 finds the right
// one oftener than 1, 1/2, 1/10 and 0 (docs/operations.md).
const zWeight = 0.25

// Match is Gain with z counting a quarter: many dimensions of z, each a little too sure of what it has learnt, outvote the class. It
// is no likelihood, but ranks better than either.
func (s Score) Match() float64 { return s.Class - s.PriorClass + float64(zWeight*(s.Z-s.PriorZ)) }

// Score scores p under c.
func (s *Session) Score(ctx context.Context, p Subject, c Condition) (Score, error) {
	if err := s.openOperations(); err != nil {
		return Score{}, err
	}
	if err := s.encodeInto(ctx, second, c); err != nil {
		return Score{}, err
	}
	if err := s.observe(ctx, p); err != nil {
		return Score{}, err
	}
	score := s.scoreUnder(second)
	prior := s.scoreUnder(neither)
	score.PriorZ, score.PriorClass = prior.Z, prior.Class
	return score, s.usable()
}

// Rank scores each picture under each condition: the result is [pictures][conditions], row after row. Many texts for one picture
// and many pictures for one text are the cases with a row and with a column; Order sorts either.
func (s *Session) Rank(ctx context.Context, pictures []Subject, conditions []Condition) ([]Score, error) {
	if err := s.openOperations(); err != nil {
		return nil, err
	}
	o := s.operations
	n := o.c.Cols
	vectors := make([]float32, len(conditions)*n)
	for i, c := range conditions {
		if err := s.encodeInto(ctx, second, c); err != nil {
			return nil, err
		}
		copy(vectors[i*n:], o.c.Row(second))
	}
	var scores []Score
	for _, p := range pictures {
		if err := s.observe(ctx, p); err != nil {
			return nil, err
		}
		prior := s.scoreUnder(neither)
		for i := range conditions {
			if err := cmp.Or(ctx.Err(), s.usable()); err != nil {
				return nil, err
			}
			copy(o.c.Row(second), vectors[i*n:][:n])
			score := s.scoreUnder(second)
			score.PriorZ, score.PriorClass = prior.Z, prior.Class
			scores = append(scores, score)
		}
	}
	return scores, s.usable()
}

// Order returns the indices of values, that of the largest first; equals stay in order, and NaN comes last.
func Order(values []float64) []int {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	return order
}

// observe leaves what is seen of p: its latent in the first row of operations.x, or the evidence of an image.
func (s *Session) observe(ctx context.Context, p Subject) error {
	o := s.operations
	if o.exact = p.Image == nil; !o.exact && p.Latent == nil && p.Draw == nil {
		return s.look(ctx, p.Image)
	}
	return s.place(ctx, o.x.Row(first), p, first)
}

// scoreUnder scores what was observed under row i of operations.c.
func (s *Session) scoreUnder(i int) (score Score) {
	o := s.operations
	if o.exact {
		var z, class [1]float64
		o.flow.LogProb(z[:], class[:], row(o.x, first), row(o.c, i))
		return Score{Z: z[0], Class: class[0]}
	}
	prior := s.classPrior(i)
	n := len(o.seen.classes)
	for j, k := range o.seen.classes {
		x := o.rows.Row(j)
		copy(x, o.seen.mean)
		copy(x[len(o.seen.mean):], s.model.target.Class(k))
		copy(o.cond.Row(j), o.c.Row(i))
	}
	o.flow.LogProb(o.z, nil, o.rows.Slice(0, n), o.cond.Slice(0, n))
	var class, joint logSum
	for j, k := range o.seen.classes {
		w := o.seen.log[k] + float64(prior[k])
		class.add(w)
		joint.add(w + o.z[j])
	}
	return Score{Z: joint.value() - class.value(), Class: class.value()}
}

// logSum is log Σ exp of what is added.
type logSum struct{ top, sum float64 }

func (l *logSum) add(v float64) {
	switch {
	case math.IsInf(v, -1):
	case l.sum == 0:
		l.top, l.sum = v, 1
	case v <= l.top:
		l.sum += math.Exp(v - l.top)
	default:
		l.sum = float64(l.sum*math.Exp(l.top-v)) + 1
		l.top = v
	}
}

func (l *logSum) value() float64 { return l.top + math.Log(l.sum) }
