package conv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

func random(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// conv3x3 is the definition, in float64: x [images][h][w][c], w OHWI, padding 1.
func conv3x3(x []float64, images, h, w, c int, filter []float32, out, stride int) []float64 {
	rows, cols := (h+stride-1)/stride, (w+stride-1)/stride
	y := make([]float64, images*rows*cols*out)
	for n := range images {
		for i := range rows {
			for j := range cols {
				for o := range out {
					sum := 0.0
					for ky := range 3 {
						for kx := range 3 {
							sy, sx := i*stride+ky-1, j*stride+kx-1
							if sy < 0 || sy >= h || sx < 0 || sx >= w {
								continue
							}
							for ci := range c {
								sum += x[((n*h+sy)*w+sx)*c+ci] * float64(filter[((o*3+ky)*3+kx)*c+ci])
							}
						}
					}
					y[((n*rows+i)*cols+j)*out+o] = sum
				}
			}
		}
	}
	return y
}

func upsample(x []float64, images, h, w, c int) []float64 {
	y := make([]float64, 4*len(x))
	for p := range images * 4 * h * w {
		n, i, j := p/(4*h*w), p/(2*w)%(2*h), p%(2*w)
		copy(y[p*c:][:c], x[((n*h+i/2)*w+j/2)*c:])
	}
	return y
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// product multiplies patches [m][k] by a filter [out][k].
func product(patches, filter []float32, m, k, out int) []float64 {
	y := make([]float64, m*out)
	for i := range m {
		for o := range out {
			for p := range k {
				y[i*out+o] += float64(patches[i*k+p]) * float64(filter[o*k+p])
			}
		}
	}
	return y
}

var sizes = [][4]int{{1, 1, 1, 1}, {2, 1, 5, 3}, {1, 4, 4, 7}, {3, 5, 2, 2}, {2, 6, 7, 5}} // images, h, w, c

func poisoned(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(math.NaN())
	}
	return s
}

func TestPatchesTimesFilterIsTheConvolution(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range sizes {
		for _, stride := range []int{1, 2} {
			images, h, w, c := s[0], s[1], s[2], s[3]
			const out = 3
			x, filter := random(r, images*h*w*c), random(r, out*9*c)
			want := conv3x3(widen(x), images, h, w, c, filter, out, stride)
			pixels := len(want) / out
			for _, tile := range []int{1, 5, pixels} { // tiles across rows and images
				for p0 := 0; p0 < pixels; p0 += tile {
					p1 := min(p0+tile, pixels)
					patches := poisoned((p1-p0)*9*c + 1)
					Patches(patches, x, h, w, c, stride, p0, p1)
					if v := patches[(p1-p0)*9*c]; v == v {
						t.Fatal("wrote beyond the patches")
					}
					for i, got := range product(patches, filter, p1-p0, 9*c, out) {
						if math.Abs(got-want[p0*out+i]) > 1e-12 || got != got {
							t.Fatalf("%v stride %d tile %d: output %d = %v, want %v", s, stride, tile, p0*out+i, got, want[p0*out+i])
						}
					}
				}
			}
		}
	}
}

// The four filters see 2×2 pixels of the small image.
func TestFoldedFilterIsTheConvolutionAfterUpsampling(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	const h, w, c, out = 3, 4, 2, 3
	x, filter := random(r, h*w*c), random(r, out*9*c)
	want := conv3x3(upsample(widen(x), 1, h, w, c), 1, 2*h, 2*w, c, filter, out, 1)
	folded := poisoned(16 * out * c)
	FoldUpsample(folded, filter, out, c)
	for i := range want {
		o, px, py := i%out, i/out%(2*w), i/out/(2*w)
		sum := 0.0
		for k := range 4 {
			y, at := py/2-1+py%2+k/2, px/2-1+px%2+k%2
			if y < 0 || y >= h || at < 0 || at >= w {
				continue
			}
			for j := range c {
				sum += float64(x[(y*w+at)*c+j]) * float64(folded[(((py%2*2+px%2)*out+o)*4+k)*c+j])
			}
		}
		// The folded sums are rounded to float32.
		if !(math.Abs(sum-want[i]) <= 1e-5) {
			t.Fatalf("value %d = %v, want %v", i, sum, want[i])
		}
	}
}

func TestAddUpsampled(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	const images, h, w, c, ldd = 2, 2, 3, 9, 5
	x := random(r, images*h*w*c)
	up := upsample(widen(x), images, h, w, c)
	const pixels = 4 * images * h * w
	dst := make([]float32, pixels*ldd)
	for p := 0; p < pixels; p += 7 {
		AddUpsampled(dst[p*ldd:], ldd, x, h, w, c, p, min(p+7, pixels), 1, 4)
	}
	for i, v := range dst {
		want := 0.0
		if j := i % ldd; j >= 1 && j < 4 {
			want = up[i/ldd*c+j]
		}
		if float64(v) != want {
			t.Fatalf("pixel %d channel %d = %v, want %v", i/ldd, i%ldd, v, want)
		}
	}
}

func TestPanicsBeforeItWrites(t *testing.T) {
	buf := func(n int) []float32 { return make([]float32, n) }
	cputest.Refuses(t, 36, map[string]func(dst []float32){
		"patches dst":   func(dst []float32) { Patches(dst[:35], buf(16), 4, 4, 1, 1, 0, 4) },
		"patches x":     func(dst []float32) { Patches(dst, buf(15), 4, 4, 1, 1, 0, 4) },
		"patches image": func(dst []float32) { Patches(dst, buf(16), 4, 4, 1, 1, 15, 17) },
		"patches size":  func(dst []float32) { Patches(dst, buf(16), 4, 0, 1, 1, 0, 4) },
		"taps dst":      func(dst []float32) { SumTaps(dst[:5], buf(54), 0, 3, 3, 2, 1, 0, 3, nil) },
		"taps":          func(dst []float32) { SumTaps(dst, buf(53), 0, 3, 3, 2, 1, 0, 3, nil) },
		"taps rows":     func(dst []float32) { SumTaps(dst, buf(54), 1, 3, 3, 2, 1, 1, 3, nil) },
		"taps bias":     func(dst []float32) { SumTaps(dst, buf(108), 0, 3, 3, 2, 2, 0, 3, buf(1)) },
		"fold":          func(dst []float32) { FoldUpsample(dst[:16], buf(8), 1, 1) },
		"add dst":       func(dst []float32) { AddUpsampled(dst[:7], 2, buf(8), 2, 2, 2, 0, 4, 0, 2) },
		"add x":         func(dst []float32) { AddUpsampled(dst, 2, buf(7), 2, 2, 2, 0, 4, 0, 2) },
		"add channels":  func(dst []float32) { AddUpsampled(dst, 3, buf(8), 2, 2, 2, 0, 4, 0, 3) },
	})
}

func BenchmarkSumTaps(b *testing.B) {
	const h, w, out = 14, 128, 3
	taps, dst := make([]float32, h*w*9*out), make([]float32, h*w*out)
	b.SetBytes(4 * int64(len(taps)+len(dst)))
	for b.Loop() {
		SumTaps(dst, taps, 0, h, h, w, out, 0, h, nil)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/(h*w), "ns/pixel")
}

func BenchmarkPatches(b *testing.B) {
	for _, s := range [][2]int{{32, 16}, {16, 64}, {16, 512}} { // h = w, c
		b.Run(fmt.Sprintf("h=%d,c=%d", s[0], s[1]), func(b *testing.B) {
			h, c := s[0], s[1]
			x, dst := make([]float32, h*h*c), make([]float32, 48*9*c)
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				Patches(dst, x, h, h, c, 1, h, h+48)
			}
		})
	}
}

