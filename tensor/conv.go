package tensor

import (
	"netfusion/kernels/affine"
	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
)

// ConvShape describes a convolution: 1×1, 3×3 with padding 1 and a stride, or 3×3 after a nearest-neighbour upsampling by 2.
type ConvShape struct {
	Out, In int // channels
	Size    int // 1 or 3
	Stride  int // 1 if Size is 1 or with Up
	Up      bool
	H, W    int // of the input. Conv takes other sizes, too: the algorithm is the best one for this
}

// up is how much larger the output is than the input, along an axis, not counting the stride.
func (s *ConvShape) up() int {
	if s.Up {
		return 2
	}
	return 1
}

// Filter is the weights of a convolution, prepared once for one of these algorithms:
//
//	patches   the pixels under each window, gathered as rows of a matrix; none to gather if Size is 1
//	winograd  a conv.Scheme, where it saves more multiplications than its transforms and its larger weights cost
//	taps      for few outputs: first every pixel's product with each of the 9 taps, then the sums
type Filter struct {
	ConvShape
	patches  Weight // [Out][Size·Size·In]
	taps     Weight // [9·Out][In]
	winograd winograd
}

// NewFilter prepares w, OHWI: [Out][Size][Size][In], to be multiplied in precision p. Where it is Int8, what is transformed
// is bfloat16: the transforms magnify errors.
func NewFilter(p Precision, w []float32, s ConvShape) Filter {
	if len(w) != s.Out*s.Size*s.Size*s.In {
		panic("tensor: the weights do not fill the filter")
	}
	f := PlanFilter(p, s)
	switch {
	case f.winograd.strips != nil:
		f.winograd.fill(w)
	case f.taps.N > 0:
		f.taps = newTaps(p, w, s.Out, s.In)
	default:
		f.patches = NewWeightIn(p, w, s.Out, s.Size*s.Size*s.In)
	}
	return f
}

// PlanFilter is NewFilter without weights: it chooses the algorithm, and knows what memory it takes.
func PlanFilter(p Precision, s ConvShape) Filter {
	if s.Size != 1 && s.Size != 3 || s.Stride < 1 || s.Stride > 1 && (s.Size == 1 || s.Up) || s.Up && s.Size == 1 {
		panic("tensor: a filter that Conv cannot compute")
	}
	f := Filter{ConvShape: s}
	scheme, fast := s.scheme(p)
	switch {
	case fast:
		f.winograd = planWinograd(scheme, transformed(p, s.In), s.Out, s.In)
	case s.Size == 3 && s.Stride == 1 && !s.Up && s.Out < matmul.Width:
		f.taps = Weight{N: 9 * s.Out, K: s.In, Precision: p}
	default:
		f.patches = Weight{N: s.Out, K: s.Size * s.Size * s.In, Precision: p}
	}
	return f
}

// Bytes is the memory that the weights of f take.
func (f *Filter) Bytes() int {
	n := f.patches.Bytes() + f.taps.Bytes()
	for i := range f.winograd.strips {
		n += f.winograd.strips[i].Bytes()
	}
	return n
}

// PointFilter is the 1×1 filter of w [Out][In].
func PointFilter(w Weight) Filter {
	return Filter{ConvShape: ConvShape{Out: w.N, In: w.K, Size: 1, Stride: 1}, patches: w}
}

// Scratch is how much a Device must Reserve to run f on images of up to h×w pixels.
func (f *Filter) Scratch(h, w int) int {
	switch {
	case f.winograd.strips != nil:
		return f.winograd.scratch()
	case f.taps.N > 0:
		return tapsScratch(f, w)
	}
	return f.patchesScratch()
}

// Affine is a normalisation folded to scale·x + offset, then ReLU: one row for each image of a batch, [images][C]. The
// zero Affine does nothing.
type Affine struct{ Scale, Offset Tensor }

func (a *Affine) none() bool { return a.Scale.Cols == 0 }

func (a *Affine) fits(images, channels int) bool {
	return a.Scale.Rows == images && a.Offset.Rows == images && a.Scale.Cols == channels && a.Offset.Cols == channels
}

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

// ConvEpilogue is what Conv does around its product. With After there can be neither Bias nor Act: the bias of a layer that
// a normalisation follows is folded into that.
type ConvEpilogue struct {
	Before Affine     // applied to the input; not to that of a 3×3 filter with Up, with a stride or with 16 or more outputs
	After  Affine     // applied to the output
	Bias   []float32  // [Out] or nil
	Act    matmul.Act // after the bias; as Before
	Skip   Tensor     // with Size 1, added at the end: the first Out channels of a map as large as the output, or half as large
	SkipUp bool       // Skip is half as large, and upsampled to the nearest neighbour
}

// Conv computes dst = epilogue(f * x). x holds images of h×w pixels, [N·h·w][f.In]; dst is [N·h'·w'][f.Out] with h' =
// ceil(h/stride), or 2h where f upsamples. f.Scratch(h, w) must have been reserved. dst must not overlap x.
func (d *Device) Conv(dst, x Tensor, h, w int, f *Filter, e ConvEpilogue) {
	oh, ow := (h+f.Stride-1)/f.Stride*f.up(), (w+f.Stride-1)/f.Stride*f.up()
	images := x.Rows / (h * w)
	if x.Cols != f.In || x.Rows != images*h*w || dst.Cols != f.Out || dst.Rows != images*oh*ow {
		panic("tensor: Conv shapes differ")
	}
	pointwise := f.Size == 1 || f.taps.N > 0
	if !e.Before.none() && (!pointwise || !e.Before.fits(images, f.In)) {
		panic("tensor: Conv cannot apply this Before")
	}
	if !e.After.none() && (e.Bias != nil || e.Act != matmul.None || !e.After.fits(images, f.Out)) {
		panic("tensor: Conv cannot apply this After")
	}
	if e.Bias != nil && len(e.Bias) < f.Out {
		panic("tensor: Conv cannot add this Bias")
	}
	if e.Act != matmul.None && !pointwise {
		panic("tensor: Conv cannot apply this Act")
	}
	if e.Skip.Cols != 0 {
		want := dst.Rows
		if e.SkipUp {
			want /= 4
		}
		if f.Size != 1 || !e.After.none() || e.Skip.Cols < f.Out || e.Skip.Rows != want || e.SkipUp && (h%2 != 0 || w%2 != 0) {
			panic("tensor: Conv cannot add this Skip")
		}
	}
	switch {
	case f.winograd.strips != nil:
		d.winogradConv(dst, x, h, w, f, &e)
	case f.taps.N > 0:
		d.tapsConv(dst, x, h, w, f, &e)
	default:
		d.patchesConv(dst, x, h, w, f, &e)
	}
}

// finish is what e does to an output, for the kernels that do it on their way.
func (e *ConvEpilogue) finish() conv.Finish {
	if e.After.none() {
		return conv.Finish{Offset: e.Bias, Low: minusInf}
	}
	return conv.Finish{Scale: e.After.Scale.Data, Offset: e.After.Offset.Data, Ld: e.After.Scale.Cols}
}
