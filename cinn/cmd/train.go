package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
)

func trainCommand() command {
	return command{
		name:  "train",
		args:  "[flags] -o FILE",
		brief: "fit a flow to a training set",
		about: `  cinn train -o flow.safetensors                      the built-in fusion's flow again, in a clone of the repository
  cinn train -resume -o flow.safetensors              go on after an interruption
  cinn train -pairs my.pairs -source minilm.safetensors -target biggan.safetensors -o flow.safetensors

Ctrl-C saves FILE.checkpoint and stops. -resume ends with the same bytes as a run that was not interrupted: it takes
all settings from the checkpoint, says which flags it ignores for that, and refuses other data or experts.
`,
		setup: func(f *flag.FlagSet) action {
			t := &trainer{options: train.Defaults(), config: flow.Config{
				Dialect: flow.NetFusion, Blocks: 10, Hidden: 256, Depth: 1, Clamp: 2,
				Embed: 96, EmbedWidth: 384, EmbedDepth: 1, ClassNoise: 0.2,
			}}
			t.declare(f)
			return t.run
		},
	}
}

// trainer makes a flow as its flags say.
type trainer struct {
	flags *flag.FlagSet // those that it was declared on
	lessonFlags
	out           string
	force, resume bool
	blind         bool
	every         int
	config        flow.Config
	options       train.Options
}

func (t *trainer) declare(f *flag.FlagSet) {
	t.flags = f
	f.StringVar(&t.out, "o", "", "`FILE` for the flow; FILE.checkpoint is for -resume")
	f.BoolVar(&t.force, "f", false, "replace FILE, and the checkpoint, if they exist")
	f.BoolVar(&t.resume, "resume", false, "go on from FILE.checkpoint")
	f.IntVar(&t.every, "every", 500, "save the checkpoint every `N` steps; 0 is at the ends only (default 500)")
	f.BoolVar(&t.blind, "blind", false, "train without captions: the unconditional flow that cinn eval compares with")
	t.lessonFlags.declare(f)
	t.declareSettings(f)
}

// declareSettings declares what a checkpoint keeps.
func (t *trainer) declareSettings(f *flag.FlagSet) {
	whole := func(p *int, name, usage string) { f.IntVar(p, name, *p, fmt.Sprintf("%s (default %d)", usage, *p)) }
	c, o := &t.config, &t.options
	whole(&o.Steps, "steps", "`N` steps")
	whole(&o.Batch, "batch", "`N` pairs a step")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "`NUMBER` of weights, batches and noise (default 1)")
	f.StringVar(&o.Optimizer, "optimizer", o.Optimizer, "`NAME`: adamw, adam or amsgrad (default adamw)")
	real := func(p *float64, name, usage string) {
		f.Float64Var(p, name, *p, fmt.Sprintf("%s (default %g)", usage, *p))
	}
	real(&o.Rate, "rate", "peak learning rate `R`")
	whole(&o.Warmup, "warmup", "`N` steps up to it")
	real(&o.Decay, "decay", "weight decay `D`")
	real(&o.HeadDecay, "head-decay", "weight decay `D` of the class head")
	real(&o.Clip, "clip", "bound `B` of the gradient's norm; 0 is none")
	real(&o.EMA, "ema", "decay `D` of the average of the weights")
	small := func(p *float32, name, usage string) {
		f.Var((*scalar)(p), name, fmt.Sprintf("%s (default %g)", usage, *p))
	}
	small(&o.Dropout, "dropout", "share `P` of hidden units to drop")
	small(&o.ConditionDropout, "condition-dropout", "share `P` of captions to drop, for guidance")
	small(&o.ConditionNoise, "condition-noise", "noise `S` on captions, in their standard deviations")
	whole(&o.Validate, "validate", "`N` steps between validations")
	f.BoolVar(&o.Last, "last", o.Last, "keep the average of the weights at the end, not at its best on the validation concepts")
	whole(&o.Patience, "patience", "stop after `N` validations without an improvement; 0 is never")
	whole(&c.Blocks, "blocks", "`N` coupling blocks")
	whole(&c.Hidden, "hidden", "width `N` of the couplings' networks")
	whole(&c.Depth, "depth", "their `N` hidden-to-hidden layers")
	small(&c.Clamp, "clamp", "bound `A` of a coupling's log-scale")
	whole(&c.Embed, "embed", "dimensions `N` of the embedded condition")
	whole(&c.EmbedWidth, "embed-width", "width `N` of its network")
	whole(&c.EmbedDepth, "embed-depth", "its `N` hidden-to-hidden layers")
	whole(&c.HeadHidden, "head", "width `N` of the class head's hidden layer; 0 is a linear head")
	small(&c.ClassNoise, "class-noise", "noise `S` that the class embeddings are dequantised by")
}

