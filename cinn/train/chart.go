package train

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// chart is a picture of curves as inline SVG. The page's style sheet colours it; without one it can be read, too.
type chart struct {
	title, x, y string
	curves      []curve
	level       float64 // a dashed line across, unless levelName is empty
	levelName   string
	square      bool // the same scale on both axes, and the diagonal
}

// curve is points joined by lines, or bars from the level.
type curve struct {
	name  string
	class string // of the style sheet: a, b or c
	x, y  []float64
	bars  bool
}

const (
	chartWidth, chartHeight        = 560.0, 300.0
	plotLeft, plotTop              = 62.0, 30.0
	plotRight, plotBottom          = chartWidth - 14, chartHeight - 40
	ticksAcross, ticksUp, decimals = 6, 5, 12
)

// bounds are the ends of an axis.
type bounds struct{ low, high float64 }

func (b *bounds) take(v float64) {
	if drawable(v) {
		b.low, b.high = min(b.low, v), max(b.high, v)
	}
}

// drawable tells numbers from what is none, or beyond all bounds.
func drawable(v float64) bool { return math.Abs(v) < 1e30 }

// widen gives an axis some length, and room at its ends.
func (b *bounds) widen(share float64) {
	switch {
	case b.low > b.high:
		b.low, b.high = 0, 1
	case b.low == b.high:
		b.low, b.high = b.low-0.5, b.high+0.5
	default:
		room := share * (b.high - b.low)
		b.low, b.high = b.low-room, b.high+room
	}
}

// place is where v lies between from and to.
func (b bounds) place(v, from, to float64) float64 {
	return from + (v-b.low)/(b.high-b.low)*(to-from)
}

// ticks are round numbers between the ends, about n.
func (b bounds) ticks(n int) (list []float64) {
	span := b.high - b.low
	step := math.Pow(10, math.Floor(math.Log10(span/float64(n))))
	for _, k := range []float64{1, 2, 5, 10} {
		if span/(k*step) <= float64(n) {
			step *= k
			break
		}
	}
	for k := math.Ceil(b.low / step); k*step <= b.high; k++ {
		list = append(list, k*step)
	}
	return list
}

// write appends the SVG.
func (c *chart) write(out *strings.Builder) {
	x, y := bounds{math.Inf(1), math.Inf(-1)}, bounds{math.Inf(1), math.Inf(-1)}
	for _, curve := range c.curves {
		for i := range curve.x {
			x.take(curve.x[i])
			y.take(curve.y[i])
		}
	}
	if c.levelName != "" {
		y.take(c.level)
	}
	x.widen(0)
	y.widen(0.05)
	if c.square {
		x = bounds{min(x.low, y.low), max(x.high, y.high)}
		y = x
	}
	fmt.Fprintf(out, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`+"\n", chartWidth, chartHeight, html.EscapeString(c.title))
	fmt.Fprintf(out, `<text class="title" x="%g" y="18">%s</text>`+"\n", plotLeft, html.EscapeString(c.title))
	c.axes(out, x, y)
	if c.levelName != "" {
		at := y.place(c.level, plotBottom, plotTop)
		fmt.Fprintf(out, `<path class="level" fill="none" stroke="gray" d="M%g %.1fH%g"/><text class="note" text-anchor="end" x="%g" y="%.1f">%s</text>`+"\n",
			plotLeft, at, plotRight, plotRight, at-4, html.EscapeString(c.levelName))
	}
	if c.square {
		fmt.Fprintf(out, `<path class="level" fill="none" stroke="gray" d="M%g %gL%g %g"/>`+"\n", plotLeft, plotBottom, plotRight, plotTop)
	}
	legend := plotRight
	for k := len(c.curves) - 1; k >= 0; k-- {
		curve := &c.curves[k]
		curve.write(out, x, y, c.level)
		if curve.name != "" {
			fmt.Fprintf(out, `<text class="name %s" text-anchor="end" x="%.0f" y="18">%s</text>`+"\n", curve.class, legend, html.EscapeString(curve.name))
			legend -= 8*float64(len(curve.name)) + 10
		}
	}
	out.WriteString("</svg>\n")
}

func (c *chart) axes(out *strings.Builder, x, y bounds) {
	for _, v := range x.ticks(ticksAcross) {
		at := x.place(v, plotLeft, plotRight)
		fmt.Fprintf(out, `<path class="grid" stroke="silver" d="M%.1f %gV%g"/><text text-anchor="middle" x="%.1f" y="%g">%s</text>`+"\n", at, plotTop, plotBottom, at, plotBottom+15, number(v))
	}
	for _, v := range y.ticks(ticksUp) {
		at := y.place(v, plotBottom, plotTop)
		fmt.Fprintf(out, `<path class="grid" stroke="silver" d="M%g %.1fH%g"/><text text-anchor="end" x="%g" y="%.1f">%s</text>`+"\n", plotLeft, at, plotRight, plotLeft-6, at+4, number(v))
	}
	fmt.Fprintf(out, `<text class="note" text-anchor="middle" x="%g" y="%g">%s</text>`+"\n", (plotLeft+plotRight)/2, chartHeight-8, html.EscapeString(c.x))
	fmt.Fprintf(out, `<text class="note" text-anchor="middle" transform="translate(14 %g) rotate(-90)">%s</text>`+"\n", (plotTop+plotBottom)/2, html.EscapeString(c.y))
}

// write draws the curve.
func (c *curve) write(out *strings.Builder, x, y bounds, level float64) {
	if c.bars {
		width := max(0.5, 0.8*(plotRight-plotLeft)/float64(len(c.x)))
		base := y.place(level, plotBottom, plotTop)
		for i := range c.x {
			at, top := x.place(c.x[i], plotLeft, plotRight), y.place(c.y[i], plotBottom, plotTop)
			fmt.Fprintf(out, `<rect class="bar %s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`+"\n", c.class, at-width/2, min(top, base), width, math.Abs(top-base))
		}
		return
	}
	var d strings.Builder
	pen := byte('M')
	for i := range c.x {
		if !drawable(c.y[i]) {
			pen = 'M' // a gap
			continue
		}
		fmt.Fprintf(&d, "%c%.1f %.1f", pen, x.place(c.x[i], plotLeft, plotRight), y.place(c.y[i], plotBottom, plotTop))
		pen = 'L'
	}
	fmt.Fprintf(out, `<path class="curve %s" fill="none" stroke="currentColor" d="%s"/>`+"\n", c.class, d.String())
	if len(c.x) == 1 {
		fmt.Fprintf(out, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="3"/>`+"\n", c.class, x.place(c.x[0], plotLeft, plotRight), y.place(c.y[0], plotBottom, plotTop))
	}
}

// number is a tick's label: without the digits that come of rounding.
func number(v float64) string {
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', decimals, 64), 64)
	if a := math.Abs(v); a >= 1000 && a == math.Trunc(a) && a < 1e15 {
		if math.Mod(v, 1000) == 0 {
			return strconv.FormatFloat(v/1000, 'f', -1, 64) + "k"
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	if math.Abs(v) < 1e-9 {
		return "0"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
