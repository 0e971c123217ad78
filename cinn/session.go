package cinn

import (
	"context"
	"fmt"
	"image"
	"math"
	"time"

	"netfusion/cinn/flow"
	"netfusion/experts/biggan"
	"netfusion/tensor"
)

// Bounds of a Request: beyond them there is only noise.
const (
	maxTemperature = 4
	maxGuidance    = 20
)

// Session is one caller's buffers and workers. It serves one call at a time and allocates nothing in it.
type Session struct {
	model  *Model
	device *tensor.Device
	source encoder
	flow   *flow.Session
	target *biggan.Session
	images *imageEncoder // nil until Encode is called
	gpu    *gpuSession   // what embeds and draws, or nil: then the three above do

	operations *operations // nil until the first of them

	text      tensor.Tensor // [1][Condition], what the source made of the condition
	latent    tensor.Tensor // [1][Latent]
	z, class  tensor.Tensor // the two parts of latent, [1][…]
	prompt    string        // whose embedding text is, if hasPrompt
	hasPrompt bool
	timings   Timings
	closed    bool
}

func (s *Session) allocate() (err error) {
	m := s.model
	if s.source, err = m.source.open(s.device); err != nil {
		return err
	}
	if s.flow, err = m.flow.NewSession(s.device, 1); err != nil {
		return err
	}
	s.target = m.target.NewSession(s.device, 1)
	n := m.target.ZDim
	s.text, s.latent = tensor.New(1, m.source.width()), tensor.New(1, n+m.target.ClassDim)
	s.z, s.class = tensor.Of(1, n, s.latent.Data[:n]), tensor.Of(1, m.target.ClassDim, s.latent.Data[n:])
	return nil
}

// Generate draws r into dst, whose bounds must have the size of Model.Bounds. It reads ctx between the layers of the
// encoder and between the parts, and on a GPU before it begins; when it returns an error, dst is as it was.
func (s *Session) Generate(ctx context.Context, dst *image.NRGBA, r Request) error {
	one := [1]*image.NRGBA{dst}
	return s.GenerateAll(ctx, one[:], r)
}

// GenerateAll draws r into dst[0], and the samples of r that follow, r.Sample+1 and so on, into the others, as so many calls of Generate
// would; a GPU draws several at a time. What was drawn before an error stays, and Timings are those of all.
func (s *Session) GenerateAll(ctx context.Context, dst []*image.NRGBA, r Request) error {
	for _, p := range dst {
		if p == nil || p.Rect.Size() != s.model.Bounds().Size() {
			return fmt.Errorf("cinn: the image must be %v pixels", s.model.Bounds().Size())
		}
	}
	d, err := s.draw(r)
	if err != nil {
		return err
	}
	s.timings = Timings{}
	if s.gpu != nil {
		return s.generateOnGPU(ctx, dst, r.condition(), d)
	}
	start := time.Now()
	if err := s.encode(ctx, r.condition()); err != nil {
		return err
	}
	s.timings.Encode = time.Since(start)
	for _, p := range dst {
		if err := s.generate(ctx, p, d); err != nil {
			return err
		}
		d.Sample++
	}
	return nil
}

// generate draws one sample under the condition in s.text.
func (s *Session) generate(ctx context.Context, dst *image.NRGBA, d flow.Draw) error {
	encoded := time.Now()
	s.flow.Sample(s.latent, s.text, d)
	if d.Snap && s.model.flow.Config.Class == 0 {
		s.snap()
	}
	sampled := time.Now()
	if err := ctx.Err(); err != nil {
		return err
	}
	pixels, err := s.target.Generate(s.z, s.class, biggan.Truncation{Value: s.model.about.Truncation})
	if err != nil {
		return err
	}
	biggan.Draw(dst, pixels.Data)
	s.timings.Flow += sampled.Sub(encoded)
	s.timings.Decode += time.Since(sampled)
	return nil
}

// draw checks r and fills in the pack's defaults.
func (s *Session) draw(r Request) (flow.Draw, error) {
	if err := s.usable(); err != nil {
		return flow.Draw{}, err
	}
	if err := s.model.check(r.condition()); err != nil {
		return flow.Draw{}, err
	}
	if r.Temperature == 0 {
		r.Temperature = s.model.about.Temperature
	}
	if r.Guidance == 0 {
		r.Guidance = s.model.about.Guidance
	}
	if !(r.Temperature > 0 && r.Temperature <= maxTemperature) {
		return flow.Draw{}, fmt.Errorf("cinn: temperature %v, want above 0 and at most %v", r.Temperature, maxTemperature)
	}
	if !(r.Guidance > 0 && r.Guidance <= maxGuidance) {
		return flow.Draw{}, fmt.Errorf("cinn: guidance %v, want above 0 and at most %v", r.Guidance, maxGuidance)
	}
	return flow.Draw{Seed: r.Seed, Sample: r.Sample, Temperature: r.Temperature, Guidance: r.Guidance, Snap: r.Snap}, nil
}

// snap moves the class part of the latent to the nearest class embedding, for a flow that knows no classes: one with a
// class head has picked one already.
func (s *Session) snap() {
	copy(s.class.Data, s.model.target.Class(s.nearestClass(s.class.Data)))
}

// nearestClass is the class whose embedding is nearest to e [ClassDim].
func (s *Session) nearestClass(e []float32) int {
	best, least := 0, math.Inf(1)
	for k := range s.model.target.Classes {
		var d float64
		for i, v := range s.model.target.Class(k) {
			x := float64(e[i] - v)
			d += float64(x * x)
		}
		if d < least {
			best, least = k, d
		}
	}
	return best
}

// Embed writes the embedding of text, as the flow is conditioned on it, to dst [Info.Condition].
func (s *Session) Embed(ctx context.Context, dst []float32, text string) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.model.kind != Text {
		return fmt.Errorf("%w: it embeds no text", ErrSource)
	}
	if s.gpu != nil {
		return s.embedOnGPU(ctx, dst, text)
	}
	return s.source.encode(ctx, dst, Condition{Prompt: text})
}

// Timings are those of the last Generate.
func (s *Session) Timings() Timings { return s.timings }

// usable tells why s cannot be called, or nil.
func (s *Session) usable() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.gpu != nil:
		return s.gpu.dead()
	}
	return nil
}

// openFlow opens the flow for so many rows at a time, where this Session computes.
func (s *Session) openFlow(rows int) (flowRows, error) {
	if s.gpu != nil {
		return s.gpu.openFlow(rows)
	}
	return s.model.flow.NewSession(s.device, rows)
}

// Close ends the Session's workers and gives back its memory.
func (s *Session) Close() error {
	if s.closed {
		return ErrClosed
	}
	s.closed = true
	s.device.Close()
	if s.gpu != nil {
		return s.gpu.close()
	}
	return nil
}
