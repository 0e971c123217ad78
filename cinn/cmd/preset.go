package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/nn/safetensors"
)

func presetCommand() command {
	var list strings.Builder
	for _, p := range presets {
		fmt.Fprintf(&list, "  %-10s  %s\n", p.name, p.brief)
	}
	return command{
		name:  "preset",
		args:  "[flags] NAME -o FOLDER",
		brief: "a whole experiment on the emoji: data, training, table, pictures",
		about: list.String() + `
  cinn preset superres -o superres       in a clone of the repository: a few minutes
  cinn preset layers -o layers           four layers, one after the other
  cinn preset layers -layer stages.3 -o layer3

FOLDER gets NAME.pack, for all other commands; NAME.png, a sheet of pictures of concepts that the flow never saw; and
NAME.txt, what the flow and simpler models make of those, which is printed, too. Ctrl-C stops; the same command goes on
from there.
`,
		setup: func(f *flag.FlagSet) action {
			p := &presetRun{options: presetOptions()}
			f.StringVar(&p.folder, "o", "", "`FOLDER` for the results")
			f.BoolVar(&p.force, "f", false, "begin anew, and replace the results, if FOLDER has some")
			f.StringVar(&p.lesson.pairs, "pairs", "", "the training set, a `FILE` that cinn pairs wrote; default "+emojiPairs)
			f.StringVar(&p.lesson.model, "model", "", "take the experts from a pack `FILE`; default "+emojiPack)
			f.StringVar(&p.lesson.cache, "cache", "", "`FOLDER` to keep in what takes time, as the captions' embeddings; default in the user's cache")
			f.IntVar(&p.lesson.workers, "workers", 0, "goroutines, `N`; 0 is one per processor; the result does not depend on it")
			f.IntVar(&p.options.Steps, "steps", p.options.Steps, fmt.Sprintf("`N` steps of training (default %d)", p.options.Steps))
			f.Uint64Var(&p.options.Seed, "seed", p.options.Seed, "`NUMBER` of weights, batches and noise (default 1)")
			f.StringVar(&p.layer, "layer", "", "for layers: read the `LAYER` of the image encoder, as stages.3 or head; default four of them")
			return p.run
		},
	}
}

// preset is an experiment with all its settings.
type preset struct {
	name, brief string
	prepare     func(ctx context.Context, p *presetRun, l *lesson) (*task, error)
}

var presets = []preset{
	{"superres", "8×8 pixels → picture", superresTask},
	{"inpaint", "a picture without its middle → picture", inpaintTask},
	{"edges", "Sobel's edges → picture", edgesTask},
	{"colour", "brightness → colours", colourTask},
	{"attribute", "change what a picture is of, or its style, and keep the rest", attributeTask},
	{"style", "Noto ↔ Fluent, learnt without pairs of them", styleTask},
	{"text", "words → picture", textTask},
	{"layers", "what does a layer of the image encoder keep of a picture?", layersTask},
}

// presetOptions are how the presets train: as the built-in fusion, but at its best on the validation concepts, for all that is shown
// is of concepts that it never saw.
func presetOptions() train.Options {
	o := train.Defaults()
	o.Steps, o.Rate, o.Floor, o.EMA, o.Last = 1200, 1e-3, 0.1, 0.998, false
	o.Dropout, o.Decay = 0.15, 0.1
	return o
}

// presetConfig is the shape of the built-in fusion's flow.
func presetConfig() flow.Config {
	return flow.Config{
		Dialect: flow.NetFusion, Blocks: 10, Hidden: 256, Depth: 1, Clamp: 2, Embed: 96, EmbedWidth: 384, EmbedDepth: 1, ClassNoise: 0.2,
	}
}

