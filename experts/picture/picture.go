// Package picture is the simplest of experts: a fixed transform of a picture, which a flow turns into pictures that could have been
// transformed into it. No weights, and nothing to train.
//
//	shrink   Side×Side colours: what is left of the picture
//	mask     Side×Side colours, of which a square of Mask×Mask in the middle is grey
//	edges    Side×Side lengths of the gradient of brightness, after Sobel
//	grey     Side×Side brightnesses
package picture

import (
	"encoding/json"
	"fmt"
	"image"
	"math"

	"netfusion/nn"
)

// Kind is what a pack calls this expert.
const Kind = "picture"

// Transform is what is done to a picture.
type Transform string

const (
	Shrink Transform = "shrink"
	Mask   Transform = "mask"
	Edges  Transform = "edges"
	Grey   Transform = "grey"
)

// Config is all of an expert.
type Config struct {
	Kind      string    `json:"kind"`
	Transform Transform `json:"transform"`
	Side      int       `json:"side"`           // of the map that comes out
	Mask      int       `json:"mask,omitempty"` // side of the square that Mask hides
}

// maxSide bounds the maps.
const maxSide = 64

// ParseConfig reads a Config from JSON; name stands for it in errors.
func ParseConfig(name string, data []byte) (Config, error) {
	var c Config
	err := json.Unmarshal(data, &c)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return c, fmt.Errorf("%s: picture: %w", name, err)
	}
	return c, nil
}

func (c Config) check() error {
	switch {
	case c.Transform != Shrink && c.Transform != Mask && c.Transform != Edges && c.Transform != Grey:
		return fmt.Errorf("transform %q, want shrink, mask, edges or grey", c.Transform)
	case c.Side < 1 || c.Side > maxSide:
		return fmt.Errorf("side is %d, want 1 to %d", c.Side, maxSide)
	case (c.Transform == Mask) != (c.Mask > 0) || c.Mask < 0 || c.Mask > c.Side || (c.Side-c.Mask)%2 != 0:
		return fmt.Errorf("mask is %d, want a square in the middle of %d pixels, for the transform mask only", c.Mask, c.Side)
	}
	return nil
}

// Channels is how many numbers there are for a pixel.
func (c Config) Channels() int {
	if c.Transform == Edges || c.Transform == Grey {
		return 1
	}
	return 3
}

// Width is how many numbers come out, [Side][Side][Channels].
func (c Config) Width() int { return c.Side * c.Side * c.Channels() }

// Session is one caller's memory.
type Session struct {
	Config
	colours []float32 // [Side][Side][3] in [-1, 1]
	light   []float32 // [Side][Side]
}

// NewSession allocates all that its calls use.
func (c Config) NewSession() *Session {
	n := c.Side * c.Side
	return &Session{c, make([]float32, 3*n), make([]float32, n)}
}

// Encode transforms src, a square picture whose side is a multiple of Side, to dst [Width]. What is transparent is white.
func (s *Session) Encode(dst []float32, src *image.NRGBA) error {
	if err := s.Check(src); err != nil {
		return err
	}
	if len(dst) != s.Width() {
		return fmt.Errorf("picture: room for %d numbers, want %d", len(dst), s.Width())
	}
	nn.Colours(s.colours, src, s.Side)
	switch s.Transform {
	case Shrink:
		copy(dst, s.colours)
	case Mask:
		s.mask(dst)
	case Edges:
		s.brightness(s.light)
		s.edges(dst)
	case Grey:
		s.brightness(dst)
	}
	return nil
}

// Check tells whether Encode can read src.
func (c Config) Check(src *image.NRGBA) error {
	if err := nn.CheckSquare(src, c.Side); err != nil {
		return fmt.Errorf("picture: %w", err)
	}
	return nil
}

func (s *Session) mask(dst []float32) {
	copy(dst, s.colours)
	edge := (s.Side - s.Mask) / 2
	for y := edge; y < edge+s.Mask; y++ {
		clear(dst[(y*s.Side+edge)*3:][:3*s.Mask])
	}
}

// brightness is the luma of ITU-R BT.601, in [-1, 1].
func (s *Session) brightness(dst []float32) {
	for i := range dst {
		p := s.colours[3*i : 3*i+3]
		dst[i] = float32(0.299*p[0]) + float32(0.587*p[1]) + float32(0.114*p[2])
	}
}

// edges writes the length of the brightness's gradient by Sobel's operators, 0 to about 1; beyond the border is what is at it.
func (s *Session) edges(dst []float32) {
	n := s.Side
	at := func(y, x int) float32 { return s.light[min(max(y, 0), n-1)*n+min(max(x, 0), n-1)] }
	for y := range n {
		for x := range n {
			down := at(y+1, x-1) + 2*at(y+1, x) + at(y+1, x+1) - at(y-1, x-1) - 2*at(y-1, x) - at(y-1, x+1)
			right := at(y-1, x+1) + 2*at(y, x+1) + at(y+1, x+1) - at(y-1, x-1) - 2*at(y, x-1) - at(y+1, x-1)
			dst[y*n+x] = float32(math.Sqrt(float64(float64(down)*float64(down))+float64(float64(right)*float64(right))) / 8)
		}
	}
}

// Show draws what came out, v [Width], as a picture of Side×Side pixels.
func (c Config) Show(v []float32) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, c.Side, c.Side))
	channels := c.Channels()
	for i := range c.Side * c.Side {
		p := m.Pix[4*i : 4*i+4]
		for k := range 3 {
			x := float64(v[i*channels+k%channels])
			if c.Transform == Edges {
				x = 1 - 2*x // dark lines on white
			}
			p[k] = uint8(math.Round(min(max(127.5*(x+1), 0), 255)))
		}
		p[3] = 255
	}
	return m
}
