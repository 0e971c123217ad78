package tensor

import (
	"netfusion/kernels/affine"
	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
)

type patchesJob struct {
	dev          *Device
	dst, x       Tensor
	f            *Filter
	e            ConvEpilogue
	h, w         int // of the input
	oh, ow       int // of the output
	m            int // windows, pixels of the output
	rows, cols   int // of a tile
	across, down int // tiles
}

// patch is the length of a patch.
func (f *Filter) patch() int { return f.patches.K }

// patchRows is the height of a tile: as many patches as half of a common second-level cache holds, the other half being
// for the weights that stream by, but not so few that streaming them is what takes the time. Multiples of 12 and of 8
// suit the microkernels.
func (f *Filter) patchRows() int {
	const patches = 1 << 17 // values
	return min(max(patches/f.patch()/24*24, 24), 192)
}

// gathered is how many patches are gathered in float32 at a time before they are rounded: what the first-level cache holds.
func (f *Filter) gathered() int {
	const values = 1 << 12
	if f.patches.Precision == F32 {
		return 0
	}
	return min(max(values/f.patch(), 1), f.patchRows())
}

func (f *Filter) patchesScratch() int {
	return f.patches.Precision.size(f.patchRows(), f.patch()) + f.gathered()*f.patch()
}

func (d *Device) patchesConv(dst, x Tensor, h, w int, f *Filter, e *ConvEpilogue) {
	j := &d.patches
	*j = patchesJob{dev: d, dst: dst, x: x, f: f, e: *e, h: h, w: w, oh: (h + f.Stride - 1) / f.Stride, ow: (w + f.Stride - 1) / f.Stride}
	j.m = x.Rows / (h * w) * j.oh * j.ow
	j.split(d.Workers())
	d.pool.Run(j, j.down*j.across)
	*j = patchesJob{}
}

// split cuts the windows into tiles, and the channels too where there are too few windows to keep the workers busy.
func (j *patchesJob) split(workers int) {
	j.rows = min(j.f.patchRows(), j.m)
	j.down = (j.m + j.rows - 1) / j.rows
	j.across, j.cols = 1, j.f.Out
	if workers > 1 && j.down < 2*workers {
		panels := (j.f.Out + 63) / 64
		j.across = min((2*workers+j.down-1)/j.down, panels)
		j.cols = (panels + j.across - 1) / j.across * 64
		j.across = (j.f.Out + j.cols - 1) / j.cols
	}
}

// Tile computes rows windows in cols channels.
func (j *patchesJob) Tile(i int) {
	f, e := j.f, &j.e
	j0 := i % j.across * j.cols
	j1 := min(j0+j.cols, f.Out)
	p := i / j.across * j.rows
	m := min(j.rows, j.m-p)

	buf := j.dev.Scratch(j.scratch())
	w := &f.patches
	x := j.gather(buf, p, m)
	product := matmul.Epilogue{Bias: e.Bias, Act: e.Act}
	dst := j.dst.Data[p*w.N:]
	w.multiply(dst, w.N, &x, m, j0, j1, &product)
	switch {
	case e.Skip.Cols != 0 && e.SkipUp:
		conv.AddUpsampled(dst, w.N, e.Skip.Data, j.oh/2, j.ow/2, e.Skip.Cols, p, p+m, j0, j1)
	case e.Skip.Cols != 0:
		affine.Add(dst[j0:], w.N, e.Skip.Data[p*e.Skip.Cols+j0:], e.Skip.Cols, m, j1-j0)
	case !e.After.none():
		e.After.apply(dst, w.N, dst, w.N, m, p, j.oh*j.ow, j0, j1)
	}
	j.dev.Return(buf)
}

// inPlace tells whether the patches are the pixels as they are.
func (j *patchesJob) inPlace() bool {
	return j.f.Size == 1 && j.e.Before.none() && j.f.patches.Precision == F32
}

// scratch is what a tile needs.
func (j *patchesJob) scratch() int {
	if j.inPlace() {
		return 0
	}
	return j.f.patchesScratch()
}

// gather returns the m patches from p on in the precision of the weights.
func (j *patchesJob) gather(buf []float32, p, m int) rounds {
	k, precision := j.f.patch(), j.f.patches.Precision
	if j.inPlace() {
		return rounds{f32: j.x.Data[p*k:], ld: k}
	}
	size := precision.size(j.f.patchRows(), k)
	x := precision.rounds(buf[:size], j.f.patchRows(), k)
	if precision == F32 {
		j.read(x.f32, p, m)
		return x
	}
	group := j.f.gathered()
	for i := 0; i < m; i += group {
		n := min(group, m-i)
		x.round(precision, i, j.read(buf[size:], p+i, n), n, k)
	}
	return x
}

// read returns the m patches from p on, in buf unless they are pixels as they are.
func (j *patchesJob) read(buf []float32, p, m int) []float32 {
	c := j.f.In
	switch {
	case j.f.Size == 3:
		conv.Patches(buf, j.x.Data, j.h, j.w, c, j.f.Stride, p, p+m)
	case !j.e.Before.none():
		j.e.Before.apply(buf, c, j.x.Data[p*c:], c, m, p, j.h*j.w, 0, c)
	default:
		return j.x.Data[p*c:][:m*c]
	}
	return buf[:m*j.f.patch()]
}
