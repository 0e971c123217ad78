package cinn

import (
	"context"
	"fmt"
	"image"
	"math"

	"netfusion/experts/biggan"
	"netfusion/kernels/optimizer"
	"netfusion/nn"
	"netfusion/tensor"
)

// Inversion asks for the latent from which the generator draws an image.
type Inversion struct {
	Image *image.NRGBA // of the size of Model.Bounds, transparent on white
	Shows Condition    // what it shows, which helps to find its class; may be empty
	Steps int          // of gradient descent; 0 means 100
}

// Inverted is how alike the image and its redrawing are, as a PSNR in dB: from the encoder's latent, and from the one found.
type Inverted struct {
	Before, After float64
	Steps         int
}

const (
	inversionSteps = 100
	maxSteps       = 100000
	inversionRate  = 0.05 // of Adam, in standard deviations; it falls to 0 along a half cosine
	// inversionPrior weighs the prior: nats per dimension, against squared errors per pixel.
	inversionPrior = 1e-3
	// levels of the pyramid at most: the image itself, and averages over squares of 2, 4 and 8 pixels.
	levels = 4
	// plainNoise is the standard deviation of a class embedding, where the flow does not say one.
	plainNoise = 0.2
)

// Invert finds the latent of an image, [Info.Latent], by gradient descent (Adam) through the generator. It begins at the latent that
// Session.Latent gives; at z = 0, if the pack has no encoder. The loss is the squared error of the pixels, at several sizes of the image,
//
//	Σ_l mean|average_l(G(z, e)) - average_l(image)|² + λ·(mean z²/2 + mean|e - E_k|²/(2σ²))
//
// where E_k is the embedding of the class that it begins with and σ the noise that the flow was trained with: z and class embedding
// are kept where the flow knows its way. More steps redraw the image better from latents that the flow thinks less likely. Invert reads ctx at every step; the first call allocates.
func (s *Session) Invert(ctx context.Context, latent []float32, v Inversion) (Inverted, error) {
	if err := s.openOperations(); err != nil {
		return Inverted{}, err
	}
	if n := s.model.Info().Latent; len(latent) != n {
		return Inverted{}, fmt.Errorf("cinn: room for a latent of %d numbers, want %d", len(latent), n)
	}
	if v.Steps == 0 {
		v.Steps = inversionSteps
	}
	if v.Steps < 0 || v.Steps > maxSteps {
		return Inverted{}, fmt.Errorf("cinn: %d steps, want 0 to %d", v.Steps, maxSteps)
	}
	if err := s.openInverter(); err != nil {
		return Inverted{}, err
	}
	if err := s.guess(ctx, v); err != nil {
		return Inverted{}, err
	}
	k := s.likeliestClass(first)
	i := s.operations.inverter
	i.begin(s.operations.seen.mean, s.model.target.Class(k))
	for step := range v.Steps {
		if err := ctx.Err(); err != nil {
			return Inverted{}, err
		}
		i.step(step, v.Steps, s.operations.goal, s.truncation())
	}
	i.look(s.operations.goal, s.truncation())
	copy(latent, i.latent(i.best))
	return Inverted{Before: psnr(i.first), After: psnr(i.bestError), Steps: v.Steps}, nil
}

// guess leaves where Invert begins in operations.seen.
func (s *Session) guess(ctx context.Context, v Inversion) error {
	if err := s.aim(v.Image); err != nil {
		return err
	}
	if err := s.encodeInto(ctx, first, v.Shows); err != nil {
		return err
	}
	if s.model.encoder != nil {
		return s.look(ctx, v.Image)
	}
	clear(s.operations.seen.mean)
	return s.tryClasses(ctx)
}

// psnr is that of a mean squared error of values in [-1, 1].
func psnr(squared float64) float64 { return 10 * math.Log10(4/squared) }

// inverter is the memory of Invert. What descends is y = [z ; (e - E_k)/σ], for which the prior is a standard normal distribution.
type inverter struct {
	gradient *biggan.Gradient
	z        int // width of z
	noise    float32

	class            []float32 // E_k
	y, dy            []float32
	moment1, moment2 []float32
	x                []float32 // [z ; e]

	levels []level
	dimage tensor.Tensor

	best             []float32 // the y of the least loss
	least, bestError float64
	first            float64 // mean squared error of the begin
}

// level is an image of differences, averaged over squares.
type level struct {
	side int
	d    []float32 // [side][side][3]
}

