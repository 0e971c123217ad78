package main

import (
	"cmp"
	"image"
	"image/color"
	"slices"
)

// paletteSize is the most colours that a GIF file has.
const paletteSize = 256

// palette is the colours that suit some pictures best: median cut (Heckbert 1982), then a few steps of k-means.
type palette struct {
	colours color.Palette
	nearest map[rgb]uint8 // of the colours that were looked up
}

type rgb [3]uint8

// shade is a colour and how often it occurs.
type shade struct {
	rgb
	n int
}

func newPalette(pictures []*image.NRGBA) *palette {
	count := map[rgb]int{}
	for _, p := range pictures {
		eachPixel(p, func(_, _ int, c rgb) { count[c]++ })
	}
	shades := make([]shade, 0, len(count))
	for c, n := range count {
		shades = append(shades, shade{c, n})
	}
	slices.SortFunc(shades, func(a, b shade) int { return slices.Compare(a.rgb[:], b.rgb[:]) }) // a map has no order
	p := &palette{nearest: map[rgb]uint8{}}
	for _, box := range medianCut(shades) {
		p.colours = append(p.colours, mean(box))
	}
	const steps = 4
	for range steps {
		p.refine(shades)
	}
	return p
}

func eachPixel(p *image.NRGBA, do func(x, y int, c rgb)) {
	for y := range p.Rect.Dy() {
		row := p.Pix[y*p.Stride:]
		for x := range p.Rect.Dx() {
			do(x, y, rgb(row[4*x:4*x+3]))
		}
	}
}

// medianCut divides shades into boxes: the one with the greatest sum of squared deviations along an axis is cut at the median there.
func medianCut(shades []shade) [][]shade {
	boxes := [][]shade{shades}
	for len(boxes) < paletteSize {
		worst, axis, most := -1, 0, 0.0
		for i, b := range boxes {
			if a, v := widest(b); v > most {
				worst, axis, most = i, a, v
			}
		}
		if worst < 0 {
			break
		}
		b := boxes[worst]
		slices.SortStableFunc(b, func(x, y shade) int { return cmp.Compare(x.rgb[axis], y.rgb[axis]) })
		total, at := 0, 0
		for _, s := range b {
			total += s.n
		}
		for below := 0; at < len(b)-1 && (at == 0 || 2*(below+b[at].n) <= total); at++ {
			below += b[at].n
		}
		boxes[worst] = b[:at]
		boxes = append(boxes, b[at:])
	}
	return boxes
}

// widest is the axis along which the shades of a box differ most, and the sum of their squared deviations there.
func widest(box []shade) (axis int, most float64) {
	for a := range 3 {
		var n, sum, squares float64
		for _, s := range box {
			v, w := float64(s.rgb[a]), float64(s.n)
			n, sum, squares = n+w, sum+float64(w*v), squares+float64(w*float64(v*v))
		}
		if v := squares - float64(sum*sum)/n; v > most && len(box) > 1 {
			axis, most = a, v
		}
	}
	return axis, most
}

func mean(box []shade) color.NRGBA {
	var n int
	var sum [3]int
	for _, s := range box {
		n += s.n
		for a, v := range s.rgb {
			sum[a] += s.n * int(v)
		}
	}
	return color.NRGBA{uint8((sum[0] + n/2) / n), uint8((sum[1] + n/2) / n), uint8((sum[2] + n/2) / n), 255}
}

// refine moves each colour to the mean of the shades that it is nearest to.
func (p *palette) refine(shades []shade) {
	boxes := make([][]shade, len(p.colours))
	for _, s := range shades {
		i := p.lookUp(s.rgb)
		boxes[i] = append(boxes[i], s)
	}
	for i, b := range boxes {
		if len(b) > 0 {
			p.colours[i] = mean(b)
		}
	}
	clear(p.nearest)
}

// lookUp is the nearest colour to c.
func (p *palette) lookUp(c rgb) uint8 {
	if i, ok := p.nearest[c]; ok {
		return i
	}
	best, least := 0, 1<<30
	for i, x := range p.colours {
		k := x.(color.NRGBA)
		r, g, b := int(k.R)-int(c[0]), int(k.G)-int(c[1]), int(k.B)-int(c[2])
		if d := r*r + g*g + b*b; d < least {
			best, least = i, d
		}
	}
	p.nearest[c] = uint8(best)
	return uint8(best)
}

// picture is src in the colours of the palette.
func (p *palette) picture(src *image.NRGBA) *image.Paletted {
	dst := image.NewPaletted(image.Rectangle{Max: src.Rect.Size()}, p.colours)
	eachPixel(src, func(x, y int, c rgb) { dst.Pix[y*dst.Stride+x] = p.lookUp(c) })
	return dst
}
