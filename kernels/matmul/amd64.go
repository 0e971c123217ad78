//go:build amd64 && !purego

package matmul

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// tileAVX512 and tileAVX2 compute one tile of dst, without Act and Residual:
//
//	for i := range rows {
//		for j := range 16*(panels-1) + last {
//			sum := bias[j] // 0 where bias is nil
//			for p := range k {
//				sum = fma(x[i*ldx+p], w[j/16*16*k+16*p+j%16], sum)
//			}
//			dst[i*ldd+j] = sum
//		}
//	}
//
// rows and panels are at least 1 and at most those of the tiles of gen.
//
//go:noescape
func tileAVX512(dst *float32, ldd int, bias *float32, x *float32, ldx int, w *float32, k, rows, panels, last int)

//go:noescape
func tileAVX2(dst *float32, ldd int, bias *float32, x *float32, ldx int, w *float32, k, rows, panels, last int)

const (
	maxRows   = 6
	maxPanels = 4
)

func multiply(dst []float32, ldd int, x []float32, ldx int, w []float32, m, k, j0, j1 int, e *Epilogue) {
	if !cpu.AVX2 || k == 0 {
		multiplyGeneric(dst, ldd, x, ldx, w, m, k, j0, j1, e)
		return
	}
	panels := 1
	if cpu.AVX512 {
		panels = maxPanels
	} else if m <= 2 {
		panels = 2
	}
	var sums [maxRows * maxPanels * Width]float32 // of one tile, where dst may still hold the residual
	for j := j0; j < j1; j += panels * Width {
		// The panels of this group stay in L2 while all rows pass. Rows are shared out evenly: 8 = 4 + 4.
		cols := min(panels*Width, j1-j)
		groupPanels := (cols + Width - 1) / Width
		last := cols - (groupPanels-1)*Width
		var bias *float32
		if e.Bias != nil {
			bias = &e.Bias[j]
		}
		group := &w[j*k]
		i := 0
		for left := (m + maxRows - 1) / maxRows; left > 0; left-- {
			rows := (m - i + left - 1) / left
			tile, ld := &dst[i*ldd+j], ldd
			if e.Residual != nil {
				tile, ld = &sums[0], len(sums)/maxRows
			}
			if cpu.AVX512 {
				tileAVX512(tile, ld, bias, &x[i*ldx], ldx, group, k, rows, groupPanels, last)
			} else {
				tileAVX2(tile, ld, bias, &x[i*ldx], ldx, group, k, rows, groupPanels, last)
			}
			if e.Act != None || e.Residual != nil {
				for r := range rows {
					d := dst[(i+r)*ldd+j:][:cols]
					s := d
					if e.Residual != nil {
						s = sums[r*ld:][:cols]
					}
					e.finish(d, s, i+r, j)
				}
			}
			i += rows
		}
	}
}
