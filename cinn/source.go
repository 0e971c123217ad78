package cinn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"netfusion/experts/autoencoder"
	"netfusion/experts/bert"
	"netfusion/experts/label"
	"netfusion/experts/picture"
	"netfusion/nn"
	"netfusion/tensor"
)

// The kinds of source that a pack may have, by what its metadata "source.config" says under "kind"; that of a text encoder says
// nothing.
const (
	Text    = "text"                // a Condition's Prompt, through a BERT encoder
	Label   = label.Kind            // its Prompt, a list of labels
	Picture = picture.Kind          // its Image, through a fixed transform
	Layer   = autoencoder.LayerKind // its Image, through an image encoder up to one of its layers
	Vector  = "vector"              // its Vector, as it is: the expert is somewhere else
)

// ErrSource is returned for a Condition of a kind that the pack's source does not read.
var ErrSource = errors.New("cinn: not what the pack's source reads")

// source is the expert that conditions go through. It is shared.
type source interface {
	width() int
	check(c Condition) error // of a Condition without Vector
	open(dev *tensor.Device) (encoder, error)
}

// encoder is a source and one caller's memory.
type encoder interface {
	encode(ctx context.Context, dst []float32, c Condition) error
}

// loadSource loads the source expert of a pack.
func loadSource(s nn.Source, config []byte, p Precision) (kind string, _ source, _ error) {
	var about struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(config, &about); err != nil {
		return "", nil, fmt.Errorf("%s: %w", s.Origin(), err)
	}
	switch about.Kind {
	case "", Text:
		m, err := bert.LoadExpert(s, config, p)
		return Text, textSource{m}, err
	case Label:
		c, err := label.ParseConfig(s.Origin(), config)
		return Label, labelSource{c}, err
	case Picture:
		c, err := picture.ParseConfig(s.Origin(), config)
		return Picture, pictureSource{c}, err
	case Layer:
		l, err := autoencoder.LoadLayer(s, config)
		return Layer, layerSource{l}, err
	case Vector:
		var v VectorConfig
		err := json.Unmarshal(config, &v)
		return Vector, v, err
	}
	return "", nil, fmt.Errorf("%s: a source of kind %q, want %s, %s, %s, %s or %s", s.Origin(), about.Kind, Text, Label, Picture, Layer, Vector)
}

// checkPrompt tells whether c holds a prompt.
func checkPrompt(c Condition) error {
	switch {
	case c.Image != nil:
		return fmt.Errorf("%w: it reads text, no images", ErrSource)
	case strings.TrimSpace(c.Prompt) == "":
		return ErrPrompt
	case !utf8.ValidString(c.Prompt):
		return ErrEncoding
	}
	return nil
}

type textSource struct{ *bert.Model }

func (t textSource) width() int              { return t.Width() }
func (t textSource) check(c Condition) error { return checkPrompt(c) }

func (t textSource) open(dev *tensor.Device) (encoder, error) {
	s, err := t.NewSession(dev, bert.SessionOptions{Texts: 1})
	return textEncoder{s}, err
}

type textEncoder struct{ *bert.Session }

func (t textEncoder) encode(ctx context.Context, dst []float32, c Condition) error {
	return t.Embed(ctx, dst, c.Prompt)
}

type labelSource struct{ label.Config }

func (l labelSource) width() int                               { return l.Width() }
func (l labelSource) check(c Condition) error                  { return checkPrompt(c) }
func (l labelSource) open(dev *tensor.Device) (encoder, error) { return l, nil }

func (l labelSource) encode(ctx context.Context, dst []float32, c Condition) error {
	if err := l.Encode(dst, c.Prompt); err != nil {
		return err
	}
	return ctx.Err()
}

func checkImage(c Condition, check func() error) error {
	if c.Image == nil {
		return fmt.Errorf("%w: it reads images, no text", ErrSource)
	}
	return check()
}

type pictureSource struct{ picture.Config }

func (p pictureSource) width() int { return p.Width() }

func (p pictureSource) check(c Condition) error {
	return checkImage(c, func() error { return p.Check(c.Image) })
}

func (p pictureSource) open(*tensor.Device) (encoder, error) {
	return pictureEncoder{p.NewSession()}, nil
}

type pictureEncoder struct{ *picture.Session }

func (p pictureEncoder) encode(ctx context.Context, dst []float32, c Condition) error {
	if err := p.Encode(dst, c.Image); err != nil {
		return err
	}
	return ctx.Err()
}

type layerSource struct{ *autoencoder.Layer }

func (l layerSource) width() int { return l.Width() }

func (l layerSource) check(c Condition) error {
	return checkImage(c, func() error { return l.Check(c.Image) })
}

func (l layerSource) open(dev *tensor.Device) (encoder, error) {
	return layerEncoder{l.NewSession(dev)}, nil
}

type layerEncoder struct{ *autoencoder.LayerSession }

func (l layerEncoder) encode(ctx context.Context, dst []float32, c Condition) error {
	if err := l.Encode(dst, c.Image); err != nil {
		return err
	}
	return ctx.Err()
}

// VectorConfig is the "source.config" of a pack whose source is not in it.
type VectorConfig struct {
	Kind      string `json:"kind"` // Vector
	Dimension int    `json:"dimension"`
}

func (v VectorConfig) width() int                               { return v.Dimension }
func (v VectorConfig) open(dev *tensor.Device) (encoder, error) { return v, nil }

func (v VectorConfig) check(Condition) error {
	return fmt.Errorf("%w: it is a program of somebody's, which gives vectors of %d dimensions", ErrSource, v.Dimension)
}

func (v VectorConfig) encode(context.Context, []float32, Condition) error { return ErrSource }