func (t *trainer) run(ctx context.Context, s stdio, words []string) error {
	checkpoint := t.out + ".checkpoint"
	switch {
	case len(words) > 0:
		return usagef("what are these words for?")
	case t.out == "":
		return usagef("want -o FILE")
	case t.every < 0:
		return usagef("-every %d: want 0 or more", t.every)
	case taken(t.out) && !t.force:
		return existsError(t.out)
	case t.resume && !taken(checkpoint):
		return fmt.Errorf("%s does not exist: there is nothing to resume", checkpoint)
	case !t.resume && taken(checkpoint) && !t.force:
		return fmt.Errorf("%s exists already; -resume goes on from it, -f replaces it", checkpoint)
	}
	l, err := t.lessonFlags.open(ctx, s.err)
	if err != nil {
		return err
	}
	defer l.Close()
	run, err := t.begin(l, checkpoint)
	if err != nil {
		return err
	}
	if ignored := t.ignored(run); len(ignored) > 0 {
		fmt.Fprintf(s.err, "the settings are those of %s: %s\n", checkpoint, strings.Join(ignored, ", "))
	}
	run.Checkpoint, run.Every, run.Log = checkpoint, t.every, s.err
	run.Fingerprints = l.fingerprints
	if err := run.Run(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintf(s.err, "stopped at step %d, saved to %s; -resume goes on from there\n", run.Step(), checkpoint)
		}
		return err
	}
	if err := run.SaveResult(t.out); err != nil {
		return err
	}
	score := run.Score()
	fmt.Fprintf(s.out, "%s: validation NLL %.2f nats: z %.2f (step %d), class %.2f (step %d)\n",
		t.out, score.Z+score.Class, score.Z, score.StepZ, score.Class, score.StepClass)
	return nil
}

// ignored lists the flags that were given and that the settings of run, which was resumed, overrule.
func (t *trainer) ignored(run *train.Trainer) (list []string) {
	kept := flag.NewFlagSet("", flag.ContinueOnError)
	(&trainer{options: run.Options, config: run.Flow().Config}).declareSettings(kept)
	t.flags.Visit(func(f *flag.Flag) {
		if k := kept.Lookup(f.Name); k != nil && k.Value.String() != f.Value.String() {
			list = append(list, fmt.Sprintf("-%s %s, not %s", f.Name, k.Value, f.Value))
		}
	})
	return list
}

// begin starts a run, or takes up the one of the checkpoint.
func (t *trainer) begin(l *lesson, checkpoint string) (*train.Trainer, error) {
	learn := train.FromPairs(l.set, l.conditions, pairs.Train)
	judge := train.Named(l.set, l.conditions, pairs.Validation)
	if t.blind {
		clear(learn.Cond.Data)
		clear(judge.Cond.Data)
		// There is no caption to blur or to drop, and a baseline is to be taken at its best.
		t.options.ConditionNoise, t.options.ConditionDropout, t.options.Last = 0, 0, false
	}
	if t.resume {
		return train.Resume(checkpoint, learn, judge, l.fingerprints, l.device)
	}
	c := t.config
	c.Latent, c.Cond, c.Classes, c.Class = l.set.Latent, l.conditions.Dim, l.target.Classes, l.target.ClassDim
	f, err := flow.New(c, t.options.Seed)
	if err != nil {
		return nil, usageError(err.Error())
	}
	f.SetClasses(l.classTable())
	if _, err := train.Fit(f, learn, fitRows*len(l.set.Images), t.options.Seed); err != nil {
		return nil, err
	}
	return train.New(f, learn, judge, t.options, l.device)
}

// fitRows is how many draws of each image, about, the closed-form layer is fitted to.
const fitRows = 8
