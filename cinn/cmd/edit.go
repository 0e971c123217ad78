package main

import (
	"context"
	"flag"
	"image"

	"netfusion/cinn"
)

func editCommand() command {
	return command{
		name:  "edit",
		args:  "[flags] PICTURE TEXT…",
		brief: "change what a picture shows, and keep the rest",
		about: `  cinn edit "sad face" "happy face"          four sad faces, and below them what they are when happy
  cinn edit "cat" "tiger" "lion"             a row for each text
  cinn edit "@me.png=sad face" "happy face"  a picture of yours; say what it shows

The picture's residual, all that its text leaves open, stays; the text is replaced; the class changes no more than it must. The
first row shows the pictures as they are. Of a file there is one, and its edits beside it, unless -n asks for more: they differ where
the class is drawn.
` + operandHelp,
		setup: func(f *flag.FlagSet) action {
			e := new(editRun)
			f.IntVar(&e.n, "n", 0, "`N` columns (default 4); 1, the default for a file, is a single row")
			e.operation.declare(f)
			return e.run
		},
	}
}

// editRun edits, or draws by an exemplar, as its flags say.
type editRun struct {
	operation
	n int
}

// columns is how many pictures stand side by side.
func (e *editRun) columns(p operand) (int, error) {
	switch {
	case e.n < 0 || e.n > maxPictures:
		return 0, usagef("-n %d: want 0 to %d", e.n, maxPictures)
	case e.n > 0:
		return e.n, nil
	case p.file != "":
		return 1, nil
	}
	return 4, nil
}

func (e *editRun) run(ctx context.Context, s stdio, words []string) error {
	return e.rows(ctx, s, words, func(ctx context.Context, a *artist, dst *image.NRGBA, f *found, to cinn.Condition, sample uint64) error {
		return a.Edit(ctx, dst, cinn.Edit{Subject: f.subject, From: f.shows, To: to, Guidance: e.guidance, Seed: e.seed, Sample: sample})
	})
}

// rows makes a sheet: a row of the picture that words begin with, and one for each of the other words, drawn by draw.
func (e *editRun) rows(ctx context.Context, s stdio, words []string,
	draw func(ctx context.Context, a *artist, dst *image.NRGBA, f *found, to cinn.Condition, sample uint64) error) error {
	if len(words) < 2 {
		return usagef("want a picture and a text")
	}
	p, err := parseOperand(words[0])
	if err != nil {
		return err
	}
	n, err := e.columns(p)
	if err != nil {
		return err
	}
	a, err := e.begin(s)
	if err != nil {
		return err
	}
	defer a.Close()
	var first []*found
	for i := range n {
		if p.file != "" && i > 0 {
			first = append(first, first[0])
			continue
		}
		f, err := e.find(ctx, a, p, uint64(i))
		if err != nil {
			return err
		}
		first = append(first, f)
	}
	var sheet []*image.NRGBA
	for _, f := range first {
		sheet = append(sheet, f.picture)
	}
	for _, word := range words[1:] {
		to, err := a.condition(word)
		if err != nil {
			return err
		}
		for i, f := range first {
			dst := image.NewNRGBA(a.model.Bounds())
			if err := draw(ctx, a, dst, f, to, uint64(i)); err != nil {
				return err
			}
			sheet = append(sheet, dst)
		}
	}
	if n == 1 {
		n = len(sheet) // a column would be no use of the page
	}
	return e.deliver(s, words, sheet, n)
}