func TestDoesNotAllocate(t *testing.T) {
	x, patches := make([]float32, 4*4*2), make([]float32, 16*9*2)
	if n := testing.AllocsPerRun(10, func() {
		Patches(patches, x, 4, 4, 2, 1, 0, 16)
		AddUpsampled(patches, 2, x, 4, 4, 2, 0, 64, 0, 2)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The taps of a pixel are summed from the products of whole rows, a part of them at a time.
func TestSumTaps(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, s := range [][4]int{{1, 1, 2, 3}, {1, 2, 3, 3}, {3, 1, 4, 2}, {5, 4, 3, 3}, {7, 9, 4, 3}, {4, 6, 2, 5}} { // h, w, c, out
		h, w, c, out := s[0], s[1], s[2], s[3]
		x, filter, bias := random(r, h*w*c), random(r, out*9*c), random(r, out)
		want := conv3x3(widen(x), 1, h, w, c, filter, out, 1)
		for y0 := 0; y0 < h; y0 += 3 {
			y1 := min(y0+3, h)
			top, bottom := max(0, y0-1), min(y1+1, h)
			taps := cputest.AtPageEnd[float32](t, (bottom-top)*w*9*out)
			for p := range (bottom - top) * w {
				for k := range 9 {
					for o := range out {
						sum := 0.0
						for i := range c {
							sum += float64(x[(top*w+p)*c+i]) * float64(filter[(o*9+k)*c+i])
						}
						taps[(p*9+k)*out+o] = float32(sum)
					}
				}
			}
			for _, b := range [][]float32{nil, bias} {
				dst := poisoned((y1 - y0) * w * out)
				SumTaps(dst, taps, top, bottom, h, w, out, y0, y1, b)
				for i, got := range dst {
					v := want[y0*w*out+i]
					if b != nil {
						v += float64(b[i%out])
					}
					if !(math.Abs(float64(got)-v) <= 1e-5) {
						t.Fatalf("%v: value %d = %v, want %v", s, y0*w*out+i, got, v)
					}
				}
			}
		}
	}
}
