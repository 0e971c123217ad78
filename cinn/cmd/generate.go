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
			f.StringVar(&g.file, "o", "", "`FILE` for the sheet; - is standard output (default from the prompt)")
			f.BoolVar(&g.force, "f", false, "replace the file that -o names")
			f.IntVar(&g.scale, "scale", 0, "enlarge each pixel `K` times; 0 makes a sheet of about 600 pixels")
			f.BoolVar(&g.json, "json", false, "report on standard output as one JSON object")
			g.modelFlags.declare(f)
			return g.run
		},
	}
}

// generator draws prompts as its flags say.
type generator struct {
	modelFlags
	n                     int
	seed                  uint64
	temperature, guidance float32
	snap                  bool
	file                  string
	force                 bool
	scale                 int
	json                  bool
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

const maxPictures, maxScale = 1024, 64

func (g *generator) check() error {
	switch {
	case g.n < 1 || g.n > maxPictures:
		return usagef("-n %d: want 1 to %d", g.n, maxPictures)
	case g.scale < 0 || g.scale > maxScale:
		return usagef("-scale %d: want 0 to %d", g.scale, maxScale)
	case g.json && g.file == "-":
		return usagef("-json and -o - both want standard output")
	case g.force && (g.file == "" || g.file == "-"):
		return usagef("-f needs -o FILE")
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
	if g.file == "-" && s.toTerminal() {
		return usagef("-o - would write a PNG file into the terminal")
	}
	prompt := strings.Join(words, " ")
	if err := checkPrompt(prompt); err != nil {
		return err
	}
	if g.file != "" && g.file != "-" && !g.force && taken(g.file) {
		return existsError(g.file) // before the work, not after it
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
	cinn.Request // of sample 0, with the pack's defaults filled in
	pictures     []*image.NRGBA
	precision    cinn.Precision
	spent        cinn.Timings // of all pictures together
}

func (g *generator) draw(ctx context.Context, a *artist, prompt string) (*drawing, error) {
	info := a.model.Info()
	d := &drawing{Request: cinn.Request{Prompt: prompt, Seed: g.seed, Temperature: g.temperature, Guidance: g.guidance, Snap: g.snap}, precision: g.precision}
	if d.Temperature == 0 {
		d.Temperature = info.Temperature
	}
	if d.Guidance == 0 {
		d.Guidance = info.Guidance
	}
	for i := range g.n {
		r := d.Request
		r.Sample = uint64(i)
		picture := image.NewNRGBA(info.Bounds)
		if err := a.Generate(ctx, picture, r); err != nil {
			return nil, err
		}
		d.pictures = append(d.pictures, picture)
		t := a.Timings()
		d.spent.Encode += t.Encode
		d.spent.Flow += t.Flow
		d.spent.Decode += t.Decode
	}
	return d, nil
}

// deliver saves the drawing and tells where; in a terminal it shows it, too.
func (g *generator) deliver(s stdio, d *drawing) error {
	sheet, err := g.sheet(d)
	if err != nil {
		return err
	}
	remarks := io.Writer(s.out)
	file := g.file
	if file == "-" {
		remarks = s.err
		if err := encodePNG(s.out, sheet, d.notes()); err != nil {
			return err
		}
	} else if file, err = g.save(sheet, d); err != nil {
		return err
	}
	if g.json {
		return json.NewEncoder(s.out).Encode(d.report(file, sheet.Rect.Size()))
	}
	if t := s.terminal(); t != nil {
		t.show(d.pictures)
	}
	if file != "-" {
		fmt.Fprintf(remarks, "%s  ", file)
	}
	fmt.Fprintln(remarks, d.summary())
	return nil
}

// sheet is the picture that goes into the file.
func (g *generator) sheet(d *drawing) (*image.NRGBA, error) {
	flat := layout(d.pictures)
	k := g.scale
	if k == 0 {
		k = max(1, (sheetWidth+flat.Rect.Dx()/2)/flat.Rect.Dx())
	}
	const most = 1 << 28 // pixels, 1 GiB
	if size := flat.Rect.Size(); size.X*k*size.Y*k > most {
		return nil, fmt.Errorf("a sheet of %d × %d pixels is too large; take a smaller -scale or -n", size.X*k, size.Y*k)
	}
	return upscale(flat, k), nil
}

// save writes the sheet where -o says, or to a new file named for the prompt, and returns the file's name.
func (g *generator) save(sheet image.Image, d *drawing) (string, error) {
	fill := func(w io.Writer) error { return encodePNG(w, sheet, d.notes()) }
	if g.file == "" {
		return writeFree(slug(d.Prompt), ".png", fill)
	}
	return g.file, writeFile(g.file, g.force, fill)
}

func (d *drawing) summary() string {
	pictures := "1 picture"
	if n := len(d.pictures); n > 1 {
		pictures = fmt.Sprintf("%d pictures", n)
	}
	return fmt.Sprintf("%s, seed %d, encode %s, flow %s, decode %s",
		pictures, d.Seed, milliseconds(d.spent.Encode), milliseconds(d.spent.Flow), milliseconds(d.spent.Decode))
}

func milliseconds(t time.Duration) string { return fmt.Sprintf("%.1f ms", 1e3*t.Seconds()) }

// notes say inside the PNG file how to draw it again.
func (d *drawing) notes() []note {
	number := func(x float32) string { return strconv.FormatFloat(float64(x), 'g', -1, 32) }
	return []note{
		{"Description", d.Prompt},
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
		Prompt: d.Prompt, Pictures: len(d.pictures), Seed: d.Seed,
		Temperature: d.Temperature, Guidance: d.Guidance, Snap: d.Snap, Precision: d.precision.String(),
		EncodeMS: 1e3 * d.spent.Encode.Seconds(), FlowMS: 1e3 * d.spent.Flow.Seconds(), DecodeMS: 1e3 * d.spent.Decode.Seconds(),
	}
}

// taken tells whether path is a file that writing would replace: devices and pipes are not.
func taken(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (info.Mode().IsRegular() || info.IsDir())
}
