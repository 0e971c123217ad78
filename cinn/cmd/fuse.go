package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/autoencoder"
	"netfusion/experts/biggan"
	"netfusion/tensor"
)

func fuseCommand() command {
	return command{
		name:  "fuse",
		args:  "[flags] -source FOLDER -target FOLDER -pairs FILE -o FILE",
		brief: "join two experts of your own: read pairs, train a flow between them, write a pack",
		about: `  cinn fuse -source all-MiniLM-L6-v2 -target my-biggan -pairs captions.tsv -o my.pack
  cinn fuse -source my-biggan -layer stages.3 -target my-biggan -pairs photos.tsv -o my.pack
  cinn fuse -program "python3 embed.py" -target my-biggan -pairs captions.jsonl -o my.pack
  cinn fuse -target my-biggan -pairs my.store -o my.pack

Experts are folders as cinn convert reads them, files that it wrote, or packs. The source is a text encoder or, with the
name of a layer or in a folder with encoder.npz, an image encoder; -layer takes another layer than the last: a number
for text, stages.0 and so on or head for pictures. Where -program stands for it, or pairs hold conditions already, the
pack has no source and draws from vectors.

The pairs: in a .tsv, what the source reads (words, or the file of a picture), a tab, the file of a picture, and perhaps
a tab and its class. Or a JSON object a line:

  {"text": "red heart", "image": "heart.png", "class": "heart"}      or "from": "sketch.png" in place of text,
  {"condition": [0.5, …], "latent": [1.25, …], "std": [0.1, …]}      or "condition" in place of what the source reads

Or a store that cinn pairs wrote. Latents of pictures are those of the encoder beside the generator, or of -encoder.
A tenth of the conditions is kept aside to judge by, and another for cinn eval. Ctrl-C saves FILE.checkpoint and stops;
the same command goes on from there.
`,
		setup: func(f *flag.FlagSet) action {
			u := &fuser{options: presetOptions(), config: presetConfig()}
			f.StringVar(&u.reads, "source", "", "the expert that reads, a `FOLDER`, file or pack")
			f.StringVar(&u.draws, "target", "", "the generator that draws, a `FOLDER`, file or pack")
			f.StringVar(&u.encodes, "encoder", "", "the generator's image encoder, a `FOLDER`, file or pack; default beside the generator")
			f.StringVar(&u.program, "program", "", "ask a `COMMAND` what its input means, a JSON object a line, in place of -source")
			f.StringVar(&u.layer, "layer", "", "the `LAYER` of the source to read; default the last")
			f.StringVar(&u.pairs, "pairs", "", "the `FILE` of pairs")
			f.StringVar(&u.out, "o", "", "`FILE` for the pack")
			f.BoolVar(&u.force, "f", false, "replace FILE, and begin anew, if they exist")
			f.StringVar(&u.dtype, "dtype", "f32", "store the matrices of folders as `TYPE`: f32, f16, bf16 or int8 (default f32)")
			f.IntVar(&u.workers, "workers", 0, "goroutines, `N`; 0 is one per processor; the result does not depend on it")
			f.IntVar(&u.options.Steps, "steps", u.options.Steps, fmt.Sprintf("`N` steps of training (default %d)", u.options.Steps))
			f.IntVar(&u.options.Batch, "batch", u.options.Batch, fmt.Sprintf("`N` pairs a step (default %d)", u.options.Batch))
			f.Uint64Var(&u.options.Seed, "seed", u.options.Seed, "`NUMBER` of weights, batches and noise (default 1)")
			f.IntVar(&u.config.Blocks, "blocks", u.config.Blocks, fmt.Sprintf("`N` coupling blocks (default %d)", u.config.Blocks))
			f.IntVar(&u.config.Hidden, "hidden", u.config.Hidden, fmt.Sprintf("width `N` of the couplings' networks (default %d)", u.config.Hidden))
			return u.run
		},
	}
}

// fuser joins two experts as its flags say.
type fuser struct {
	reads, draws, encodes, program, layer, pairs, out, dtype string
	force                                                    bool
	workers                                                  int
	options                                                  train.Options
	config                                                   flow.Config
}

func (f *fuser) run(ctx context.Context, s stdio, words []string) error {
	switch {
	case len(words) > 0:
		return usagef("what are these words for?")
	case f.draws == "" || f.pairs == "" || f.out == "":
		return usagef("want -target, -pairs and -o")
	case f.reads != "" && f.program != "":
		return usagef("-source and -program: want one")
	case f.layer != "" && f.reads == "":
		return usagef("-layer is one of the -source")
	case f.workers < 0 || f.workers > maxWorkers:
		return usagef("-workers %d: want 0 to %d", f.workers, maxWorkers)
	case taken(f.out) && !f.force:
		return existsError(f.out)
	}
	device := tensor.CPU(f.workers)
	defer device.Close()
	j := &joint{fuser: f, device: device, log: s.err}
	defer j.Close()
	if err := j.open(ctx); err != nil {
		return err
	}
	fitted, score, err := j.train(ctx)
	if err != nil {
		return err
	}
	if err := j.write(fitted); err != nil {
		return err
	}
	if err := train.RemoveCheckpoint(f.out + ".checkpoint"); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: %d pairs to train, %d to judge by; of those the NLL is %.2f nats: z %.2f (step %d)", f.out, j.learn.Len(), j.judge.Len(),
		score.Z+score.Class, score.Z, score.StepZ)
	if j.target.Classes > 1 {
		fmt.Fprintf(s.out, ", class %.2f (step %d)", score.Class, score.StepClass)
	}
	fmt.Fprintln(s.out)
	return nil
}

