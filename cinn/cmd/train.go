package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/train"
	"netfusion/nn/disk"
	"netfusion/tensor"
)

func trainCommand() command {
	var list strings.Builder
	for _, p := range train.Presets() {
		fmt.Fprintf(&list, "  %-20s  %s\n", p.Name, p.About)
	}
	return command{
		name:  "train",
		args:  "[flags] -o FILE",
		brief: "fit a flow to a training set",
		about: `  cinn train -o flow.safetensors                      the built-in fusion's flow again, in a clone of the repository
  cinn train -resume -o flow.safetensors              go on after an interruption
  cinn train -pairs my.pairs -source minilm.safetensors -target biggan.safetensors -o flow.safetensors
  cinn train -pairs my.store -preset sbert-to-biggan256 -report run.html -o flow.safetensors

Ctrl-C saves FILE.checkpoint and stops. -resume ends with the same bytes as a run that was not interrupted, or that was
killed: it takes all settings from the checkpoint, says which flags it ignores for that, and refuses other data or
experts. FILE.checkpoint.best is the best flow so far, and FILE.history how the run went.

What the run takes of memory is printed before it begins; what is more than the machine has, or than -memory allows, is
refused. A store (cinn pairs -o FILE.store) needs no experts to train from, and no more memory if it has more pairs.

presets, whose settings other flags change:
` + list.String(),
		setup: func(f *flag.FlagSet) action {
			emoji := train.Presets()[0]
			t := &trainer{options: emoji.Options, config: emoji.Config}
			t.declare(f)
			return t.run
		},
	}
}

// trainer makes a flow as its flags say.
type trainer struct {
	flags *flag.FlagSet // those that it was declared on
	lessonFlags
	out, preset, report string
	force, resume       bool
	blind               bool
	every, judge        int
	backend             cinn.Backend
	memory              memory
	watts               float64
	config              flow.Config
	options             train.Options
}

func (t *trainer) declare(f *flag.FlagSet) {
	t.flags = f
	f.StringVar(&t.out, "o", "", "`FILE` for the flow; FILE.checkpoint is for -resume")
	f.BoolVar(&t.force, "f", false, "replace FILE, and the checkpoint, if they exist")
	f.BoolVar(&t.resume, "resume", false, "go on from FILE.checkpoint")
	f.Var((*backend)(&t.backend), "backend", "train on `WHAT`: cpu, or cuda in a program that was built with it (default cpu)")
	f.StringVar(&t.preset, "preset", "", "take all settings from the preset `NAME`, but those of other flags")
	f.IntVar(&t.every, "every", 500, "save the checkpoint every `N` steps; 0 is at the ends only (default 500)")
	f.IntVar(&t.judge, "judge", 2048, "validate on `N` pairs of a store, 0 is all (default 2048)")
	f.BoolVar(&t.blind, "blind", false, "train without captions: the unconditional flow that cinn eval compares with")
	f.Var(&t.memory, "memory", "take at most so many `BYTES`, as 800M or 6GiB; default what the machine has left")
	f.StringVar(&t.report, "report", "", "write how the run goes to an HTML `FILE`, anew at each validation")
	f.Float64Var(&t.watts, "watts", 100, "the machine takes `W` watts, for the report's energy: assumed, not measured (default 100)")
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
	real(&o.Floor, "floor", "share `S` of it that is left at the end; 1 is no schedule")
	real(&o.Beta1, "beta1", "decay `D` of the gradient's mean")
	real(&o.Beta2, "beta2", "decay `D` of its square's")
	real(&o.Decay, "decay", "weight decay `D`")
	real(&o.HeadDecay, "head-decay", "weight decay `D` of the class head")
	real(&o.Clip, "clip", "bound `B` of the gradient's norm; 0 is none")
	real(&o.EMA, "ema", "decay `D` of the average of the weights; 0 is none, and takes 4 bytes a parameter less")
	small := func(p *float32, name, usage string) {
		f.Var((*scalar)(p), name, fmt.Sprintf("%s (default %g)", usage, *p))
	}
	small(&o.Dropout, "dropout", "share `P` of hidden units to drop")
	small(&o.ConditionDropout, "condition-dropout", "share `P` of captions to drop, for guidance")
	small(&o.ConditionNoise, "condition-noise", "noise `S` on captions, in their standard deviations")
	whole(&o.Validate, "validate", "`N` steps between validations")
	f.BoolVar(&o.Last, "last", o.Last, "keep the average of the weights at the end, not at its best on the validation concepts")
	whole(&o.Patience, "patience", "stop after `N` validations without an improvement; 0 is never")
	f.StringVar(&c.Norm, "norm", c.Norm, "`NAME` of the embedder's normalisation: batch for BatchNorm; default LayerNorm, in net2net BatchNorm")
	f.StringVar(&c.Dialect, "dialect", c.Dialect, "`NAME`: netfusion or net2net (default netfusion)")
	whole(&c.Blocks, "blocks", "`N` coupling blocks")
	whole(&c.Hidden, "hidden", "width `N` of the couplings' networks")
	whole(&c.Depth, "depth", "their `N` hidden-to-hidden layers")
	small(&c.Clamp, "clamp", "bound `A` of a coupling's log-scale")
	whole(&c.Embed, "embed", "dimensions `N` of the embedded condition")
	whole(&c.EmbedWidth, "embed-width", "width `N` of its network")
	whole(&c.EmbedDepth, "embed-depth", "its `N` hidden-to-hidden layers")
	whole(&c.Side, "side", "conditions are maps of `N`×N pixels; 0 is vectors")
	whole(&c.Convs, "convs", "`N` convolutions, trained with the flow, that halve a map")
	whole(&c.ConvWidth, "conv-width", "channels `N` behind the first of them")
	whole(&c.Pool, "pool", "the linear layer reads averages of `N`×N pixels of a map")
	whole(&c.HeadHidden, "head", "width `N` of the class head's hidden layer; 0 is a linear head")
	small(&c.ClassNoise, "class-noise", "noise `S` that the class embeddings are dequantised by")
}

