//go:build amd64 && !purego

package matmul

import (
	"math"
	"unsafe"

	"netfusion/kernels/cpu"
)

//go:generate go run ./gen

// A tile is the part of a product that stays in registers. A step of k is a line of 64 bytes of each panel and 4 bytes of each
// row of x: one value of k in float32, two in bfloat16, four in int8. Strides count bytes.
type tile struct {
	dst   *float32 // [rows][16*(panels-1)+last]; of int8, int32 sums before the last step of k
	ldd   int
	start *float32 // what the sums start from, as dst; nil means 0
	lds   int      // 0 where every row starts from the bias

	x            unsafe.Pointer // [rows][steps]
	ldx          int
	w            unsafe.Pointer // [panels][steps]
	panel        int            // from one panel to the next
	steps        int            // at least 1
	rows, panels int            // 1 to those of the shapes in gen
	last         int            // columns of the last panel, 1 to 16

	// Brought into L2 meanwhile: for each step and panel a line at ahead + panel·aheadPanel + step·aheadStep.
	// No pointer, since it may lead beyond what it began in.
	ahead                 uintptr
	aheadPanel, aheadStep int

	// For dequantize, of the rows and of the columns; fetched meanwhile.
	scale, wScale, bias *float32
	zero, wSum          *int32
}

// The tile functions compute t without Act and Residual; those of int8 add up integers and leave them to dequantize:
//
//	for i := range rows {
//		for j := range 16*(panels-1) + last {
//			sum := start[i*lds+j]
//			for p := range k {
//				sum = fma(x[i*ldx+p], W[j][p], sum)
//			}
//			dst[i*ldd+j] = sum
//		}
//	}
//
//go:noescape
func tileF32AVX512(t *tile)

//go:noescape
func tileF32AVX2(t *tile)

//go:noescape
func tileBF16AVX512(t *tile)

//go:noescape
func tileBF16AVX2(t *tile)

//go:noescape
func tileI8AVX512(t *tile)

//go:noescape
func tileI8AVX2(t *tile)

// The dequantize functions replace the int32 sums in t.dst by (sum - zero·wSum)·(scale·wScale) + bias.
//
//go:noescape
func dequantizeAVX512(t *tile)

//go:noescape
func dequantizeAVX2(t *tile)

// A form is a precision and the instructions that multiply it.
type form uint8

const (
	f32AVX512 form = iota
	f32AVX2
	bf16AVX512
	bf16AVX2
	i8AVX512
	i8AVX2
)

func (f form) run(t *tile) {
	switch f {
	case f32AVX512:
		tileF32AVX512(t)
	case f32AVX2:
		tileF32AVX2(t)
	case bf16AVX512:
		tileBF16AVX512(t)
	case bf16AVX2:
		tileBF16AVX2(t)
	case i8AVX512:
		tileI8AVX512(t)
	case i8AVX2:
		tileI8AVX2(t)
	}
}

// shape chooses the largest tile for m rows and n columns.
func (f form) shape(m, n int) (rows, panels int) {
	wide := f == f32AVX512 || f == bf16AVX512 || f == i8AVX512
	switch {
	case wide && n > 4*Width && (6 < m && m <= 8 || 12 < m && m <= 16):
		return 8, 3 // one pass over the weights fewer
	case wide:
		return 6, 4
	case m <= 2:
		return 2, 2
	default:
		return 6, 1
	}
}

func columns(m int) int {
	f := f32AVX2
	if cpu.AVX512 {
		f = f32AVX512
	}
	_, panels := f.shape(m, math.MaxInt)
	return panels * Width
}

func multiplyF32(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, j0, j1 int, e *Epilogue) {
	if !cpu.AVX2 || k == 0 {
		multiplyF32Generic(dst, ldd, x, ldx, w, m, k, j0, j1, e)
		return
	}
	p := product{f32AVX2, dst, ldd, unsafe.Pointer(&x[0]), 4 * ldx, unsafe.Pointer(&w[0]), len(w) / k, m, k, e, nil, nil}
	if cpu.AVX512 {
		p.form = f32AVX512
	}
	p.multiply(j0, j1)
}

func multiplyBF16(dst []float32, ldd int, x []uint16, ldx int, w []uint16, m, k, j0, j1 int, e *Epilogue) {
	if !cpu.AVX2 || k == 0 {
		multiplyBF16Generic(dst, ldd, x, ldx, w, m, k, j0, j1, e)
		return
	}
	p := product{bf16AVX2, dst, ldd, unsafe.Pointer(&x[0]), 2 * ldx, unsafe.Pointer(&w[0]), len(w) / even(k), m, even(k) / 2, e, nil, nil}
	if cpu.AVX512BF16 {
		p.form = bf16AVX512
	}
	p.multiply(j0, j1)
}

