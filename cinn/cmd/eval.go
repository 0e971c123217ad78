package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"io"
	"path/filepath"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/autoencoder"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/tensor"
)

func evalCommand() command {
	return command{
		name:  "eval",
		args:  "[flags]",
		brief: "judge a flow on captions that it never saw, beside simpler models",
		about: `  cinn eval                                 the built-in fusion, in a clone of the repository
  cinn eval -split validation -flow flow.safetensors
  cinn eval -unconditional blind.safetensors -json
                                            with a flow that "cinn train -blind" made

Without -unconditional, the first call trains the flow of the same shape that sees no captions, as "cinn train -blind
-last=false" does it, and keeps it for the calls to come. Ctrl-C stops that; the next call goes on from there.

The tables have negative log-likelihoods in nats per dimension, with 95 % intervals of the differences; how often what
belongs together is found among 100; how samples compare with the images of the split, in latents or with -pictures in
what the pack's encoder sees of the pictures, which takes a minute or two; whether residuals still tell something of the
condition, and what becomes of an image whose condition is replaced; how often the pictures are of the right class.
`,
		setup: func(f *flag.FlagSet) action {
			e := &evaluator{split: "test", options: train.Defaults()}
			e.lessonFlags.declare(f)
			f.StringVar(&e.flow, "flow", "", "a flow `FILE` in place of the pack's")
			f.StringVar(&e.unconditional, "unconditional", "", "a flow `FILE` trained with -blind, to compare with; default: trained now")
			f.StringVar(&e.split, "split", e.split, "`NAME`: test, or validation while there are choices to make (default test)")
			f.Var((*scalar)(&e.temperature), "temperature", "scale `T` of the noise of samples; 0 is the pack's default")
			f.Var((*scalar)(&e.guidance), "guidance", "pull `G` of the caption on samples; 0 is the pack's default")
			f.BoolVar(&e.snap, "snap", false, "samples take the nearest class itself")
			f.Uint64Var(&e.seed, "seed", 1, "`NUMBER` of all noise (default 1)")
			f.Var((*precision)(&e.precision), "precision", "the flow that is judged multiplies in `TYPE`: f32, bf16 or int8 (default f32)")
			f.Var((*backend)(&e.backend), "backend", "the flow that is judged computes on `WHAT`: cpu, or cuda in a program that was built with it (default cpu)")
			f.BoolVar(&e.pictures, "pictures", false, "compare samples by their pictures")
			f.BoolVar(&e.json, "json", false, "print one JSON object")
			return e.run
		},
	}
}

// evaluator judges a flow as its flags say.
type evaluator struct {
	lessonFlags
	flow, unconditional, split string
	temperature, guidance      float32
	snap                       bool
	seed                       uint64
	precision                  cinn.Precision
	backend                    cinn.Backend
	json, pictures             bool
	options                    train.Options // of training the unconditional flow
}

func (e *evaluator) run(ctx context.Context, s stdio, words []string) error {
	split, ok := map[string]pairs.Split{"test": pairs.Test, "validation": pairs.Validation}[e.split]
	switch {
	case len(words) > 0:
		return usagef("no arguments wanted, got %q", words)
	case !ok:
		return usagef("-split %q: want test or validation", e.split)
	case e.flow == "" && e.source != "" && e.target != "":
		return usagef("want -flow: no pack is open that holds one")
	}
	l, err := e.lessonFlags.open(ctx, s.err)
	if err != nil {
		return err
	}
	defer l.Close()
	bar := train.NewProgress(s.err)
	defer bar.Clear()
	run := train.Eval{
		Set: l.set, Conditions: l.conditions, Table: l.classTable(), Split: split, Seed: e.seed, Device: l.device,
		Progress: func(stage string) { bar.Show("evaluating: " + stage) },
	}
	about := cinn.Fusion{Temperature: 1, Guidance: 1}
	if l.pack != nil {
		if about, err = cinn.ReadFusion(l.pack); err != nil {
			return err
		}
	}
	var onGPU *flow.GPUSession
	if e.backend == cinn.CUDA {
		if onGPU, err = e.onGPU(l); err != nil {
			return err
		}
	}
	if err := e.flows(ctx, l, &run, s.err); err != nil {
		return err
	}
	fails := func() error { return nil }
	if onGPU != nil {
		run.Flow, fails = onGPU, onGPU.Err
	}
	run.Draw = e.draw(about)
	run.Decode = l.decoder(about.Truncation)
	if e.pictures {
		if run.Features, err = l.features(about.Truncation); err != nil {
			return err
		}
	}
	report, err := run.Run(ctx)
	if err := cmp.Or(fails(), err); err != nil {
		return err
	}
	bar.Clear()
	report.Precision = e.precision.String()
	return e.print(s.out, report)
}

