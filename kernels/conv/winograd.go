package conv

// A Scheme is a fast algorithm for 3×3 convolutions with stride 1 (Winograd 1980; Lavin and Gray 2016). It cuts the output
// into tiles, and each of them takes Points products per pair of channels instead of 9 (or, where the filter is folded, 4)
// for each pixel:
//
//	V = B·d·Bᵀ    Input: of each tile's window d of the image, per channel
//	U = G·g·Gᵀ    Weights: of each filter g, once
//	M = Σ U∘V     over the input channels: a matrix product for each of the Points
//	y = A·M·Aᵀ    Output
//
// The matrices come from interpolation at points that are chosen for small rounding errors, within a factor of about two of
// the direct sum's: see TestErrorIsThatOfTheDirectSum.
type Scheme uint8

const (
	F2   Scheme = iota // tiles of 2×2 pixels: 4 products a pixel. Exact but for the sums
	F4                 // tiles of 4×4 pixels: 2.25 products a pixel
	UpF2               // after a nearest-neighbour upsampling by 2, tiles of 2×2 pixels: 2.25 products a pixel, U no larger than g
	UpF4               // the same, tiles of 8×8 pixels: 1.56 products a pixel
)

// scheme is the matrices of a Scheme. They are applied to rows and columns alike.
type scheme struct {
	b    [][]float64 // [points][in]
	g    [][]float64 // [points][3]
	a    [][]float64 // [out][points]
	step int         // pixels of the image between two windows; the first one begins at pixel -1
}

// The largest scheme's sizes, along an axis.
const (
	maxIn     = 6
	maxPoints = 10
	maxOut    = 8
)

var schemes = [...]scheme{F2: plain(2, 0, 1, -1), F4: plain(4, 0, .75, -.75, 1.5, -1.5),
	UpF2: differences, UpF4: upsampled(4, 0, .75, -.75, 1.5)}

// differences is the scheme for the two outputs of a pixel x[i] that is upsampled:
//
//	y[2i]   = k0·x[i-1] + (k1 + k2)·x[i] = (k0 + k1 + k2)·x[i] + k0·(x[i-1] - x[i])
//	y[2i+1] = (k0 + k1)·x[i] + k2·x[i+1] = (k0 + k1 + k2)·x[i] + k2·(x[i+1] - x[i])
var differences = scheme{
	b:    [][]float64{{1, -1, 0}, {0, 1, 0}, {0, -1, 1}},
	g:    [][]float64{{1, 0, 0}, {1, 1, 1}, {0, 0, 1}},
	a:    [][]float64{{1, 1, 0}, {0, 1, 1}},
	step: 1,
}

func plain(out int, points ...float64) scheme {
	b, g, a := cookToom(out, 3, points)
	return scheme{b, g, a, out}
}

// upsampled folds the upsampling into a scheme for two taps: output 2i sees the pixels i-1 and i through the taps
// {k0, k1+k2}, and output 2i+1 the pixels i and i+1 through {k0+k1, k2}. The points of the one come before those of the other.
func upsampled(out int, points ...float64) scheme {
	b, g, a := cookToom(out, 2, points)
	n := len(g)
	s := scheme{b: zeros(2*n, n+1), g: zeros(2*n, 3), a: zeros(2*out, 2*n), step: out}
	for phase := range 2 {
		for p := range n {
			row := s.g[phase*n+p]
			row[0], row[2] = g[p][0], g[p][1]
			row[1] = g[p][1-phase]
			copy(s.b[phase*n+p][phase:], b[p])
			for i := range out {
				s.a[2*i+phase][phase*n+p] = a[i][p]
			}
		}
	}
	return s
}

// cookToom returns the matrices for out outputs of a filter of taps, from out+taps-2 finite points and infinity.
func cookToom(out, taps int, points []float64) (b, g, a [][]float64) {
	n := len(points) + 1
	b, g, a = zeros(n, n), zeros(n, taps), zeros(out, n)
	for i, p := range points {
		product := []float64{1} // of x - q over the other points q, lowest power first
		scale := 1.0
		for j, q := range points {
			if j != i {
				product = timesRoot(product, q)
				scale *= p - q
			}
		}
		copy(b[i], product)
		power := 1.0
		for k := range max(out, taps) {
			if k < taps {
				g[i][k] = power / scale
			}
			if k < out {
				a[k][i] = power
			}
			power *= p
		}
	}
	all := []float64{1}
	for _, q := range points {
		all = timesRoot(all, q)
	}
	copy(b[n-1], all)
	g[n-1][taps-1], a[out-1][n-1] = 1, 1
	return b, g, a
}

