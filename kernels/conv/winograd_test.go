package conv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

var allSchemes = []Scheme{F2, F4, UpF2, UpF4}

func (s Scheme) String() string { return []string{"F2", "F4", "UpF2", "UpF4"}[s] }

// A winograd is one convolution by a Scheme, cut into runs of tiles and of channels.
type winograd struct {
	s               Scheme
	images, h, w, c int
	out             int
	x, filter       []float32
	finish          Finish
}

func newWinograd(s Scheme, images, h, w, c, out int) *winograd {
	r := rand.New(rand.NewPCG(uint64(h*w), uint64(c*out)))
	return &winograd{s, images, h, w, c, out, random(r, images*h*w*c), random(r, out*9*c),
		Finish{Scale: random(r, images*out), Offset: random(r, images*out), Ld: out}}
}

// memory is where operands lie: in the heap, or before a page that must not be touched.
type memory func(n int) []float32

// run returns the output, with NaN wherever nothing is written.
func (p *winograd) run(tiles, cols int, alloc memory) []float32 {
	const pad = 3 // of rows
	n, points := p.s.Tiles(p.h, p.w)*p.images, p.s.Points()
	up := schemes[p.s].up()
	poison := func(s []float32) []float32 {
		copy(s, poisoned(len(s)))
		return s
	}
	u := poison(make([]float32, points*p.out*p.c))
	p.s.Weights(u, p.filter, p.out, p.c)
	x := alloc(len(p.x))
	copy(x, p.x)
	dst := poison(alloc(p.images * p.h * p.w * up * up * p.out))
	for t0 := 0; t0 < n; t0 += tiles {
		t1 := min(t0+tiles, n)
		m := t1 - t0
		ld := m*p.c + pad
		v := poison(alloc((points-1)*ld + m*p.c))
		p.s.Input(v, ld, x, p.h, p.w, p.c, t0, t1)
		for j0 := 0; j0 < p.out; j0 += cols {
			j1 := min(j0+cols, p.out)
			ldm := j1 - j0 + 1
			lds := m*ldm + pad
			sums := poison(alloc((points-1)*lds + (m-1)*ldm + j1 - j0))
			for k := range points {
				for i := range m {
					for j := j0; j < j1; j++ {
						sum := 0.0
						for c := range p.c {
							sum += float64(v[k*ld+i*p.c+c]) * float64(u[(k*p.out+j)*p.c+c])
						}
						sums[k*lds+i*ldm+j-j0] = float32(sum)
					}
				}
			}
			p.s.Output(dst, p.out, sums, lds, ldm, p.h, p.w, t0, t1, j0, j1, &p.finish)
		}
	}
	return dst
}

func (p *winograd) want() (y []float64, scale float64) {
	x, h, w := widen(p.x), p.h, p.w
	if schemes[p.s].up() == 2 {
		x, h, w = upsample(x, p.images, h, w, p.c), 2*h, 2*w
	}
	y = conv3x3(x, p.images, h, w, p.c, p.filter, p.out, 1)
	for i, v := range y {
		image, j := i/(h*w*p.out), i%p.out
		scale = max(scale, math.Abs(v))
		if p.finish.Scale != nil {
			v *= float64(p.finish.Scale[image*p.finish.Ld+j])
		}
		if p.finish.Offset != nil {
			v += float64(p.finish.Offset[image*p.finish.Ld+j])
		}
		y[i] = max(float64(p.finish.Low), v)
	}
	return y, scale
}

func (p *winograd) check(t *testing.T, got []float32) {
	t.Helper()
	want, scale := p.want()
	for i, v := range got {
		if !(math.Abs(float64(v)-want[i]) <= 1e-5*scale) {
			t.Fatalf("%v %dx%dx%d, %d to %d channels: value %d = %v, want %v ± %v", p.s, p.images, p.h, p.w, p.c, p.out, i, v, want[i], 1e-5*scale)
		}
	}
}

func heap(n int) []float32 { return make([]float32, n) }