func (s *Session) openInverter() error {
	o, m := s.operations, s.model
	if o.inverter != nil {
		return nil
	}
	g, err := biggan.NewGradient(nn.Under(m.file, targetPrefix), m.target, s.device)
	if err != nil {
		return inPart(targetPrefix, err)
	}
	n, side := m.target.ZDim+m.target.ClassDim, m.target.Resolution
	i := &inverter{gradient: g, z: m.target.ZDim, noise: m.flow.Config.ClassNoise, dimage: tensor.New(side*side, 3)}
	if i.noise == 0 {
		i.noise = plainNoise
	}
	for _, v := range []*[]float32{&i.y, &i.dy, &i.moment1, &i.moment2, &i.x, &i.best} {
		*v = make([]float32, n)
	}
	for l := 0; l < levels && side > 0; l++ {
		i.levels = append(i.levels, level{side, make([]float32, 3*side*side)})
		if side%2 != 0 {
			break
		}
		side /= 2
	}
	o.inverter = i
	return nil
}

func (i *inverter) begin(z, class []float32) {
	i.class = class
	clear(i.y)
	copy(i.y, z)
	clear(i.moment1)
	clear(i.moment2)
	i.least, i.first = math.Inf(1), 0
}

// latent is [z ; e] of y.
func (i *inverter) latent(y []float32) []float32 {
	copy(i.x, y[:i.z])
	for k, v := range y[i.z:] {
		i.x[i.z+k] = i.class[k] + float32(i.noise*v)
	}
	return i.x
}

// step is one of so many.
func (i *inverter) step(step, steps int, goal []float32, t biggan.Truncation) {
	i.look(goal, t)
	dz, dclass := i.gradient.Backward(i.dimage)
	copy(i.dy, dz)
	for k, d := range dclass {
		i.dy[i.z+k] = d * i.noise
	}
	classes := len(i.y) - i.z
	for k, v := range i.y {
		n := i.z
		if k >= i.z {
			n = classes
		}
		i.dy[k] += float32(inversionPrior * v / float32(n))
	}
	optimizer.Adam{
		Rate: inversionRate / 2 * (1 + math.Cos(math.Pi*float64(step)/float64(steps))), Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, Step: step + 1,
	}.Apply(i.y, i.dy, i.moment1, i.moment2, nil, 1)
}

// look draws y, keeps it if its loss is the least so far, and leaves the gradient of the loss with respect to the image in dimage.
func (i *inverter) look(goal []float32, t biggan.Truncation) {
	x := i.latent(i.y)
	image := i.gradient.Forward(x[:i.z], x[i.z:], t)
	for k, v := range image.Data {
		i.levels[0].d[k] = v - goal[k]
	}
	squared := i.pyramid()
	var loss float64
	for _, v := range squared {
		loss += v
	}
	loss += inversionPrior / 2 * (meanSquare(i.y[:i.z]) + meanSquare(i.y[i.z:]))
	if math.IsInf(i.least, 1) {
		i.first = squared[0]
	}
	if loss < i.least {
		i.least, i.bestError = loss, squared[0]
		copy(i.best, i.y)
	}
}

// pyramid averages the differences in the first level down to the last one, returns the mean square of each, and leaves the gradient
// of their sum in dimage.
func (i *inverter) pyramid() (squared [levels]float64) {
	for l := range i.levels {
		if l > 0 {
			i.levels[l].average(i.levels[l-1])
		}
		squared[l] = meanSquare(i.levels[l].d)
	}
	// A difference of level l is the mean of 4^l pixels, of which there are 4^l times as many: the factors cancel.
	for l := len(i.levels) - 1; l > 0; l-- {
		i.levels[l-1].spread(i.levels[l])
	}
	scale := 2 / float32(len(i.dimage.Data))
	for k, v := range i.levels[0].d {
		i.dimage.Data[k] = scale * v
	}
	return squared
}

// average writes the means of squares of 2×2 pixels of from to l.
func (l level) average(from level) {
	for y := range l.side {
		for x := range l.side {
			for c := range 3 {
				at := 3*(2*y*from.side+2*x) + c
				below := at + 3*from.side
				l.d[3*(y*l.side+x)+c] = 0.25 * ((from.d[at] + from.d[at+3]) + (from.d[below] + from.d[below+3]))
			}
		}
	}
}

// spread adds each pixel of from to the four of l that it is the mean of.
func (l level) spread(from level) {
	for y := range l.side {
		for x := range l.side {
			for c := range 3 {
				l.d[3*(y*l.side+x)+c] += from.d[3*(y/2*from.side+x/2)+c]
			}
		}
	}
}

func meanSquare(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(float64(x) * float64(x))
	}
	return sum / float64(len(v))
}
