package main

import (
	"image"
	"image/color"
	"image/draw"
)

// sheetWidth is what a sheet is enlarged to, about, in pixels.
const sheetWidth = 600

// grid arranges n pictures: among the grids between a square and twice as wide as high, the one with the fewest holes,
// and of these the squarest. So 8 are 4 × 2, 9 are 3 × 3, 10 are 4 × 3.
func grid(n int) (columns, rows int) {
	holes := n + 1
	for r := 1; r*r <= n || holes > n; r++ {
		c := (n + r - 1) / r
		if r <= c && c <= 2*r && r*c-n <= holes {
			columns, rows, holes = c, r, r*c-n
		}
	}
	return columns, rows
}

// margin is the white between pictures and around a sheet, in their own pixels.
func margin(width int) int { return max(1, width/16) }

// layout puts pictures of one size on a white sheet. A single picture is its own sheet.
func layout(pictures []*image.NRGBA) *image.NRGBA {
	if len(pictures) == 1 {
		return pictures[0]
	}
	columns, _ := grid(len(pictures))
	return arrange(pictures, columns)
}

// arrange puts pictures of one size on a white sheet, row by row, pixel for pixel. nil leaves a place free.
func arrange(pictures []*image.NRGBA, columns int) *image.NRGBA {
	size := pictures[0].Rect.Size()
	rows := (len(pictures) + columns - 1) / columns
	gap := margin(size.X)
	step := size.Add(image.Pt(gap, gap))
	sheet := image.NewNRGBA(image.Rect(0, 0, columns*step.X+gap, rows*step.Y+gap))
	draw.Draw(sheet, sheet.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
	for i, p := range pictures {
		if p == nil {
			continue
		}
		corner := image.Pt(gap+i%columns*step.X, gap+i/columns*step.Y)
		draw.Draw(sheet, image.Rectangle{Min: corner, Max: corner.Add(size)}, p, p.Rect.Min, draw.Src)
	}
	return sheet
}

// upscale makes every pixel k × k pixels.
func upscale(src *image.NRGBA, k int) *image.NRGBA {
	if k == 1 {
		return src
	}
	size := src.Rect.Size()
	dst := image.NewNRGBA(image.Rect(0, 0, k*size.X, k*size.Y))
	for y := range size.Y {
		first := dst.Pix[k*y*dst.Stride:][:dst.Stride]
		for x := range dst.Rect.Dx() {
			at := src.PixOffset(src.Rect.Min.X+x/k, src.Rect.Min.Y+y)
			copy(first[4*x:4*x+4], src.Pix[at:at+4])
		}
		for j := 1; j < k; j++ {
			copy(dst.Pix[(k*y+j)*dst.Stride:][:dst.Stride], first)
		}
	}
	return dst
}
