// Package train fits a flow to pairs of captions and latents, and judges it.
//
// Training is a pure function of the data, the Flow it starts from and the Options: batches, noise and masks are indexed by
// (seed, step), sums have a fixed order, and so a run that was interrupted and resumed, or ran on another number of workers, ends
// with the same bytes. On a GPU (Trainer.UseGPU) these are others, by roundings, and again the same for each run.
package train

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"netfusion/cinn/flow"
	"netfusion/kernels/memory"
	"netfusion/kernels/optimizer"
	"netfusion/nn/disk"
	"netfusion/tensor"
)

// Trainer is a run of training. It serves one goroutine. In memory it takes 16 bytes a parameter, 4 each for the weights, their
// gradient and its two moments; 4 more with AMSGrad, and 4 more for the average of the weights if there is one; and what a step keeps
// of a batch: see Memory.
type Trainer struct {
	Options Options
	// Checkpoint is the file that Run saves to before the first step, when it is interrupted, when it ends, and every Every
	// steps unless that is 0; none if empty. Unless Options.Last, the weights that were best so far are beside it, in a flow file
	// with .best at the end of its name; without a Checkpoint they are in memory, which takes 4 more bytes a parameter.
	Checkpoint string
	Every      int
	// Log gets the progress bar and a line for every validation; nil is silent. Where it is a terminal of so many Columns, a panel
	// is drawn instead of a bar; 0 is any other.
	Log     io.Writer
	Columns int
	// History, unless it is nil, keeps what the panel shows and more; with every validation Observe is called, unless it is nil.
	History *History
	Observe func(h *History) error
	// Sheet, unless it is nil, draws samples as a PNG for the History, some times in a run. sample is Flow's: x [m][Latent+Class] given
	// c [m][Cond], m at most Options.Batch.
	Sheet func(sample func(x, c tensor.Tensor, d flow.Draw)) ([]byte, error)
	// Fingerprints identify the experts behind the data, by name; Resume refuses others.
	Fingerprints map[string]string

	flow  *flow.Flow // being trained
	ema   *flow.Flow // the average of its weights; flow itself if there is none
	best  *flow.Flow // the average at its best on the validation pairs, if that is kept in memory
	state state

	first, second, peak []float32 // moments of the gradient, laid out as flow.Values; peak with AMSGrad

	dev      *tensor.Device
	gradient *flow.Gradient // see host
	gpu      *gpuRun        // nil where the processor computes
	train    *sampler
	validate *sampler
	update   updateJob
	logZ     []float64
	logClass []float64
	residual calibrator
	norm     float64 // of the last step's gradient
	spent    Spent
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
func New(f *flow.Flow, train, validate Source, o Options, dev *tensor.Device) (*Trainer, error) {
	t := &Trainer{Options: o, flow: f, ema: f, dev: dev, state: state{Last: none, Best: none}}
	var err error
	if o.EMA > 0 {
		if t.ema, err = f.Copy(); err != nil {
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
func (t *Trainer) prepare(train, validate Source) (err error) {
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
	rows := min(o.Batch, maxJudge)
	t.train = newSampler(train, f, o.Seed, o.Batch)
	t.train.drop = o.ConditionDropout
	t.validate = newSampler(validate, f, validationSeed, rows)
	t.validate.fixed = true
	t.logZ, t.logClass = make([]float64, rows), make([]float64, rows)
	t.residual.v = tensor.New(rows, f.Config.Latent)
	t.residual.sums, t.residual.squares = make([]float64, f.Config.Latent), make([]float64, f.Config.Latent)
	t.update.begin(t)
	return nil
}

// host returns the Gradient that computes on the processor. On a GPU it is there for the time only.
func (t *Trainer) host() (*flow.Gradient, error) {
	if t.gradient != nil {
		return t.gradient, nil
	}
	o := t.Options
	g, err := t.flow.NewGradient(t.dev, o.Batch, flow.Regularisation{Dropout: o.Dropout, Noise: o.ConditionNoise}, o.Seed)
	if t.gpu == nil {
		t.gradient = g
	}
	return g, err
}

// settle brings what a GPU has to the host.
func (t *Trainer) settle() error {
	if t.gpu == nil {
		return nil
	}
	return t.gpu.pull()
}

// maxJudge is how many validation pairs are judged at a time.
const maxJudge = 256

// validationSeed is the same for every run, so that runs can be compared.
const validationSeed = 0x76616c6964

// Result is what training is for: the average of the weights where it was best on the validation pairs, each part of the likelihood
// at its own best step, for the class head shares no weights with the rest; or with Options.Last the average at the end.
func (t *Trainer) Result() (*flow.Flow, error) {
	switch {
	case t.Options.Last:
		return t.ema, nil
	case t.best != nil:
		return t.best, nil
	}
	return flow.Open(bestPath(t.Checkpoint))
}

// SaveResult writes Result to a flow file, without loading what is in one.
func (t *Trainer) SaveResult(path string) error {
	if t.Options.Last {
		return t.ema.Save(path, false)
	}
	if t.best != nil {
		return t.best.Save(path, false)
	}
	best, err := os.Open(bestPath(t.Checkpoint))
	if err != nil {
		return err
	}
	defer best.Close()
	return disk.WriteFile(path, func(w io.Writer) error { _, err := io.Copy(w, best); return err })
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
// the checkpoint is saved, it returns the error of ctx. What a killed run left beside the checkpoint is removed.
func (t *Trainer) Run(ctx context.Context) error {
	watch, err := t.watch()
	if err != nil {
		return err
	}
	defer watch.close()
	if t.gpu == nil {
		if _, err := t.host(); err != nil {
			return err
		}
	}
	if t.state.Last == none {
		if err := t.begin(); err != nil {
			return err
		}
		if err := watch.validation(); err != nil {
			return err
		}
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
		if err := watch.step(z + class); err != nil {
			return err
		}
		if t.state.Step%t.Options.Validate == 0 || t.state.Step == t.Options.Steps {
			if err := t.judge(); err != nil {
				return err
			}
			if err := watch.validation(); err != nil {
				return err
			}
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
	if c := t.flow.Config; t.gpu == nil || c.Dialect == flow.Net2Net || c.Side > 0 { // the others' ActNorms need no first batch
		g, err := t.host()
		if err != nil {
			return err
		}
		x, c := t.train.draw(t.dev, 0)
		g.Initialise(x, c)
	}
	copy(t.ema.Values(), t.flow.Values())
	if t.gpu != nil {
		if err := t.gpu.push(); err != nil {
			return err
		}
	}
	return t.judge()
}

// step takes one step and returns the losses of its batch.
func (t *Trainer) step() (z, class float64, err error) {
	t.state.Step++
	step := t.state.Step
	begin := time.Now()
	if t.gpu != nil {
		if z, class, t.norm, err = t.gpu.step(step); err != nil {
			return 0, 0, fmt.Errorf("train: step %d: %w", step, err)
		}
	} else {
		x, c := t.train.draw(t.dev, uint64(step))
		begin = t.spent.Draw.since(begin)
		z, class = t.gradient.Step(x, c, uint64(step))
		t.norm = math.Sqrt(t.gradient.SumSquares())
	}
	begin = t.spent.Gradient.since(begin)
	if loss := z + class; math.IsNaN(loss) || math.IsInf(loss, 0) || math.IsNaN(t.norm) || math.IsInf(t.norm, 0) {
		return z, class, fmt.Errorf("train: step %d: the loss is %v and its gradient's norm %v; try a lower learning rate", step, loss, t.norm)
	}
	if t.gpu != nil {
		return z, class, nil // and the parameters are updated
	}
	scale := 1.0
	if o := t.Options; o.Clip > 0 && t.norm > o.Clip {
		scale = o.Clip / t.norm
	}
	t.update.apply(step, scale)
	t.spent.Update.since(begin)
	return z, class, nil
}

// judge validates the average of the weights and keeps the parts of it that are better than before.
func (t *Trainer) judge() error {
	begin := time.Now()
	defer func() { t.spent.Validate.since(begin) }()
	if t.ema != t.flow && t.gpu == nil {
		if err := t.ema.CopyBuffers(t.flow); err != nil {
			return err
		}
	}
	z, class, err := t.score()
	if err != nil {
		return fmt.Errorf("train: validation: %w", err)
	}
	t.state.Last = Score{z, class, t.state.Step, t.state.Step}
	head, end := t.flow.HeadBegin(), len(t.flow.Values())
	t.state.Wait++
	from, to := head, head // the parameters that are better
	if z < t.state.Best.Z {
		t.state.Best.Z, t.state.Best.StepZ, t.state.Wait = z, t.state.Step, 0
		from = 0
	}
	if class < t.state.Best.Class {
		t.state.Best.Class, t.state.Best.StepClass, t.state.Wait = class, t.state.Step, 0
		to = end
	}
	if t.state.Wait > 0 || t.Options.Last {
		return nil
	}
	if err := t.settle(); err != nil {
		return err
	}
	return t.keep(from, to)
}

// score is the weighted mean negative log-likelihood of the validation pairs over the fixed draws.
func (t *Trainer) score() (z, class float64, err error) {
	s, n := t.validate, t.validate.source.Len()
	rows := len(s.pairs)
	var total float64
	t.residual.begin()
	for draw := range t.Options.Draws {
		for i := 0; i < n; i += rows {
			m := min(rows, n-i)
			for r := range s.pairs {
				s.pairs[r] = min(i+r, n-1)
			}
			x, c := s.draw(t.dev, uint64(draw)<<32+uint64(i/rows))
			if t.gpu != nil {
				if err := t.gpu.logProb(t.logZ, t.logClass, t.residual.v, x, c); err != nil {
					return 0, 0, err
				}
			} else {
				t.gradient.LogProb(t.ema, t.logZ, t.logClass, x, c)
				t.gradient.Residuals(t.residual.v)
			}
			for r := range m {
				w := s.rows[r].Weight
				t.residual.add(r, w)
				total += w
				z -= w * t.logZ[r]
				class -= w * t.logClass[r]
			}
		}
	}
	return z / total, class / total, nil
}

func (t *Trainer) save() error {
	if t.Checkpoint == "" {
		return t.settle()
	}
	begin := time.Now()
	defer func() { t.spent.Save.since(begin) }()
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

// apply takes the optimizer's step and moves the average.
func (u *updateJob) apply(step int, scale float64) {
	u.adam, u.ema = u.t.Options.update(step)
	u.scale = float32(scale)
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
	if t.ema != t.flow {
		optimizer.Average(t.ema.Values()[p.begin:p.end], values, u.ema)
	}
}