// timesRoot multiplies a polynomial by x - root.
func timesRoot(polynomial []float64, root float64) []float64 {
	r := make([]float64, len(polynomial)+1)
	for i, c := range polynomial {
		r[i+1] += c
		r[i] -= root * c
	}
	return r
}

func zeros(rows, cols int) [][]float64 {
	m := make([][]float64, rows)
	for i := range m {
		m[i] = make([]float64, cols)
	}
	return m
}

// Points is the number of products of a tile, per pair of channels.
func (s Scheme) Points() int { return len(schemes[s].b) * len(schemes[s].b) }

// Tile is the height and width of a tile of the output.
func (s Scheme) Tile() int { return len(schemes[s].a) }

// up is how much larger the output is than the image, along an axis.
func (s *scheme) up() int { return len(s.a) / s.step }

// Tiles is the number of tiles of an image of h×w pixels. Those beyond the right and the lower edge are cut.
func (s Scheme) Tiles(h, w int) int {
	step := schemes[s].step
	return ((h + step - 1) / step) * ((w + step - 1) / step)
}

// Weights computes U for a filter w [out][3][3][in]: dst is [Points][out][in].
func (s Scheme) Weights(dst, w []float32, out, in int) {
	if out <= 0 || in <= 0 {
		panic("conv: bad size")
	}
	if len(w) < out*9*in {
		panic("conv: w too short")
	}
	if len(dst) < s.Points()*out*in {
		panic("conv: dst too short")
	}
	g := schemes[s].g
	half, sum := make([]float64, 3*in), make([]float64, in)
	for o := range out {
		filter := w[o*9*in:][:9*in]
		for p, down := range g {
			clear(half)
			for ky, weight := range down {
				addScaled(half, filter[ky*3*in:][:3*in], weight)
			}
			for q, along := range g {
				clear(sum)
				for kx, weight := range along {
					addScaled(sum, half[kx*in:][:in], weight)
				}
				d := dst[((p*len(g)+q)*out+o)*in:][:in]
				for i, v := range sum {
					d[i] = float32(v)
				}
			}
		}
	}
}

func addScaled[T float32 | float64](sum []float64, x []T, weight float64) {
	if weight == 0 {
		return
	}
	sum = sum[:len(x)]
	for i, v := range x {
		sum[i] += weight * float64(v)
	}
}

// Input computes V for the tiles t0 <= t < t1 of a batch: x is [images][h][w][c], and point p of tile t is
// dst[p*ld+(t-t0)*c:][:c]. A stride between points that is not a multiple of a page spares the first-level cache.
func (s Scheme) Input(dst []float32, ld int, x []float32, h, w, c, t0, t1 int) {
	if h <= 0 || w <= 0 || c <= 0 || t0 < 0 || t1 < t0 || ld < (t1-t0)*c {
		panic("conv: bad size")
	}
	if t0 == t1 {
		return
	}
	if len(dst) < (s.Points()-1)*ld+(t1-t0)*c {
		panic("conv: dst too short")
	}
	if per := s.Tiles(h, w); len(x) < (t1+per-1)/per*h*w*c {
		panic("conv: x too short")
	}
	var r room
	k := &schemes[s]
	down, across := (h+k.step-1)/k.step, (w+k.step-1)/k.step
	for t, run := t0, 0; t < t1; t += run {
		image, y, at := split(t, down, across)
		win := window{x: x[image*h*w*c:][:h*w*c], h: h, w: w, c: c, y: y*k.step - 1, x0: at*k.step - 1}
		run = 1
		if in := len(k.b[0]); win.x0 >= 0 && win.y >= 0 && win.y+in <= h && win.x0+in <= w {
			run = min(t1-t, (w-in-win.x0)/k.step+1) // tiles that see no border
		}
		s.input(dst[(t-t0)*c:], ld, &win, run, &r)
	}
}

// Finish is what Output does to a value v of channel j of image i: max(Low, Scale[i·Ld+j]·v + Offset[i·Ld+j]).
type Finish struct {
	Scale  []float32 // nil means 1
	Offset []float32 // nil means 0
	Ld     int       // from one image to the next; 0 where all have the same
	Low    float32   // 0 for a ReLU, or -Inf
}

