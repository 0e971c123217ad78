//go:build amd64 && !purego

package conv

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// inputTile and outputTile are one tile for the vector forms, whose loops are those of generic.go with fused
// multiply-adds. ld and shift count bytes; cols are at least the lanes of a vector.
type inputTile struct {
	dst   *float32
	ld    int
	cols  int
	tmp   *float32                // of a room
	src   [maxIn * maxIn]*float32 // pixels of the window, less shift
	shift int
}

type outputTile struct {
	src           *float32
	ld            int
	cols          int // at most maxCols
	scale, offset *float32
	low           float32
	tmp           *float32
	dst           [maxOut * maxOut]*float32 // pixels of the tile, less shift
	shift         int
}

//go:noescape
func inputF2AVX512(t *inputTile)

//go:noescape
func inputF4AVX512(t *inputTile)

//go:noescape
func inputUpF2AVX512(t *inputTile)

//go:noescape
func inputUpF4AVX512(t *inputTile)

//go:noescape
func inputF2AVX2(t *inputTile)

//go:noescape
func inputF4AVX2(t *inputTile)

//go:noescape
func inputUpF2AVX2(t *inputTile)

//go:noescape
func inputUpF4AVX2(t *inputTile)

//go:noescape
func outputF2AVX512(t *outputTile)

//go:noescape
func outputF4AVX512(t *outputTile)

//go:noescape
func outputUpF2AVX512(t *outputTile)

//go:noescape
func outputUpF4AVX512(t *outputTile)

//go:noescape
func outputF2AVX2(t *outputTile)

//go:noescape
func outputF4AVX2(t *outputTile)

//go:noescape
func outputUpF2AVX2(t *outputTile)

//go:noescape
func outputUpF4AVX2(t *outputTile)

//go:noescape
func maxPoolAVX512(dst, x *float32, right, down, cols int)

//go:noescape
func maxPoolAVX2(dst, x *float32, right, down, cols int)

// lanes is the length of a vector of the form that is selected, or 0.
func lanes() int {
	switch {
	case cpu.AVX512:
		return 16
	case cpu.AVX2:
		return 8
	}
	return 0
}

// beyond is what the windows see beyond the border.
var beyond [1024]float32

func (s Scheme) input(dst []float32, ld int, win *window, run int, r *room) {
	if n := lanes(); n == 0 || win.c < n {
		s.inputGeneric(dst, ld, win, run)
		return
	}
	t := inputTile{ld: 4 * ld, tmp: &r.tmp[0]}
	in := len(schemes[s].b[0])
	for c := 0; c < win.c; c += t.cols {
		// The rest must not be shorter than a vector.
		t.cols = win.c - c
		if t.cols > len(beyond) {
			t.cols = len(beyond) / 2
		}
		for i := range in {
			row, j0, j1 := win.row(i, in)
			for j := range in {
				if j < j0 || j >= j1 {
					t.src[i*in+j] = &beyond[0]
				} else {
					t.src[i*in+j] = &row[(j-j0)*win.c+c]
				}
			}
		}
		for k := range run {
			t.dst, t.shift = &dst[k*win.c+c], 4*k*schemes[s].step*win.c
			s.inputTile(&t)
		}
	}
}

func (s Scheme) inputTile(t *inputTile) {
	switch {
	case cpu.AVX512 && s == F2:
		inputF2AVX512(t)
	case cpu.AVX512 && s == F4:
		inputF4AVX512(t)
	case cpu.AVX512 && s == UpF2:
		inputUpF2AVX512(t)
	case cpu.AVX512:
		inputUpF4AVX512(t)
	case s == F2:
		inputF2AVX2(t)
	case s == F4:
		inputF4AVX2(t)
	case s == UpF2:
		inputUpF2AVX2(t)
	default:
		inputUpF4AVX2(t)
	}
}

func (s Scheme) output(dst *patch, m []float32, ld, ldm, run int, r *room) {
	if n := lanes(); n == 0 || dst.cols < n {
		s.outputGeneric(dst, m, ld, ldm, run)
		return
	}
	t := outputTile{ld: 4 * ld, cols: dst.cols, scale: &dst.scale[0], offset: &dst.offset[0], low: dst.low, tmp: &r.tmp[0]}
	side := s.Tile()
	for i := range side {
		row, j1 := dst.row(i, side)
		for j := range side {
			if j < j1 {
				t.dst[i*side+j] = &row[j*dst.ldd]
			} else {
				t.dst[i*side+j] = &r.beyond[0]
			}
		}
	}
	for k := range run {
		t.src, t.shift = &m[k*ldm], 4*k*side*dst.ldd
		s.outputTile(&t)
	}
}

func (s Scheme) outputTile(t *outputTile) {
	switch {
	case cpu.AVX512 && s == F2:
		outputF2AVX512(t)
	case cpu.AVX512 && s == F4:
		outputF4AVX512(t)
	case cpu.AVX512 && s == UpF2:
		outputUpF2AVX512(t)
	case cpu.AVX512:
		outputUpF4AVX512(t)
	case s == F2:
		outputF2AVX2(t)
	case s == F4:
		outputF4AVX2(t)
	case s == UpF2:
		outputUpF2AVX2(t)
	default:
		outputUpF4AVX2(t)
	}
}

func maxPool(dst, x []float32, right, down int) {
	switch n := lanes(); {
	case n == 0 || len(dst) < n:
		maxPoolGeneric(dst, x, right, down)
	case cpu.AVX512:
		maxPoolAVX512(&dst[0], &x[0], right, down, len(dst))
	default:
		maxPoolAVX2(&dst[0], &x[0], right, down, len(dst))
	}
}
