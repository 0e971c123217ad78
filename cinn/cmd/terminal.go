package main

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"io"
	"os"
)

// screen is a terminal that shows colours.
type screen struct {
	*os.File
}

// toTerminal tells whether standard output is a terminal of any kind.
func (s stdio) toTerminal() bool {
	f, ok := s.out.w.(*os.File)
	return ok && isTerminal(f)
}

// terminal returns the terminal behind standard output if pictures can be shown in it, nil otherwise. NO_COLOR is
// respected (no-color.org), and so is a terminal that says it is dumb.
func (s stdio) terminal() *screen {
	if !s.toTerminal() || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return nil
	}
	f := s.out.w.(*os.File)
	if !enableColour(f) {
		return nil
	}
	return &screen{f}
}

// console returns the terminal that a person types into and the one that they look at, if both are there.
func (s stdio) console() (in *os.File, out *screen, ok bool) {
	in, ok = s.in.(*os.File)
	out = s.terminal()
	return in, out, ok && out != nil && isTerminal(in)
}

// columns is the width of the terminal in cells.
func (t *screen) columns() int {
	if w := width(t.File); w > 0 {
		return w
	}
	return 80
}

// show draws pictures of one size, as many in a row as fit. A terminal that goes away is no reason to fail: the file
// is written by now.
func (t *screen) show(pictures []*image.NRGBA) {
	w := bufio.NewWriterSize(t.File, 1<<16)
	halfBlocks(w, pictures, t.columns())
	w.Flush()
}

// gapColumns is the space between pictures in a terminal, in cells; between rows there is half as many lines.
const gapColumns = 2

// enough is a picture's width in cells from which it may be shrunk, so that more of them stand side by side.
const enough = 32

// shrinkage is the whole factor by which pictures of the given width are shrunk: none is wider than the terminal, and if
// across of them do not fit side by side, none is much wider than enough.
func shrinkage(width, across, columns int) int {
	k := max(1, (width+columns-1)/columns)
	for across*(width/k+gapColumns)-gapColumns > columns && width/(k+1) >= enough {
		k++
	}
	return k
}

// halfBlocks writes pictures as text of at most the given number of columns: every cell is ▀, its foreground the upper
// pixel and its background the lower one.
func halfBlocks(w io.Writer, pictures []*image.NRGBA, columns int) {
	size := pictures[0].Rect.Size()
	across, _ := grid(len(pictures))
	k := shrinkage(size.X, across, columns)
	tile := image.Pt(size.X/k, size.Y/k)
	across = max(1, min(across, (columns+gapColumns)/(tile.X+gapColumns)))
	for len(pictures) > 0 {
		row := pictures[:min(across, len(pictures))]
		pictures = pictures[len(row):]
		for y := 0; y < tile.Y; y += 2 {
			for i, p := range row {
				if i > 0 {
					fmt.Fprintf(w, "%*s", gapColumns, "")
				}
				halfBlockLine(w, p, k, y, tile)
			}
			io.WriteString(w, "\n")
		}
		io.WriteString(w, "\n")
	}
}

// halfBlockLine writes the pixels of lines y and y+1. Colours are only named where they change.
func halfBlockLine(w io.Writer, p *image.NRGBA, k, y int, tile image.Point) {
	var upper, lower color.NRGBA
	for x := range tile.X {
		if c := shrunk(p, k, x, y); x == 0 || c != upper {
			upper = c
			fmt.Fprintf(w, "\x1b[38;2;%d;%d;%dm", c.R, c.G, c.B)
		}
		if y+1 < tile.Y {
			if c := shrunk(p, k, x, y+1); x == 0 || c != lower {
				lower = c
				fmt.Fprintf(w, "\x1b[48;2;%d;%d;%dm", c.R, c.G, c.B)
			}
		}
		io.WriteString(w, "▀")
	}
	io.WriteString(w, "\x1b[0m")
}

// shrunk is the mean of the k × k pixels that pixel (x, y) of the shrunken picture stands for.
func shrunk(p *image.NRGBA, k, x, y int) color.NRGBA {
	var r, g, b int
	for dy := range k {
		for dx := range k {
			c := p.NRGBAAt(p.Rect.Min.X+k*x+dx, p.Rect.Min.Y+k*y+dy)
			r, g, b = r+int(c.R), g+int(c.G), b+int(c.B)
		}
	}
	n := k * k
	return color.NRGBA{uint8((r + n/2) / n), uint8((g + n/2) / n), uint8((b + n/2) / n), 255}
}
