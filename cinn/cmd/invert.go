package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"io"
	"slices"
	"time"

	"netfusion/cinn"
)

func invertCommand() command {
	return command{
		name:  "invert",
		args:  "[flags] FILE…",
		brief: "find the latents of pictures, and redraw them",
		about: `  cinn invert face.png                     the picture, the encoder's redrawing of it, and a better one
  cinn invert -steps 500 a.png b.png       a row for each picture
  cinn invert -json "cat.png=a cat"        the latents, as JSON; FILE=TEXT says what it shows

The encoder's latent is refined by gradient descent through the generator; in the end, two figures say how alike the pictures were
and are (PSNR in dB). cinn edit, exemplar and interpolate do the same with -refine N before they begin. More steps redraw the
picture better, but from latents that the flow knows less of: edits are no better for it.
`,
		setup: func(f *flag.FlagSet) action {
			v := new(invertRun)
			f.IntVar(&v.steps, "steps", 100, "`N` of gradient descent (default 100)")
			v.name = f.Name()
			v.sheetFlags.declare(f)
			v.modelFlags.declare(f)
			return v.run
		},
	}
}

// invertRun inverts as its flags say.
type invertRun struct {
	operation
	steps int
}

const maxRefine = 10000

// inversion is one object of what -json prints.
type inversion struct {
	Picture string    `json:"picture"`
	Before  float64   `json:"psnr_before"`
	After   float64   `json:"psnr_after"`
	Latent  []float32 `json:"latent"`
}

func (v *invertRun) run(ctx context.Context, s stdio, words []string) error {
	if len(words) == 0 {
		return usagef("no picture")
	}
	if v.steps < 1 || v.steps > maxRefine {
		return usagef("-steps %d: want 1 to %d", v.steps, maxRefine)
	}
	if v.json && v.file != "" {
		return usagef("-json prints latents: it makes no sheet, for -o")
	}
	var pictures []operand
	for _, word := range words {
		p, err := parseOperand("@" + word)
		if err != nil {
			return err
		}
		pictures = append(pictures, p)
	}
	a, err := v.begin(s)
	if err != nil {
		return err
	}
	defer a.Close()
	var sheet []*image.NRGBA
	var found []inversion
	for _, p := range pictures {
		row, i, err := v.invert(ctx, a, p)
		if err != nil {
			return err
		}
		sheet, found = append(sheet, row...), append(found, i)
	}
	if v.json {
		lines := json.NewEncoder(s.out)
		for _, i := range found {
			if err := lines.Encode(i); err != nil {
				return err
			}
		}
		return nil
	}
	return v.deliverInversions(s, words, found, sheet)
}

// invert is the row of p: itself, from the encoder's latent, and from the one found.
func (v *invertRun) invert(ctx context.Context, a *artist, p operand) (row []*image.NRGBA, i inversion, err error) {
	i.Picture = p.String()
	picture, err := readPicture(a.model, p.file)
	if err != nil {
		return nil, i, err
	}
	row = append(row, picture)
	shows := a.shows(p, picture)
	i.Latent = make([]float32, a.model.Info().Latent)
	redraw := func() error {
		dst := image.NewNRGBA(a.model.Bounds())
		row = append(row, dst)
		return a.Render(ctx, dst, i.Latent)
	}
	if a.model.Info().Encoder {
		if err := a.Latent(ctx, i.Latent, cinn.Subject{Image: picture}, shows); err != nil {
			return nil, i, err
		}
		if err := redraw(); err != nil {
			return nil, i, err
		}
	} else {
		row = append(row, nil) // there is no encoder's redrawing
	}
	result, err := a.Invert(ctx, i.Latent, cinn.Inversion{Image: picture, Shows: shows, Steps: v.steps})
	if err != nil {
		return nil, i, err
	}
	i.Before, i.After = result.Before, result.After
	return row, i, redraw()
}

func (v *invertRun) deliverInversions(s stdio, words []string, found []inversion, sheet []*image.NRGBA) error {
	const columns = 3
	flat := arrange(sheet, columns)
	large, err := v.enlarged(flat)
	if err != nil {
		return err
	}
	spent := time.Since(v.start)
	notes := slices.DeleteFunc(v.notes(words), func(n note) bool { return n.keyword == "seed" || n.keyword == "temperature" || n.keyword == "guidance" })
	file, err := v.save(s, slug(v.name+" "+words[0]), ".png", func(w io.Writer) error { return encodePNG(w, large, notes) })
	if err != nil {
		return err
	}
	if t := s.terminal(); t != nil {
		t.show([]*image.NRGBA{flat})
	}
	out := v.remarks(s)
	for _, i := range found {
		fmt.Fprintf(out, "%s: %.1f dB, then %.1f dB\n", i.Picture, i.Before, i.After)
	}
	if file != "-" {
		fmt.Fprintf(out, "%s  ", file)
	}
	fmt.Fprintf(out, "%s, %s\n", counted(len(found)), milliseconds(spent))
	return nil
}
