package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/autoencoder"
	"netfusion/nn"
	"netfusion/tensor"
)

func pairsCommand() command {
	return command{
		name:  "pairs",
		args:  "[flags] -o FILE",
		brief: "make the training set of a fusion",
		about: `A set of captioned pictures whose latents an image encoder knows, with captions and pictures:

  cinn pairs -data emoji -encoder encoder.safetensors -o emoji.pairs
  cinn train -pairs emoji.pairs -o flow.safetensors

-data holds emoji.json and emoji64.npz. -encoder computes the latents of all images; instead of it, -expert names a
folder with a latents.npz that holds those of some images.

A store of vectors, of any number of pairs, from which training reads without any expert:

  cinn pairs -set emoji.pairs -n 100000 -o emoji.store        draws of captions and pictures of a set
  cinn pairs -backwards -model emoji.pack -n 100000 -o my.store
             draw latents and classes, and describe them: by the names of the classes; by -captions FILE, JSON of a
             class's name or number and its captions, {"heart": ["a heart", "love"], "7": […]}; or by -captioner
             PROGRAM, which sees the pictures
  cinn pairs -program "python3 mine.py" -o my.store            pairs that a program answers with
  cinn pairs -lines pairs.jsonl -o my.store                    pairs in a file, or - for standard input

Ctrl-C, and a kill, lose nothing: the same command goes on, and ends with the same file. With more pairs for -n, it adds
some. -f begins anew.

Programs read questions and write answers, one JSON object a line: a captioner is asked {"image": PNG in base64} and
answers {"text": "a red heart"}; a source of pairs is asked {"pair": 0}, {"pair": 1}, … and answers {"condition":
[1.5, …], "latent": […]}, with "std": […] if the latent is known only so well, with "class": 3 if -target has classes,
with "text": "…" if pairs of one text belong into one split; {"end": true} behind the last. A vector may also be base64
of float32 in little-endian order. -lines reads such answers.
`,
		setup: func(f *flag.FlagSet) action {
			p := new(pairer)
			f.StringVar(&p.data, "data", "", "`FOLDER` with the images and captions")
			f.StringVar(&p.encoder, "encoder", "", "the image encoder, an expert `FILE` or a pack with one")
			f.StringVar(&p.expert, "expert", "", "`FOLDER` with the latents, in place of -encoder")
			f.StringVar(&p.from, "set", "", "a set, a `FILE` that cinn pairs wrote, to make a store of")
			f.BoolVar(&p.backwards, "backwards", false, "draw latents, and describe what the generator makes of them")
			f.StringVar(&p.captions, "captions", "", "for -backwards: `FILE` with the captions of classes")
			f.StringVar(&p.captioner, "captioner", "", "for -backwards: `PROGRAM`, with its arguments, that describes pictures")
			f.StringVar(&p.program, "program", "", "`PROGRAM`, with its arguments, that answers with pairs")
			f.StringVar(&p.lines, "lines", "", "`FILE` of pairs, a line of JSON each; - is standard input")
			f.StringVar(&p.model, "model", "", "take experts from a pack `FILE`; for -set and -backwards by default "+emojiPack)
			f.StringVar(&p.source, "source", "", "the text encoder, an expert `FILE` or a pack, in place of -model's")
			f.StringVar(&p.target, "target", "", "the image generator, an expert `FILE` or a pack, in place of -model's")
			f.IntVar(&p.n, "n", 0, "`N` pairs in the store, with those that it has; 0 is all of -lines or -program, and 100000 otherwise")
			f.StringVar(&p.kind, "type", "f32", "store numbers as `TYPE`: f32, f16 or bf16 (default f32)")
			f.Uint64Var(&p.seed, "seed", 1, "`NUMBER` of all that is drawn (default 1)")
			f.Float64Var(&p.truncation, "truncation", 2.5, "for -backwards: draw coordinates of latents again beyond `B`; 0 is never (default 2.5)")
			f.StringVar(&p.class, "class", "label", "`WHAT` becomes of the class: label, for a flow with a class head; join, its embedding behind the latent (default label)")
			f.Var((*scalar)(&p.noise), "class-noise", "for -class join: standard deviation `S` of the embedding, without which classes are points (default 0.2)")
			f.StringVar(&p.split, "split", "pair", "hold out by `WHAT`: pair, or caption, so that those held out have captions of their own (default pair)")
			f.StringVar(&p.out, "o", "", "`FILE` to write")
			f.BoolVar(&p.force, "f", false, "replace FILE if it exists")
			f.IntVar(&p.workers, "workers", 0, "goroutines, `N`; 0 is one per processor; the result does not depend on it")
			p.noise = 0.2
			return p.run
		},
	}
}

// pairer makes a training set as its flags say.
type pairer struct {
	data, encoder, expert string
	from, program, lines  string
	backwards             bool
	captions, captioner   string
	model, source, target string
	kind, class, split    string
	n                     int
	seed                  uint64
	truncation            float64
	noise                 float32
	out                   string
	force                 bool
	workers               int
}

