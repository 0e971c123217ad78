package cinn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"

	"netfusion/cinn/flow"
	"netfusion/experts/autoencoder"
	"netfusion/experts/biggan"
	"netfusion/tensor"
)

// Subject is what an operation begins with. Exactly one field is set.
type Subject struct {
	Image  *image.NRGBA // any image of the size of Model.Bounds, transparent on white; the pack's encoder finds its latent
	Latent []float32    // [Info.Latent], as Session.Latent and Session.Invert leave them
	Draw   *Request     // what Generate draws for it
}

// ErrSubject is returned for a Subject that does not have exactly one field set.
var ErrSubject = errors.New("cinn: a picture is one of an image, a latent and a request")

// flowRows is a flow's Session, on the processor or on a GPU.
type flowRows interface {
	Sample(x, c tensor.Tensor, d flow.Draw)
	Residual(v, x, c tensor.Tensor, guidance float32)
	Restore(x, v, c, hat tensor.Tensor, guidance float32)
	LogProb(z, class []float64, x, c tensor.Tensor)
	ClassMeans(hat, x tensor.Tensor)
	LogClasses(dst, c tensor.Tensor)
	ClassDraw(dst, c tensor.Tensor, d flow.Draw)
}

// operationRows is how many rows the flow of operations takes at a time.
const operationRows = 32

// operations is what operations need beside what Generate does. The first of them allocates it.
type operations struct {
	flow flowRows // operationRows at a time

	c   tensor.Tensor // [3][Condition]: of the picture, of the result, of neither
	x   tensor.Tensor // [3][Latent]: a picture, another, a result
	v   tensor.Tensor // [3][flow's Latent], their residuals
	hat tensor.Tensor // [3][flow's Class], their posterior class means
	p   tensor.Tensor // [2][Classes], class probabilities

	std  []float32     // [Z]
	rgb  []uint8       // [height][width][3], an image on white
	goal []float32     // the same in [-1, 1]
	rows tensor.Tensor // [operationRows][Latent]
	cond tensor.Tensor // [operationRows][Condition]
	z    []float64     // [operationRows]
	seen evidence

	exact bool // what is scored has a latent of its own

	inverter *inverter // nil until Invert is called
}

func (s *Session) openOperations() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.operations != nil {
		return nil
	}
	m := s.model
	f, err := s.openFlow(operationRows)
	if err != nil {
		return err
	}
	c := m.flow.Config
	width, pixels := c.Latent+c.Class, 3*m.target.Resolution*m.target.Resolution
	o := &operations{
		flow: f,
		c:    tensor.New(3, c.Cond), x: tensor.New(3, width), v: tensor.New(3, c.Latent), hat: tensor.New(3, c.Class), p: tensor.New(2, m.target.Classes),
		std: make([]float32, m.target.ZDim), rgb: make([]uint8, pixels), goal: make([]float32, pixels), rows: tensor.New(operationRows, width), cond: tensor.New(operationRows, c.Cond), z: make([]float64, operationRows),
	}
	copy(o.c.Row(neither), m.flow.NullCondition())
	o.seen = evidence{mean: make([]float32, m.target.ZDim), classes: make([]int, 0, m.target.Classes), log: make([]float64, m.target.Classes)}
	s.operations = o
	return nil
}

// The rows of operations.c and of the tensors beside it.
const (
	first = iota
	second
	neither
)

// row views row i of t as a tensor.
func row(t tensor.Tensor, i int) tensor.Tensor { return t.Slice(i, i+1) }

// none tells whether c states nothing: the null condition.
func (c *Condition) none() bool { return c.Prompt == "" && c.Image == nil && c.Vector == nil }

// encodeInto leaves what the source makes of c in row i of operations.c; of nothing, the mean of the training conditions.
func (s *Session) encodeInto(ctx context.Context, i int, c Condition) error {
	to := s.operations.c.Row(i)
	if c.none() {
		copy(to, s.model.flow.NullCondition())
		return ctx.Err()
	}
	if err := s.model.check(c); err != nil {
		return err
	}
	if err := s.encode(ctx, c); err != nil {
		return err
	}
	copy(to, s.text.Data)
	return nil
}

// Latent writes the latent of p, [z ; class embedding], to dst [Info.Latent]. Of an image, z is the encoder's mean, and the class
// is the likeliest by what is seen and by c, which says what the image shows, or is empty: see Score. With p a Draw or a Latent, c is
// not read.
func (s *Session) Latent(ctx context.Context, dst []float32, p Subject, c Condition) error {
	if err := s.openOperations(); err != nil {
		return err
	}
	if n := s.model.Info().Latent; len(dst) != n {
		return fmt.Errorf("cinn: room for a latent of %d numbers, want %d", len(dst), n)
	}
	if p.Image != nil {
		if err := s.encodeInto(ctx, first, c); err != nil {
			return err
		}
	}
	return s.place(ctx, dst, p, first)
}

// place writes the latent of p to x. Row i of operations.c is what is known of it beforehand.
func (s *Session) place(ctx context.Context, x []float32, p Subject, i int) error {
	switch {
	case (p.Image != nil) == (p.Latent != nil) && p.Draw == nil, p.Draw != nil && (p.Image != nil || p.Latent != nil):
		return ErrSubject
	case p.Draw != nil:
		d, err := s.draw(*p.Draw)
		if err != nil {
			return err
		}
		if err := s.encode(ctx, p.Draw.condition()); err != nil {
			return err
		}
		s.operations.flow.Sample(tensor.Of(1, len(x), x), s.text, d)
		return s.usable()
	case p.Latent != nil:
		return s.copyLatent(x, p.Latent)
	}
	if err := s.look(ctx, p.Image); err != nil {
		return err
	}
	o := s.operations
	copy(x, o.seen.mean)
	copy(x[len(o.seen.mean):], s.model.target.Class(s.likeliestClass(i)))
	return nil
}

