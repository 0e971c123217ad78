package main

import (
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASquareIsTheMiddle(t *testing.T) {
	src := image.NewNRGBA(image.Rect(10, 10, 16, 12)) // 6 wide, 2 high: columns 12 and 13 are the middle
	for x := 10; x < 16; x++ {
		for y := 10; y < 12; y++ {
			src.SetNRGBA(x, y, color.NRGBA{uint8(20 * (x - 10)), 0, 0, 255})
		}
	}
	for side, want := range map[int][]uint8{1: {50}, 2: {40, 60}, 4: {40, 40, 60, 60}, 3: {40, 50, 60}} {
		m := square(src, side)
		for x, v := range want {
			if got := m.NRGBAAt(x, side-1); got != (color.NRGBA{v, 0, 0, 255}) {
				t.Errorf("%d pixels: %v at %d, want red %d", side, got, x, v)
			}
		}
	}
}

// A transparent pixel has no colour to give.
func TestWhatIsTransparentDoesNotColour(t *testing.T) {
	src := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	src.SetNRGBA(0, 0, color.NRGBA{200, 100, 50, 255})
	src.SetNRGBA(1, 1, color.NRGBA{1, 255, 255, 0})
	got := square(src, 1).NRGBAAt(0, 0)
	if math.Abs(float64(got.R)-200) > 4 || math.Abs(float64(got.G)-100) > 4 || got.A != 64 {
		t.Errorf("%v", got)
	}
}

func TestAFileThatIsNoPictureIsRefusedByName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "picture.png")
	if err := os.WriteFile(path, []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openPhoto(path, 8); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "PNG") {
		t.Errorf("%v", err)
	}
	if _, err := openPhoto(path+"x", 8); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
	if m, err := openPhoto("../../docs/prompts/cat.png", 8); err != nil || m.Rect.Dx() != 8 || m.Rect.Dy() != 8 {
		t.Errorf("%v, %v", m, err)
	}
}
