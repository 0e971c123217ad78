package main

import (
	"context"
	"flag"
	"fmt"

	"netfusion/cinn/pairs"
)

func pairsCommand() command {
	return command{
		name:  "pairs",
		args:  "[flags] -data FOLDER -expert FOLDER -o FILE",
		brief: "make the training set of a fusion: captions, and the latents of the images that they describe",
		about: `  cinn pairs -data emoji -expert biggan-emoji -o emoji.pairs
  cinn train -pairs emoji.pairs -o flow.safetensors

-data holds emoji.json and emoji64.npz, -expert the latents.npz that its encoder gave to these images.
`,
		setup: func(f *flag.FlagSet) action {
			data := f.String("data", "", "`FOLDER` with the images and captions")
			expert := f.String("expert", "", "`FOLDER` with the latents")
			out := f.String("o", "", "`FILE` to write")
			force := f.Bool("f", false, "replace FILE if it exists")
			return func(_ context.Context, s stdio, words []string) error {
				if len(words) > 0 || *data == "" || *expert == "" || *out == "" {
					return usagef("want -data, -expert and -o")
				}
				if taken(*out) && !*force {
					return existsError(*out)
				}
				set, err := pairs.Import(*data, *expert)
				if err != nil {
					return err
				}
				if err := set.Write(*out); err != nil {
					return named(*out, err)
				}
				fmt.Fprintf(s.out, "%s: %d images of %d concepts, %d captions; %d images to train, %d to validate, %d to test\n", *out,
					len(set.Images), len(set.Concepts), len(set.Captions()),
					len(set.Rows(pairs.Train)), len(set.Rows(pairs.Validation)), len(set.Rows(pairs.Test)))
				return nil
			}
		},
	}
}
