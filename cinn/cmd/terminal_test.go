package main

import (
	"image"
	"image/color"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHalfBlocksGolden(t *testing.T) {
	red, blue, green := color.NRGBA{255, 0, 0, 255}, color.NRGBA{0, 0, 255, 255}, color.NRGBA{0, 255, 0, 255}
	a := flatPicture(3, 3, red)
	a.SetNRGBA(1, 0, blue)
	a.SetNRGBA(2, 1, green)
	b := flatPicture(3, 3, blue)
	var out strings.Builder
	halfBlocks(&out, []*image.NRGBA{a, b}, 80)
	const want = "\x1b[38;2;255;0;0m\x1b[48;2;255;0;0m▀\x1b[38;2;0;0;255m▀\x1b[38;2;255;0;0m\x1b[48;2;0;255;0m▀\x1b[0m" +
		"  \x1b[38;2;0;0;255m\x1b[48;2;0;0;255m▀▀▀\x1b[0m\n" +
		"\x1b[38;2;255;0;0m▀▀▀\x1b[0m  \x1b[38;2;0;0;255m▀▀▀\x1b[0m\n\n"
	if out.String() != want {
		t.Errorf("got\n%q, want\n%q", out.String(), want)
	}
}

var sequences = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestHalfBlocksFitTheTerminal(t *testing.T) {
	for _, test := range []struct{ side, n, columns, wide, lines int }{
		{32, 1, 80, 32, 16 + 1},
		{32, 8, 200, 4*34 - 2, 2 * 17},
		{32, 8, 134, 134, 2 * 17},
		{32, 8, 133, 3*34 - 2, 3 * 17},
		{32, 8, 80, 66, 4 * 17},
		{32, 8, 40, 32, 8 * 17},
		{32, 2, 31, 16, 2 * 9}, // shrunk to 16 pixels; two in a row would need 34 columns
		{32, 2, 1, 1, 2 * 2},
		{128, 1, 80, 64, 32 + 1},
		{64, 1, 80, 64, 32 + 1}, // there is room
		{64, 8, 300, 4*66 - 2, 2 * 33},
		{64, 8, 150, 134, 2 * 17}, // shrunk to 32 pixels, so that a line of the sheet fits
		{64, 8, 80, 66, 4 * 17},   // no further
	} {
		var pictures []*image.NRGBA
		for range test.n {
			pictures = append(pictures, flatPicture(test.side, test.side, color.NRGBA{9, 9, 9, 255}))
		}
		var out strings.Builder
		halfBlocks(&out, pictures, test.columns)
		wide, lines := 0, strings.Split(sequences.ReplaceAllString(out.String(), ""), "\n")
		for _, line := range lines {
			wide = max(wide, utf8.RuneCountInString(line))
		}
		if wide != test.wide || len(lines)-1 != test.lines {
			t.Errorf("%d pictures of %d in %d columns: %d × %d, want %d × %d",
				test.n, test.side, test.columns, wide, len(lines)-1, test.wide, test.lines)
		}
	}
}

func TestShrinkingTakesMeans(t *testing.T) {
	p := flatPicture(2, 2, color.NRGBA{0, 100, 7, 255})
	p.SetNRGBA(1, 1, color.NRGBA{255, 200, 7, 255})
	if got, want := shrunk(p, 2, 0, 0), (color.NRGBA{64, 125, 7, 255}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
