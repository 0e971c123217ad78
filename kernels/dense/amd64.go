//go:build amd64 && !purego

package dense

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/cpu"
)

//go:generate go run ./gen

// A tile is the part of a task that stays in registers. Strides count float32s.
type tile struct {
	dst          *float32 // [rows][16·(panels-1)+last]
	ldd          int
	a            *float32 // [rows][k], strides lda and astep
	lda, astep   int
	b            *float32 // [k][16·panels]
	ldb          int
	k            int // at least 1
	rows, panels int // 1 to those of the shapes in gen
	last         int // columns of the last panel, 1 to 16

	bias  *float32 // [rows], or nil
	add   int      // 1: the sums start from dst
	gate  *float32 // as dst, or nil: where it is negative the sum is multiplied by slope
	mask  *float32 // as dst, or nil: the sum is multiplied by it
	leaky int      // 1: LeakyReLU is applied
	slope float32

	ahead     *float32 // brought into L2 meanwhile: this line, then aheadStep further for each step of k
	aheadStep int
}

// tileAVX512 and tileAVX2 compute t:
//
//	for r := range rows {
//		for j := range 16*(panels-1) + last {
//			sum := bias[r], or dst[r*ldd+j], or 0
//			for p := range k {
//				sum = fma(a[r*lda+p*astep], b[p*ldb+j], sum)
//			}
//			dst[r*ldd+j] = sum, or sum·slope where gate is negative, and that times mask, or max(sum, slope*sum)
//		}
//	}
//
//go:noescape
func tileAVX512(t *tile)

//go:noescape
func tileAVX2(t *tile)

// tallest has, by the number of panels less one, the most rows of a tile.
var tallest = [4]int{12, 12, 8, 6}

func (t *task) multiply() {
	if !cpu.AVX2 || t.k == 0 {
		t.multiplyGeneric()
		return
	}
	widest, highest := 4, tallest
	if !cpu.AVX512 {
		widest, highest[0] = 1, 6
	}
	panels := (t.cols + Width - 1) / Width
	columns := (panels + widest - 1) / widest // of tiles
	fetch := t.fetcher()
	for c, at := 0, 0; c < columns; c++ {
		wide := (panels - at + columns - c - 1) / (columns - c) // shared out evenly: 5 = 3 + 2
		j := at * Width
		at += wide
		x := tile{
			ldd: t.ldd, lda: t.lda, astep: t.astep, b: &t.b[j], ldb: t.ldb, k: t.k, panels: wide,
			last: min(Width, t.cols-j-(wide-1)*Width), slope: activation.Slope,
		}
		if t.add {
			x.add = 1
		}
		if t.leaky {
			x.leaky = 1
		}
		passes := (t.rows + highest[wide-1] - 1) / highest[wide-1]
		for i, pass := 0, 0; pass < passes; pass++ {
			x.rows = (t.rows - i + passes - pass - 1) / (passes - pass)
			x.dst, x.a = &t.dst[i*t.ldd+j], &t.a[i*t.lda]
			if t.bias != nil {
				x.bias = &t.bias[i]
			}
			if t.gate != nil {
				x.gate = &t.gate[i*t.ldd+j]
			}
			if t.mask != nil {
				x.mask = &t.mask[i*t.ldd+j]
			}
			x.ahead, x.aheadStep = x.a, 0
			switch {
			case c > 0:
			case t.shift > 0:
				x.ahead, x.aheadStep = &t.a[i*t.lda+t.shift], t.astep
			case len(fetch.rest) > 0:
				x.ahead, x.aheadStep = fetch.take(x.rows)
			}
			if cpu.AVX512 {
				tileAVX512(&x)
			} else {
				tileAVX2(&x)
			}
			i += x.rows
		}
	}
}

// A fetcher shares next out among the tiles of the first column.
type fetcher struct {
	rest []float32
	rows int // left
	k    int
}

func (t *task) fetcher() fetcher { return fetcher{t.next, t.rows, t.k} }

// take returns what a tile with so many rows fetches.
func (f *fetcher) take(rows int) (at *float32, step int) {
	n := len(f.rest) * rows / f.rows
	at, step = &f.rest[0], (n+f.k-1)/f.k
	f.rest, f.rows = f.rest[n:], f.rows-rows
	return at, step
}

// transposeAVX512 and transposeAVX2 transpose a square of 16 and of 8 rows.
//
//go:noescape
func transposeAVX512(dst *float32, ldd int, src *float32, lds int)

//go:noescape
func transposeAVX2(dst *float32, ldd int, src *float32, lds int)

func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if !cpu.AVX2 {
		transposeGeneric(dst, ldd, src, lds, rows, cols)
		return
	}
	lanes, square := 16, transposeAVX512
	if !cpu.AVX512 {
		lanes, square = 8, transposeAVX2
	}
	whole, across := rows/lanes*lanes, cols/lanes*lanes
	for i := 0; i < whole; i += lanes {
		for j := 0; j < across; j += lanes {
			square(&dst[j*ldd+i], ldd, &src[i*lds+j], lds)
		}
	}
	if across < cols {
		transposeGeneric(dst[across*ldd:], ldd, src[across:], lds, whole, cols-across)
	}
	if whole < rows {
		transposeGeneric(dst[whole:], ldd, src[whole*lds:], lds, rows-whole, cols)
	}
}
