package tensor

import (
	"math"

	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
	"netfusion/kernels/quantize"
)

var minusInf = float32(math.Inf(-1))

// winograd is the weights of a filter for a conv.Scheme. The outputs are cut into strips of 64 channels, the width of the
// matmul's tile: what one needs between its products and its output is little enough to stay in the second-level cache.
type winograd struct {
	scheme    conv.Scheme
	precision Precision // F32 or BF16
	out, in   int
	// For each strip, for each point of the scheme, the packed [strip][in]. Points of a strip are one matrix.
	strips []Weight
}

const strip = 64

// scheme returns the conv.Scheme that takes the least time on s in precision p, if one takes less than patches do; an upsampling
// is part of a Scheme. The model counts multiply-adds of float32; what transforms, patches and weights cost beside them is as
// measured on a processor with AVX-512. Weights count for more than it takes to read them, since they also take memory.
func (s *ConvShape) scheme(p Precision) (best conv.Scheme, found bool) {
	const (
		transform = 10 // per value of V and M
		gather    = 6  // per value of a patch
		fetch     = 22 // per weight
	)
	// As fewer channels than a vector has lanes are transformed one by one.
	if s.Size != 3 || s.Stride != 1 || !s.Up && min(s.In, s.Out) < 16 {
		return 0, false
	}
	pairs, rate := s.In*s.Out, [...]int{F32: 1, BF16: 2, Int8: 4} // of products, and of weights from memory
	least := 9 * ((s.H*s.W+fetch)*pairs/rate[p] + gather*s.H*s.W*s.In)
	schemes := []conv.Scheme{conv.F2, conv.F4}
	if s.Up {
		least, schemes = math.MaxInt, []conv.Scheme{conv.UpF2, conv.UpF4}
	}
	for _, c := range schemes {
		tiles := c.Tiles(s.H, s.W)
		if cost := c.Points() * ((tiles+fetch)*pairs/rate[transformed(p, s.In)] + transform*tiles*(s.In+s.Out)); cost < least {
			best, found, least = c, true, cost
		}
	}
	return best, found
}

// transformed is the precision of what is transformed in a filter of precision p: pairs of bfloat16 must not cross rows.
func transformed(p Precision, in int) Precision {
	if p == F32 || in%2 != 0 {
		return F32
	}
	return BF16
}

func planWinograd(s conv.Scheme, p Precision, out, in int) winograd {
	t := winograd{scheme: s, precision: p, out: out, in: in}
	for j := 0; j < out; j += strip {
		t.strips = append(t.strips, Weight{N: s.Points() * roundUp(min(strip, out-j), matmul.Width), K: in, Precision: p})
	}
	return t
}

// fill transforms the filter w [out][3][3][in].
func (t *winograd) fill(w []float32) {
	points := t.scheme.Points()
	u := make([]float32, t.strips[0].N*t.in)
	for i := range t.strips {
		j := i * strip
		n, padded := min(strip, t.out-j), t.strips[i].N/points
		t.scheme.Weights(u, w[j*9*t.in:][:n*9*t.in], n, t.in)
		for p := points - 1; p >= 0 && padded > n; p-- { // each point begins with a panel
			copy(u[p*padded*t.in:], u[p*n*t.in:][:n*t.in])
			clear(u[(p*padded+n)*t.in : (p+1)*padded*t.in])
		}
		t.strips[i] = NewWeightIn(t.precision, u[:points*padded*t.in], points*padded, t.in)
	}
}

// rows is the number of tiles that are transformed together: V and a strip of M take about half of a common second-level
// cache, but there are not so few tiles that streaming the weights is what takes the time. Multiples of 6 suit the microkernels.
func (t *winograd) rows() int {
	const values = 150 << 10
	return min(max(values/(t.scheme.Points()*(t.in+strip))/6*6, 30), 96)
}

// A line between two points, or tiles, keeps them from falling on the same places in the cache.
const apart = 16

// ldv is the stride between the points of V.
func (t *winograd) ldv(rows int) int { return rows*t.in + apart }

// staged is how many tiles are transformed before they are rounded: few enough for the first-level cache.
func (t *winograd) staged() int {
	if t.precision == F32 {
		return 0
	}
	return max(1, 256/t.in)
}

// scratch is room for V [points][rows][in], for M [rows][points][strip], and for tiles to be rounded.
func (t *winograd) scratch() int {
	points := t.scheme.Points()
	n := t.precision.size(points, t.ldv(t.rows())) + t.rows()*(points*strip+apart)
	if t.staged() > 0 {
		n += points * t.ldv(t.staged())
	}
	return n
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
	ldv, ldm := f.ldv(j.rows), points*strip+apart
	size := f.precision.size(points, ldv)
	v, sums := f.precision.rounds(buf[:size], points, ldv), buf[size:]
	j.transform(&v, sums, ldv, t0, t1)
	begin := i % j.across * j.cols
	for j0 := begin; j0 < min(begin+j.cols, f.out); j0 += strip {
		w := &f.strips[j0/strip]
		n := w.N / points
		for p := range points {
			x := v.from(p*ldv, f.in)
			e := matmul.Epilogue{Next: w.from((p + 1) * n)}
			if p == points-1 && j0+strip < f.out {
				e.Next = f.strips[j0/strip+1].from(0)
			}
			w.multiply(sums, ldm, &x, m, p*n, (p+1)*n, &e)
		}
		f.scheme.Output(j.dst.Data, f.out, sums, n, ldm, j.h, j.w, t0, t1, j0, min(j0+strip, f.out), &j.finish)
	}
	j.dev.Return(buf)
}

// transform computes V for the tiles t0 <= t < t1. What is rounded passes through free memory.
func (j *winogradJob) transform(v *rounds, free []float32, ldv, t0, t1 int) {
	f := j.f
	if f.precision == F32 {
		f.scheme.Input(v.f32, ldv, j.x.Data, j.h, j.w, f.in, t0, t1)
		return
	}
	staged := f.staged()
	ld := f.ldv(staged)
	for t := t0; t < t1; t += staged {
		n := min(staged, t1-t)
		f.scheme.Input(free, ld, j.x.Data, j.h, j.w, f.in, t, t+n)
		for p := range f.scheme.Points() {
			quantize.F32ToBF16(v.bf16[p*ldv+(t-t0)*f.in:][:n*f.in], free[p*ld:][:n*f.in])
		}
	}
}