// choose takes the preset's settings, but those that flags give.
func (t *trainer) choose() error {
	if t.preset == "" {
		return nil
	}
	p, err := train.FindPreset(t.preset)
	if err != nil {
		return usageError(err.Error())
	}
	chosen := &trainer{options: p.Options, config: p.Config}
	settings := flag.NewFlagSet("", flag.ContinueOnError)
	chosen.declareSettings(settings)
	t.flags.Visit(func(f *flag.Flag) {
		if settings.Lookup(f.Name) != nil && err == nil {
			err = settings.Set(f.Name, f.Value.String())
		}
	})
	if err != nil {
		return err
	}
	t.options, t.config, t.blind = chosen.options, chosen.config, t.blind || p.Blind
	return nil
}

func (t *trainer) run(ctx context.Context, s stdio, words []string) error {
	checkpoint := t.out + ".checkpoint"
	switch {
	case len(words) > 0:
		return usagef("what are these words for?")
	case t.out == "":
		return usagef("want -o FILE")
	case t.every < 0 || t.judge < 0:
		return usagef("-every %d, -judge %d: want 0 or more", t.every, t.judge)
	case !(t.watts > 0 && t.watts < 1e6):
		return usagef("-watts %v: want above 0 and below a million", t.watts)
	case taken(t.out) && !t.force:
		return existsError(t.out)
	case t.resume && !taken(checkpoint):
		return fmt.Errorf("%s does not exist: there is nothing to resume", checkpoint)
	case !t.resume && taken(checkpoint) && !t.force:
		return fmt.Errorf("%s exists already; -resume goes on from it, -f replaces it", checkpoint)
	}
	if err := t.choose(); err != nil {
		return err
	}
	var gpu *tensor.GPU
	if t.backend == cinn.CUDA {
		g, err := cinn.OpenGPU()
		if err != nil {
			return err
		}
		defer g.Close()
		gpu = g
	}
	m, err := t.material(ctx, s.err)
	if err != nil {
		return err
	}
	defer m.Close()
	plan, err := t.plan(m, checkpoint)
	if err != nil {
		return err
	}
	if err := t.allow(plan, s.err); err != nil {
		return err
	}
	// What is garbage counts, too: the collector minds what was stated.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(plan.Total())))
	run, err := t.start(m, checkpoint)
	if err != nil {
		return err
	}
	if ignored := t.ignored(run); len(ignored) > 0 {
		fmt.Fprintf(s.err, "the settings are those of %s: %s\n", checkpoint, strings.Join(ignored, ", "))
	}
	run.Checkpoint, run.Every, run.Log, run.Columns = checkpoint, t.every, s.err, panelColumns(s.err)
	run.Fingerprints = m.fingerprints
	if err := t.observe(run, m, plan); err != nil {
		return err
	}
	if gpu != nil {
		if err := run.UseGPU(gpu); err != nil {
			return err
		}
	}
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
	if run.Flow().Config.Classes == 0 {
		fmt.Fprintf(s.out, "%s: validation NLL %.2f nats (step %d)\n", t.out, score.Z, score.StepZ)
		return nil
	}
	fmt.Fprintf(s.out, "%s: validation NLL %.2f nats: z %.2f (step %d), class %.2f (step %d)\n",
		t.out, score.Z+score.Class, score.Z, score.StepZ, score.Class, score.StepClass)
	return nil
}

