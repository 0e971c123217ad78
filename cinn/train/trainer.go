// Package train fits a flow to pairs of captions and latents, and judges it.
//
// Training is a pure function of the data, the Flow it starts from and the Options: batches, noise and masks are indexed by
// (seed, step), sums have a fixed order, and so a run that was interrupted and resumed, or ran on another number of workers, ends
// with the same bytes.
package train

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"netfusion/cinn/flow"
	"netfusion/kernels/memory"
	"netfusion/kernels/optimizer"
	"netfusion/tensor"
)

// Trainer is a run of training. It serves one goroutine. In memory it takes 20 bytes a parameter: 4 each for the weights, their
// gradient, its two moments and the average of the weights; 4 more with AMSGrad, and 4 more unless Options.Last; and what a step
// keeps of a batch.
type Trainer struct {
	Options Options
	// Checkpoint is the file that Run saves to before the first step, when it is interrupted, when it ends, and every Every
	// steps unless that is 0; none if empty.
	Checkpoint string
	Every      int
	// Log gets the progress bar and a line for every validation; nil is silent.
	Log io.Writer
	// Fingerprints identify the experts behind the data, by name; Resume refuses others.
	Fingerprints map[string]string

	flow  *flow.Flow // being trained
	ema   *flow.Flow // the average of its weights
	best  *flow.Flow // the average at its best on the validation pairs; nil with Options.Last
	state state

	first, second, peak []float32 // moments of the gradient, laid out as flow.Values; peak with AMSGrad

	dev      *tensor.Device
	gradient *flow.Gradient
	train    *sampler
	validate *sampler
	update   updateJob
	logZ     []float64
	logClass []float64
}

// state is what a checkpoint holds beside tensors.
type state struct {
	Step int   `json:"step"`
	Last Score `json:"last"` // of the last validation
	Best Score `json:"best"` // the best of each part, which need not be of one step
	Wait int   `json:"wait"` // validations since a part improved
}

// Score is a validation: mean negative log-likelihood in nats of the two parts, and the steps they were taken at.
type Score struct {
	Z         float64 `json:"z"`
	Class     float64 `json:"class"`
	StepZ     int     `json:"step_z"`
	StepClass int     `json:"step_class"`
}

// none is the score before the first validation; JSON has no infinity.
var none = Score{Z: math.MaxFloat64, Class: math.MaxFloat64}

// New returns a Trainer that trains f in place on dev. f has its classes set and its closed-form layer fitted.
func New(f *flow.Flow, train, validate *Data, o Options, dev *tensor.Device) (*Trainer, error) {
	t := &Trainer{Options: o, flow: f, dev: dev, state: state{Last: none, Best: none}}
	var err error
	if t.ema, err = f.Copy(); err != nil {
		return nil, err
	}
	if !o.Last {
		if t.best, err = f.Copy(); err != nil {
			return nil, err
		}
	}
	n := len(f.Values())
	t.first, t.second = memory.Make[float32](n), memory.Make[float32](n)
	if o.Optimizer == "amsgrad" {
		t.peak = memory.Make[float32](n)
	}
	return t, t.prepare(train, validate)
}

// prepare checks what it was given and allocates the rest.
func (t *Trainer) prepare(train, validate *Data) (err error) {
	f, o := t.flow, t.Options
	if err := o.check(); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if err := train.check(f.Config); err != nil {
		return fmt.Errorf("training data: %w", err)
	}
	if err := validate.check(f.Config); err != nil {
		return fmt.Errorf("validation data: %w", err)
	}
	if t.gradient, err = f.NewGradient(t.dev, o.Batch, flow.Regularisation{Dropout: o.Dropout, Noise: o.ConditionNoise}, o.Seed); err != nil {
		return err
	}
	rows := min(o.Batch, 256)
	t.train = newSampler(train, f, o.Seed, o.Batch)
	t.train.drop = o.ConditionDropout
	t.validate = newSampler(validate, f, validationSeed, rows)
	t.validate.fixed = true
	t.logZ, t.logClass = make([]float64, rows), make([]float64, rows)
	t.update.begin(t)
	return nil
}

// validationSeed is the same for every run, so that runs can be compared.
const validationSeed = 0x76616c6964

// Result is what training is for: the average of the weights where it was best on the validation pairs, each part of the likelihood
// at its own best step, for the class head shares no weights with the rest; or with Options.Last the average at the end.
func (t *Trainer) Result() *flow.Flow {
	if t.Options.Last {
		return t.ema
	}
	return t.best
}

