package random

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

// The vectors are those that the authors publish with Random123.
func TestPhiloxGivesThePublishedAnswers(t *testing.T) {
	const f = 0xffffffff
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{f, f, f, f}, [2]uint32{f, f}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox(c.counter, c.key); got != c.want {
			t.Errorf("Philox(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

// Any change of these bits changes every picture that a seed stands for.
func TestNormalGivesTheseBitsOnEveryPlatform(t *testing.T) {
	var z [6]float32
	Normal(z[:], 42, 1, 1<<33+7, 3)
	got := make([]uint32, len(z))
	for i, v := range z {
		got[i] = math.Float32bits(v)
	}
	want := []uint32{0xbf44ec7b, 0xbe98b1cb, 0xbf8340fe, 0x3fdd97d3, 0x3fc66a81, 0x3f240b16}
	if !slices.Equal(got, want) {
		t.Errorf("got %#x, want %#x (%v)", got, want, z)
	}
}

func TestADrawDependsOnlyOnItsIndex(t *testing.T) {
	all, u, w := make([]float32, 64), make([]float32, 64), make([]uint32, 64)
	Normal(all, 3, 2, 5, 0)
	Uniform(u, 3, 2, 5, 0)
	Words(w, 3, 2, 5, 0)
	for from := range 9 {
		for n := range 9 {
			part, up, wp := make([]float32, n), make([]float32, n), make([]uint32, n)
			Normal(part, 3, 2, 5, from)
			Uniform(up, 3, 2, 5, from)
			Words(wp, 3, 2, 5, from)
			if !slices.Equal(part, all[from:from+n]) || !slices.Equal(up, u[from:from+n]) || !slices.Equal(wp, w[from:from+n]) {
				t.Fatalf("dimensions %d to %d differ when drawn alone", from, from+n)
			}
		}
	}
	if Word(3, 2, 5, 37) != w[37] {
		t.Error("Word differs from Words")
	}
	for _, other := range [][3]uint64{{4, 2, 5}, {3, 3, 5}, {3, 2, 6}, {3 | 1<<32, 2, 5}, {3, 2, 5 | 1<<32}} {
		part := make([]float32, 64)
		Normal(part, other[0], uint32(other[1]), other[2], 0)
		for i := range part {
			if part[i] == all[i] {
				t.Errorf("%v repeats dimension %d", other, i)
			}
		}
	}
}

// Words of every length from every dimension on, at page ends: those of Philox block by block, in every form.
func TestWordsAreThoseOfPhilox(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const seed, stream, sample = 0xfedcba9876543210, 77, 0x123456789abcdef0
		for n := range 150 {
			for _, from := range []int{0, 1, 4, 7, 4*(1<<32-3) + 2} { // the counter of blocks wraps round
				words := cputest.AtPageEnd[uint32](t, n)
				Words(words, seed, stream, sample, from)
				for i, got := range words {
					d := from + i
					want := Philox([4]uint32{uint32(d / 4), uint32(sample & (1<<32 - 1)), uint32(sample >> 32), stream}, [2]uint32{seed & (1<<32 - 1), seed >> 32})[d%4]
					if got != want {
						t.Fatalf("dimension %d of %d from %d on is %#x, want %#x", d, n, from, got, want)
					}
				}
			}
		}
	})
}

func TestDropoutFollowsTheBytesOfTheWords(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for n := range 600 {
			cut := uint32(n*37) % 256
			x, mask := cputest.AtPageEnd[float32](t, n), cputest.AtPageEnd[float32](t, n)
			for i := range x {
				x[i], mask[i] = float32(i-7), float32(math.NaN())
			}
			Dropout(x, mask, cut, 3, 1<<16, 9)
			for i := range x {
				want := float32(0)
				if Word(3, 1<<16, 9, i/4)>>(i%4*8)&255 >= cut {
					want = 256 / float32(256-cut)
				}
				if mask[i] != want || x[i] != float32(i-7)*want {
					t.Fatalf("%d values, cut %d: factor %d is %v and gives %v, want %v", n, cut, i, mask[i], x[i], want)
				}
			}
		}
	})
	cputest.Refuses(t, 20, map[string]func(x []float32){
		"mask": func(x []float32) { Dropout(x, make([]float32, 19), 9, 1, 1, 1) },
		"cut":  func(x []float32) { Dropout(x, make([]float32, 20), 256, 1, 1, 1) },
	})
}