// Output computes the tiles t0 <= t < t1 of the output in the channels j0 <= j < j1 from the sums M: point p of tile t is
// m[p*ld+(t-t0)*ldm:][:j1-j0], points or tiles outside. dst is the whole output [images][h'][w'][ldd], h and w are the size of the input.
func (s Scheme) Output(dst []float32, ldd int, m []float32, ld, ldm, h, w, t0, t1, j0, j1 int, f *Finish) {
	cols := j1 - j0
	if h <= 0 || w <= 0 || t0 < 0 || t1 < t0 || j0 < 0 || cols < 0 || ldd < j1 || ldm < cols || ld < cols {
		panic("conv: bad size")
	}
	if t0 == t1 || cols == 0 {
		return
	}
	if len(m) < (s.Points()-1)*ld+(t1-t0-1)*ldm+cols {
		panic("conv: m too short")
	}
	k := &schemes[s]
	per, up := s.Tiles(h, w), k.up()
	images := (t1 + per - 1) / per
	if len(dst) < images*h*w*up*up*ldd {
		panic("conv: dst too short")
	}
	if f.Scale != nil && len(f.Scale) < (images-1)*f.Ld+j1 || f.Offset != nil && len(f.Offset) < (images-1)*f.Ld+j1 {
		panic("conv: scale or offset too short")
	}
	down, across := (h+k.step-1)/k.step, (w+k.step-1)/k.step
	side := len(k.a)
	var r room
	for t, run := t0, 0; t < t1; t += run {
		image, y, at := split(t, down, across)
		p := patch{dst: dst[image*h*w*up*up*ldd:][:h*w*up*up*ldd], h: h * up, w: w * up, ldd: ldd, y: y * side, x: at * side, low: f.Low}
		run = 1
		if p.y+side <= p.h && p.x+side <= p.w {
			run = min(t1-t, (p.w-p.x)/side) // tiles that are not cut
		}
		for j := j0; j < j1; j += maxCols {
			p.j, p.cols = j, min(maxCols, j1-j)
			p.scale, p.offset = ones[:], none[:]
			if f.Scale != nil {
				p.scale = f.Scale[image*f.Ld+j:]
			}
			if f.Offset != nil {
				p.offset = f.Offset[image*f.Ld+j:]
			}
			s.output(&p, m[(t-t0)*ldm+j-j0:], ld, ldm, run, &r)
		}
	}
}

// maxCols is how many channels of a tile are written at a time.
const maxCols = 64

var ones, none = func() (v [maxCols]float32) {
	for i := range v {
		v[i] = 1
	}
	return v
}(), [maxCols]float32{}

// room is what the vector forms need for a tile.
type room struct {
	tmp    [(maxOut*maxPoints + 1) * 16]float32 // a matrix between columns and rows, and what aligns it
	beyond [maxCols]float32                     // written where the output is cut
}

// window is what one tile sees of an image [h][w][c]: the pixels from (y, x0) on, zero beyond the border.
type window struct {
	x       []float32
	h, w, c int
	y, x0   int
}

// row returns the pixels of row i of the window that lie in the image, those of columns j0 <= j < j1.
func (win *window) row(i, in int) (pixels []float32, j0, j1 int) {
	y := win.y + i
	if y < 0 || y >= win.h {
		return nil, 0, 0
	}
	j0, j1 = max(0, -win.x0), min(in, win.w-win.x0)
	return win.x[(y*win.w+win.x0+j0)*win.c:][:(j1-j0)*win.c], j0, j1
}

// patch is one tile of an output image [h][w][ldd], from the pixel (y, x) and the channel j on.
type patch struct {
	dst           []float32
	h, w, ldd     int
	y, x          int
	j, cols       int // at most maxCols
	scale, offset []float32
	low           float32
}

// row returns the pixels of row i of the tile that lie in the image, those of columns j < j1: pixel j is row[j*ldd:][:cols].
func (p *patch) row(i, out int) (row []float32, j1 int) {
	if p.y+i >= p.h {
		return nil, 0
	}
	j1 = min(out, p.w-p.x)
	return p.dst[((p.y+i)*p.w+p.x)*p.ldd+p.j:][:(j1-1)*p.ldd+p.cols], j1
}
