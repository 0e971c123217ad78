package tensor

import (
	"netfusion/kernels/affine"
	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
)

// Filter is the weights of a convolution, packed once: 1×1, 3×3 with padding 1 and a stride, or 3×3 after a
// nearest-neighbour upsampling by 2.
type Filter struct {
	Out, In  int
	size     int      // of the window that is read: 1, 3, or 2 where upsampling is folded in
	stride   int      // between windows
	products []Weight // [Out][size·size·In]; four phases with upsampling
}

// NewFilter packs w, OHWI: [out][size][size][in] with size 1 or 3. A 1×1 filter has stride 1.
func NewFilter(w []float32, out, in, size, stride int) Filter {
	if size != 1 && size != 3 || stride < 1 || size == 1 && stride != 1 {
		panic("tensor: a filter that Conv cannot compute")
	}
	return Filter{out, in, size, stride, []Weight{NewWeight(w, out, size*size*in)}}
}

// NewUpFilter packs the 3×3 filter w, [out][3][3][in], of a convolution that follows a nearest-neighbour upsampling by 2.
func NewUpFilter(w []float32, out, in int) Filter {
	folded := make([]float32, 16*out*in)
	conv.FoldUpsample(folded, w, out, in)
	f := Filter{Out: out, In: in, size: 2, stride: 1, products: make([]Weight, 4)}
	for i := range f.products {
		f.products[i] = NewWeight(folded[i*out*4*in:][:out*4*in], out, 4*in)
	}
	return f
}

// Up tells whether the output is twice as large as the input.
func (f *Filter) Up() bool { return len(f.products) == 4 }

// k is the length of a patch.
func (f *Filter) k() int { return f.size * f.size * f.In }

// rows is the height of a tile: as many patches as half of a common second-level cache holds, the other half being for
// the weights that stream by, but not so few that streaming them is what takes the time. Multiples of 12 and of 8
// suit the microkernels.
func (f *Filter) rows() int {
	const patches = 1 << 17 // values
	return min(max(patches/f.k()/24*24, 24), 192)
}

// Scratch is how much a Device must Reserve to run f.
func (f *Filter) Scratch() int {
	n := f.rows() * f.k()
	if f.Up() {
		n += f.rows() * f.Out
	}
	return n
}

// Affine is a normalisation folded to scale·x + offset, then ReLU: one row for each image of a batch, [images][C]. The
// zero Affine does nothing.
type Affine struct{ Scale, Offset Tensor }

func (a *Affine) none() bool { return a.Scale.Cols == 0 }

// apply computes dst [rows][ldd] from x [rows][ldx] in the channels [j0, j1), where the first row is pixel p of a batch
// with so many pixels per image.
func (a *Affine) apply(dst []float32, ldd int, x []float32, ldx, rows, p, pixels, j0, j1 int) {
	for rows > 0 {
		image := p / pixels
		n := min(rows, (image+1)*pixels-p)
		affine.ReLU(dst[j0:], ldd, x[j0:], ldx, a.Scale.Row(image)[j0:j1], a.Offset.Row(image)[j0:j1], n, j1-j0)
		rows, p = rows-n, p+n
		if rows > 0 {
			dst, x = dst[n*ldd:], x[n*ldx:]
		}
	}
}

// ConvEpilogue is what Conv does around its product. With After there can be neither Bias, Act nor Skip: the bias of a
// layer that a normalisation follows is folded into that.
type ConvEpilogue struct {
	Before Affine     // applied to the input; 1×1 only
	After  Affine     // applied to the output
	Bias   []float32  // [Out] or nil
	Act    matmul.Act // after the bias
	Skip   Tensor     // added at the end: the first Out channels of a map as large as the output, or half as large
	SkipUp bool       // Skip is half as large, and upsampled to the nearest neighbour
}

type convJob struct {
	dev          *Device
	dst, x       Tensor
	f            *Filter
	e            ConvEpilogue
	h, w         int // of the input
	oh, ow       int // of the grid of windows: the output, or the input where it is upsampled
	m            int // windows
	rows, cols   int // of a tile
	across, down int // tiles
}

