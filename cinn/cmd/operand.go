package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // formats that pictures may come in
	_ "image/jpeg"
	_ "image/png"
	"os"
	"strings"

	"netfusion/cinn"
)

// operand is a picture on a command line: a prompt, which is drawn; @FILE, which is read; or @FILE=TEXT, which says what the file
// shows.
type operand struct {
	file string // of a picture; empty for one that is drawn
	text string // what it is drawn from, or shows
}

func parseOperand(word string) (operand, error) {
	rest, read := strings.CutPrefix(word, "@")
	if !read {
		return operand{text: word}, checkPrompt(word)
	}
	if rest == "" {
		return operand{}, usagef("%q: want @FILE or @FILE=TEXT", word)
	}
	if taken(rest) { // a name with "=" in it
		return operand{file: rest}, nil
	}
	file, text, said := strings.Cut(rest, "=")
	if said {
		if err := checkPrompt(text); err != nil {
			return operand{}, err
		}
	}
	return operand{file, text}, nil
}

func (p operand) String() string {
	switch {
	case p.file == "":
		return p.text
	case p.text == "":
		return p.file
	}
	return p.file + " (" + p.text + ")"
}

const operandHelp = `
A picture is a prompt, which is drawn; @FILE, a PNG, JPEG or GIF, which is read; or @FILE=TEXT, which says what the file shows. What
is read is shrunk (averaged) or enlarged (interpolated) to the pack's size, with white beside it if it isn't square, and on white
where it is transparent.
`

// maxPixels is the largest picture that is read: a file of a few bytes can claim any size.
const maxPixels = 1 << 26

// readPicture reads the picture at path, fit for the model.
func readPicture(m *cinn.Model, path string) (*image.NRGBA, error) {
	src, err := decodePicture(path)
	if err != nil {
		return nil, err
	}
	return m.Fit(src), nil
}

// decodePicture reads the picture at path as it is.
func decodePicture(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	config, _, err := image.DecodeConfig(f)
	if err != nil {
		return nil, named(path, err)
	}
	if config.Width < 1 || config.Height < 1 || config.Width > maxPixels/config.Height {
		return nil, fmt.Errorf("%s: %d × %d pixels are more than can be read, %d", path, config.Width, config.Height, maxPixels)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, named(path, err)
	}
	src, _, err := image.Decode(f)
	if err != nil {
		return nil, named(path, err)
	}
	return src, nil
}

// readCondition reads the picture at path for a source. One that is smaller than the model's by a whole number is repeated, not
// interpolated, so that it is still what it was when a source shrinks it.
func readCondition(m *cinn.Model, path string) (*image.NRGBA, error) {
	src, err := decodePicture(path)
	if err != nil {
		return nil, err
	}
	if n, size := m.Bounds().Dx(), src.Bounds().Size(); size.X == size.Y && n%size.X == 0 {
		return upscale(cinn.Fit(src, size), n/size.X), nil
	}
	return m.Fit(src), nil
}

// condition is what word says to the pack's source: text, or a picture @FILE where that reads pictures.
func (a *artist) condition(word string) (cinn.Condition, error) {
	switch a.model.Info().Kind {
	case cinn.Vector:
		v, err := a.ask(word)
		return cinn.Condition{Vector: v}, err
	case cinn.Picture, cinn.Layer:
		p, err := parseOperand(word)
		if err != nil {
			return cinn.Condition{}, err
		}
		if p.file == "" {
			return cinn.Condition{}, fmt.Errorf("this pack reads pictures: want @FILE, not %q", word)
		}
		img, err := readCondition(a.model, p.file)
		return cinn.Condition{Image: img}, err
	}
	return cinn.Condition{Prompt: word}, checkPrompt(word)
}

// ask asks the program what word means: text, or a picture @FILE.
func (a *artist) ask(word string) ([]float32, error) {
	if a.program == nil {
		return nil, errors.New("this pack has no source of its own: want -program COMMAND, which reads for it")
	}
	p, err := parseOperand(word)
	if err != nil {
		return nil, err
	}
	v, err := askProgram(context.Background(), a.program, p.text, p.file)
	if n := a.model.Info().Condition; err == nil && len(v) != n {
		err = fmt.Errorf("the program gives %d numbers, the pack wants %d", len(v), n)
	}
	return v, err
}

// found is an operand's picture: its latent, and what it shows.
type found struct {
	subject cinn.Subject
	shows   cinn.Condition
	picture *image.NRGBA // as it was read or drawn
}

// find draws or reads p. sample is the number of the draw.
func (o *operation) find(ctx context.Context, a *artist, p operand, sample uint64) (*found, error) {
	f := new(found)
	if p.file == "" {
		c, err := a.condition(p.text)
		if err != nil {
			return nil, err
		}
		f.shows = c
		r := cinn.Request{Prompt: c.Prompt, Image: c.Image, Vector: c.Vector, Seed: o.seed, Sample: sample, Temperature: o.temperature, Guidance: o.guidance}
		f.subject = cinn.Subject{Draw: &r}
		f.picture = image.NewNRGBA(a.model.Bounds())
		return f, a.Generate(ctx, f.picture, r)
	}
	var err error
	if f.picture, err = readPicture(a.model, p.file); err != nil {
		return nil, err
	}
	f.shows = a.shows(p, f.picture)
	x := make([]float32, a.model.Info().Latent)
	f.subject = cinn.Subject{Latent: x}
	if o.refine > 0 {
		_, err := a.Invert(ctx, x, cinn.Inversion{Image: f.picture, Shows: f.shows, Steps: o.refine})
		return f, err
	}
	return f, a.Latent(ctx, x, cinn.Subject{Image: f.picture}, f.shows)
}

// shows is what the picture of p, which was read, is said to show: to a source of pictures, itself.
func (a *artist) shows(p operand, picture *image.NRGBA) cinn.Condition {
	switch a.model.Info().Kind {
	case cinn.Picture, cinn.Layer:
		return cinn.Condition{Image: picture}
	}
	return cinn.Condition{Prompt: p.text}
}