func BenchmarkDropout(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		x, mask := make([]float32, 1<<12), make([]float32, 1<<12)
		b.SetBytes(int64(4 * len(x)))
		for b.Loop() {
			Dropout(x, mask, 51, 1, 1, 1)
		}
	})
}

func TestTheTransformIsTheNamedOne(t *testing.T) {
	words := []uint32{0, 1, 255, 1 << 8, 1 << 22, 1<<31 - 1, 1 << 31, 3 << 30, 1<<32 - 1}
	for i := range 20000 {
		words = append(words, Word(1, 9, uint64(i), 0))
	}
	for i, a := range words {
		b := words[len(words)-1-i]
		u := (float64(a) + 0.5) * 0x1p-32
		if got, want := float64(ln(float32(u))), math.Log(float64(float32(u))); math.Abs(got-want) > 3e-7*max(1, math.Abs(want)) {
			t.Fatalf("ln(%v) = %v, want %v", u, got, want)
		}
		angle := 2 * math.Pi * float64(b>>8) * 0x1p-24
		sin, cos := sincos(b >> 8)
		if math.Abs(float64(sin)-math.Sin(angle)) > 1.2e-7 || math.Abs(float64(cos)-math.Cos(angle)) > 1.2e-7 {
			t.Fatalf("sincos(%v) = %v, %v, want %v, %v", angle, sin, cos, math.Sin(angle), math.Cos(angle))
		}
		x, y := pair(a, b)
		if math.IsNaN(float64(x)) || math.IsNaN(float64(y)) || math.Hypot(float64(x), float64(y)) > 6.8 {
			t.Fatalf("pair(%d, %d) = %v, %v", a, b, x, y)
		}
	}
}

// Moments and the Kolmogorov-Smirnov distance of 2²⁰ draws, with bounds at five standard errors.
func TestNormalIsNormalAndUniformIsUniform(t *testing.T) {
	const samples, dims = 1 << 12, 1 << 8
	z, u := make([]float32, samples*dims), make([]float32, samples*dims)
	for i := range samples {
		Normal(z[i*dims:][:dims], 7, 1, uint64(i), 0)
		Uniform(u[i*dims:][:dims], 7, 2, uint64(i), 0)
	}
	n := float64(len(z))
	var m1, m2, m3, m4, next, across float64
	for i, v := range z {
		x := float64(v)
		m1 += x
		m2 += x * x
		m3 += x * x * x
		m4 += x * x * x * x
		if i > 0 {
			next += x * float64(z[i-1])
		}
		if i >= dims {
			across += x * float64(z[i-dims])
		}
	}
	for _, c := range []struct {
		name            string
		got, want, sdev float64
	}{
		{"mean", m1 / n, 0, 1}, {"variance", m2 / n, 1, math.Sqrt2}, {"skewness", m3 / n, 0, math.Sqrt(15)}, {"kurtosis", m4 / n, 3, math.Sqrt(96)},
		{"correlation of neighbouring dimensions", next / n, 0, 1}, {"correlation of neighbouring samples", across / n, 0, 1},
	} {
		if math.Abs(c.got-c.want) > 5*c.sdev/math.Sqrt(n) {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	// P(D·sqrt n > 2.23) is 1e-4.
	normal := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	if d := distance(z, normal) * math.Sqrt(n); d > 2.23 {
		t.Errorf("normal: Kolmogorov-Smirnov distance·sqrt n = %v", d)
	}
	if d := distance(u, func(x float64) float64 { return x }) * math.Sqrt(n); d > 2.23 {
		t.Errorf("uniform: Kolmogorov-Smirnov distance·sqrt n = %v", d)
	}
}

// distance sorts x and returns the largest gap between its empirical distribution and cdf.
func distance(x []float32, cdf func(float64) float64) float64 {
	slices.Sort(x)
	var d float64
	for i, v := range x {
		p := cdf(float64(v))
		d = max(d, p-float64(i)/float64(len(x)), float64(i+1)/float64(len(x))-p)
	}
	return d
}

func BenchmarkNormal(b *testing.B) {
	dst := make([]float32, 1024)
	b.SetBytes(4 * 1024)
	for i := range b.N {
		Normal(dst, 1, 1, uint64(i), 0)
	}
}

func TestDoesNotAllocate(t *testing.T) {
	x, w := make([]float32, 9), make([]uint32, 9)
	if n := testing.AllocsPerRun(10, func() {
		Normal(x, 1, 2, 3, 1)
		Uniform(x, 1, 2, 3, 1)
		Words(w, uint64(Word(1, 2, 3, 4)), 2, 3, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