// task is what there is to learn.
type task struct {
	source     cinn.Part // of the pack
	name       string    // of that expert
	licence    string    // the same
	conditions *pairs.Conditions
	maps       flow.Config  // how the flow reads a map: Side, Convs, ConvWidth and Pool
	noise      float32      // on conditions, while training
	draw       cinn.Request // how the pack draws by default
	condition  conditionOf  // that of an image of the set, for the pack
	sheet      sheetOf      // what is shown; nil shows conditions and samples
	judge      judgementOf  // more for the table, or nil
	show       pictureOf    // of an image, beside its samples; nil is none
	encode     encodeOf     // conditions of pictures, if those are what the source reads
}

// presetRun runs a preset as its flags say.
type presetRun struct {
	lesson  lessonFlags
	folder  string
	force   bool
	layer   string
	options train.Options
}

func (p *presetRun) run(ctx context.Context, s stdio, words []string) error {
	if len(words) != 1 || p.folder == "" {
		return usagef("want the name of a preset, and -o FOLDER")
	}
	i := slices.IndexFunc(presets, func(q preset) bool { return q.name == words[0] })
	if i < 0 {
		return usagef("no preset is called %q", words[0])
	}
	if p.layer != "" && words[0] != "layers" {
		return usagef("-layer is for the preset layers")
	}
	l, err := p.lesson.load()
	if err != nil {
		return err
	}
	defer l.Close()
	if words[0] == "layers" && p.layer == "" {
		return p.allLayers(ctx, s, l, presets[i])
	}
	out := presetFiles{p.folder, words[0]}
	if taken(out.pack()) && !p.force {
		return existsError(out.pack())
	}
	o, err := p.one(ctx, l, presets[i], out, s.err)
	if err != nil {
		return err
	}
	if err := train.RemoveCheckpoint(out.checkpoint()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n%s, %s and %s\n", o.text, out.pack(), out.sheet(), out.table())
	return err
}

// outcome is what came of a preset.
type outcome struct {
	text    string // the table
	report  *train.Report
	samples sampleScore
	rows    [][]*image.NRGBA // of the sheet
}

// one runs a preset from data to files.
func (p *presetRun) one(ctx context.Context, l *lesson, q preset, out presetFiles, log io.Writer) (*outcome, error) {
	if err := os.MkdirAll(p.folder, 0o755); err != nil {
		return nil, err
	}
	t, err := q.prepare(ctx, p, l)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	f, err := p.train(ctx, l, t, out, log)
	if err != nil {
		return nil, err
	}
	trained := time.Since(begin)
	if err := writePresetPack(l, t, f, out.pack()); err != nil {
		return nil, err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "preset %s: %s\n%d steps of %d pairs, %d parameters, %v\n\n", out.name, q.brief,
		p.options.Steps, p.options.Batch, len(f.Values()), trained.Round(time.Second))
	o := new(outcome)
	if o.report, err = p.evaluate(ctx, l, t, f, log); err != nil {
		return nil, err
	}
	if err := o.report.Write(&text); err != nil {
		return nil, err
	}
	if err := p.pictures(ctx, l, t, f, out, o, &text); err != nil {
		return nil, err
	}
	o.text = text.String()
	return o, os.WriteFile(out.table(), []byte(o.text), 0o644)
}

// presetFiles are what a preset writes.
type presetFiles struct{ folder, name string }

func (f presetFiles) at(end string) string { return filepath.Join(f.folder, f.name+end) }
func (f presetFiles) pack() string         { return f.at(".pack") }
func (f presetFiles) checkpoint() string   { return f.at(".checkpoint") }
func (f presetFiles) sheet() string        { return f.at(".png") }
func (f presetFiles) table() string        { return f.at(".txt") }

// train fits a flow to the task, or goes on where it was interrupted.
func (p *presetRun) train(ctx context.Context, l *lesson, t *task, out presetFiles, log io.Writer) (*flow.Flow, error) {
	learn := train.FromPairs(l.set, t.conditions, pairs.Train)
	judge := train.Named(l.set, t.conditions, pairs.Validation)
	p.options.ConditionNoise = t.noise
	checkpoint := out.checkpoint()
	var run *train.Trainer
	var err error
	if taken(checkpoint) && !p.force {
		run, err = train.Resume(checkpoint, learn, judge, l.fingerprints, l.device)
	} else {
		run, err = p.begin(l, t, learn, judge)
	}
	if err != nil {
		return nil, err
	}
	run.Checkpoint, run.Every, run.Log, run.Fingerprints = checkpoint, 500, log, l.fingerprints
	if err := run.Run(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintf(log, "stopped at step %d; the same command goes on from there\n", run.Step())
		}
		return nil, err
	}
	return run.Result()
}

