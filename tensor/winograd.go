package tensor

import (
	"math"

	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
)

var minusInf = float32(math.Inf(-1))

// winograd is the weights of a filter for a conv.Scheme. The outputs are cut into strips of 64 channels, the width of the
// matmul's tile: what one needs between its products and its output is little enough to stay in the second-level cache.
type winograd struct {
	scheme  conv.Scheme
	out, in int
	panels  []float32 // for each strip, for each point of the scheme, the packed [strip][in]
}

const strip = 64

// scheme returns the conv.Scheme that takes the least time on s, if one takes less than patches in precision p do. The model
// counts multiply-adds of float32; what transforms and patches cost beside them, and how many can be done while one weight
// comes from memory, is as measured on a processor with AVX-512.
func (s *ConvShape) scheme(p Precision) (best conv.Scheme, found bool) {
	const (
		transform = 10 // per value of V and M
		gather    = 6  // per value of a patch
		fetch     = 12 // per weight
	)
	// As fewer channels than a vector has lanes are transformed one by one.
	if s.Size != 3 || s.Stride != 1 || min(s.In, s.Out) < 16 {
		return 0, false
	}
	pixels, taps, phases := s.H*s.W, 9, 1
	if s.Up {
		taps, phases = 4, 4
	}
	rate := map[Precision]int{F32: 1, BF16: 2, Int8: 4}[p] // of products, and of weights from memory
	least := phases * taps * (max(pixels, fetch)*s.In*s.Out/rate + gather*pixels*s.In)
	for _, c := range []conv.Scheme{conv.F2, conv.F4, conv.UpF4} {
		if (c == conv.UpF4) != s.Up {
			continue
		}
		tiles := c.Tiles(s.H, s.W)
		if cost := c.Points() * (max(tiles, fetch)*s.In*s.Out + transform*tiles*(s.In+s.Out)); cost < least {
			best, found, least = c, true, cost
		}
	}
	return best, found
}

func newWinograd(s conv.Scheme, w []float32, out, in int) winograd {
	points := s.Points()
	t := winograd{s, out, in, make([]float32, points*matmul.PackedLen(out, in))}
	u := make([]float32, points*min(out, strip)*in)
	for j := 0; j < out; j += strip {
		n := min(strip, out-j)
		s.Weights(u, w[j*9*in:][:n*9*in], n, in)
		panels, padded := t.at(j)
		for p := range points {
			matmul.Pack(panels[p*padded*in:], u[p*n*in:][:n*in], n, in)
		}
	}
	return t
}

// at returns the packed weights of the strip that begins at output j: for each point n outputs, a multiple of a panel.
func (t *winograd) at(j int) (panels []float32, n int) {
	points := t.scheme.Points()
	n = roundUp(min(strip, t.out-j), matmul.Width)
	return t.panels[points*j*t.in:][:points*n*t.in], n
}

// rows is the number of tiles that are transformed together: about as many as the second-level cache has room for, but
// not so few that streaming the weights is what takes the time.
func (t *winograd) rows() int {
	const values = 160 << 10
	return min(max(values/(t.scheme.Points()*t.in), 16), 48)
}

// A line between two points, or tiles, keeps them from falling on the same places in the cache.
const apart = 16

// scratch is room for V [points][rows][in] and for M [rows][points][strip].
func (t *winograd) scratch() int {
	points := t.scheme.Points()
	return points*(t.rows()*t.in+apart) + t.rows()*(points*strip+apart)
}

type winogradJob struct {
	dev    *Device
	dst, x Tensor
	f      *winograd
	finish conv.Finish
	h, w   int // of the input
	tiles  int // of all images
	rows   int // tiles of a block
	cols   int // channels of a block
	across int // blocks
}

func (d *Device) winogradConv(dst, x Tensor, h, w int, f *Filter, e *ConvEpilogue) {
	t := &f.winograd
	j := &d.winograd
	*j = winogradJob{dev: d, dst: dst, x: x, f: t, finish: e.finish(), h: h, w: w}
	j.tiles = x.Rows / (h * w) * t.scheme.Tiles(h, w)
	down := j.split(d.Workers())
	d.pool.Run(j, j.across*down)
	*j = winogradJob{}
}

// split cuts the tiles into blocks, as evenly as the workers need it, and the channels too where there are too few tiles:
// each block of channels transforms the input again.
func (j *winogradJob) split(workers int) (down int) {
	down = (j.tiles + j.f.rows() - 1) / j.f.rows()
	j.across, j.cols = 1, j.f.out
	strips := (j.f.out + strip - 1) / strip
	if down < 4*workers && down%workers != 0 {
		if even := (down + workers - 1) / workers * workers; j.tiles >= 16*even {
			down = even
		} else {
			j.across = min(workers, strips)
			j.cols = (strips + j.across - 1) / j.across * strip
			j.across = (j.f.out + j.cols - 1) / j.cols
		}
	}
	j.rows = (j.tiles + down - 1) / down
	return (j.tiles + j.rows - 1) / j.rows
}

// Tile computes one block.
func (j *winogradJob) Tile(i int) {
	f := j.f
	t0 := i / j.across * j.rows
	t1 := min(t0+j.rows, j.tiles)
	m, points := t1-t0, f.scheme.Points()

	buf := j.dev.Scratch(f.scratch())
	ldv, ldm := j.rows*f.in+apart, points*strip+apart
	v, sums := buf[:points*ldv], buf[points*ldv:]
	f.scheme.Input(v, ldv, j.x.Data, j.h, j.w, f.in, t0, t1)
	begin := i % j.across * j.cols
	for j0 := begin; j0 < min(begin+j.cols, f.out); j0 += strip {
		// One product with the weights of all points, each of which has its own V: so the next ones are fetched meanwhile.
		panels, n := f.at(j0)
		for p := range points {
			matmul.F32(sums, ldm, v[p*ldv:], f.in, panels, m, points*n, f.in, p*n, (p+1)*n, nil)
		}
		f.scheme.Output(j.dst.Data, f.out, sums, n, ldm, j.h, j.w, t0, t1, j0, min(j0+strip, f.out), &j.finish)
	}
	j.dev.Return(buf)
}
