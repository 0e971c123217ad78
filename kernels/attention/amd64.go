//go:build amd64 && !purego

package attention

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// A tile is the part of a product that stays in registers.
type tile struct {
	dst          *float32
	ldd          int
	x            *float32
	ldx, stepX   int
	w            *float32
	panel, stepW int
	k            int      // at least 1
	rows, panels int      // 1 to those of the shapes in gen
	last         int      // columns of the last panel, 1 to 16
	keep, scale  *float32 // or nil
}

// tileAVX512 and tileAVX2 compute one tile, as multiplyGeneric does but with fused multiply-adds.
//
//go:noescape
func tileAVX512(t *tile)

//go:noescape
func tileAVX2(t *tile)

// packPanelAVX512 and packPanelAVX2 are packPanelGeneric; they write whatever they like to what is left of a dst of
// [d rounded up to 16][16].
//
//go:noescape
func packPanelAVX512(dst, x *float32, ld, m, d int)

//go:noescape
func packPanelAVX2(dst, x *float32, ld, m, d int)

func multiply(p *product) {
	if !cpu.AVX2 {
		multiplyGeneric(p)
		return
	}
	maxRows, maxPanels := 6, 1
	if cpu.AVX512 {
		maxRows, maxPanels = 12, 2
	}
	passes := (p.rows + maxRows - 1) / maxRows
	t := tile{ldd: p.ldd, ldx: p.ldx, stepX: p.stepX, panel: p.panel, stepW: p.stepW, k: p.k}
	for pass, i := 0, 0; pass < passes; pass++ {
		t.rows = (p.rows - i + passes - pass - 1) / (passes - pass) // shared out evenly
		t.x = &p.x[i*p.ldx]
		if p.keep != nil {
			t.keep = &p.keep[i]
		}
		if p.scale != nil {
			t.scale = &p.scale[i]
		}
		for j := 0; j < p.cols; j += 16 * maxPanels {
			cols := min(16*maxPanels, p.cols-j)
			t.dst, t.w = &p.dst[i*p.ldd+j], &p.w[j/16*p.panel]
			t.panels = (cols + 15) / 16
			t.last = cols - 16*(t.panels-1)
			if cpu.AVX512 {
				tileAVX512(&t)
			} else {
				tileAVX2(&t)
			}
		}
		i += t.rows
	}
}

func packPanel(dst, x []float32, ld, m, d int) {
	if cpu.AVX512 {
		packPanelAVX512(&dst[0], &x[0], ld, m, d)
	} else if cpu.AVX2 {
		packPanelAVX2(&dst[0], &x[0], ld, m, d)
	} else {
		packPanelGeneric(dst, x, ld, m, d)
	}
}
