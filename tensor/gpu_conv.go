package tensor

import (
	"fmt"

	"netfusion/kernels/matmul"
)

// GPUFilter is the weights of a convolution on a GPU: [phases][Out][size·size·In], float32 or bfloat16. A filter that upsamples has
// four phases of 2×2 (see conv.cu).
type GPUFilter struct {
	ConvShape
	precision Precision
	weights   DevicePtr
}

// NewFilter uploads w, OHWI: [Out][Size][Size][In], to be multiplied in precision p; Int8 counts as BF16. In must be a multiple of 4;
// unless it is one of 8, the products are float32.
func (g *GPU) NewFilter(p Precision, w []float32, s ConvShape) GPUFilter {
	if len(w) != s.Out*s.Size*s.Size*s.In {
		panic("tensor: the weights do not fill the filter")
	}
	if s.Size != 1 && s.Size != 3 || s.Stride < 1 || s.Stride > 1 && (s.Size == 1 || s.Up) || s.Up && s.Size == 1 {
		panic("tensor: a filter that Conv cannot compute")
	}
	if s.In%F32.unit() != 0 {
		g.fail(fmt.Errorf("a convolution of %d channels: on a GPU they must be a multiple of %d", s.In, F32.unit()))
		return GPUFilter{}
	}
	f := GPUFilter{ConvShape: s}
	if p != F32 && s.In%BF16.unit() == 0 {
		f.precision = BF16
	}
	size, rows := s.Size, s.Out
	if s.Up {
		w, size, rows = fold(w, s.Out, s.In), 2, 4*s.Out
	}
	f.weights = g.NewWeight(f.precision, w, rows, size*size*s.In).ptr
	return f
}

// fold returns the filters of the four phases, [2][2][out][2][2][in], that after an upsampling by 2 equal w [out][3][3][in]: along each
// axis {k0, k1+k2} in phase 0 and {k0+k1, k2} in phase 1.
func fold(w []float32, out, in int) []float32 {
	dst := make([]float32, 16*out*in)
	for phase := range 4 {
		for j := range out {
			for ky := range 3 {
				for kx := range 3 {
					tap := (ky+1-phase/2)/2*2 + (kx+1-phase%2)/2
					to, from := dst[((phase*out+j)*4+tap)*in:][:in], w[((j*3+ky)*3+kx)*in:]
					for i := range to {
						to[i] += from[i]
					}
				}
			}
		}
	}
	return dst
}

// GPUConvEpilogue is what Conv does around its product. Zero values are left out.
type GPUConvEpilogue struct {
	Before GPUAffine      // and ReLU, on the input, where it is inside of the image
	Bias   Array[float32] // [Out]
	Act    matmul.Act
	After  GPUAffine // and ReLU
	Skip   Buffer    // added at the end: the first Out channels of a map as large as the output, or half as large
	SkipUp bool      // Skip is half as large, and upsampled to the nearest neighbour
}

// Conv computes dst = epilogue(f * x). x holds images of h×w pixels, [N·h·w][f.In]; dst is [N·h'·w'][f.Out] with h' = ceil(h/stride),
// or 2h where f upsamples. dst must not overlap x. Pixels of x begin at multiples of 16 bytes.
func (q *Queue) Conv(dst, x Buffer, h, w int, f *GPUFilter, e GPUConvEpilogue) {
	oh, ow := (h+f.Stride-1)/f.Stride, (w+f.Stride-1)/f.Stride // windows
	images, phases, size := x.Rows/(h*w), 1, f.Size
	if f.Up {
		phases, size = 4, 2
	}
	if x.Cols != f.In || x.Rows != images*h*w || !dst.same(images*oh*ow*phases, f.Out) {
		panic("tensor: Conv shapes differ")
	}
	if !x.aligned() {
		panic("tensor: Conv of pixels that do not begin at multiples of 16 bytes")
	}
	if !e.Before.fits(images, f.In) || !e.After.fits(images, f.Out) || e.Bias.Len != 0 && e.Bias.Len < f.Out {
		panic("tensor: Conv cannot apply this GPUConvEpilogue")
	}
	if !e.Skip.None() {
		want := dst.Rows
		if e.SkipUp {
			want /= 4
		}
		if e.Skip.Cols < f.Out || e.Skip.Rows != want || e.SkipUp && !f.Up && (h%2 != 0 || w%2 != 0) {
			panic("tensor: Conv cannot add this Skip")
		}
	}
	windows := images * oh * ow
	entry, few := q.g.convolution(f.precision, windows, f.Out, phases)
	extent := [3]int{windows, f.Out, phases}
	if few > 0 {
		extent = [3]int{f.Out, 1, phases}
	}
	q.launch(entry, extent, x, e.Before.Scale, e.Before.Offset, f.weights, dst, x.Ld, images, h, w, f.In, oh, ow, f.Out, size, f.Stride,
		number(f.Up), number(e.SkipUp), dst.Ld, 0, // the Epilogue begins at a multiple of 8 bytes
		e.Bias, e.After.Scale, e.After.Offset, e.Skip, e.Skip.Ld, int(e.Act))
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// MaxPool sets dst [N·h/2·w/2][C] to the largest of each 2×2 pixels of x [N·h·w][C], h and w even.
func (q *Queue) MaxPool(dst, x Buffer, h, w int) {
	images := x.Rows / (h * w)
	if h%2 != 0 || w%2 != 0 || x.Rows != images*h*w || !dst.same(x.Rows/4, x.Cols) || !dst.packed() {
		panic("tensor: MaxPool shapes differ")
	}
	q.launch("conv_maxpool", [3]int{dst.Rows, dst.Cols, 1}, dst, x, x.Ld, h, w, x.Cols)
}
