package attention

// multiplyGeneric is the product in plain Go and the definition of right, up to the rounding of the products.
func multiplyGeneric(p *product) {
	for i := range p.rows {
		for j := 0; j < p.cols; j += 16 {
			var sum [16]float32
			cols := min(16, p.cols-j)
			for s := range p.k {
				x := p.x[i*p.ldx+s*p.stepX]
				for c, w := range p.w[j/16*p.panel+s*p.stepW:][:cols] {
					sum[c] += float32(x * w)
				}
			}
			dst := p.dst[i*p.ldd+j:][:cols]
			for c := range dst {
				if p.keep != nil {
					sum[c] += float32(p.keep[i] * dst[c])
				}
				if p.scale != nil {
					sum[c] *= p.scale[i]
				}
				dst[c] = sum[c]
			}
		}
	}
}

// packPanelGeneric turns up to 16 rows [m][d] into dst [d][16].
func packPanelGeneric(dst, x []float32, ld, m, d int) {
	for r := range m {
		for p, v := range x[r*ld:][:d] {
			dst[16*p+r] = v
		}
	}
}
