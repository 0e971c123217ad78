package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"io"
	"strconv"
	"strings"
	"time"
)

// operation is what the commands that begin with pictures have in common.
type operation struct {
	modelFlags
	sheetFlags
	name                  string // of the command
	seed                  uint64
	temperature, guidance float32
	refine                int // steps of gradient descent for pictures that are read
	start                 time.Time
}

func (o *operation) declare(f *flag.FlagSet) {
	o.name = f.Name()
	f.Uint64Var(&o.seed, "seed", 1, "`NUMBER` of the noise of what is drawn (default 1)")
	f.Var((*scalar)(&o.temperature), "temperature", "scale `T` of the noise of what is drawn; 0 is the pack's default")
	f.Var((*scalar)(&o.guidance), "guidance", "pull `G` of the texts, 1 is plain; 0 is the pack's default")
	f.IntVar(&o.refine, "refine", 0, "improve the latents of pictures that are read by `N` steps of gradient descent (see cinn help invert)")
	o.sheetFlags.declare(f)
	o.modelFlags.declare(f)
}

// begin checks the flags, and opens the fusion.
func (o *operation) begin(s stdio) (*artist, error) {
	if err := o.sheetFlags.check(); err != nil {
		return nil, err
	}
	if err := o.modelFlags.check(); err != nil {
		return nil, err
	}
	if o.refine < 0 || o.refine > maxRefine {
		return nil, usagef("-refine %d: want 0 to %d", o.refine, maxRefine)
	}
	if err := o.free(s); err != nil {
		return nil, err
	}
	a, err := o.open()
	if err != nil {
		return nil, err
	}
	info := a.model.Info()
	if o.temperature == 0 {
		o.temperature = info.Temperature
	}
	if o.guidance == 0 {
		o.guidance = info.Guidance
	}
	o.start = time.Now()
	return a, nil
}

// operationReport is what -json prints.
type operationReport struct {
	Command     string   `json:"command"`
	File        string   `json:"file"`
	Width       int      `json:"width"`
	Height      int      `json:"height"`
	Words       []string `json:"words"`
	Pictures    int      `json:"pictures"`
	Seed        uint64   `json:"seed"`
	Temperature float32  `json:"temperature"`
	Guidance    float32  `json:"guidance"`
	Refine      int      `json:"refine"`
	Precision   string   `json:"precision"`
	MS          float64  `json:"ms"`
}

// notes say inside a PNG file how to make it again.
func (o *operation) notes(words []string) []note {
	number := func(x float32) string { return strconv.FormatFloat(float64(x), 'g', -1, 32) }
	return []note{
		{"Description", o.name + ": " + strings.Join(words, " → ")},
		{"Software", "cinn " + version()},
		{"seed", strconv.FormatUint(o.seed, 10)},
		{"temperature", number(o.temperature)},
		{"guidance", number(o.guidance)},
		{"refine", strconv.Itoa(o.refine)},
		{"precision", o.precision.String()},
	}
}

// deliver saves pictures on a sheet, in rows of so many, and tells where; in a terminal it shows it, too.
func (o *operation) deliver(s stdio, words []string, pictures []*image.NRGBA, columns int) error {
	sheet, err := o.enlarged(arrange(pictures, columns))
	if err != nil {
		return err
	}
	ext, fill := ".png", func(w io.Writer) error { return encodePNG(w, sheet, o.notes(words)) }
	if err := o.deliverFile(s, words, len(pictures), sheet.Rect.Size(), ext, fill); err != nil || o.json {
		return err
	}
	if t := s.terminal(); t != nil {
		t.show([]*image.NRGBA{arrange(pictures, columns)})
	}
	return nil
}

// deliverFile saves what fill writes, and tells where.
func (o *operation) deliverFile(s stdio, words []string, pictures int, size image.Point, ext string, fill func(io.Writer) error) error {
	spent := time.Since(o.start)
	file, err := o.save(s, slug(o.name+" "+strings.Join(words, " ")), ext, fill)
	if err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(s.out).Encode(operationReport{
			Command: o.name, File: file, Width: size.X, Height: size.Y, Words: words, Pictures: pictures,
			Seed: o.seed, Temperature: o.temperature, Guidance: o.guidance, Refine: o.refine, Precision: o.precision.String(), MS: 1e3 * spent.Seconds(),
		})
	}
	if file != "-" {
		fmt.Fprintf(s.out, "%s  ", file)
	}
	fmt.Fprintf(o.remarks(s), "%s, seed %d, %s\n", counted(pictures), o.seed, milliseconds(spent))
	return nil
}
