package cinn

import (
	"fmt"
	"image"

	"netfusion/experts/autoencoder"
	"netfusion/tensor"
)

// imageEncoder is what Encode needs.
type imageEncoder struct {
	session *autoencoder.Session
	bytes   []uint8       // [height][width][3]
	pixels  tensor.Tensor // [height·width][3] in [-1, 1]
}

// Encode finds the latents of the image src, whose bounds must have the size of Model.Bounds; what is transparent is
// white. The generator draws src, as well as it can, from a mean of which each dimension is known up to a standard
// deviation: mean and std are [Info.Z]. The first call loads the encoder and allocates, later ones do not.
func (s *Session) Encode(mean, std []float32, src *image.NRGBA) error {
	if err := s.usable(); err != nil {
		return err
	}
	switch n := s.model.target.ZDim; {
	case s.model.encoder == nil:
		return ErrEncoder
	case len(mean) != n || len(std) != n:
		return fmt.Errorf("cinn: room for %d and %d dimensions, want %d", len(mean), len(std), n)
	case src == nil || src.Rect.Size() != s.model.Bounds().Size():
		return fmt.Errorf("cinn: the image must be %v pixels", s.model.Bounds().Size())
	}
	if err := s.openEncoder(); err != nil {
		return err
	}
	e := s.images
	onWhite(e.bytes, src)
	if err := autoencoder.Pixels(e.pixels.Data, e.bytes, src.Rect.Dx()); err != nil {
		return err
	}
	m, logVariance, err := e.session.Encode(e.pixels)
	if err != nil {
		return err
	}
	copy(mean, m.Data)
	autoencoder.Std(std, logVariance.Data)
	return nil
}

func (s *Session) openEncoder() error {
	if s.images != nil {
		return nil
	}
	m, err := s.model.encoder()
	if err != nil {
		return inPart(encoderPrefix, err)
	}
	n := m.Resolution * m.Resolution
	s.images = &imageEncoder{m.NewSession(s.device, 1), make([]uint8, 3*n), tensor.New(n, 3)}
	return nil
}

// onWhite writes the colours of src on a white ground to dst [height][width][3].
func onWhite(dst []uint8, src *image.NRGBA) {
	for y := range src.Rect.Dy() {
		row := src.Pix[y*src.Stride:]
		for x := range src.Rect.Dx() {
			p := row[4*x : 4*x+4 : 4*x+4]
			alpha := int(p[3])
			for c, v := range p[:3] {
				dst[c] = uint8((int(v)*alpha + 255*(255-alpha) + 127) / 255)
			}
			dst = dst[3:]
		}
	}
}
