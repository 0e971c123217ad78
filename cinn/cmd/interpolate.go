package main

import (
	"context"
	"flag"
	"image"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"netfusion/cinn"
)

func interpolateCommand() command {
	return command{
		name:  "interpolate",
		args:  "[flags] PICTURE PICTURE…",
		brief: "lead from one picture to another",
		about: `  cinn interpolate "sad face" "happy face"            a sheet of 9 steps
  cinn interpolate cat dog horse -o ride.gif          an animation, over the dog
  cinn interpolate @a.png=cat @b.png=dog -o c.apng    between pictures of yours, in true colours

The residuals turn into each other at constant speed (slerp), the conditions mix linearly. -o FILE.gif (256 colours for all frames
together) and FILE.apng (all colours) make animations, which -bounce leads back, too; anything else is a sheet in a PNG file.
` + operandHelp,
		setup: func(f *flag.FlagSet) action {
			p := new(interpolateRun)
			f.IntVar(&p.frames, "frames", 0, "`N` pictures from each one to the next, both included (default 9, or 25 in an animation)")
			f.IntVar(&p.rate, "fps", 12, "`N` frames of an animation a second")
			f.BoolVar(&p.bounce, "bounce", false, "an animation that leads back to its begin")
			p.operation.declare(f)
			return p.run
		},
	}
}

// interpolateRun interpolates as its flags say.
type interpolateRun struct {
	operation
	frames, rate int
	bounce       bool
}

const maxFrames = 1000

// animation tells which kind of animation -o asks for: ".gif", ".apng" or none.
func (p *interpolateRun) animation() string {
	switch ext := strings.ToLower(filepath.Ext(p.file)); ext {
	case ".gif", ".apng":
		return ext
	}
	return ""
}

func (p *interpolateRun) check() error {
	if p.frames == 0 {
		p.frames = 9
		if p.animation() != "" {
			p.frames = 25
		}
	}
	switch {
	case p.frames < 2 || p.frames > maxFrames:
		return usagef("-frames %d: want 2 to %d", p.frames, maxFrames)
	case p.rate < 1 || p.rate > 50:
		return usagef("-fps %d: want 1 to 50", p.rate)
	case p.bounce && p.animation() == "":
		return usagef("-bounce is for animations: want -o FILE.gif or FILE.apng")
	}
	return nil
}

func (p *interpolateRun) run(ctx context.Context, s stdio, words []string) error {
	if err := p.check(); err != nil {
		return err
	}
	if len(words) < 2 {
		return usagef("want two pictures or more")
	}
	var stops []operand
	for _, w := range words {
		stop, err := parseOperand(w)
		if err != nil {
			return err
		}
		stops = append(stops, stop)
	}
	a, err := p.begin(s)
	if err != nil {
		return err
	}
	defer a.Close()
	var frames []*image.NRGBA
	var last *found
	for i, stop := range stops {
		f, err := p.find(ctx, a, stop, uint64(i))
		if err != nil {
			return err
		}
		if i > 0 {
			leg := make([]*image.NRGBA, p.frames)
			for k := range leg {
				leg[k] = image.NewNRGBA(a.model.Bounds())
			}
			if err := a.Interpolate(ctx, leg, cinn.Interpolation{
				From: last.subject, FromShows: last.shows, To: f.subject, ToShows: f.shows, Guidance: p.guidance,
			}); err != nil {
				return err
			}
			if i > 1 && p.animation() != "" {
				leg = leg[1:] // its first frame is the last one of the leg before it
			}
			frames = append(frames, leg...)
		}
		last = f
	}
	if p.animation() == "" {
		return p.deliver(s, words, frames, p.frames)
	}
	if p.bounce {
		back := slices.Clone(frames[1 : len(frames)-1])
		slices.Reverse(back)
		frames = append(frames, back...)
	}
	for i, f := range frames {
		if frames[i], err = p.enlargedFrame(f); err != nil {
			return err
		}
	}
	encode := encodeGIF
	if p.animation() == ".apng" {
		encode = encodeAPNG
	}
	return p.deliverFile(s, words, len(frames), frames[0].Rect.Size(), p.animation(), func(w io.Writer) error { return encode(w, frames, p.rate) })
}

// enlargedFrame is a frame of an animation as it goes into the file: about 256 pixels wide, unless -scale says otherwise.
func (p *interpolateRun) enlargedFrame(f *image.NRGBA) (*image.NRGBA, error) {
	if p.scale == 0 {
		return upscale(f, max(1, 256/f.Rect.Dx())), nil
	}
	return p.enlarged(f)
}