// Conv computes dst = epilogue(f * x). x holds images of h×w pixels, [N·h·w][f.In]; dst is [N·h'·w'][f.Out] with h' =
// ceil(h/stride), or 2h where f upsamples. f.Scratch() must have been reserved. dst must not overlap x.
func (d *Device) Conv(dst, x Tensor, h, w int, f *Filter, e ConvEpilogue) {
	oh, ow := (h+f.stride-1)/f.stride, (w+f.stride-1)/f.stride
	images := x.Rows / (h * w)
	m := images * oh * ow
	if x.Cols != f.In || x.Rows != images*h*w || dst.Cols != f.Out || dst.Rows != m*len(f.products) {
		panic("tensor: Conv shapes differ")
	}
	if !e.Before.none() && (f.size != 1 || !e.Before.fits(images, f.In)) {
		panic("tensor: Conv cannot apply this Before")
	}
	skips := e.Skip.Cols != 0
	if !e.After.none() && (e.Bias != nil || e.Act != matmul.None || skips || !e.After.fits(images, f.Out)) {
		panic("tensor: Conv cannot apply this After")
	}
	if e.After.none() && f.Up() {
		panic("tensor: Conv with upsampling needs After")
	}
	if e.Bias != nil && len(e.Bias) < f.Out {
		panic("tensor: Conv cannot add this Bias")
	}
	if skips {
		want := m
		if e.SkipUp {
			want /= 4
		}
		if e.Skip.Cols < f.Out || e.Skip.Rows != want || e.SkipUp && (h%2 != 0 || w%2 != 0) {
			panic("tensor: Conv cannot add this Skip")
		}
	}
	j := &d.conv
	*j = convJob{dev: d, dst: dst, x: x, f: f, e: e, h: h, w: w, oh: oh, ow: ow, m: m}
	j.split(d.Workers())
	d.pool.Run(j, len(f.products)*j.down*j.across)
	*j = convJob{}
}

func (a *Affine) fits(images, channels int) bool {
	return a.Scale.Rows == images && a.Offset.Rows == images && a.Scale.Cols == channels && a.Offset.Cols == channels
}

// split cuts the windows into tiles, and the channels too where there are too few windows to keep the workers busy.
func (j *convJob) split(workers int) {
	j.rows = min(j.f.rows(), j.m)
	j.down = (j.m + j.rows - 1) / j.rows
	j.across, j.cols = 1, j.f.Out
	if tiles := j.down * len(j.f.products); workers > 1 && tiles < 2*workers {
		panels := (j.f.Out + 63) / 64
		j.across = min((2*workers+tiles-1)/tiles, panels)
		j.cols = (panels + j.across - 1) / j.across * 64
		j.across = (j.f.Out + j.cols - 1) / j.cols
	}
}

// Tile computes rows windows of one phase in cols channels.
func (j *convJob) Tile(i int) {
	f, e := j.f, &j.e
	j0 := i % j.across * j.cols
	j1 := min(j0+j.cols, f.Out)
	phase, p := i/j.across/j.down, i/j.across%j.down*j.rows
	m := min(j.rows, j.m-p)

	need := j.scratch()
	buf := j.dev.Scratch(need)
	x := j.gather(buf, phase, p, m)
	product := matmul.Epilogue{Bias: e.Bias, Act: e.Act}
	w := f.products[phase]
	if f.Up() {
		y := buf[j.rows*w.K:]
		matmul.F32(y, w.N, x, w.K, w.Panels, m, w.N, w.K, j0, j1, nil)
		j.scatter(y, phase, p, m, j0, j1)
		j.dev.Return(buf)
		return
	}
	dst := j.dst.Data[p*w.N:]
	skip := e.Skip.Cols != 0
	if skip && !e.SkipUp {
		product.Residual, product.LdRes = e.Skip.Data[p*e.Skip.Cols:], e.Skip.Cols
	}
	matmul.F32(dst, w.N, x, w.K, w.Panels, m, w.N, w.K, j0, j1, &product)
	if skip && e.SkipUp {
		conv.AddUpsampled(dst, w.N, e.Skip.Data, j.oh/2, j.ow/2, e.Skip.Cols, p, p+m, j0, j1)
	}
	if !e.After.none() {
		e.After.apply(dst, w.N, dst, w.N, m, p, j.oh*j.ow, j0, j1)
	}
	j.dev.Return(buf)
}

// scratch is what a tile needs: nothing where the windows are the pixels as they are.
func (j *convJob) scratch() int {
	if j.f.size == 1 && j.e.Before.none() {
		return 0
	}
	return j.f.Scratch()
}

// gather returns the m patches from p on, [m][k].
func (j *convJob) gather(buf []float32, phase, p, m int) []float32 {
	c := j.f.In
	switch {
	case j.f.Up():
		conv.UpPatches(buf, j.x.Data, j.h, j.w, c, phase/2, phase%2, p, p+m)
	case j.f.size == 3:
		conv.Patches(buf, j.x.Data, j.h, j.w, c, j.f.stride, p, p+m)
	case !j.e.Before.none():
		j.e.Before.apply(buf, c, j.x.Data[p*c:], c, m, p, j.h*j.w, 0, c)
	default:
		return j.x.Data[p*c:]
	}
	return buf
}

// scatter writes y, the windows p … p+m-1 of one phase, to every second pixel of every second row.
func (j *convJob) scatter(y []float32, phase, p, m, j0, j1 int) {
	n, ldd := j.f.Out, 2*j.f.Out
	for m > 0 {
		image, row, col := p/(j.h*j.w), p/j.w%j.h, p%j.w
		run := min(m, j.w-col)
		at := (image*2*j.h+2*row+phase/2)*2*j.w + 2*col + phase%2
		j.e.After.apply(j.dst.Data[at*n:], ldd, y, n, run, p, j.h*j.w, j0, j1)
		m, p = m-run, p+run
		if m > 0 {
			y = y[run*n:]
		}
	}
}
