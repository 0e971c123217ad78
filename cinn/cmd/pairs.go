package main

import (
	"context"
	"flag"
	"fmt"

	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/autoencoder"
	"netfusion/nn"
	"netfusion/tensor"
)

func pairsCommand() command {
	return command{
		name:  "pairs",
		args:  "[flags] -data FOLDER -encoder FILE -o FILE",
		brief: "make the training set of a fusion: captions, and the latents of the images that they describe",
		about: `  cinn pairs -data emoji -encoder encoder.safetensors -o emoji.pairs
  cinn train -pairs emoji.pairs -o flow.safetensors

-data holds emoji.json and emoji64.npz. -encoder computes the latents of all images; instead of it, -expert names a
folder with a latents.npz that holds those of some images.
`,
		setup: func(f *flag.FlagSet) action {
			p := new(pairer)
			f.StringVar(&p.data, "data", "", "`FOLDER` with the images and captions")
			f.StringVar(&p.encoder, "encoder", "", "the image encoder, an expert `FILE` or a pack with one")
			f.StringVar(&p.expert, "expert", "", "`FOLDER` with the latents, in place of -encoder")
			f.StringVar(&p.out, "o", "", "`FILE` to write")
			f.BoolVar(&p.force, "f", false, "replace FILE if it exists")
			f.IntVar(&p.workers, "workers", 0, "goroutines, `N`; 0 is one per processor; the result does not depend on it")
			return p.run
		},
	}
}

// pairer makes a training set as its flags say.
type pairer struct {
	data, encoder, expert, out string
	force                      bool
	workers                    int
}

func (p *pairer) run(ctx context.Context, s stdio, words []string) error {
	if len(words) > 0 || p.data == "" || (p.encoder == "") == (p.expert == "") || p.out == "" {
		return usagef("want -data, -encoder or -expert, and -o")
	}
	if p.workers < 0 || p.workers > maxWorkers {
		return usagef("-workers %d: want 0 to %d", p.workers, maxWorkers)
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
