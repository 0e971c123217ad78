package cinn_test

import (
	"image"
	"image/color"
	"slices"
	"testing"

	"netfusion/bench/tiny"
)

func uniform(w, h int, c color.Color) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(5, 7, 5+w, 7+h))
	for y := range h {
		for x := range w {
			img.Set(5+x, 7+y, c)
		}
	}
	return img
}

func TestFitLeavesAnImageOfTheRightSizeAsItIs(t *testing.T) {
	m, _ := open(t, tiny.Pack(t), 1)
	if src := photo(3); !slices.Equal(m.Fit(src).Pix, src.Pix) {
		t.Error("it changed")
	}
}

func TestFitKeepsColoursAndProportions(t *testing.T) {
	m, _ := open(t, tiny.Pack(t), 1)
	red := color.NRGBA{200, 10, 30, 255}
	white := color.NRGBA{255, 255, 255, 255}
	for _, size := range []image.Point{{1, 1}, {3, 3}, {16, 16}, {17, 17}, {100, 100}, {64, 32}, {10, 40}, {1000, 3}} {
		got := m.Fit(uniform(size.X, size.Y, red))
		if got.Rect != m.Bounds() {
			t.Fatalf("%v: bounds %v", size, got.Rect)
		}
		n := 0
		for y := range 16 {
			for x := range 16 {
				switch got.NRGBAAt(x, y) {
				case red:
					n++
				case white:
				default:
					t.Fatalf("%v: pixel %d %d is %v", size, x, y, got.NRGBAAt(x, y))
				}
			}
		}
		want := 16 * max(1, 16*min(size.X, size.Y)/max(size.X, size.Y))
		if n != want || got.NRGBAAt(8, 8) != red && want > 16 {
			t.Errorf("%v: %d red pixels, want %d", size, n, want)
		}
	}
}

func TestFitAveragesWhatItShrinksOnWhite(t *testing.T) {
	m, _ := open(t, tiny.Pack(t), 1)
	src := image.NewNRGBA(image.Rect(0, 0, 32, 32)) // squares of 2 × 2: one pixel black, one red, two transparent
	for y := 0; y < 32; y += 2 {
		for x := 0; x < 32; x += 2 {
			src.SetNRGBA(x, y, color.NRGBA{0, 0, 0, 255})
			src.SetNRGBA(x+1, y+1, color.NRGBA{255, 0, 0, 255})
		}
	}
	want := color.NRGBA{191, 128, 128, 255} // (0 + 255 + 255 + 255)/4, (0 + 0 + 255 + 255)/4
	if got := m.Fit(src).NRGBAAt(4, 9); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	gradient := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	for i := range 4 {
		gradient.SetNRGBA(i%2, i/2, color.NRGBA{uint8(255 * (i % 2)), 0, 0, 255})
	}
	got := m.Fit(gradient)
	for x := 1; x < 16; x++ {
		if a, b := got.NRGBAAt(x-1, 5).R, got.NRGBAAt(x, 5).R; b < a || b-a > 40 {
			t.Errorf("enlarged, column %d is %d after %d", x, b, a)
		}
	}
	if empty := m.Fit(image.NewNRGBA(image.Rectangle{})); empty.NRGBAAt(0, 0) != (color.NRGBA{255, 255, 255, 255}) {
		t.Error("nothing is not white")
	}
}