func (p *presetRun) begin(l *lesson, t *task, learn, judge *train.Data) (*train.Trainer, error) {
	c := presetConfig()
	c.Side, c.Convs, c.ConvWidth, c.Pool = t.maps.Side, t.maps.Convs, t.maps.ConvWidth, t.maps.Pool
	c.Latent, c.Cond, c.Classes, c.Class = l.set.Latent, t.conditions.Dim, l.target.Classes, l.target.ClassDim
	f, err := flow.New(c, p.options.Seed)
	if err != nil {
		return nil, err
	}
	f.SetClasses(l.classTable())
	if _, err := train.Fit(f, learn, presetFitRows*len(l.set.Images), p.options.Seed); err != nil {
		return nil, err
	}
	return train.New(f, learn, judge, p.options, l.device)
}

// presetFitRows is how many draws of each image the closed-form layer is fitted to: fewer than for captions, for an image has one
// condition, and a map takes memory.
const presetFitRows = 4

// writePresetPack joins the task's source and f with the generator and the encoder of the pack that they learnt from.
func writePresetPack(l *lesson, t *task, f *flow.Flow, path string) error {
	about, err := cinn.ReadFusion(l.pack)
	if err != nil {
		return err
	}
	delete(about.Licences, "source")
	if t.licence != "" {
		about.Licences["source"] = t.licence
	}
	about.Name, about.Source, about.Temperature, about.Guidance = stem(path), t.name, t.draw.Temperature, t.draw.Guidance
	about.Classes = l.set.Classes
	parts := cinn.Parts{Source: t.source}
	config, err := json.Marshal(f.Config)
	if err != nil {
		return err
	}
	parts.Flow = cinn.Part{Meta: map[string]string{"config": string(config)}, Tensors: f.Tensors(true)}
	if parts.Target, err = cinn.ReadPart(l.pack, "target"); err != nil {
		return err
	}
	if encoder, err := cinn.ReadPart(l.pack, "encoder"); err == nil {
		parts.Encoder = encoder
	}
	return (&packer{out: path}).write(about, parts)
}

// sourcePart is an expert that is all in its config.
func sourcePart(config any, tensors []safetensors.Tensor) (cinn.Part, error) {
	text, err := json.Marshal(config)
	return cinn.Part{Meta: map[string]string{"config": string(text)}, Tensors: tensors}, err
}

// evaluate makes the table of likelihoods.
func (p *presetRun) evaluate(ctx context.Context, l *lesson, t *task, f *flow.Flow, log io.Writer) (*train.Report, error) {
	session, err := f.NewSession(l.device, evalRows)
	if err != nil {
		return nil, err
	}
	bar := train.NewProgress(log)
	defer bar.Clear()
	run := train.Eval{
		Set: l.set, Conditions: t.conditions, Table: l.classTable(), ClassNoise: f.Config.ClassNoise, Split: pairs.Test,
		Flow: session, Config: f.Config, Seed: 1, Device: l.device,
		Draw:     flow.Draw{Seed: 1, Temperature: t.draw.Temperature, Guidance: t.draw.Guidance},
		Progress: func(stage string) { bar.Show("evaluating: " + stage) },
	}
	return run.Run(ctx)
}
