package flow

import (
	"fmt"
	"math"

	"netfusion/kernels/matmul"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// maps is how the embedder reads a condition that is a map: through convolutions that halve it, as the embedder of Rombach, Esser
// and Ommer 2020 does ("n × Conv down, ActNorm, LReLU; Flatten, FC"). Its first linear layer, which reads all of the last map, is
// the convolution with a full kernel that ends theirs.
type maps struct {
	mean         []float32 // of the training maps, [Cond]
	inverse      []float32 // 1/standard deviation of each channel around that, [channels]
	convolutions []convolution
}

// convolution is one of them: y = LeakyReLU(scale·(W∗x + loc)), where W is 4×4, of stride 2 and padding 1.
type convolution struct {
	dense          // W, [out][4][4][in] as a matrix [out][16·in]; it has no bias of its own
	side       int // of y
	loc, scale int // offsets of the ActNorm, [out] each

	weight tensor.Weight // scale·W
	bias   []float32     // scale·loc, [out]
}

const (
	kernelSide   = 4 // of a convolution
	kernelPixels = kernelSide * kernelSide
	mapSlope     = 0.2 // of its LeakyReLU below zero
)

func newMaps(b *builder, c Config) (m maps) {
	if c.Side == 0 {
		return m
	}
	m.mean, m.inverse = b.buffer("map.mean", 0, c.Cond), b.buffer("map.inverse_std", 1, c.channels(0))
	for i := range c.Convs {
		prefix := fmt.Sprintf("convolutions.%d.", i)
		in, out := kernelPixels*c.channels(i), c.channels(i+1)
		m.convolutions = append(m.convolutions, convolution{
			dense: dense{name: prefix + "weight", in: in, out: out, w: b.param(prefix+"weight", out, in)},
			side:  c.Side >> (i + 1),
			loc:   b.param(prefix+"norm_layer.loc", out), scale: b.param(prefix+"norm_layer.scale", out),
		})
	}
	return m
}

func (m *maps) initialise(values []float32, seed uint64) {
	for i := range m.convolutions {
		c := &m.convolutions[i]
		bound := float32(1 / math.Sqrt(float64(c.in))) // PyTorch's default
		w := values[c.w:][:c.in*c.out]
		random.Uniform(w, seed, initStream, mapLayers|uint64(i), 0)
		for j, v := range w {
			w[j] = (2*v - 1) * bound
		}
		for j := range c.out {
			values[c.scale+j] = 1
		}
	}
}

// mapLayers tells the convolutions' initial weights from those of other networks.
const mapLayers = 1 << 32

func (m *maps) pack(p tensor.Precision, values []float32, read reader) {
	for i := range m.convolutions {
		c := &m.convolutions[i]
		loc, scale := values[c.loc:][:c.out], values[c.scale:][:c.out]
		c.bias = c.bias[:0]
		for j, s := range scale {
			c.bias = append(c.bias, s*loc[j])
		}
		scaled := func(dst []float32, row int) {
			read(&c.dense, dst, row)
			for j := range dst {
				dst[j] *= scale[row+j/c.in]
			}
		}
		if c.weight.N > 0 {
			c.weight.PackFrom(scaled)
		} else {
			c.weight = tensor.NewWeightFrom(p, c.out, c.in, scaled)
		}
	}
}

// reserve prepares dev for so many maps together.
func (m *maps) reserve(dev *tensor.Device, rows int) {
	for i := range m.convolutions {
		c := &m.convolutions[i]
		c.weight.Reserve(dev, rows*c.side*c.side)
	}
}

// fit takes the moments of the training conditions c [n][Cond].
func (m *maps) fit(c tensor.Tensor) {
	channels := len(m.inverse)
	sums, squares := make([]float64, c.Cols), make([]float64, channels)
	for i := range c.Rows {
		for j, v := range c.Row(i) {
			sums[j] += float64(v)
		}
	}
	for j, s := range sums {
		m.mean[j] = float32(s / float64(c.Rows))
	}
	for i := range c.Rows {
		for j, v := range c.Row(i) {
			d := float64(v - m.mean[j])
			squares[j%channels] += float64(d * d)
		}
	}
	for k, s := range squares {
		m.inverse[k] = inverseStd(s / float64(c.Rows*c.Cols/channels))
	}
}

// inverseStd is 1/√variance, and 1 for what is constant.
func inverseStd(variance float64) float32 {
	if s := math.Sqrt(variance); s > 1e-6 {
		return float32(1 / s)
	}
	return 1
}

// standardise writes a map c [Cond] as the convolutions read it.
func (m *maps) standardise(dst, c []float32) {
	channels := len(m.inverse)
	for j := 0; j < len(c); j += channels {
		for k, s := range m.inverse {
			dst[j+k] = (c[j+k] - m.mean[j+k]) * s
		}
	}
}

// average writes the condition c [Cond] as the linear layer and the class head read it, [pooled].
func (c *Config) average(dst, cond []float32) {
	if c.Side == 0 || c.Pool == 1 {
		copy(dst, cond)
		return
	}
	channels, side := c.channels(0), c.Side/c.Pool
	scale := 1 / float32(c.Pool*c.Pool)
	clear(dst)
	for y := range c.Side {
		for x := range c.Side {
			out := dst[(y/c.Pool*side+x/c.Pool)*channels:][:channels]
			for k, v := range cond[(y*c.Side+x)*channels:][:channels] {
				out[k] += v
			}
		}
	}
	for i := range dst {
		dst[i] *= scale
	}
}

// Averages returns the conditions c [m][Cond] as the linear layer reads them: maps averaged, vectors as they are.
func (c Config) Averages(cond tensor.Tensor) tensor.Tensor {
	if c.Side == 0 {
		return cond
	}
	small := tensor.New(cond.Rows, c.pooled())
	for i := range cond.Rows {
		c.average(small.Row(i), cond.Row(i))
	}
	return small
}

// mapRows is how many maps a Session runs through the convolutions together.
const mapRows = 8

// mapState is the memory for that.
type mapState struct {
	maps    [2]tensor.Tensor // [mapRows·pixels][channels], what each convolution reads and leaves in turn
	patches tensor.Tensor    // [mapRows·pixels][16·channels], what it multiplies
	job     patchJob
}

func (s *mapState) layout(a *tensor.Arena, f *Flow, rows int) {
	c := &f.Config
	sizes, patches := [2]int{c.Cond}, 0
	for i := range f.maps.convolutions {
		v := &f.maps.convolutions[i]
		pixels := v.side * v.side
		sizes[(i+1)%2] = max(sizes[(i+1)%2], pixels*v.out)
		patches = max(patches, pixels*v.in)
	}
	s.maps = [2]tensor.Tensor{a.Take(rows, sizes[0]), a.Take(rows, sizes[1])}
	s.patches = a.Take(rows, patches)
}

// features runs maps c [m][Cond] through the convolutions, and writes the last ones to the rows of dst.
func (p *pass) features(dst, c tensor.Tensor) {
	for i := 0; i < c.Rows; i += mapRows {
		j := min(i+mapRows, c.Rows)
		p.convolve(dst.Slice(i, j), c.Slice(i, j))
	}
}

func (p *pass) convolve(dst, c tensor.Tensor) {
	f, m, s := p.flow, c.Rows, &p.look
	x := s.maps[0].Front(m, c.Cols)
	for i := range m {
		f.maps.standardise(x.Row(i), c.Row(i))
	}
	for i := range f.maps.convolutions {
		v := &f.maps.convolutions[i]
		pixels := m * v.side * v.side
		patches, y := s.patches.Front(pixels, v.in), s.maps[(i+1)%2].Front(pixels, v.out)
		s.job = patchJob{patches, x, v.side}
		p.dev.Run(&s.job, m*v.side)
		p.dev.MatMul(y, patches, v.weight, matmul.Epilogue{Bias: v.bias})
		p.dev.PReLU(y, mapSlope)
		x = y
	}
	n := f.Config.features()
	for i := range m {
		copy(dst.Row(i), x.Data[i*n:][:n])
	}
}

// patchJob gathers what a convolution multiplies, a row of pixels of its output to a tile.
type patchJob struct {
	dst  tensor.Tensor // [maps·side²][4][4][channels]
	x    tensor.Tensor // [maps·4·side²][channels], in any shape
	side int           // of the output
}

func (j *patchJob) Tile(tile int) {
	channels, in := j.dst.Cols/kernelPixels, 2*j.side
	image, y := tile/j.side, tile%j.side
	x := j.x.Data[image*in*in*channels:][:in*in*channels]
	for at := range j.side {
		dst := j.dst.Row(tile*j.side + at)
		left := 2*at - 1
		first, end := max(0, left), min(in, left+kernelSide)
		for k := range kernelSide {
			row := dst[k*kernelSide*channels:][:kernelSide*channels]
			from := 2*y - 1 + k
			if from < 0 || from >= in {
				clear(row)
				continue
			}
			clear(row[:(first-left)*channels])
			copy(row[(first-left)*channels:], x[(from*in+first)*channels:(from*in+end)*channels])
			clear(row[(end-left)*channels:])
		}
	}
}
