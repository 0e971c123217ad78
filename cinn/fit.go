package cinn

import (
	"image"
	"image/color"
	"math"
)

// Fit returns src as an image of the pack, of the size of Model.Bounds.
func (m *Model) Fit(src image.Image) *image.NRGBA { return Fit(src, m.Bounds().Size()) }

// Fit returns src as an image of the given size: whole and in the middle, on a white ground that shows where src is transparent and
// beside it where it has another shape. What is shrunk is averaged, each pixel over the area that it takes the place of; what is
// enlarged is interpolated between the four nearest pixels. Colours are mixed as they are stored, like most programs do it.
func Fit(src image.Image, size image.Point) *image.NRGBA {
	from := src.Bounds().Size()
	if from.X <= 0 || from.Y <= 0 {
		return paper(size)
	}
	scale := min(float64(size.X)/float64(from.X), float64(size.Y)/float64(from.Y))
	to := image.Pt(max(1, int(math.Round(scale*float64(from.X)))), max(1, int(math.Round(scale*float64(from.Y)))))
	across, down := resample(from.X, to.X), resample(from.Y, to.Y)

	// Along rows, then along columns. Rows that no pixel needs yet are not made: memory is that of the result's width.
	rows := make([][]float32, from.Y)
	dst := paper(size)
	corner := size.Sub(to).Div(2)
	for y, vertical := range down {
		line := make([]float32, 3*to.X)
		for i, w := range vertical.weights {
			at := vertical.first + i
			if rows[at] == nil {
				rows[at] = rowOnWhite(src, at, across)
			}
			for j, v := range rows[at] {
				line[j] += float32(w * v)
			}
		}
		for at := range vertical.first {
			rows[at] = nil
		}
		for x := range to.X {
			p := dst.Pix[dst.PixOffset(corner.X+x, corner.Y+y):]
			for c := range 3 {
				p[c] = uint8(max(0, min(255, line[3*x+c]+0.5)))
			}
		}
	}
	return dst
}

// paper is a white image.
func paper(size image.Point) *image.NRGBA {
	img := image.NewNRGBA(image.Rectangle{Max: size})
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	return img
}

// taps are the pixels that one pixel of a resampled line is made of, and their weights, whose sum is 1.
type taps struct {
	first   int
	weights []float32
}

// resample returns the taps of each of to pixels along a line of from pixels.
func resample(from, to int) []taps {
	line := make([]taps, to)
	step := float64(from) / float64(to)
	for i := range line {
		if step < 1 {
			at := max(0, min(float64(from-1), (float64(i)+0.5)*step-0.5))
			first := min(int(at), max(0, from-2))
			part := float32(at - float64(first))
			line[i] = taps{first, []float32{1 - part, part}[:min(2, from)]}
			continue
		}
		begin, end := float64(i)*step, float64(i+1)*step
		t := taps{first: int(begin)}
		for p := t.first; float64(p) < end-1e-9 && p < from; p++ {
			t.weights = append(t.weights, float32((min(end, float64(p+1))-max(begin, float64(p)))/step))
		}
		line[i] = t
	}
	return line
}

// rowOnWhite resamples row y of src, on white: [pixels][3].
func rowOnWhite(src image.Image, y int, across []taps) []float32 {
	b := src.Bounds()
	full := make([]float32, 3*b.Dx())
	for x := range b.Dx() {
		c := color.NRGBA64Model.Convert(src.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA64)
		alpha := float32(c.A) / 65535
		for i, v := range [3]uint16{c.R, c.G, c.B} {
			full[3*x+i] = 255 + float32(alpha*(float32(v)/257-255))
		}
	}
	row := make([]float32, 3*len(across))
	for x, t := range across {
		for i, w := range t.weights {
			for c := range 3 {
				row[3*x+c] += float32(w * full[3*(t.first+i)+c])
			}
		}
	}
	return row
}
