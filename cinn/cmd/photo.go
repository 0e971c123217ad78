package main

import (
	"errors"
	"fmt"
	"image"
	"image/draw"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
	"os"
)

// openPhoto reads the picture at path, a PNG, JPEG or GIF, as experts want it: the largest square in its middle, side×side pixels.
func openPhoto(path string, side int) (*image.NRGBA, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, _, err := image.DecodeConfig(f)
	const most = 1 << 26 // pixels
	switch {
	case errors.Is(err, image.ErrFormat):
		return nil, fmt.Errorf("%s: neither a PNG nor a JPEG nor a GIF", path)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case size.Width < 1 || size.Height < 1 || size.Width > most/size.Height:
		return nil, fmt.Errorf("%s: %d×%d pixels, want some, and at most %d", path, size.Width, size.Height, most)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	m, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return square(m, side), nil
}

// square is the largest square in the middle of src, side×side pixels: each is the mean of what it covers.
func square(src image.Image, side int) *image.NRGBA {
	b := src.Bounds()
	n := min(b.Dx(), b.Dy())
	corner := b.Min.Add(image.Pt((b.Dx()-n)/2, (b.Dy()-n)/2))
	pixels := image.NewRGBA(image.Rect(0, 0, n, n)) // premultiplied, so that what is transparent has no colour
	draw.Draw(pixels, pixels.Rect, src, corner, draw.Src)
	dst := image.NewRGBA(image.Rect(0, 0, side, side))
	spans := make([][]share, side)
	for i := range spans {
		spans[i] = covered(i, n, side)
	}
	for y := range side {
		for x := range side {
			var sum [4]float64
			for _, v := range spans[y] {
				for _, h := range spans[x] {
					for k, c := range pixels.Pix[v.at*pixels.Stride+4*h.at:][:4] {
						sum[k] += v.part * h.part * float64(c)
					}
				}
			}
			for k, s := range sum {
				dst.Pix[y*dst.Stride+4*x+k] = uint8(s + 0.5)
			}
		}
	}
	out := image.NewNRGBA(dst.Rect)
	draw.Draw(out, out.Rect, dst, image.Point{}, draw.Src)
	return out
}

// share is a pixel and how much of another it makes.
type share struct {
	at   int
	part float64
}

// covered lists the pixels, of n in a row, that pixel i of side in a row covers.
func covered(i, n, side int) (list []share) {
	for at := i * n / side; at*side < (i+1)*n; at++ {
		begin, end := max(at*side, i*n), min((at+1)*side, (i+1)*n) // in parts of a pixel's side
		list = append(list, share{at, float64(end-begin) / float64(n)})
	}
	return list
}