// plan is what the run takes of memory. It settles what the material decides about the settings.
func (t *trainer) plan(m *material, checkpoint string) (train.Memory, error) {
	c, o, fit := t.config, t.options, m.fit
	if t.resume {
		var err error
		if c, o, err = train.ReadCheckpoint(checkpoint); err != nil {
			return train.Memory{}, err
		}
		fit = 0
	} else {
		if err := t.settle(m); err != nil {
			return train.Memory{}, err
		}
		c, o = t.config, t.options
		if c.Dialect == flow.Net2Net {
			fit = 0
		}
	}
	plan, err := train.Plan(c, o, m.bytes, fit)
	if err != nil {
		return plan, usageError(err.Error())
	}
	plan.Experts = m.experts
	return plan, nil
}

// allow prints the plan, and refuses it if there is not so much memory.
func (t *trainer) allow(plan train.Memory, log io.Writer) error {
	if err := plan.Write(log); err != nil {
		return err
	}
	most, whose := int(t.memory), "-memory allows"
	if most == 0 {
		most, whose = freeMemory(), "this machine has left"
	}
	if total := plan.Total(); most > 0 && total > most {
		return fmt.Errorf("training takes %s of memory, more than the %s that %s; -ema 0, -optimizer adam, a smaller -batch, and fewer -blocks or less -hidden take less",
			train.Bytes(total), train.Bytes(most), whose)
	}
	return nil
}

// observe sets up the history and the report, and removes what a killed run left of them and of the flow.
func (t *trainer) observe(run *train.Trainer, m *material, plan train.Memory) error {
	for _, path := range []string{t.out, t.report} {
		if path == "" {
			continue
		}
		if err := disk.Clean(path); err != nil {
			return err
		}
	}
	var err error
	if run.History, err = train.OpenHistory(t.out + ".history"); err != nil {
		return err
	}
	if t.report == "" {
		return nil
	}
	run.Sheet = m.sheet(run.Options.Batch)
	page := &train.Page{
		Title: "cinn train -o " + t.out, Config: run.Flow().Config, Options: run.Options, Train: m.learn.Len(), Validate: m.judge.Len(), Memory: plan,
		Machine: fmt.Sprintf("CPU (%s), workers: %d", runtime.GOARCH, m.device.Workers()), Watts: t.watts, Columns: m.names,
	}
	run.Observe = func(h *train.History) error {
		return named(t.report, disk.WriteFile(t.report, func(w io.Writer) error { return page.Write(w, h) }))
	}
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
	return slices.Compact(list)
}

// settle takes the sizes of the config from the material, and what training without conditions needs.
func (t *trainer) settle(m *material) error {
	c := &t.config
	c.Cond, c.Latent, c.Classes, c.Class = m.cond, m.latent, m.table.Rows, m.table.Cols
	if c.Classes > 0 && c.Dialect == flow.Net2Net {
		return fmt.Errorf("the pairs are of %d classes, and net2net has no class head; pairs made with -class join have them in the latent", c.Classes)
	}
	if t.blind {
		// There is no caption to blur or to drop, and a baseline is to be taken at its best.
		t.options.ConditionNoise, t.options.ConditionDropout, t.options.Last = 0, 0, false
	}
	if m.exact && c.Classes == 0 {
		t.options.Draws = 1 // another would be the same
	}
	return nil
}

// start starts a run, or takes up the one of the checkpoint.
func (t *trainer) start(m *material, checkpoint string) (*train.Trainer, error) {
	if t.resume {
		return train.Resume(checkpoint, m.learn, m.judge, m.fingerprints, m.device)
	}
	if err := t.settle(m); err != nil {
		return nil, err
	}
	f, err := flow.New(t.config, t.options.Seed)
	if err != nil {
		return nil, usageError(err.Error())
	}
	if t.config.Classes > 0 {
		f.SetClasses(m.table)
	}
	if t.config.Dialect == flow.NetFusion {
		if _, err := train.Fit(f, m.learn, m.fit, t.options.Seed); err != nil {
			return nil, err
		}
	}
	return train.New(f, m.learn, m.judge, t.options, m.device)
}

// begin starts a run on a lesson, or takes up the one of the checkpoint.
func (t *trainer) begin(l *lesson, checkpoint string) (*train.Trainer, error) {
	m := &material{lesson: l, device: l.device, fingerprints: l.fingerprints}
	m.fromSet(t.blind)
	return t.start(m, checkpoint)
}
