package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"netfusion/cinn"
)

func generateCommand() command {
	return command{
		name:  "generate",
		args:  "[flags] PROMPT…",
		brief: "draw a prompt (a bare prompt does the same)",
		about: `  cinn red heart                         eight hearts: red-heart.png, and in the terminal
  cinn -n 1 -seed 7 a cat                one picture, other noise
  cinn a cat -temperature 0.7            flags may stand anywhere; "--" ends them
  cinn -o - -n 1 -scale 1 sun >sun.png   the bare picture, to standard output
  cinn -model superres.pack @tiny.png    for a pack that reads pictures
  cinn                                   in a terminal: ask for prompts

The same seed draws the same pictures, whatever the number of workers; -precision bf16 or int8 draws nearly the same.
A file that exists is never replaced, unless -o names it and -f says so.
`,
		setup: func(f *flag.FlagSet) action {
			g := new(generator)
			f.IntVar(&g.n, "n", 8, "`N` pictures on a sheet (default 8)")
			f.Uint64Var(&g.seed, "seed", 1, "`NUMBER` of the noise (default 1)")
			f.Var((*scalar)(&g.temperature), "temperature", "scale `T` of the noise; 0 is the pack's default")
			f.Var((*scalar)(&g.guidance), "guidance", "pull `G` of the prompt, 1 is plain; 0 is the pack's default")
			f.BoolVar(&g.snap, "snap", false, "take the nearest class itself, without noise")
			g.sheetFlags.declare(f)
			g.modelFlags.declare(f)
			return g.run
		},
	}
}

// generator draws prompts as its flags say.
type generator struct {
	modelFlags
	sheetFlags
	n                     int
	seed                  uint64
	temperature, guidance float32
	snap                  bool
}

// scalar is a float32 flag that is finite and not negative.
type scalar float32

func (x *scalar) Set(text string) error {
	v, err := strconv.ParseFloat(text, 32)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return errors.New("want a number, 0 or more")
	}
	*x = scalar(v)
	return nil
}

func (x *scalar) String() string { return strconv.FormatFloat(float64(*x), 'g', -1, 32) }

const maxPictures = 1024

func (g *generator) check() error {
	if g.n < 1 || g.n > maxPictures {
		return usagef("-n %d: want 1 to %d", g.n, maxPictures)
	}
	if err := g.sheetFlags.check(); err != nil {
		return err
	}
	return g.modelFlags.check()
}

func (g *generator) run(ctx context.Context, s stdio, words []string) error {
	if err := g.check(); err != nil {
		return err
	}
	if len(words) == 0 {
		if in, out, ok := s.console(); ok && g.file == "" && !g.json {
			return g.converse(ctx, in, out)
		}
		return usagef("no prompt")
	}
	prompt := strings.Join(words, " ")
	if err := checkPrompt(prompt); err != nil {
		return err
	}
	if err := g.free(s); err != nil {
		return err
	}
	a, err := g.open()
	if err != nil {
		return err
	}
	defer a.Close()
	d, err := g.draw(ctx, a, prompt)
	if err != nil {
		return err
	}
	return g.deliver(s, d)
}

func checkPrompt(prompt string) error {
	if !utf8.ValidString(prompt) {
		return fmt.Errorf("the prompt %.40q is not valid UTF-8", prompt)
	}
	if strings.TrimSpace(prompt) == "" {
		return cinn.ErrPrompt
	}
	return nil
}

// drawing is what one prompt gave.
type drawing struct {
	cinn.Request        // of sample 0, with the pack's defaults filled in
	prompt       string // as it was given
	pictures     []*image.NRGBA
	precision    cinn.Precision
	spent        cinn.Timings // of all pictures together
}