func (e *evaluator) print(w io.Writer, r *train.Report) error {
	if e.json {
		return json.NewEncoder(w).Encode(r)
	}
	return r.Write(w)
}

// evalRows is how many latents a flow's session takes at a time.
const evalRows = 256

// flows opens the flow to judge, and the unconditional one to compare it with.
func (e *evaluator) flows(ctx context.Context, l *lesson, run *train.Eval, log io.Writer) error {
	f, err := e.judged(l)
	if err != nil {
		return err
	}
	if c := f.Config; c.Latent != l.set.Latent || c.Cond != l.conditions.Dim || c.Classes != l.target.Classes || c.Class != l.target.ClassDim {
		return fmt.Errorf("the flow is for other pairs or experts: latent %d, condition %d, %d classes of %d dimensions; want %d, %d, %d of %d",
			c.Latent, c.Cond, c.Classes, c.Class, l.set.Latent, l.conditions.Dim, l.target.Classes, l.target.ClassDim)
	}
	run.Config, run.ClassNoise = f.Config, f.Config.ClassNoise
	if run.Flow, err = f.NewSession(l.device, evalRows); err != nil {
		return err
	}
	if e.unconditional != "" {
		f, err = flow.Open(e.unconditional)
	} else {
		f, err = e.trainUnconditional(ctx, l, f.Config, log)
	}
	if err != nil {
		return err
	}
	session, err := f.NewSession(l.device, evalRows)
	if err != nil {
		return err
	}
	run.Unconditional = train.Blind(session)
	return nil
}

// onGPU opens the flow to judge on a GPU, which lives as long as l.
func (e *evaluator) onGPU(l *lesson) (*flow.GPUSession, error) {
	source, prefix := l.pack, "flow."
	if e.flow != "" {
		f, err := cinn.OpenContainer(e.flow)
		if err != nil {
			return nil, err
		}
		l.files = append(l.files, f)
		source, prefix = f, ""
	}
	var err error
	if l.gpu, err = cinn.OpenGPU(); err != nil {
		return nil, err
	}
	f, err := flow.LoadGPU(nn.Under(source, prefix), []byte(source.Metadata()[prefix+"config"]), e.precision, l.gpu)
	if err != nil {
		return nil, err
	}
	return f.NewSession(l.gpu, evalRows)
}

func (e *evaluator) judged(l *lesson) (*flow.Flow, error) {
	if e.flow != "" {
		return flow.OpenPacked(e.flow, e.precision)
	}
	return flow.LoadPacked(nn.Under(l.pack, "flow."), []byte(l.pack.Metadata()["flow.config"]), e.precision)
}

