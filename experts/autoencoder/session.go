package autoencoder

import (
	"fmt"
	"math"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// Session is the memory for encoding up to a fixed number of images at a time. It serves one caller at a time.
type Session struct {
	// Stage, if set, is shown activations as they are made: "stages.i.norm", the normalisation after its LeakyReLU, and
	// "stages.i", the output. Tensors are NHWC and may be overwritten after the call.
	Stage func(name string, t tensor.Tensor)

	m     *Model
	dev   *tensor.Device
	batch int

	maps         [2]tensor.Tensor // inside and at the end of a stage
	head         tensor.Tensor    // [batch][2·Latent]
	mean, logVar tensor.Tensor    // [batch][Latent]
}

// NewSession plans the memory for up to batch images on dev, which the Session uses from then on. It panics if batch is
// less than 1.
func (m *Model) NewSession(dev *tensor.Device, batch int) *Session {
	if batch < 1 {
		panic("autoencoder: a session for no images")
	}
	s := &Session{m: m, dev: dev, batch: batch}
	for i := range m.stages {
		for _, f := range []*tensor.Filter{&m.stages[i].first.Filter, &m.stages[i].second.Filter} {
			dev.Reserve(f.Scratch(f.H, f.W))
		}
	}
	tensor.Plan(s.layout)
	return s
}

func (s *Session) layout(a *tensor.Arena) {
	m, most, side := s.m, 0, s.m.Resolution
	for i, width := range m.Widths {
		side /= stride(i)
		most = max(most, side*side*width)
	}
	for i := range s.maps {
		s.maps[i] = a.Take(1, s.batch*most)
	}
	s.head = a.Take(s.batch, 2*m.Latent)
	s.mean, s.logVar = a.Take(s.batch, m.Latent), a.Take(s.batch, m.Latent)
}

// Encode computes the posterior of the latent of each image: x is [images·Resolution·Resolution][3] in [-1, 1] (see
// Pixels), at most the Session's batch of images. mean and logVariance, clamped as in training, are [images][Latent] and
// overwritten by the next call.
func (s *Session) Encode(x tensor.Tensor) (mean, logVariance tensor.Tensor, err error) {
	m := s.m
	side := m.Resolution
	n := x.Rows / (side * side)
	if n < 1 || n > s.batch || x.Rows != n*side*side || x.Cols != 3 {
		return mean, logVariance, fmt.Errorf("autoencoder: images of [%d][%d] values, wanted [%d·n][3] for n from 1 to %d",
			x.Rows, x.Cols, side*side, s.batch)
	}
	for i := range m.stages {
		x, side = s.stage(i, x, n, side)
	}
	head := s.head.Slice(0, n)
	m.head.Forward(s.dev, head, x.Reshape(n, m.features()), matmul.None)
	mean, logVariance = s.mean.Slice(0, n), s.logVar.Slice(0, n)
	for i := range n {
		copy(mean.Row(i), head.Row(i)[:m.Latent])
		clamped := logVariance.Row(i)
		for j, v := range head.Row(i)[m.Latent:] {
			clamped[j] = min(max(v, minLogVariance), maxLogVariance)
		}
	}
	return mean, logVariance, nil
}

// stage computes stage i from x, n maps of side×side pixels; it returns the result and its side.
func (s *Session) stage(i int, x tensor.Tensor, n, side int) (tensor.Tensor, int) {
	st, width, out := &s.m.stages[i], s.m.Widths[i], side/stride(i)
	inner, y := s.maps[0].Front(n*out*out, width), s.maps[1].Front(n*out*out, width)
	st.first.Forward(s.dev, inner, x, side, side)
	st.norm.Forward(s.dev, inner, inner, n)
	s.dev.PReLU(inner, slope)
	s.show("stages.%d.norm", inner, i)
	st.second.Forward(s.dev, y, inner, out, out)
	s.dev.PReLU(y, slope)
	s.show("stages.%d", y, i)
	return y, out
}

func (s *Session) show(format string, t tensor.Tensor, stage int) {
	if s.Stage != nil {
		s.Stage(fmt.Sprintf(format, stage), t)
	}
}

// Std turns log-variances into standard deviations: dst may be logVariance.
func Std(dst, logVariance []float32) {
	for i, v := range logVariance {
		dst[i] = float32(math.Exp(float64(v) / 2))
	}
}

// Pixels writes to dst [resolution][resolution][3], in [-1, 1], what the encoder sees of a square picture of bytes,
// [side][side][3], where side must be a multiple of the resolution: the average over each square of pixels.
func Pixels(dst []float32, picture []uint8, resolution int) error {
	side := int(math.Sqrt(float64(len(picture) / 3)))
	if resolution < 1 || len(dst) != 3*resolution*resolution || len(picture) != 3*side*side || side < resolution || side%resolution != 0 {
		return fmt.Errorf("autoencoder: a picture of %d values for %d, wanted [side][side][3] and [%d][%d][3], with a side that is a multiple",
			len(picture), len(dst), resolution, resolution)
	}
	factor := side / resolution
	scale := 2 / (255 * float64(factor*factor))
	for y := range resolution {
		for x := range resolution {
			for c := range 3 {
				sum := 0
				for dy := range factor {
					for dx := range factor {
						sum += int(picture[((y*factor+dy)*side+x*factor+dx)*3+c])
					}
				}
				dst[(y*resolution+x)*3+c] = float32(float64(float64(sum)*scale) - 1)
			}
		}
	}
	return nil
}
