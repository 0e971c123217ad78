// Package conv turns 3×3 convolutions into products for kernels/matmul, a part of the image at a time, so that it is still in
// cache when it is multiplied. A Scheme transforms small tiles so that they take fewer products; Patches gathers the pixels
// under a run of output pixels as rows of a matrix ("im2col"), for what no Scheme suits.
//
// Images are NHWC: x is [images][h][w][c]. Filters are OHWI: [out][3][3][in]. Output pixels are numbered through the
// whole batch, p = (image·height + y)·width + x.
//
// On a GPU, conv.cu convolves without that: it gathers the pixels as it multiplies.
package conv

import "netfusion/kernels/affine"

// Patches writes the 3×3 patches, zero beyond the border (padding 1), under the output pixels p0 <= p < p1 of a
// convolution with the given stride: dst is [p1-p0][3][3][c]. The output is ceil(h/stride) by ceil(w/stride).
func Patches(dst, x []float32, h, w, c, stride, p0, p1 int) {
	if h <= 0 || w <= 0 || c <= 0 || stride <= 0 || p0 < 0 || p1 < p0 {
		panic("conv: bad size")
	}
	rows, cols := (h+stride-1)/stride, (w+stride-1)/stride
	if len(dst) < (p1-p0)*9*c {
		panic("conv: dst too short")
	}
	if pixels := rows * cols; len(x) < (p1+pixels-1)/pixels*h*w*c {
		panic("conv: x too short")
	}
	for p := p0; p < p1; p++ {
		image, y, at := split(p, rows, cols)
		copyWindow(dst[(p-p0)*9*c:][:9*c], x[image*h*w*c:][:h*w*c], h, w, c, y*stride-1, at*stride-1)
	}
}

// split returns the place of output pixel p.
func split(p, h, w int) (image, y, x int) { return p / (h * w), p / w % h, p % w }

// copyWindow copies the 3×3 pixels of one image from (y0, x0) on; pixels outside are zero.
func copyWindow(dst, image []float32, h, w, c, y0, x0 int) {
	left, right := max(0, -x0), min(3, w-x0) // columns of the window inside the image
	for y := y0; y < y0+3; y++ {
		row := dst[:3*c]
		dst = dst[3*c:]
		if y < 0 || y >= h {
			clear(row)
			continue
		}
		clear(row[:left*c])
		copy(row[left*c:right*c], image[(y*w+x0+left)*c:])
		clear(row[right*c:])
	}
}

// FoldUpsample computes the four 2×2 filters that, on the small image, equal w after a nearest-neighbour upsampling by
// 2: w is [out][3][3][in], dst is [py][px][out][2][2][in]. Along each axis the three taps see two pixels: {k0, k1+k2} in
// phase 0, {k0+k1, k2} in phase 1. It takes 4/9 of the multiplications: what a form without a Scheme for it, such as the GPU's, can do.
func FoldUpsample(dst, w []float32, out, in int) {
	if len(w) != out*9*in || len(dst) != 16*out*in {
		panic("conv: lengths differ")
	}
	for py := range 2 {
		for px := range 2 {
			for o := range out {
				filter := w[o*9*in:][:9*in]
				d := dst[((py*2+px)*out+o)*4*in:][:4*in]
				for i := range in {
					var sum [2][2]float64
					for ky := range 3 {
						for kx := range 3 {
							sum[(ky+1-py)/2][(kx+1-px)/2] += float64(filter[(ky*3+kx)*in+i])
						}
					}
					d[i], d[in+i], d[2*in+i], d[3*in+i] =
						float32(sum[0][0]), float32(sum[0][1]), float32(sum[1][0]), float32(sum[1][1])
				}
			}
		}
	}
}

// AddUpsampled adds to the output pixels p0 <= p < p1 of a map twice as large, dst [p1-p0][ldd], the pixels of x
// ([images][h][w][c], upsampled to the nearest neighbour), in the channels j0 <= j < j1.
func AddUpsampled(dst []float32, ldd int, x []float32, h, w, c, p0, p1, j0, j1 int) {
	if h <= 0 || w <= 0 || c <= 0 || p0 < 0 || p1 < p0 || j0 < 0 || j1 < j0 || j1 > c || ldd < j1 {
		panic("conv: bad size")
	}
	if p0 == p1 {
		return
	}
	if len(dst) < (p1-p0-1)*ldd+j1 {
		panic("conv: dst too short")
	}
	if len(x) < (p1+4*h*w-1)/(4*h*w)*h*w*c {
		panic("conv: x too short")
	}
	for p := p0; p < p1; {
		image, y, at := split(p, 2*h, 2*w)
		run := min(2-at%2, p1-p) // pixels that show the same one of x
		affine.Add(dst[(p-p0)*ldd+j0:], ldd, x[((image*h+y/2)*w+at/2)*c+j0:], 0, run, j1-j0)
		p += run
	}
}

// SumTaps adds up a 3×3 convolution, padding 1, of one image of h×w pixels from the products of its pixels with each tap:
// taps is [bottom-top][w][3][3][out], the rows top <= y < bottom, and dst the rows y0 <= y < y1 of the output, [y1-y0][w][out].
// The rows above and below each output row must be among those of taps, unless they are beyond the border. bias is [out] or nil.
func SumTaps(dst, taps []float32, top, bottom, h, w, out, y0, y1 int, bias []float32) {
	if h <= 0 || w <= 0 || out <= 0 || y0 < 0 || y1 < y0 || y1 > h || top > max(0, y0-1) || top < 0 || bottom < min(y1+1, h) || bottom > h {
		panic("conv: bad size")
	}
	if len(dst) < (y1-y0)*w*out {
		panic("conv: dst too short")
	}
	if len(taps) < (bottom-top)*w*9*out {
		panic("conv: taps too short")
	}
	if bias != nil && len(bias) < out {
		panic("conv: bias too short")
	}
	for y := y0; y < y1; y++ {
		row := dst[(y-y0)*w*out:][:w*out]
		clear(row)
		for x := 0; bias != nil && x < w; x++ {
			copy(row[x*out:], bias[:out])
		}
		for ky := range 3 {
			from := y + ky - 1
			if from < 0 || from >= h {
				continue
			}
			addTaps(row, taps[(from-top)*w*9*out+ky*3*out:], w, out)
		}
	}
}

// addTaps adds to a row of output what the products of one row of pixels, with the three taps that taps begins at, give it.
func addTaps(row, taps []float32, w, out int) {
	next := 10 * out // from a pixel and a tap to the next pixel and the next tap
	for x := range w {
		d := row[x*out:][:out]
		t := taps[max(0, (x-1)*9*out):]
		switch {
		case x > 0 && x < w-1 && out == 3: // colours
			t := (*[63]float32)(t)
			d := (*[3]float32)(d)
			d[0] = d[0] + t[0] + t[30] + t[60]
			d[1] = d[1] + t[1] + t[31] + t[61]
			d[2] = d[2] + t[2] + t[32] + t[62]
		case x > 0:
			for o := range d {
				sum := d[o] + t[o] + t[next+o]
				if x < w-1 {
					sum += t[2*next+o]
				}
				d[o] = sum
			}
		default: // the first pixel has none to the left
			for o := range d {
				sum := d[o] + t[out+o]
				if w > 1 {
					sum += t[out+next+o]
				}
				d[o] = sum
			}
		}
	}
}