// trainUnconditional trains a flow of the shape c without captions, or takes the one that an earlier call left in the cache.
func (e *evaluator) trainUnconditional(ctx context.Context, l *lesson, c flow.Config, log io.Writer) (*flow.Flow, error) {
	t := trainer{blind: true, config: c, options: e.options}
	run, err := t.begin(l, "")
	if err != nil {
		return nil, err
	}
	run.Fingerprints = l.fingerprints
	file := ""
	if folder := e.cacheFolder(); folder != "" {
		file = filepath.Join(folder, "unconditional-"+run.Fingerprint()[:32]+".safetensors")
		if f, err := flow.Open(file); err == nil {
			return f, nil
		}
		checkpoint := file + ".checkpoint"
		if taken(checkpoint) {
			t.resume = true
			if resumed, err := t.begin(l, checkpoint); err == nil { // what the cache holds in vain is made anew
				run = resumed
			}
		}
		run.Checkpoint = checkpoint
	}
	run.Log = log
	fmt.Fprintln(log, "training the unconditional flow")
	if err := run.Run(ctx); err != nil {
		return nil, err
	}
	if file == "" {
		return run.Result()
	}
	if err := run.SaveResult(file); err != nil {
		return nil, err
	}
	f, err := flow.Open(file)
	if err != nil {
		return nil, err
	}
	return f, train.RemoveCheckpoint(run.Checkpoint)
}

// draw is how samples are drawn: as the pack does, unless flags say otherwise.
func (e *evaluator) draw(about cinn.Fusion) flow.Draw {
	d := flow.Draw{Seed: e.seed, Temperature: about.Temperature, Guidance: about.Guidance, Snap: e.snap}
	if e.temperature != 0 {
		d.Temperature = e.temperature
	}
	if e.guidance != 0 {
		d.Guidance = e.guidance
	}
	return d
}

// decoder returns a function that draws a latent x [Latent+Class] as RGB pixels, or nil if the generator's pictures are
// not of the size of the training set's.
func (l *lesson) decoder(truncation float64) func(rgb []uint8, x []float32) error {
	if l.target.Resolution != l.set.Size {
		return nil
	}
	return l.painter(truncation)
}

// painter returns a function that draws a latent x [Latent+Class] as RGB pixels of the generator's size.
func (l *lesson) painter(truncation float64) func(rgb []uint8, x []float32) error {
	session := l.target.NewSession(l.device, 1)
	z, class := tensor.New(1, l.target.ZDim), tensor.New(1, l.target.ClassDim)
	picture := image.NewNRGBA(image.Rect(0, 0, l.target.Resolution, l.target.Resolution))
	return func(rgb []uint8, x []float32) error {
		copy(z.Data, x)
		copy(class.Data, x[len(z.Data):])
		pixels, err := session.Generate(z, class, biggan.Truncation{Value: truncation})
		if err != nil {
			return err
		}
		biggan.Draw(picture, pixels.Data)
		for i := range len(rgb) / 3 {
			copy(rgb[3*i:3*i+3], picture.Pix[4*i:])
		}
		return nil
	}
}

// features returns a function that draws a latent x [Latent+Class], and writes the latent that the pack's image encoder finds in the picture.
func (l *lesson) features(truncation float64) (func(dst, x []float32) error, error) {
	if l.pack == nil || l.pack.Metadata()["encoder.config"] == "" {
		return nil, usagef("-pictures needs a pack with an image encoder")
	}
	config, err := autoencoder.ParseConfig(l.pack.Origin(), []byte(l.pack.Metadata()["encoder.config"]))
	if err != nil {
		return nil, err
	}
	if config.Latent != l.set.Latent || config.Resolution != l.target.Resolution {
		return nil, fmt.Errorf("%s: the image encoder gives %d dimensions of %d pixels, want %d of %d",
			l.pack.Origin(), config.Latent, config.Resolution, l.set.Latent, l.target.Resolution)
	}
	encoder, err := autoencoder.Load(nn.Under(l.pack, "encoder."), config)
	if err != nil {
		return nil, err
	}
	session, paint := encoder.NewSession(l.device, 1), l.painter(truncation)
	rgb, pixels := make([]uint8, 3*config.Resolution*config.Resolution), tensor.New(config.Resolution*config.Resolution, 3)
	return func(dst, x []float32) error {
		if err := paint(rgb, x); err != nil {
			return err
		}
		if err := autoencoder.Pixels(pixels.Data, rgb, config.Resolution); err != nil {
			return err
		}
		mean, _, err := session.Encode(pixels)
		if err == nil {
			copy(dst, mean.Data)
		}
		return err
	}, nil
}
