package train

import (
	"fmt"
	"math"

	"netfusion/kernels/optimizer"
)

// Options say how to train. They are stored in checkpoints.
type Options struct {
	Steps int    `json:"steps"`
	Batch int    `json:"batch"`
	Seed  uint64 `json:"seed"` // of batches, their noise and dropout

	Optimizer string  `json:"optimizer"` // adamw, adam or amsgrad
	Rate      float64 `json:"rate"`      // peak learning rate: linear warm-up, then cosine down to Floor·Rate
	Warmup    int     `json:"warmup"`
	Floor     float64 `json:"floor"`
	Beta1     float64 `json:"beta1"`
	Beta2     float64 `json:"beta2"`
	Decay     float64 `json:"decay"`      // of matrices, decoupled; AdamW only
	HeadDecay float64 `json:"head_decay"` // the same for the class head, which over-fits at its own pace
	Clip      float64 `json:"clip"`       // bound of the gradient's norm; 0 is none
	EMA       float64 `json:"ema"`        // decay of the average of the weights, which is what is judged and kept

	Dropout          float32 `json:"dropout"`           // of hidden units
	ConditionDropout float32 `json:"condition_dropout"` // how often the condition is the null condition, for guidance
	ConditionNoise   float32 `json:"condition_noise"`   // see flow.Regularisation

	// Last keeps the average as it is at the end, which knows the training captions better, and not at its best on the
	// validation pairs, which are of other concepts.
	Last bool `json:"last"`

	Validate int `json:"validate"` // steps between validations
	Draws    int `json:"draws"`    // fixed noise draws of each validation pair
	Patience int `json:"patience"` // validations without an improvement after which to stop; 0 is never
}

// Defaults are what the built-in fusion was trained with: a few thousand images, which a flow of this size would soon know by
// heart without dropout, decay and noise.
func Defaults() Options {
	return Options{
		Steps: 2800, Batch: 128, Seed: 1,
		Optimizer: "adamw", Rate: 2e-3, Warmup: 200, Floor: 0.6, Beta1: 0.9, Beta2: 0.99, Decay: 0.5, HeadDecay: 1, Clip: 5, EMA: 0.9995,
		Dropout: 0.2, ConditionDropout: 0.1, ConditionNoise: 0.7,
		Last: true, Validate: 250, Draws: 4,
	}
}

func (o Options) check() error {
	switch {
	case o.Steps < 1 || o.Batch < 2 || o.Batch > 1<<16:
		return fmt.Errorf("%d steps of %d pairs", o.Steps, o.Batch)
	case o.Optimizer != "adamw" && o.Optimizer != "adam" && o.Optimizer != "amsgrad":
		return fmt.Errorf("optimizer %q, want adamw, adam or amsgrad", o.Optimizer)
	case o.Optimizer != "adamw" && (o.Decay != 0 || o.HeadDecay != 0):
		return fmt.Errorf("optimizer %s has no weight decay", o.Optimizer)
	case !(o.Rate > 0 && o.Rate < 1), !(o.Floor >= 0 && o.Floor <= 1), o.Warmup < 0:
		return fmt.Errorf("learning rate %v after %d steps, down to %v of it", o.Rate, o.Warmup, o.Floor)
	case !(o.Beta1 >= 0 && o.Beta1 < 1), !(o.Beta2 >= 0 && o.Beta2 < 1), !(o.EMA >= 0 && o.EMA < 1):
		return fmt.Errorf("decays %v, %v and %v, want 0 to below 1", o.Beta1, o.Beta2, o.EMA)
	case !(o.Decay >= 0 && o.Decay < 1000), !(o.HeadDecay >= 0 && o.HeadDecay < 1000), !(o.Clip >= 0):
		return fmt.Errorf("weight decay %v and %v, gradient bound %v", o.Decay, o.HeadDecay, o.Clip)
	case !(o.Dropout >= 0 && o.Dropout <= 0.9), !(o.ConditionDropout >= 0 && o.ConditionDropout < 1), !(o.ConditionNoise >= 0 && o.ConditionNoise < 10):
		return fmt.Errorf("dropout %v, condition dropout %v, condition noise %v", o.Dropout, o.ConditionDropout, o.ConditionNoise)
	case o.Validate < 1 || o.Draws < 1 || o.Patience < 0:
		return fmt.Errorf("validation every %d steps with %d draws, patience %d", o.Validate, o.Draws, o.Patience)
	}
	return nil
}

// update is what a step does to the weights, but for their decay, and the decay of their average, which forgets the start faster than
// EMA says at first.
func (o Options) update(step int) (a optimizer.Adam, ema float64) {
	a = optimizer.Adam{Rate: o.rate(step), Beta1: o.Beta1, Beta2: o.Beta2, Epsilon: 1e-8, Step: step}
	return a, min(o.EMA, float64(1+step)/float64(10+step))
}

// rate is the learning rate of a step, counted from 1.
func (o Options) rate(step int) float64 {
	if step <= o.Warmup {
		return o.Rate * float64(step) / float64(o.Warmup)
	}
	done := float64(step-o.Warmup) / float64(max(1, o.Steps-o.Warmup))
	return o.Rate * (o.Floor + (1-o.Floor)*0.5*(1+math.Cos(math.Pi*done)))
}
