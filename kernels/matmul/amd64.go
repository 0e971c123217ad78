//go:build amd64 && !purego

package matmul

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// A tile is the part of a product that stays in registers. Strides count float32s.
type tile struct {
	dst   *float32 // [rows][16*(panels-1)+last]
	ldd   int
	start *float32 // what the sums start from, as dst; nil means 0
	lds   int      // 0 where every row starts from the bias

	x            *float32 // [rows][k]
	ldx          int
	w            *float32 // [panels][k][16]
	panel        int      // from one panel to the next
	k            int      // at least 1
	rows, panels int      // 1 to those of the shapes in gen
	last         int      // columns of the last panel, 1 to 16

	ahead *float32 // brought into L2 meanwhile, as many panels: these lines, then step further for each step of k
	step  int
}

// tileAVX512 and tileAVX2 compute t without Act and Residual:
//
//	for i := range rows {
//		for j := range 16*(panels-1) + last {
//			sum := start[i*lds+j]
//			for p := range k {
//				sum = fma(x[i*ldx+p], w[j/16*panel+16*p+j%16], sum)
//			}
//			dst[i*ldd+j] = sum
//		}
//	}
//
//go:noescape
func tileAVX512(t *tile)

//go:noescape
func tileAVX2(t *tile)

const (
	maxSums  = 6 * 4 * Width // in a tile
	maxSteps = 512           // of k, so that 4 panels take 128 KiB and stay in L2 while all rows pass
)

// shape chooses the largest tile for m rows.
func shape(m int) (rows, panels int) {
	switch {
	case cpu.AVX512 && (6 < m && m <= 8 || 12 < m && m <= 16):
		return 8, 3 // one pass over the weights fewer
	case cpu.AVX512:
		return 6, 4
	case m <= 2:
		return 2, 2
	default:
		return 6, 1
	}
}

func multiply(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, j0, j1 int, e *Epilogue) {
	if !cpu.AVX2 || k == 0 {
		multiplyGeneric(dst, ldd, x, ldx, w, m, k, j0, j1, e)
		return
	}
	rows, panels := shape(m)
	steps := maxSteps
	if m <= rows || e.Residual != nil { // with a residual, dst cannot hold partial sums
		steps = k
	}
	for j := j0; j < j1; j += panels * Width {
		for p := 0; p < k; p += steps {
			b := block{j: j, cols: min(panels*Width, j1-j), p: p, steps: min(steps, k-p)}
			next := b
			if next.p += steps; next.p >= k {
				next.p, next.j = 0, j+b.cols
				next.cols = min(b.cols, j1-next.j)
			}
			next.steps = min(steps, k-next.p)
			b.multiply(dst, ldd, x, ldx, w, m, k, rows, e, next)
		}
	}
}

// A block is a part of the packed weights that all rows of x pass while it is in L2.
type block struct{ j, cols, p, steps int }

// panels returns the number of panels.
func (b *block) panels() int { return (b.cols + Width - 1) / Width }

// at returns where the block's first panel has step p of k.
func (b *block) at(w []float32, p, k int) *float32 { return &w[b.j*k+p*Width] }

// multiply adds to dst the products with b and, after the last step of k, finishes the outputs.
// Each pass takes up to maxRows rows and fetches its share of next, so that the memory works all the time,
// not only while the first rows pass.
func (b *block) multiply(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, maxRows int, e *Epilogue, next block) {
	var sums [maxSums]float32 // of one tile, where dst may still hold the residual
	done := b.p+b.steps == k
	t := tile{
		ldd: ldd, ldx: ldx, w: b.at(w, b.p, k), panel: Width * k, k: b.steps,
		panels: b.panels(), last: b.cols - (b.panels()-1)*Width,
	}
	passes := (m + maxRows - 1) / maxRows
	share := min(passes, 4) // how many passes share the fetching of next
	i := 0
	for pass := range passes {
		t.rows = (m - i + passes - pass - 1) / (passes - pass) // shared out evenly: 10 = 5 + 5
		t.dst, t.x = &dst[i*ldd+b.j], &x[i*ldx+b.p]
		if e.Residual != nil {
			t.dst, t.ldd = &sums[0], b.cols
		}
		if b.p > 0 {
			t.start, t.lds = t.dst, ldd
		} else if e.Bias != nil {
			t.start = &e.Bias[b.j]
		}
		t.ahead, t.step = t.w, 0
		if next.cols > 0 && pass < share {
			t.step = Width / share
			t.ahead = next.at(w, next.p+next.steps*pass/share, k)
		}
		if cpu.AVX512 {
			tileAVX512(&t)
		} else {
			tileAVX2(&t)
		}
		if done && (e.Act != None || e.Residual != nil) {
			for r := range t.rows {
				d := dst[(i+r)*ldd+b.j:][:b.cols]
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