// joint is a fusion in the making.
type joint struct {
	*fuser
	device *tensor.Device
	log    io.Writer

	source       *fuseSource
	draw         *ingredient
	target       *biggan.Model
	encode       *ingredient // nil if there is no encoder
	encoder      *autoencoder.Model
	store        *pairs.Store // nil if the pairs are a list
	learn, judge train.Source
	fit          int // draws for the closed-form layer
}

// Close gives back what is open.
func (j *joint) Close() {
	for _, in := range []*ingredient{j.draw, j.encode} {
		if in != nil && in.file != nil {
			in.file.Close()
		}
	}
	if s := j.source; s != nil {
		if s.file != nil {
			s.file.Close()
		}
		if s.close != nil {
			s.close()
		}
	}
	if j.store != nil {
		j.store.Close()
	}
}

// open opens the experts and reads the pairs.
func (j *joint) open(ctx context.Context) (err error) {
	if j.draw, j.target, err = j.fuser.target(); err != nil {
		return err
	}
	if j.encode, j.encoder, err = j.fuser.encoder(j.target); err != nil {
		return err
	}
	if j.source, err = j.fuser.source(j.device); err != nil {
		return err
	}
	is, err := pairs.IsStore(j.pairs)
	if err != nil {
		return err
	}
	if is {
		return j.openStore(ctx)
	}
	list, err := readList(j.pairs, j.source.pictures)
	if err != nil {
		return err
	}
	if j.program != "" {
		j.source, err = j.fuser.programSource(ctx, list, j.log)
	} else if len(list[0].Condition) > 0 {
		err = j.given(len(list[0].Condition))
	} else if j.reads == "" {
		err = usagef("want -source or -program, or pairs with conditions")
	}
	if err != nil {
		return err
	}
	return j.readPairs(ctx, list)
}

// given makes the pairs' own conditions, of the given width, those of the pack: of its source if that is as wide.
func (j *joint) given(width int) error {
	if j.reads == "" {
		j.source = vectorSource(width)
	}
	if j.source.width != width {
		return fmt.Errorf("%s: conditions of %d dimensions, %s gives %d", j.pairs, width, j.reads, j.source.width)
	}
	return nil
}

// openStore takes the pairs as they are.
func (j *joint) openStore(ctx context.Context) (err error) {
	if j.program != "" {
		return usagef("-program: the store %s holds conditions already", j.pairs)
	}
	if j.store, err = pairs.OpenStore(j.pairs); err != nil {
		return err
	}
	if err := j.given(j.store.Cond); err != nil {
		return err
	}
	learn, judge, err := train.Splits(ctx, j.store, 2048, nil)
	if err != nil {
		return err
	}
	j.learn, j.judge, j.fit = learn, judge, fuseFitRows
	return nil
}

// fuseFitRows is how many draws of pairs, at most, the closed-form layer is fitted to.
const fuseFitRows = 1 << 14

// train fits a flow to the pairs, or goes on where it was interrupted.
func (j *joint) train(ctx context.Context) (*flow.Flow, train.Score, error) {
	none := train.Score{}
	j.options.ConditionNoise = 0.1
	checkpoint := j.out + ".checkpoint"
	fingerprints := map[string]string{"experts": j.draws + j.reads + j.program + j.layer}
	var run *train.Trainer
	var err error
	if taken(checkpoint) && !j.force {
		run, err = train.Resume(checkpoint, j.learn, j.judge, fingerprints, j.device)
	} else {
		run, err = j.begin()
	}
	if err != nil {
		return nil, none, err
	}
	run.Checkpoint, run.Every, run.Log, run.Fingerprints = checkpoint, 500, j.log, fingerprints
	if err := run.Run(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintf(j.log, "stopped at step %d, saved to %s; the same command goes on from there\n", run.Step(), checkpoint)
		}
		return nil, none, err
	}
	f, err := run.Result()
	return f, run.Score(), err
}

func (j *joint) begin() (*train.Trainer, error) {
	c := j.config
	c.Latent, c.Cond = j.target.ZDim, j.source.width
	c.Classes, c.Class = j.target.Classes, j.target.ClassDim
	if side := j.source.side; side > 0 {
		c.Side, c.Pool = side, side
		for c.Convs = 0; side%2 == 0 && side > 2; side /= 2 {
			c.Convs++
		}
		if c.ConvWidth = 64; c.Convs == 0 {
			c.ConvWidth = 0
		}
	}
	f, err := flow.New(c, j.options.Seed)
	if err != nil {
		return nil, err
	}
	table := tensor.New(c.Classes, c.Class)
	for k := range table.Rows {
		copy(table.Row(k), j.target.Class(k))
	}
	f.SetClasses(table)
	if _, err := train.Fit(f, j.learn, min(j.fit, fuseFitRows), j.options.Seed); err != nil {
		return nil, fmt.Errorf("%s: %w", j.pairs, err)
	}
	return train.New(f, j.learn, j.judge, j.options, j.device)
}

// write joins all into the pack.
func (j *joint) write(f *flow.Flow) error {
	about := cinn.Fusion{
		Name: stem(j.out), Source: called(j.source.from.Source, j.reads+j.program), Target: called(j.draw.from.Target, j.draws),
		Classes: j.draw.from.Classes, Licences: map[string]string{},
	}
	j.source.license(about)
	j.draw.license(about)
	config, err := json.Marshal(f.Config)
	if err != nil {
		return err
	}
	parts := cinn.Parts{Source: j.source.part, Target: j.draw.part}
	parts.Flow = cinn.Part{Meta: map[string]string{"config": string(config)}, Tensors: f.Tensors(false)}
	if j.encode != nil {
		parts.Encoder = j.encode.part
		j.encode.license(about)
	}
	return (&packer{out: j.out}).write(about, parts)
}