func multiplyI8(dst []float32, ldd int, x *Uint8, w *Int8, m, k, j0, j1 int, e *Epilogue) {
	if !cpu.AVX2 || k == 0 {
		multiplyI8Generic(dst, ldd, x, w, m, k, j0, j1, e)
		return
	}
	p := product{i8AVX2, dst, ldd, unsafe.Pointer(&x.Q[0]), x.Ld, unsafe.Pointer(&w.Panels[0]), len(w.Panels) / four(k), m, four(k) / 4, e, x, w}
	if cpu.AVX512VNNI {
		p.form = i8AVX512
	}
	p.multiply(j0, j1)
}

const (
	line     = 64            // bytes of a step of a panel
	maxSums  = 6 * 4 * Width // in a tile
	maxSteps = 512           // of k, so that 4 panels take 128 KiB and stay in L2 while all rows pass
)

// A product is one call in any precision.
type product struct {
	form  form
	dst   []float32
	ldd   int
	x     unsafe.Pointer // [m][steps]
	ldx   int            // in bytes
	w     unsafe.Pointer // [panels][steps]
	n     int            // columns of all panels
	m     int
	steps int
	e     *Epilogue

	x8 *Uint8 // of int8
	w8 *Int8
}

// A block is a part of the packed weights that all rows of x pass while it is in L2.
type block struct{ j, cols, p, steps int }

// panels returns the number of panels.
func (b *block) panels() int { return (b.cols + Width - 1) / Width }

// weights returns where the block's first panel has its first step.
func (p *product) weights(b *block) unsafe.Pointer {
	return unsafe.Add(p.w, (b.j/Width*p.steps+b.p)*line)
}

// A fetch is what comes into L2 while a block is multiplied: for each of its panels and steps one line.
type fetch struct {
	at          uintptr
	panel, step int // bytes from one to the next
}

// linear fetches what follows at in memory, in order, which is what the memory is fastest at.
func (b *block) linear(at unsafe.Pointer) fetch {
	return fetch{uintptr(at), line, line * b.panels()}
}

func (p *product) multiply(j0, j1 int) {
	if p.e.Residual != nil {
		var sums [maxSums]float32 // of one tile, while dst may still hold the residual
		p.blocks(j0, j1, &sums)
		return
	}
	p.blocks(j0, j1, nil)
}

func (p *product) blocks(j0, j1 int, sums *[maxSums]float32) {
	rows, panels := p.form.shape(p.m, j1-j0)
	if p.m <= rows && p.e.Residual == nil && (p.w8 == nil || p.e.Bias != nil) {
		p.stream(j0, j1, panels)
		return
	}
	steps := maxSteps
	if p.m <= rows || p.e.Residual != nil { // with a residual, dst cannot hold partial sums
		steps = p.steps
	}
	for j := j0; j < j1; {
		cols := widest(j1-j, panels)
		for s := 0; s < p.steps; s += steps {
			b := block{j: j, cols: cols, p: s, steps: min(steps, p.steps-s)}
			next := b
			if next.p += steps; next.p >= p.steps {
				next.p, next.j = 0, j+b.cols
			}
			ahead := fetch{at: uintptr(p.weights(&b))} // a line that is there already
			switch {
			case next.j >= j1 && len(p.e.Next) > 0:
				ahead = b.linear(unsafe.Pointer(&p.e.Next[0]))
			case next.j >= p.n: // beyond j1 there may be what the next call takes
			case b.steps == p.steps:
				ahead = b.linear(p.weights(&next))
			default:
				ahead = fetch{uintptr(p.weights(&next)), p.steps * line, line}
			}
			p.block(&b, ahead, rows, sums)
		}
		j += cols
	}
}

// widest is how many of the columns that are left the next tile takes, at most so many panels: they are shared out evenly, 9 = 3 + 3 + 3,
// since narrow tiles compute, and fetch, less at a time.
func widest(left, panels int) int {
	all := (left + Width - 1) / Width
	tiles := (all + panels - 1) / panels
	return min((all+tiles-1)/tiles*Width, left)
}

