package main

import (
	"context"
	"flag"
	"image"

	"netfusion/cinn"
)

func exemplarCommand() command {
	return command{
		name:  "exemplar",
		args:  "[flags] PICTURE TEXT…",
		brief: "draw texts in the style of a picture",
		about: `  cinn exemplar "red heart" "cat" "train"   cats and trains as four red hearts were drawn
  cinn exemplar "@drawing.png=cat" "dog"    a dog in the style of a picture of yours

The style is the picture's residual, all that its text leaves open; what the result shows, its class too, comes from the text
alone. The first row shows the pictures that give their style.
` + operandHelp,
		setup: func(f *flag.FlagSet) action {
			e := new(editRun)
			f.IntVar(&e.n, "n", 0, "`N` columns (default 4); 1, the default for a file, is a single row")
			e.operation.declare(f)
			return e.runExemplar
		},
	}
}

func (e *editRun) runExemplar(ctx context.Context, s stdio, words []string) error {
	return e.rows(ctx, s, words, func(ctx context.Context, a *artist, dst *image.NRGBA, f *found, content cinn.Condition, sample uint64) error {
		return a.Exemplar(ctx, dst, cinn.Exemplar{
			Style: f.subject, StyleShows: f.shows, Content: content, Guidance: e.guidance, Temperature: e.temperature, Seed: e.seed, Sample: sample,
		})
	})
}