func TestSchemesAreTheConvolution(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		end := func(n int) []float32 { return cputest.AtPageEnd[float32](t, n) }
		for _, s := range allSchemes {
			for _, size := range [][4]int{{1, 1, 1, 1}, {2, 1, 5, 3}, {1, 4, 4, 16}, {2, 8, 8, 37}, {3, 5, 2, 8}, {1, 6, 11, 29}} {
				for _, out := range []int{5, 16, 43} {
					p := newWinograd(s, size[0], size[1], size[2], size[3], out)
					p.check(t, p.run(5, 32, end))
				}
			}
			p := newWinograd(s, 1, 5, 5, 1024+17, 3) // more channels than are computed at a time
			p.check(t, p.run(3, 3, end))
			p = newWinograd(s, 1, 5, 5, 3, 150)
			p.check(t, p.run(3, 150, end))
		}
	})
}

func TestOutputFinishes(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, s := range allSchemes {
			p := newWinograd(s, 2, 4, 6, 16, 20)
			all := p.finish
			for _, f := range []Finish{{}, {Low: float32(math.Inf(-1))}, {Offset: all.Offset[:20], Low: -1}, {Scale: all.Scale, Offset: all.Offset, Ld: 20, Low: .5}} {
				p.finish = f
				p.check(t, p.run(4, 20, heap))
			}
			p.finish = Finish{}
			for i := range p.x {
				p.x[i] = float32(math.NaN())
			}
			if y := p.run(4, 20, heap); slices.ContainsFunc(y, func(v float32) bool { return v == v }) {
				t.Errorf("%v hides NaN", s)
			}
		}
	})
}

// How the tiles and channels are cut into calls changes no bit, as long as cuts are multiples of a vector.
func TestSchemesGiveTheSameBitsForAnyCut(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, s := range allSchemes {
			p := newWinograd(s, 3, 7, 9, 20, 80)
			want := p.run(1000, 80, heap)
			for _, cut := range [][2]int{{1, 80}, {4, 64}, {7, 16}} {
				if !slices.Equal(p.run(cut[0], cut[1], heap), want) {
					t.Errorf("%v: %d tiles and %d channels at a time give other bits", s, cut[0], cut[1])
				}
			}
		}
	})
}

func TestVectorFormsGiveTheSameBits(t *testing.T) {
	results := map[string][]float32{}
	cputest.EachForm(t, func(t *testing.T) {
		for _, s := range allSchemes {
			p := newWinograd(s, 1, 9, 6, 24, 40)
			results[t.Name()] = append(results[t.Name()], p.run(6, 40, heap)...)
		}
	})
	a, b := results[t.Name()+"/form=avx512"], results[t.Name()+"/form=avx2"]
	if a == nil || b == nil {
		t.Skip("needs AVX2 and AVX-512")
	}
	if !slices.Equal(a, b) {
		t.Error("AVX2 and AVX-512 differ")
	}
}

// The root mean square of the rounding errors, over many channels as in a network and with sums in float32, next to that
// of the direct sum.
func TestErrorIsThatOfTheDirectSum(t *testing.T) {
	for _, c := range []struct {
		s    Scheme
		most float64 // times the direct sum's
	}{{F2, 1.2}, {F4, 3}, {UpF2, 1.2}, {UpF4, 3}} {
		const h, channels = 8, 64
		p := newWinograd(c.s, 1, h, h, channels, 16)
		p.finish = Finish{Low: float32(math.Inf(-1))}
		for i, v := range p.x {
			p.x[i] = max(0, v) // as behind a ReLU
		}
		want, _ := p.want()
		x, side := widen(p.x), h
		if schemes[c.s].up() == 2 {
			x, side = upsample(x, 1, h, h, channels), 2*h
		}
		narrow := make([]float32, len(x))
		for i, v := range x {
			narrow[i] = float32(v)
		}
		patches := make([]float32, side*side*9*channels)
		Patches(patches, narrow, side, side, channels, 1, 0, side*side)

		n, points := c.s.Tiles(h, h), c.s.Points()
		u, v, m := make([]float32, points*16*channels), make([]float32, points*n*channels), make([]float32, points*n*16)
		c.s.Weights(u, p.filter, 16, channels)
		c.s.Input(v, n*channels, p.x, h, h, channels, 0, n)
		for k := range points {
			multiply(m[k*n*16:], v[k*n*channels:], u[k*16*channels:], n, 16, channels)
		}
		fast, direct := make([]float32, len(want)), make([]float32, len(want))
		c.s.Output(fast, 16, m, n*16, 16, h, h, 0, n, 0, 16, &p.finish)
		multiply(direct, patches, p.filter, side*side, 16, 9*channels)
		rms := func(y []float32) float64 {
			sum := 0.0
			for i, v := range y {
				sum += (float64(v) - want[i]) * (float64(v) - want[i])
			}
			return math.Sqrt(sum / float64(len(y)))
		}
		ratio := rms(fast) / rms(direct)
		t.Logf("%v: %.2f times the direct sum's error", c.s, ratio)
		if !(ratio <= c.most) {
			t.Errorf("%v: %v times the direct sum's error, want at most %v", c.s, ratio, c.most)
		}
	}
}

