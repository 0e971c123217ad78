package conv

// inputGeneric is Input for a run of tiles in plain Go.
func (s Scheme) inputGeneric(dst []float32, ld int, win *window, run int) {
	for k := range run {
		w := *win
		w.x0 += k * schemes[s].step
		s.inputTileGeneric(dst[k*win.c:], ld, &w)
	}
}

// inputTileGeneric is V = B·d·Bᵀ.
func (s Scheme) inputTileGeneric(dst []float32, ld int, win *window) {
	b := schemes[s].b
	points, in := len(b), len(b[0])
	for c := range win.c {
		var d [maxIn][maxIn]float32
		for i := range in {
			row, j0, j1 := win.row(i, in)
			for j := j0; j < j1; j++ {
				d[j][i] = row[(j-j0)*win.c+c]
			}
		}
		var half [maxPoints][maxIn]float32
		for j := range in {
			for p := range points {
				half[p][j] = dot(b[p], d[j][:in])
			}
		}
		for p := range points {
			for q := range points {
				dst[(p*points+q)*ld+c] = dot(b[q], half[p][:in])
			}
		}
	}
}

// outputGeneric is Output for a run of tiles in plain Go.
func (s Scheme) outputGeneric(dst *patch, m []float32, ld, ldm, run int) {
	for k := range run {
		p := *dst
		p.x += k * s.Tile()
		s.outputTileGeneric(&p, m[k*ldm:], ld)
	}
}

// outputTileGeneric is y = A·M·Aᵀ.
func (s Scheme) outputTileGeneric(dst *patch, m []float32, ld int) {
	a := schemes[s].a
	out, points := len(a), len(a[0])
	for c := range dst.cols {
		var half [maxOut][maxPoints]float32
		for q := range points {
			var column [maxPoints]float32
			for p := range points {
				column[p] = m[(p*points+q)*ld+c]
			}
			for o := range out {
				half[o][q] = dot(a[o], column[:points])
			}
		}
		for i := range out {
			row, j1 := dst.row(i, out)
			for j := range j1 {
				row[j*dst.ldd+c] = max(dst.low, float32(dst.scale[c]*dot(a[j], half[i][:points]))+dst.offset[c])
			}
		}
	}
}

// dot is Σ weights·x, rounded at every step. The weights are values of float32.
func dot(weights []float64, x []float32) float32 {
	var sum float32
	for i, v := range x {
		if w := float32(weights[i]); w != 0 {
			sum += float32(w * v)
		}
	}
	return sum
}

// maxPoolGeneric writes the largest of a pixel of x and those to the right of it, below it, and both.
func maxPoolGeneric(dst, x []float32, right, down int) {
	for j := range dst {
		dst[j] = max(x[j], x[right+j], x[down+j], x[down+right+j])
	}
}
