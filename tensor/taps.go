package tensor

import "netfusion/kernels/conv"

// newTaps turns a filter w, [out][3][3][in], into [3][3][out][in]: products of each pixel with all taps.
func newTaps(p Precision, w []float32, out, in int) Weight {
	rows := make([]float32, 0, len(w))
	for tap := range 9 {
		for o := range out {
			rows = append(rows, w[(o*9+tap)*in:][:in]...)
		}
	}
	return NewWeightIn(p, rows, 9*out, in)
}

// tapsRows is the height of a block of output; the rows above and below it are multiplied, too.
const tapsRows = 14

// tapsScratch is room for the products of a block, and for a row of pixels before and after it is rounded.
func tapsScratch(f *Filter, w int) int {
	return w*((tapsRows+2)*f.taps.N+f.In) + f.taps.Precision.size(w, f.In)
}

type tapsJob struct {
	dev    *Device
	dst, x Tensor
	f      *Filter
	e      ConvEpilogue
	h, w   int
	rows   int // of a block
	down   int // blocks of an image
}

func (d *Device) tapsConv(dst, x Tensor, h, w int, f *Filter, e *ConvEpilogue) {
	j := &d.taps
	*j = tapsJob{dev: d, dst: dst, x: x, f: f, e: *e, h: h, w: w, rows: min(tapsRows, h)}
	j.down = (h + j.rows - 1) / j.rows
	d.pool.Run(j, x.Rows/(h*w)*j.down)
	*j = tapsJob{}
}

// Tile computes rows of one image.
func (j *tapsJob) Tile(i int) {
	f, e := j.f, &j.e
	image, y0 := i/j.down, i%j.down*j.rows
	y1 := min(y0+j.rows, j.h)
	top, bottom := max(0, y0-1), min(y1+1, j.h)
	buf := j.dev.Scratch(tapsScratch(f, j.w))
	lines, k := (bottom-top)*j.w, f.In
	products, normed := buf[:lines*f.taps.N], buf[lines*f.taps.N:][:j.w*k]
	precision := f.taps.Precision
	row := precision.rounds(buf[lines*f.taps.N+j.w*k:][:precision.size(j.w, k)], j.w, k)
	for y := top; y < bottom; y++ {
		p := (image*j.h + y) * j.w
		x := j.x.Data[p*k:][:j.w*k]
		if !e.Before.none() {
			e.Before.apply(normed, k, x, k, j.w, p, j.h*j.w, 0, k)
			x = normed
		}
		if precision == F32 {
			row.f32 = x
		} else {
			row.round(precision, 0, x, j.w, k)
		}
		f.taps.multiply(products[(y-top)*j.w*f.taps.N:], f.taps.N, &row, j.w, 0, f.taps.N, nil)
	}
	p := (image*j.h + y0) * j.w
	dst := j.dst.Data[p*f.Out:][:(y1-y0)*j.w*f.Out]
	conv.SumTaps(dst, products, top, bottom, j.h, j.w, f.Out, y0, y1, e.Bias)
	e.Act.Apply(dst)
	if !e.After.none() {
		e.After.apply(dst, f.Out, dst, f.Out, (y1-y0)*j.w, p, j.h*j.w, 0, f.Out)
	}
	j.dev.Return(buf)
}