// Flow is the flow being trained.
func (t *Trainer) Flow() *flow.Flow { return t.flow }

// Score is the validation of Result: the best so far, or with Options.Last the latest.
func (t *Trainer) Score() Score {
	if t.Options.Last {
		return t.state.Last
	}
	return t.state.Best
}

// Step is how many steps have been taken.
func (t *Trainer) Step() int { return t.state.Step }

// Run trains until Options.Steps are taken, patience ends or ctx does; in each case it saves the checkpoint. If ctx ended, and
// the checkpoint is saved, it returns the error of ctx.
func (t *Trainer) Run(ctx context.Context) error {
	bar := newBar(t)
	defer bar.Clear()
	if t.state.Last == none {
		if err := t.begin(); err != nil {
			return err
		}
		bar.validation()
		if err := t.save(); err != nil { // where it cannot be saved, that shows now, and not hours later
			return err
		}
	}
	for t.state.Step < t.Options.Steps && !t.exhausted() {
		if ctx.Err() != nil {
			if err := t.save(); err != nil {
				return err
			}
			return ctx.Err()
		}
		z, class, err := t.step()
		if err != nil {
			return err
		}
		bar.step(z + class)
		if t.state.Step%t.Options.Validate == 0 || t.state.Step == t.Options.Steps {
			if err := t.judge(); err != nil {
				return err
			}
			bar.validation()
		}
		if t.Every > 0 && t.state.Step%t.Every == 0 {
			if err := t.save(); err != nil {
				return err
			}
		}
	}
	return t.save()
}

func (t *Trainer) exhausted() bool {
	return t.Options.Patience > 0 && t.state.Wait >= t.Options.Patience
}

// begin initialises what depends on data, and judges the Flow before any training.
func (t *Trainer) begin() error {
	x, c := t.train.draw(t.dev, 0)
	t.gradient.Initialise(x, c)
	copy(t.ema.Values(), t.flow.Values())
	return t.judge()
}

// step takes one step and returns the losses of its batch.
func (t *Trainer) step() (z, class float64, err error) {
	t.state.Step++
	step := t.state.Step
	x, c := t.train.draw(t.dev, uint64(step))
	z, class = t.gradient.Step(x, c, uint64(step))
	norm := math.Sqrt(t.gradient.SumSquares())
	if loss := z + class; math.IsNaN(loss) || math.IsInf(loss, 0) || math.IsNaN(norm) || math.IsInf(norm, 0) {
		return z, class, fmt.Errorf("train: step %d: the loss is %v and its gradient's norm %v; try a lower learning rate", step, loss, norm)
	}
	scale := 1.0
	if o := t.Options; o.Clip > 0 && norm > o.Clip {
		scale = o.Clip / norm
	}
	t.update.apply(step, scale)
	return z, class, nil
}

// judge validates the average of the weights and keeps the parts of it that are better than before.
func (t *Trainer) judge() error {
	if err := t.ema.CopyBuffers(t.flow); err != nil {
		return err
	}
	z, class := t.score()
	t.state.Last = Score{z, class, t.state.Step, t.state.Step}
	head := t.flow.HeadBegin()
	t.state.Wait++
	if z < t.state.Best.Z {
		t.state.Best.Z, t.state.Best.StepZ, t.state.Wait = z, t.state.Step, 0
		t.keep(0, head)
	}
	if class < t.state.Best.Class {
		t.state.Best.Class, t.state.Best.StepClass, t.state.Wait = class, t.state.Step, 0
		t.keep(head, len(t.flow.Values()))
	}
	if t.state.Wait > 0 || t.best == nil {
		return nil
	}
	return t.best.CopyBuffers(t.ema)
}

// keep makes the average's parameters [from, to) the best.
func (t *Trainer) keep(from, to int) {
	if t.best != nil {
		copy(t.best.Values()[from:to], t.ema.Values()[from:to])
	}
}