// stream computes a product whose rows are all in one tile. That is limited by how fast the weights come, and memory idles between
// two tiles: so nothing is done there that can wait until the last.
func (p *product) stream(j0, j1, panels int) {
	e := p.e
	t := tile{ldd: 4 * p.ldd, x: p.x, ldx: p.ldx, panel: p.steps * line, steps: p.steps, rows: p.m, aheadPanel: line}
	for j := j0; j < j1; {
		cols := widest(j1-j, panels)
		t.panels = (cols + Width - 1) / Width
		t.last = cols - (t.panels-1)*Width
		t.dst, t.w = &p.dst[j], p.weights(&block{j: j})
		if p.w8 != nil {
			p.prepare(&t, 0, j)
		} else if e.Bias != nil {
			t.start = &e.Bias[j]
		}
		t.ahead, t.aheadStep = uintptr(t.w)+uintptr(t.panels*t.panel), t.panels*line
		if j += cols; j == j1 && len(e.Next) > 0 {
			t.ahead = uintptr(unsafe.Pointer(&e.Next[0]))
		} else if j >= p.n {
			t.ahead, t.aheadStep = uintptr(t.w), 0 // a line that is there already
		}
		p.form.run(&t)
	}
	if p.w8 != nil {
		t.dst, t.panels = &p.dst[j0], (j1-j0+Width-1)/Width
		p.prepare(&t, 0, j0)
		p.dequantize(&t)
	}
	if e.Act != None {
		for i := range p.m {
			d := p.dst[i*p.ldd+j0:][:j1-j0]
			e.finish(d, d, i, j0)
		}
	}
}

// block adds to dst the products with b and, after the last step of k, finishes the outputs.
// Each pass takes up to maxRows rows and fetches its share of what comes next, so that the memory works all the time,
// not only while the first rows pass.
func (p *product) block(b *block, next fetch, maxRows int, sums *[maxSums]float32) {
	e, ldd := p.e, p.ldd
	done := b.p+b.steps == p.steps
	panels := b.panels()
	t := tile{
		ldd: 4 * ldd, ldx: p.ldx, w: p.weights(b), panel: p.steps * line, steps: b.steps,
		panels: panels, last: b.cols - (panels-1)*Width, rows: p.m,
	}
	t.ahead, t.aheadPanel, t.aheadStep = next.at, next.panel, next.step
	passes, share := 1, 1 // share is how many passes share the fetching of next
	if p.m > maxRows {
		passes = (p.m + maxRows - 1) / maxRows
		share = min(passes, 4)
		t.aheadStep /= share
		if next.panel == line {
			t.aheadPanel /= share
		}
	}
	i := 0
	for pass := range passes {
		if passes > 1 {
			t.rows = (p.m - i + passes - pass - 1) / (passes - pass) // shared out evenly: 10 = 5 + 5
			t.ahead = next.at + uintptr(next.step*b.steps*pass/share)
			if pass == share {
				t.aheadPanel, t.aheadStep = 0, 0
			}
		}
		t.dst, t.x = &p.dst[i*ldd+b.j], unsafe.Add(p.x, i*p.ldx+4*b.p)
		if e.Residual != nil {
			t.dst, t.ldd = &sums[0], 4*b.cols
		}
		if b.p > 0 {
			t.start, t.lds = t.dst, 4*ldd
		} else if p.w8 == nil && e.Bias != nil {
			t.start = &e.Bias[b.j]
		}
		if done && p.w8 != nil {
			p.prepare(&t, i, b.j)
		}
		p.form.run(&t)
		if done && p.w8 != nil {
			p.dequantize(&t)
		}
		if done && (e.Act != None || e.Residual != nil) {
			for r := range t.rows {
				d := p.dst[(i+r)*ldd+b.j:][:b.cols]
				s := d
				if e.Residual != nil {
					s = sums[r*b.cols:][:b.cols]
				}
				e.finish(d, s, i+r, b.j)
			}
		}
		i += t.rows
	}
}

// prepare tells t, which begins at row i and column j, what it will be dequantized with.
func (p *product) prepare(t *tile, i, j int) {
	t.scale, t.zero = &p.x8.Scale[i], &p.x8.Zero[i]
	t.wScale, t.wSum = &p.w8.Scale[j], &p.w8.Sum[j]
	t.bias = &noBias[0]
	if p.e.Bias != nil {
		t.bias = &p.e.Bias[j]
	}
}

// dequantize makes outputs of the sums of t.
func (p *product) dequantize(t *tile) {
	if p.form == i8AVX512 {
		dequantizeAVX512(t)
	} else {
		dequantizeAVX2(t)
	}
}

var noBias [4 * Width]float32 // never written
