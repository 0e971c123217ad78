package tensor

import "fmt"

// GPUFilter is the weights of a convolution on a GPU: [phases][Out][size·size·In], float32 or bfloat16. A filter that upsamples has
// four phases of 2×2 (see conv.cu).
type GPUFilter struct {
	ConvShape
	TF32 bool // float32 is rounded to tf32, whatever the GPUOptions say

	precision Precision
	weights   DevicePtr
}

// Weights is all of f's, for GPUEpilogue.Ahead.
func (f *GPUFilter) Weights() GPUWeight {
	k := f.size() * f.size() * f.In
	return GPUWeight{N: f.phases() * f.Out, K: k, Precision: f.precision, ptr: f.weights, ld: k}
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

// GPUConvEpilogue is what Conv does with its sums: as a product, and Skip.
type GPUConvEpilogue struct {
	GPUEpilogue        // its Residual is not used
	Skip        Buffer // added at the end: the first Out channels of a map as large as the output, or half as large
	SkipUp      bool   // Skip is half as large, and upsampled to the nearest neighbour
}

// Conv computes dst = epilogue(f * x). x holds images of h×w pixels, [N·h·w][f.In]; dst is [N·h'·w'][f.Out] with h' = ceil(h/stride),
// or 2h where f upsamples. dst must not overlap x. Pixels of x begin at multiples of 16 bytes; they are rounded to f's precision, in
// memory that is taken for the time, unless they are in that already.
func (q *Queue) Conv(dst, x Buffer, h, w int, f *GPUFilter, e GPUConvEpilogue) {
	choose := func(f *GPUFilter, windows int) choice { return q.g.convolution(f, h, w, windows) }
	if q.g.options.Tune {
		choose = func(f *GPUFilter, windows int) choice {
			key := tuning{weights: f.precision, rows: f.precision, filter: f.ConvShape, sizes: [3]int{h, w, windows}}
			return q.g.tune(key, q.g.convolution(f, h, w, windows), q.g.convolutions(f, h, w, windows), func(q *Queue, c choice) {
				q.conv(func(f *GPUFilter, windows int) choice { return c }, q.TakePacked(windows*f.phases(), f.Out), q.TakeIn(f.precision, x.Rows, f.In),
					h, w, f, &GPUConvEpilogue{})
			})
		}
	}
	q.conv(choose, dst, x, h, w, f, &e)
}

// ConvPixels is Conv for the last convolution of a generator, whose 3 outputs in [-1, 1] are colours: dst gets red, green, blue and
// 255 as bytes of one word. It applies of e what comes before After.
func (q *Queue) ConvPixels(dst Array[uint32], x Buffer, h, w int, f *GPUFilter, e GPUConvEpilogue) {
	if f.Out != 3 || f.Up || !e.After.none() || !e.Next.To.None() || !e.Skip.None() {
		panic("tensor: ConvPixels of what are no colours")
	}
	if f.exact(q.g) {
		defer q.Release(q.Taken())
		image := q.TakePacked(dst.Len, 3)
		q.Conv(image, x, h, w, f, e)
		q.Pixels(dst, image)
		return
	}
	q.conv(func(f *GPUFilter, windows int) choice {
		return choice{entry: "conv_" + tensorFormat(f.precision) + "_pixels", few: 64}
	}, Buffer{Ptr: dst.Ptr, Rows: dst.Len, Cols: 3, Ld: 3}, x, h, w, f, &e)
}

func (q *Queue) conv(choose func(f *GPUFilter, windows int) choice, dst, x Buffer, h, w int, f *GPUFilter, e *GPUConvEpilogue) {
	oh, ow := (h+f.Stride-1)/f.Stride, (w+f.Stride-1)/f.Stride // windows
	images := x.Rows / (h * w)
	windows := images * oh * ow
	m := windows * f.phases()
	if x.Cols != f.In || x.Rows != images*h*w || !dst.None() && !dst.same(m, f.Out) {
		panic("tensor: Conv shapes differ")
	}
	if !e.fits(dst, m, f.Out) || !e.Residual.None() {
		panic("tensor: Conv cannot apply this GPUConvEpilogue")
	}
	if !e.Skip.None() {
		want := m
		if e.SkipUp {
			want /= 4
		}
		if e.Skip.Cols < f.Out || e.Skip.Rows != want || e.SkipUp && !f.Up && (h%2 != 0 || w%2 != 0) {
			panic("tensor: Conv cannot add this Skip")
		}
	}
	if !x.aligned() || x.Precision != F32 && x.Precision != f.precision {
		panic("tensor: Conv of pixels that do not begin at multiples of 16 bytes, or in another precision")
	}
	defer q.Release(q.Taken())
	if x.Precision != f.precision {
		x = q.rounded(x, f.precision)
	}
	c := choose(f, windows)
	extent := [3]int{windows, f.Out, f.phases()}
	if c.few > 0 {
		extent = [3]int{f.Out, windows, f.phases()}
	}
	args := make([]any, 0, 50)
	if c.maps {
		args = append(args, f.boxes(x, h, w), f.taps())
	}
	args = append(args, x.Ptr, f.weights, x.Ld, h, w, f.In, oh, ow, f.size(), f.Stride, number(f.Up), number(e.SkipUp))
	weights := f.Weights()
	q.worked(float64(m)*float64(f.Out)*float64(weights.K), weights.bytes(), x, dst, e.Skip, e.Next.To)
	q.launch(c.entry, extent, e.output(args, dst, m, f.Out, e.Skip)...)
}

// phases is how many filters f is, and size how many pixels they have across.
func (f *GPUFilter) phases() int {
	if f.Up {
		return 4
	}
	return 1
}

func (f *GPUFilter) size() int {
	if f.Up {
		return 2
	}
	return f.Size
}

// exact tells whether f multiplies in float32.
func (f *GPUFilter) exact(g *GPU) bool { return f.precision == F32 && !f.TF32 && !g.options.TF32 }

// boxed tells whether the tensor memory accelerator can gather f's windows of images of h×w pixels: see hopper.cu, for which boxes
// describes these, and taps the weights.
func (f *GPUFilter) boxed(h, w int) bool {
	divides := func(n int) bool { return n%64 == 0 || 64%n == 0 }
	return f.precision == BF16 && f.Stride == 1 && divides(w) && divides(h*w)
}

func (f *GPUFilter) boxes(x Buffer, h, w int) TensorMap {
	pixel, wide := 2*x.Ld, min(w, 64)
	high := min(h, 64/wide)
	return TensorMap{Ptr: x.Ptr, Element: 2, Dims: []int{f.In, w, h, x.Rows / (h * w)}, Strides: []int{pixel, pixel * w, pixel * w * h},
		Box: []int{64, wide, high, 64 / (wide * high)}, Swizzle: 128}
}

func (f *GPUFilter) taps() TensorMap {
	n := f.size() * f.size()
	return TensorMap{Ptr: f.weights, Element: 2, Dims: []int{f.In, n, f.phases() * f.Out}, Strides: []int{2 * f.In, 2 * f.In * n},
		Box: []int{64, 1, 64}, Swizzle: 128}
}

// convolution chooses the entry for so many windows: see product.
func (g *GPU) convolution(f *GPUFilter, h, w, windows int) choice {
	if f.exact(g) {
		return choice{entry: "conv_f32"}
	}
	kind := "conv_" + tensorFormat(f.precision)
	if windows <= 64 && !g.fills(windows, f.Out, f.phases()) {
		few := 64 // as many as leave enough blocks to keep the memory busy
		for few > 16 && roundUp(f.Out, 8)/8*(roundUp(windows, few)/few)*f.phases() < 3*g.attributes.Multiprocessors/2 {
			few /= 2
		}
		return choice{entry: fmt.Sprintf("%s_m%d", kind, few), few: few}
	}
	if f.Out <= 8 {
		return choice{entry: kind + "_m64", few: 64}
	}
	if entry, ok := g.warpgroups("conv", windows, f.Out, f.phases()); ok && f.boxed(h, w) {
		return choice{entry: entry, maps: true}
	}
	return choice{entry: kind + "_" + g.tiled(windows, f.Out, f.phases(), f.size()*f.size()*f.In*f.precision.bytes())}
}

// convolutions lists the entries that convolution may choose from, unless it has no choice.
func (g *GPU) convolutions(f *GPUFilter, h, w, windows int) []choice {
	if f.exact(g) {
		return nil
	}
	var all []choice
	kind := "conv_" + tensorFormat(f.precision)
	for _, tile := range []string{"_t32", "_t64", "_t128", "_s32", "_x32"} {
		all = append(all, choice{entry: kind + tile})
	}
	for _, few := range []int{16, 32, 64} {
		if windows <= 256 || f.Out <= 8 {
			all = append(all, choice{entry: fmt.Sprintf("%s_m%d", kind, few), few: few})
		}
	}
	for _, entry := range []string{"conv_bf16_w64", "conv_bf16_w128"} {
		if f.boxed(h, w) && g.has(entry) {
			all = append(all, choice{entry: entry, maps: true})
		}
	}
	return all
}

// tensorFormat is what tensor cores multiply weights of a precision in.
func tensorFormat(p Precision) string {
	if p == F32 {
		return "tf32"
	}
	return "bf16"
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