// score is the weighted mean negative log-likelihood of the validation pairs over the fixed draws.
func (t *Trainer) score() (z, class float64) {
	s, pairs := t.validate, t.validate.data.Pairs
	rows := len(s.pairs)
	var total float64
	for draw := range t.Options.Draws {
		for i := 0; i < len(pairs); i += rows {
			m := min(rows, len(pairs)-i)
			for r := range s.pairs {
				s.pairs[r] = min(i+r, len(pairs)-1)
			}
			x, c := s.draw(t.dev, uint64(draw)<<32+uint64(i/rows))
			t.gradient.LogProb(t.ema, t.logZ, t.logClass, x, c)
			for r := range m {
				w := pairs[i+r].Weight
				total += w
				z -= w * t.logZ[r]
				class -= w * t.logClass[r]
			}
		}
	}
	return z / total, class / total
}

func (t *Trainer) save() error {
	if t.Checkpoint == "" {
		return nil
	}
	return t.Save(t.Checkpoint)
}

// updateJob updates the slab of parameters piece by piece.
type updateJob struct {
	t      *Trainer
	pieces []piece
	adam   optimizer.Adam
	scale  float32
	ema    float64
}

type piece struct {
	begin, end int
	decay      float64
}

const pieceSize = 1 << 14

func (u *updateJob) begin(t *Trainer) {
	u.t = t
	for _, p := range t.flow.Params() {
		decay := 0.0
		switch {
		case p.Decay && p.Begin >= t.flow.HeadBegin():
			decay = t.Options.HeadDecay
		case p.Decay:
			decay = t.Options.Decay
		}
		for at := p.Begin; at < p.Begin+p.Len; at += pieceSize {
			u.pieces = append(u.pieces, piece{at, min(at+pieceSize, p.Begin+p.Len), decay})
		}
	}
}

// apply takes the optimizer's step and moves the average. The average forgets the start faster than EMA says at first.
func (u *updateJob) apply(step int, scale float64) {
	o := u.t.Options
	u.adam = optimizer.Adam{Rate: o.rate(step), Beta1: o.Beta1, Beta2: o.Beta2, Epsilon: 1e-8, Step: step}
	u.scale = float32(scale)
	u.ema = min(o.EMA, float64(1+step)/float64(10+step))
	u.t.dev.Run(u, len(u.pieces))
}

func (u *updateJob) Tile(i int) {
	t, p := u.t, u.pieces[i]
	g := t.gradient.Values()[p.begin:p.end]
	adam := u.adam
	adam.Decay = p.decay
	values := t.flow.Values()[p.begin:p.end]
	var peak []float32
	if t.peak != nil {
		peak = t.peak[p.begin:p.end]
	}
	adam.Apply(values, g, t.first[p.begin:p.end], t.second[p.begin:p.end], peak, u.scale)
	optimizer.Average(t.ema.Values()[p.begin:p.end], values, u.ema)
}

// bar shows how a run goes.
type bar struct {
	*Progress
	t     *Trainer
	begin time.Time
	from  int     // the step at begin
	loss  float64 // smoothed
}

func newBar(t *Trainer) *bar {
	return &bar{Progress: NewProgress(t.Log), t: t, begin: time.Now(), from: t.state.Step}
}

func (b *bar) dims() float64 { return float64(b.t.flow.Config.Latent + b.t.flow.Config.Class) }

func (b *bar) step(loss float64) {
	t := b.t
	if n := t.state.Step - b.from; n == 1 {
		b.loss = loss
	} else {
		b.loss += (loss - b.loss) / min(50, float64(n))
	}
	if !b.Due() {
		return
	}
	done, total := t.state.Step, t.Options.Steps
	perStep := time.Since(b.begin) / time.Duration(done-b.from)
	left := (perStep * time.Duration(total-done)).Round(time.Second)
	last := t.state.Last
	b.Show(fmt.Sprintf("%s %d/%d  loss %.4f  validation %.4f nats/dim  %.0f samples/s  %v left", Bar(done, total, 24), done, total,
		b.loss/b.dims(), (last.Z+last.Class)/b.dims(), float64(t.Options.Batch)/perStep.Seconds(), left))
}

func (b *bar) validation() {
	t, c := b.t, b.t.flow.Config
	last := t.state.Last
	line := fmt.Sprintf("step %d: validation %.4f nats/dim", t.state.Step, (last.Z+last.Class)/b.dims())
	if c.Classes > 0 {
		line += fmt.Sprintf(" (latent %.4f, class %.4f per dimension)", last.Z/float64(c.Latent), last.Class/float64(c.Class))
	}
	if t.state.Wait > 0 {
		line += fmt.Sprintf(", best was %.4f", (t.state.Best.Z+t.state.Best.Class)/b.dims())
	}
	b.Keep(line)
}