// multiply is y = x·wᵀ, summed in order in float32.
func multiply(y, x, w []float32, m, n, k int) {
	for i := range m {
		for j := range n {
			var sum float32
			for p := range k {
				sum += float32(x[i*k+p] * w[j*k+p])
			}
			y[i*n+j] = sum
		}
	}
}

func TestSchemesPanicBeforeTheyWrite(t *testing.T) {
	buf := func(n int) []float32 { return make([]float32, n) }
	f := &Finish{}
	short := &Finish{Scale: buf(3), Offset: buf(4)}
	cputest.Refuses(t, 64, map[string]func(dst []float32){
		"input dst":     func(dst []float32) { F2.Input(dst[:63], 4, buf(16), 4, 4, 1, 0, 4) },
		"input x":       func(dst []float32) { F2.Input(dst, 4, buf(15), 4, 4, 1, 0, 4) },
		"input image":   func(dst []float32) { F2.Input(dst, 4, buf(16), 4, 4, 1, 3, 5) },
		"input stride":  func(dst []float32) { F2.Input(dst, 3, buf(16), 4, 4, 1, 0, 4) },
		"input size":    func(dst []float32) { F2.Input(dst, 4, buf(16), 4, 4, 0, 0, 4) },
		"output dst":    func(dst []float32) { F2.Output(dst[:63], 4, buf(256), 16, 4, 4, 4, 0, 4, 0, 4, f) },
		"output m":      func(dst []float32) { F2.Output(dst, 4, buf(255), 16, 4, 4, 4, 0, 4, 0, 4, f) },
		"output stride": func(dst []float32) { F2.Output(dst, 4, buf(256), 16, 3, 4, 4, 0, 4, 0, 4, f) },
		"output scale":  func(dst []float32) { F2.Output(dst, 4, buf(256), 16, 4, 4, 4, 0, 4, 0, 4, short) },
		"output cols":   func(dst []float32) { F2.Output(dst, 4, buf(256), 16, 4, 4, 4, 0, 4, 3, 2, f) },
		"weights dst":   func(dst []float32) { F2.Weights(dst[:63], buf(36), 2, 2) },
		"weights w":     func(dst []float32) { F2.Weights(dst, buf(35), 2, 2) },
	})
}

// The rates count what is read and written, warm in cache.
func BenchmarkTransforms(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, s := range allSchemes {
			for _, c := range []int{24, 64, 256} {
				h := 4 * schemes[s].step
				w := h
				x, n := make([]float32, h*w*c), s.Tiles(h, w)
				ld := n*c + 16
				v, up := make([]float32, s.Points()*ld), schemes[s].up()
				y := make([]float32, h*w*up*up*c)
				b.Run(fmt.Sprintf("Input/%v/c=%d", s, c), func(b *testing.B) {
					b.SetBytes(int64(4 * (len(x) + s.Points()*n*c)))
					for b.Loop() {
						s.Input(v, ld, x, h, w, c, 0, n)
					}
					b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(n*c)*16, "ns/tile")
				})
				b.Run(fmt.Sprintf("Output/%v/c=%d", s, c), func(b *testing.B) {
					b.SetBytes(int64(4 * (len(y) + s.Points()*n*c)))
					for b.Loop() {
						s.Output(y, c, v, ld, c, h, w, 0, n, 0, c, &Finish{})
					}
					b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(n*c)*16, "ns/tile")
				})
			}
		}
	})
}

func TestSchemesDoNotAllocate(t *testing.T) {
	x, v, y := make([]float32, 8*8*16), make([]float32, 100*4*16), make([]float32, 16*16*16)
	f := Finish{}
	for _, s := range allSchemes {
		if n := testing.AllocsPerRun(10, func() {
			s.Input(v, 64, x, 8, 8, 16, 0, 4)
			s.Output(y, 16, v, 64, 16, 8, 8, 0, 4, 0, 16, &f)
		}); n != 0 {
			t.Errorf("%v: %v allocations", s, n)
		}
	}
}