// likeliestClass is that of the image last looked at, where row i of operations.c is what is known of it beforehand.
func (s *Session) likeliestClass(i int) int {
	e := &s.operations.seen
	prior := s.classPrior(i)
	best, most := 0, math.Inf(-1)
	for _, k := range e.classes {
		if v := e.log[k] + float64(prior[k]); v > most {
			best, most = k, v
		}
	}
	return best
}

func (s *Session) copyLatent(dst, src []float32) error {
	if len(src) != len(dst) {
		return fmt.Errorf("cinn: a latent of %d numbers, want %d", len(src), len(dst))
	}
	for i, v := range src {
		if v-v != 0 {
			return fmt.Errorf("cinn: number %d of the latent is %v", i, v)
		}
	}
	copy(dst, src)
	return nil
}

// classPrior leaves log p(k|c) of row i of operations.c in the first row of operations.p, and returns it; all are alike for a flow
// that knows no classes.
func (s *Session) classPrior(i int) []float32 {
	o := s.operations
	p := row(o.p, first)
	if s.model.flow.Config.Classes > 0 {
		o.flow.LogClasses(p, row(o.c, i))
		return p.Data
	}
	for k := range p.Data {
		p.Data[k] = -float32(math.Log(float64(p.Cols)))
	}
	return p.Data
}

// evidence is what an image tells of its latent.
type evidence struct {
	mean    []float32 // [Z], the encoder's
	classes []int     // those that come into question, the likeliest first: at most operationRows
	log     []float64 // [Classes], logarithms of the weights of all classes, whose sum is 1
}

const (
	// independent is how many independent values the pixels of an image count as, where its redrawings in different classes
	// are compared: they err together. Of 10 to 1000, 50 gives the right classes of held-out emoji the greatest likelihood.
	independent = 50
	// unlikely is how far below the weight of the likeliest class, in nats, that of one may lie which comes into question.
	unlikely = 14
)

// look leaves what img tells in operations.seen. The class of an image is what its encoder does not tell: so each is tried, by
// redrawing the image in it. With a squared error of d per value, the log-likelihood of a class is -independent/2·log d, that of
// errors with a normal distribution of unknown variance.
func (s *Session) look(ctx context.Context, img *image.NRGBA) error {
	o := s.operations
	e := &o.seen
	if err := s.aim(img); err != nil {
		return err
	}
	if err := s.Encode(e.mean, o.std, img); err != nil {
		return err
	}
	return s.tryClasses(ctx)
}

// aim leaves the colours of img, on white, in operations.goal.
func (s *Session) aim(img *image.NRGBA) error {
	if err := s.checkBounds(img); err != nil {
		return err
	}
	onWhite(s.operations.rgb, img)
	return autoencoder.Pixels(s.operations.goal, s.operations.rgb, img.Rect.Dx())
}

// tryClasses weighs the classes for the image operations.goal, whose z is seen.mean.
func (s *Session) tryClasses(ctx context.Context) error {
	e, n := &s.operations.seen, s.model.target.ZDim
	var total logSum
	for k := range e.log {
		if err := ctx.Err(); err != nil {
			return err
		}
		class := s.model.target.Class(k)
		pixels, err := s.target.Generate(tensor.Of(1, n, e.mean), tensor.Of(1, len(class), class), s.truncation())
		if err != nil {
			return err
		}
		e.log[k] = -independent / 2 * math.Log(squaredError(pixels.Data, s.operations.goal)+1e-6)
		total.add(e.log[k])
	}
	for k := range e.log {
		e.log[k] -= total.value()
	}
	e.rank()
	return nil
}

// rank leaves the classes that come into question.
func (e *evidence) rank() {
	e.classes = e.classes[:0]
	for k := range e.log {
		e.classes = append(e.classes, k)
	}
	slices.SortStableFunc(e.classes, func(a, b int) int { return cmp.Compare(e.log[b], e.log[a]) })
	n := 1
	for n < min(len(e.classes), operationRows) && e.log[e.classes[n]] > e.log[e.classes[0]]-unlikely {
		n++
	}
	e.classes = e.classes[:n]
}

// squaredError is the mean of the squares of a - b.
func squaredError(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		d := float64(v - b[i])
		sum += float64(d * d)
	}
	return sum / float64(len(a))
}

func (s *Session) truncation() biggan.Truncation {
	return biggan.Truncation{Value: s.model.about.Truncation}
}

// Render draws the picture of latent [Info.Latent] into dst, whose bounds must have the size of Model.Bounds.
func (s *Session) Render(ctx context.Context, dst *image.NRGBA, latent []float32) error {
	if err := s.openOperations(); err != nil {
		return err
	}
	if err := s.checkBounds(dst); err != nil {
		return err
	}
	if err := s.copyLatent(s.operations.x.Row(neither), latent); err != nil {
		return err
	}
	return s.render(ctx, dst)
}

// render draws the latent in the last row of operations.x.
func (s *Session) render(ctx context.Context, dst *image.NRGBA) error {
	if err := cmp.Or(ctx.Err(), s.usable()); err != nil {
		return err
	}
	x, n := s.operations.x.Row(neither), s.model.target.ZDim
	pixels, err := s.target.Generate(tensor.Of(1, n, x[:n]), tensor.Of(1, len(x)-n, x[n:]), s.truncation())
	if err != nil {
		return err
	}
	biggan.Draw(dst, pixels.Data)
	return nil
}

func (s *Session) checkBounds(img *image.NRGBA) error {
	if size := s.model.Bounds().Size(); img == nil || img.Rect.Size() != size {
		return fmt.Errorf("cinn: the image must be %v pixels", size)
	}
	return nil
}
