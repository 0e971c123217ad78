package autoencoder

import (
	"encoding/json"
	"fmt"
	"image"
	"strconv"
	"strings"

	"netfusion/nn"
	"netfusion/tensor"
)

// LayerKind is what a pack calls a Layer.
const LayerKind = "layer"

// LayerConfig names a layer of an encoder.
type LayerConfig struct {
	Kind    string `json:"kind"`
	Layer   string `json:"layer"`          // "stages.0" is the output of the first stage, and so on; "head" the mean of the latent
	Side    int    `json:"side,omitempty"` // of the map, which is averaged down to it; 0 is the layer's own
	Encoder Config `json:"encoder"`
}

// Layer is an encoder up to one of its layers, as an expert of its own: what it knows of a picture is that layer's map.
type Layer struct {
	LayerConfig
	model  *Model
	stages int // to run; 0 is all, and the head
	side   int // of the layer's own map
}

// LoadLayer builds the expert that config describes in JSON from the tensors of an encoder's file.
func LoadLayer(s nn.Source, config []byte) (*Layer, error) {
	l := &Layer{}
	if err := json.Unmarshal(config, &l.LayerConfig); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Origin(), err)
	}
	var err error
	if l.model, err = Load(s, l.Encoder); err != nil {
		return nil, err
	}
	if err := l.find(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Origin(), err)
	}
	return l, nil
}

// find fills in what the layer's name says.
func (l *Layer) find() error {
	l.side = 1
	if l.LayerConfig.Layer != "head" {
		number, ok := strings.CutPrefix(l.LayerConfig.Layer, "stages.")
		i, err := strconv.Atoi(number)
		if !ok || err != nil || i < 0 || i >= len(l.Encoder.Widths) {
			return fmt.Errorf("layer %q, want %s", l.LayerConfig.Layer, strings.Join(l.Encoder.Layers(), ", "))
		}
		l.stages, l.side = i+1, l.Encoder.Resolution>>i
	}
	if l.Side == 0 {
		l.Side = l.side
	}
	if l.Side < 0 || l.side%l.Side != 0 {
		return fmt.Errorf("a side of %d for layer %q, want a divisor of its own, %d", l.Side, l.LayerConfig.Layer, l.side)
	}
	return nil
}

// Layers are the names of the layers.
func (c Config) Layers() (names []string) {
	for i := range c.Widths {
		names = append(names, fmt.Sprintf("stages.%d", i))
	}
	return append(names, "head")
}

// Channels is how many numbers there are for a pixel of the map.
func (l *Layer) Channels() int {
	if l.stages == 0 {
		return l.Encoder.Latent
	}
	return l.Encoder.Widths[l.stages-1]
}

// Width is how many numbers come out, [Side][Side][Channels].
func (l *Layer) Width() int { return l.Side * l.Side * l.Channels() }

// LayerSession is one caller's memory.
type LayerSession struct {
	layer   *Layer
	session *Session
	pixels  tensor.Tensor // [Resolution²][3]
}

// NewSession plans the memory for one picture at a time on dev.
func (l *Layer) NewSession(dev *tensor.Device) *LayerSession {
	n := l.Encoder.Resolution
	return &LayerSession{l, l.model.NewSession(dev, 1), tensor.New(n*n, 3)}
}

// Check tells whether Encode can read src.
func (l *Layer) Check(src *image.NRGBA) error {
	if err := nn.CheckSquare(src, l.Encoder.Resolution); err != nil {
		return fmt.Errorf("autoencoder: %w", err)
	}
	return nil
}

// Encode writes the layer's map of src, a square picture whose side is a multiple of the encoder's resolution, to dst [Width]. What is
// transparent is white.
func (s *LayerSession) Encode(dst []float32, src *image.NRGBA) error {
	l := s.layer
	if err := l.Check(src); err != nil {
		return err
	}
	if len(dst) != l.Width() {
		return fmt.Errorf("autoencoder: room for %d numbers, want %d", len(dst), l.Width())
	}
	nn.Colours(s.pixels.Data, src, l.Encoder.Resolution)
	if l.stages == 0 {
		mean, _, err := s.session.Encode(s.pixels)
		copy(dst, mean.Data)
		return err
	}
	x, side := s.pixels, l.Encoder.Resolution
	for i := range l.stages {
		x, side = s.session.stage(i, x, 1, side)
	}
	shrinkMap(dst, x.Data, side, side/l.Side, x.Cols)
	return nil
}

// shrinkMap averages squares of n×n pixels of x [side][side][channels].
func shrinkMap(dst, x []float32, side, n, channels int) {
	if n == 1 {
		copy(dst, x)
		return
	}
	clear(dst)
	for y := range side {
		for at := range side {
			out := dst[(y/n*(side/n)+at/n)*channels:][:channels]
			for k, v := range x[(y*side+at)*channels:][:channels] {
				out[k] += v
			}
		}
	}
	for i := range dst {
		dst[i] /= float32(n * n)
	}
}