func (g *generator) draw(ctx context.Context, a *artist, prompt string) (*drawing, error) {
	info := a.model.Info()
	c, err := a.condition(prompt)
	if err != nil {
		return nil, err
	}
	d := &drawing{prompt: prompt, precision: g.precision}
	d.Request = cinn.Request{Prompt: c.Prompt, Image: c.Image, Vector: c.Vector, Seed: g.seed, Temperature: g.temperature, Guidance: g.guidance, Snap: g.snap}
	if d.Temperature == 0 {
		d.Temperature = info.Temperature
	}
	if d.Guidance == 0 {
		d.Guidance = info.Guidance
	}
	for range g.n {
		d.pictures = append(d.pictures, image.NewNRGBA(info.Bounds))
	}
	if err := a.GenerateAll(ctx, d.pictures, d.Request); err != nil {
		return nil, err
	}
	d.spent = a.Timings()
	return d, nil
}

// deliver saves the drawing and tells where; in a terminal it shows it, too.
func (g *generator) deliver(s stdio, d *drawing) error {
	sheet, err := g.enlarged(layout(d.pictures))
	if err != nil {
		return err
	}
	file, err := g.saveSheet(s, sheet, d)
	if err != nil {
		return err
	}
	if g.json {
		return json.NewEncoder(s.out).Encode(d.report(file, sheet.Rect.Size()))
	}
	if t := s.terminal(); t != nil {
		t.show(d.pictures)
	}
	if file != "-" {
		fmt.Fprintf(s.out, "%s  ", file)
	}
	fmt.Fprintln(g.remarks(s), d.summary())
	return nil
}

func (g *generator) saveSheet(s stdio, sheet *image.NRGBA, d *drawing) (string, error) {
	return g.save(s, slug(d.prompt), ".png", func(w io.Writer) error { return encodePNG(w, sheet, d.notes()) })
}

func (d *drawing) summary() string {
	return fmt.Sprintf("%s, seed %d, encode %s, flow %s, decode %s",
		counted(len(d.pictures)), d.Seed, milliseconds(d.spent.Encode), milliseconds(d.spent.Flow), milliseconds(d.spent.Decode))
}

// counted is "1 picture", "2 pictures", ….
func counted(pictures int) string {
	if pictures == 1 {
		return "1 picture"
	}
	return fmt.Sprintf("%d pictures", pictures)
}

func milliseconds(t time.Duration) string { return fmt.Sprintf("%.1f ms", 1e3*t.Seconds()) }

// notes say inside the PNG file how to draw it again.
func (d *drawing) notes() []note {
	number := func(x float32) string { return strconv.FormatFloat(float64(x), 'g', -1, 32) }
	return []note{
		{"Description", d.prompt},
		{"Software", "cinn " + version()},
		{"seed", strconv.FormatUint(d.Seed, 10)},
		{"pictures", strconv.Itoa(len(d.pictures))},
		{"temperature", number(d.Temperature)},
		{"guidance", number(d.Guidance)},
		{"snap", strconv.FormatBool(d.Snap)},
		{"precision", d.precision.String()},
	}
}

// report is what -json prints.
type report struct {
	File        string  `json:"file"`
	Width       int     `json:"width"`
	Height      int     `json:"height"`
	Prompt      string  `json:"prompt"`
	Pictures    int     `json:"pictures"`
	Seed        uint64  `json:"seed"`
	Temperature float32 `json:"temperature"`
	Guidance    float32 `json:"guidance"`
	Snap        bool    `json:"snap"`
	Precision   string  `json:"precision"`
	EncodeMS    float64 `json:"encode_ms"`
	FlowMS      float64 `json:"flow_ms"`
	DecodeMS    float64 `json:"decode_ms"`
}

func (d *drawing) report(file string, size image.Point) report {
	return report{
		File: file, Width: size.X, Height: size.Y,
		Prompt: d.prompt, Pictures: len(d.pictures), Seed: d.Seed,
		Temperature: d.Temperature, Guidance: d.Guidance, Snap: d.Snap, Precision: d.precision.String(),
		EncodeMS: 1e3 * d.spent.Encode.Seconds(), FlowMS: 1e3 * d.spent.Flow.Seconds(), DecodeMS: 1e3 * d.spent.Decode.Seconds(),
	}
}

// taken tells whether path is a file that writing would replace: devices and pipes are not.
func taken(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (info.Mode().IsRegular() || info.IsDir())
}
