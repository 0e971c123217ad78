package nn

import (
	"fmt"
	"image"
)

// CheckSquare tells whether Colours can read src.
func CheckSquare(src *image.NRGBA, side int) error {
	if src == nil {
		return fmt.Errorf("no image")
	}
	if n := src.Rect.Dx(); n != src.Rect.Dy() || n < side || n%side != 0 {
		return fmt.Errorf("an image of %d×%d pixels, want a square whose side is a multiple of %d", n, src.Rect.Dy(), side)
	}
	return nil
}

// Colours writes src, a square picture whose side is a multiple of side, as an image expert reads it: [side][side][3] in [-1, 1], each the
// mean over a square of pixels. What is transparent is white.
func Colours(dst []float32, src *image.NRGBA, side int) {
	n := src.Rect.Dx() / side
	scale := 2 / float64(255*255*n*n)
	for y := range side {
		for x := range side {
			var sums [3]int // of colour·255
			for dy := range n {
				row := src.Pix[(y*n+dy)*src.Stride+4*x*n:][:4*n]
				for i := 0; i < len(row); i += 4 {
					alpha := int(row[i+3])
					for k := range sums {
						sums[k] += int(row[i+k])*alpha + 255*(255-alpha)
					}
				}
			}
			for k, v := range sums {
				dst[(y*side+x)*3+k] = float32(float64(float64(v)*scale) - 1)
			}
		}
	}
}
