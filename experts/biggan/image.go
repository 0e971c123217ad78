package biggan

import "image"

// Byte returns the colour value of a generator's output x in (-1, 1): 256·(x+1)/2, truncated and clipped.
func Byte(x float32) byte {
	v := 128 * (x + 1)
	switch {
	case !(v > 0):
		return 0
	case v >= 255:
		return 255
	}
	return byte(v)
}

// Draw writes the pixels of one generated image, [height·width][3], to dst, whose bounds they must fill.
func Draw(dst *image.NRGBA, pixels []float32) {
	b := dst.Bounds()
	if len(pixels) != 3*b.Dx()*b.Dy() {
		panic("biggan: the pixels do not fill the image")
	}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		row := dst.Pix[dst.PixOffset(b.Min.X, y):]
		for x := range b.Dx() {
			p := row[4*x : 4*x+4 : 4*x+4]
			p[0], p[1], p[2], p[3] = Byte(pixels[0]), Byte(pixels[1]), Byte(pixels[2]), 255
			pixels = pixels[3:]
		}
	}
}
