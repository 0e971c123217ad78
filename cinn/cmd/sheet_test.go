package main

import (
	"image"
	"image/color"
	"testing"
)

func TestGridIsNearlySquareWithFewHoles(t *testing.T) {
	want := map[int]image.Point{
		1: {1, 1}, 2: {2, 1}, 3: {2, 2}, 4: {2, 2}, 5: {3, 2}, 6: {3, 2}, 7: {4, 2}, 8: {4, 2}, 9: {3, 3},
		10: {4, 3}, 12: {4, 3}, 15: {5, 3}, 16: {4, 4}, 17: {6, 3}, 100: {10, 10},
	}
	for n := 1; n <= maxPictures; n++ {
		c, r := grid(n)
		if w, ok := want[n]; ok && (c != w.X || r != w.Y) {
			t.Errorf("%d pictures: %d × %d, want %d × %d", n, c, r, w.X, w.Y)
		}
		if c*r < n || c*(r-1) >= n || c < r || c > 2*r {
			t.Errorf("%d pictures: %d × %d", n, c, r)
		}
	}
}

// flatPicture is w × h pixels of one colour.
func flatPicture(w, h int, c color.NRGBA) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, c)
		}
	}
	return m
}

func TestLayoutPixelForPixel(t *testing.T) {
	colours := []color.NRGBA{{1, 0, 0, 255}, {2, 0, 0, 255}, {3, 0, 0, 255}, {4, 0, 0, 255}, {5, 0, 0, 255}}
	var pictures []*image.NRGBA
	for _, c := range colours {
		pictures = append(pictures, flatPicture(4, 3, c))
	}
	sheet := layout(pictures) // 3 × 2, margin 1
	if sheet.Rect != image.Rect(0, 0, 3*5+1, 2*4+1) {
		t.Fatalf("bounds are %v", sheet.Rect)
	}
	for y := range 9 {
		for x := range 16 {
			want := color.NRGBA{255, 255, 255, 255}
			if i := y/4*3 + x/5; x%5 != 0 && y%4 != 0 && i < len(colours) {
				want = colours[i]
			}
			if got := sheet.NRGBAAt(x, y); got != want {
				t.Errorf("(%d,%d): %v, want %v", x, y, got, want)
			}
		}
	}
	if layout(pictures[:1]) != pictures[0] {
		t.Error("one picture got a frame")
	}
}

func TestUpscaleRepeatsPixels(t *testing.T) {
	src := image.NewNRGBA(image.Rect(5, 7, 8, 9))
	for i := range src.Pix {
		src.Pix[i] = byte(i)
	}
	dst := upscale(src, 3)
	if dst.Rect != image.Rect(0, 0, 9, 6) {
		t.Fatalf("bounds are %v", dst.Rect)
	}
	for y := range 6 {
		for x := range 9 {
			if got, want := dst.NRGBAAt(x, y), src.NRGBAAt(5+x/3, 7+y/3); got != want {
				t.Errorf("(%d,%d): %v, want %v", x, y, got, want)
			}
		}
	}
}

func TestSheetsAreAboutSixHundredPixelsWide(t *testing.T) {
	for _, test := range []struct{ side, n, width int }{
		{32, 1, 608}, {32, 2, 630}, {32, 8, 552}, {32, 9, 624}, {32, 100, 684}, {128, 1, 640}, {128, 8, 552}, {256, 4, 560},
	} {
		d := new(drawing)
		for range test.n {
			d.pictures = append(d.pictures, image.NewNRGBA(image.Rect(0, 0, test.side, test.side)))
		}
		sheet, err := new(sheetFlags).enlarged(layout(d.pictures))
		if err != nil || sheet.Rect.Dx() != test.width {
			t.Errorf("%d pictures of %d pixels: a sheet of %v, %v; want %d", test.n, test.side, sheet.Rect, err, test.width)
		}
	}
	d := &drawing{pictures: []*image.NRGBA{image.NewNRGBA(image.Rect(0, 0, 1024, 1024))}}
	if _, err := (&sheetFlags{scale: 64}).enlarged(layout(d.pictures)); err == nil {
		t.Error("a sheet of 16 GiB was made")
	}
}
