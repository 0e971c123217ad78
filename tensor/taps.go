package tensor

import (
	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
)

// newTaps turns a filter w, [out][3][3][in], into [3][3][out][in]: products of each pixel with all taps.
func newTaps(w []float32, out, in int) Weight {
	rows := make([]float32, 0, len(w))
	for tap := range 9 {
		for o := range out {
			rows = append(rows, w[(o*9+tap)*in:][:in]...)
		}
	}
	return NewWeight(rows, 9*out, in)
}

// tapsRows is the height of a block of output; the rows above and below it are multiplied, too.
const tapsRows = 14

func tapsScratch(f *Filter, w int) int { return w * ((tapsRows+2)*f.taps.N + f.In) }

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
	products, normed := buf[:(bottom-top)*j.w*f.taps.N], buf[(bottom-top)*j.w*f.taps.N:]
	for y := top; y < bottom; y++ {
		p := (image*j.h + y) * j.w
		x := j.x.Data[p*f.In:]
		if !e.Before.none() {
			e.Before.apply(normed, f.In, x, f.In, j.w, p, j.h*j.w, 0, f.In)
			x = normed
		}
		matmul.F32(products[(y-top)*j.w*f.taps.N:], f.taps.N, x, f.In, f.taps.Panels, j.w, f.taps.N, f.In, 0, f.taps.N, nil)
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