func (p *pairer) run(ctx context.Context, s stdio, words []string) error {
	sources := 0
	for _, given := range []bool{p.data != "", p.from != "", p.backwards, p.program != "", p.lines != ""} {
		if given {
			sources++
		}
	}
	switch {
	case len(words) > 0 || sources != 1 || p.out == "":
		return usagef("want one of -data, -set, -backwards, -program and -lines, and -o")
	case (p.data != "") != (p.encoder != "" || p.expert != "") || p.encoder != "" && p.expert != "":
		return usagef("want -encoder or -expert with -data")
	case p.workers < 0 || p.workers > maxWorkers:
		return usagef("-workers %d: want 0 to %d", p.workers, maxWorkers)
	}
	if p.data == "" {
		return p.store(ctx, s)
	}
	if taken(p.out) && !p.force {
		return existsError(p.out)
	}
	set, err := p.set(ctx, s)
	if err != nil {
		return err
	}
	if err := set.Write(p.out); err != nil {
		return named(p.out, err)
	}
	fmt.Fprintf(s.out, "%s: %d images of %d concepts, %d captions; %d images to train, %d to validate, %d to test\n", p.out,
		len(set.Images), len(set.Concepts), len(set.Captions()),
		len(set.Rows(pairs.Train)), len(set.Rows(pairs.Validation)), len(set.Rows(pairs.Test)))
	return nil
}

func (p *pairer) set(ctx context.Context, s stdio) (*pairs.Set, error) {
	if p.expert != "" {
		return pairs.Import(p.data, p.expert)
	}
	in, err := openIngredient(p.encoder, "encoder")
	if err != nil {
		return nil, err
	}
	defer in.file.Close()
	model, err := autoencoder.LoadExpert(nn.Memory(p.encoder, in.part.Tensors), in.part.Meta)
	if err != nil {
		return nil, err
	}
	device := tensor.CPU(p.workers)
	defer device.Close()
	bar := train.NewProgress(s.err)
	defer bar.Clear()
	return pairs.Encode(p.data, encoder(ctx, stem(p.encoder), model, device), func(done, total int) {
		if bar.Due() {
			bar.Show(fmt.Sprintf("encoding images %s %d of %d", train.Bar(done, total, 30), done, total))
		}
	})
}

// encoder runs model on device for cinn/pairs, which knows no experts.
func encoder(ctx context.Context, name string, model *autoencoder.Model, device *tensor.Device) pairs.ImageEncoder {
	side := model.Resolution
	session, pixels := model.NewSession(device, 1), tensor.New(side*side, 3)
	return pairs.ImageEncoder{Name: name, Latent: model.Latent, Encode: func(mean, std []float32, picture []uint8) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := autoencoder.Pixels(pixels.Data, picture, side); err != nil {
			return err
		}
		m, logVariance, err := session.Encode(pixels)
		if err != nil {
			return err
		}
		copy(mean, m.Data)
		autoencoder.Std(std, logVariance.Data)
		return nil
	}}
}

// defaultPairs is how many pairs a source without an end gives.
const defaultPairs = 100000

// store makes a Store, or goes on with one.
func (p *pairer) store(ctx context.Context, s stdio) error {
	switch {
	case p.n < 0 || p.n > 1<<31:
		return usagef("-n %d: want 0 to %d", p.n, 1<<31)
	case p.class != "label" && p.class != "join" || p.split != "pair" && p.split != "caption":
		return usagef("-class %s -split %s: want label or join, and pair or caption", p.class, p.split)
	case !(p.truncation == 0 || p.truncation >= 0.1 && p.truncation < 100):
		return usagef("-truncation %v: want 0, or 0.1 to 100", p.truncation)
	case (p.captions != "" || p.captioner != "") && !p.backwards || p.captions != "" && p.captioner != "":
		return usagef("want -captions or -captioner with -backwards")
	}
	maker, header, err := p.maker(ctx, s)
	if err != nil {
		return err
	}
	defer maker.close()
	if p.force {
		if err := os.Remove(p.out); err != nil && taken(p.out) {
			return err
		}
	}
	a, err := pairs.Append(p.out, header)
	if err != nil {
		return err
	}
	return errors.Join(p.fill(ctx, s, a, maker, header), a.Close())
}

// maker makes pairs by their numbers, one after the other; io.EOF behind the last.
type maker interface {
	// begin is called with the number of the first pair that is wanted.
	begin(i int) error
	pair(ctx context.Context, i int, p *pairs.Pair) error
	close()
}

func (p *pairer) fill(ctx context.Context, s stdio, a *pairs.Appender, m maker, h pairs.Header) error {
	total := p.n
	if total == 0 && p.lines == "" && p.program == "" {
		total = defaultPairs
	}
	bar := train.NewProgress(s.err)
	defer bar.Clear()
	had, begin := a.Len(), time.Now()
	if err := m.begin(had); err != nil {
		return err
	}
	pair := h.NewPair()
	for total == 0 || a.Len() < total {
		err := ctx.Err()
		if err == nil {
			err = m.pair(ctx, a.Len(), &pair)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if ctx.Err() != nil {
			bar.Clear()
			fmt.Fprintf(s.err, "stopped at %d pairs in %s; the same command goes on from there\n", a.Len(), p.out)
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("pair %d: %w", a.Len(), err)
		}
		if err := a.Append(&pair); err != nil {
			return err
		}
		if bar.Due() {
			bar.Show(pairsProgress(a.Len(), had, total, time.Since(begin)))
		}
	}
	fmt.Fprintf(s.out, "%s: %d pairs, %d of them new; conditions of %d dimensions, latents of %d, %d classes\n", p.out, a.Len(), a.Len()-had, h.Cond, h.Latent, h.Classes)
	return nil
}

// pairsProgress is a line about n pairs, of which had were there at the begin.
func pairsProgress(n, had, total int, since time.Duration) string {
	rate := float64(n-had) / max(since.Seconds(), 1e-9)
	if total == 0 {
		return fmt.Sprintf("%d pairs, %.0f a second", n, rate)
	}
	left := time.Duration(float64(total-n) / max(rate, 1e-9) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("pairs %s %d of %d  %.0f a second  %v left", train.Bar(n, total, 30), n, total, rate, left)
}
