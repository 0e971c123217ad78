// Package random draws numbers from a counter, so that a draw depends on where it is wanted and on nothing else: not on
// the batch, the number of workers, the platform or what was drawn before.
//
// The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Word w of dimension
// d of a sample is output d%4 of the block with key = seed (low word first) and counter = (d/4, sample low, sample high,
// stream).
//
// The normal transform is Box and Muller's (1958) in float32. The words a, b of dimensions 2i and 2i+1 give
//
//	r = sqrt(-2·ln((a + 1/2)·2⁻³²))    t = 2π·(b >> 8)·2⁻²⁴    N(2i) = r·cos t    N(2i+1) = r·sin t
//
// with the polynomials of this package for ln, cos and sin. Every product is rounded before it is added, and all that is
// used beyond +, - and · is the square root, which is correctly rounded everywhere: the same bits on every machine.
//
// The GPU form, random.cu, gives them, too.
package random

import "math"

const (
	multiplier0 = 0xD2511F53
	multiplier1 = 0xCD9E8D57
	weyl0       = 0x9E3779B9 // golden ratio
	weyl1       = 0xBB67AE85 // sqrt 3 - 1
)

// Philox returns the 128 bits of Philox4x32-10 at counter under key.
func Philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	c0, c1, c2, c3 := counter[0], counter[1], counter[2], counter[3]
	k0, k1 := key[0], key[1]
	for range 10 {
		p0, p1 := uint64(multiplier0)*uint64(c0), uint64(multiplier1)*uint64(c2)
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += weyl0
		k1 += weyl1
	}
	return [4]uint32{c0, c1, c2, c3}
}

func block(seed uint64, stream uint32, sample uint64, i int) [4]uint32 {
	return Philox([4]uint32{uint32(i), uint32(sample), uint32(sample >> 32), stream}, [2]uint32{uint32(seed), uint32(seed >> 32)})
}

// Words fills dst with the uniform 32-bit words of dimensions dim0 … dim0+len(dst)-1 of a sample.
func Words(dst []uint32, seed uint64, stream uint32, sample uint64, dim0 int) {
	if d := dim0 % 4; d > 0 {
		w := block(seed, stream, sample, dim0/4)
		n := copy(dst, w[d:])
		dst, dim0 = dst[n:], dim0+n
	}
	whole := len(dst) &^ 3
	blocks(dst[:whole], seed, stream, sample, dim0/4)
	if whole < len(dst) {
		w := block(seed, stream, sample, (dim0+whole)/4)
		copy(dst[whole:], w[:])
	}
}

// blocksGeneric fills dst with whole blocks from block i on.
func blocksGeneric(dst []uint32, seed uint64, stream uint32, sample uint64, i int) {
	for ; len(dst) >= 4; dst = dst[4:] {
		*(*[4]uint32)(dst) = block(seed, stream, sample, i)
		i++
	}
}

// Word returns the uniform 32-bit word of one dimension of a sample.
func Word(seed uint64, stream uint32, sample uint64, dim int) uint32 {
	w := block(seed, stream, sample, dim/4)
	return w[dim%4]
}

// Uniform fills dst with numbers (w >> 8 + 1/2)·2⁻²⁴, never 0 and never 1.
func Uniform(dst []float32, seed uint64, stream uint32, sample uint64, dim0 int) {
	var words [64]uint32
	for len(dst) > 0 {
		n := min(len(words), len(dst))
		Words(words[:n], seed, stream, sample, dim0)
		for i, w := range words[:n] {
			dst[i] = (float32(w>>8) + 0.5) * 0x1p-24
		}
		dst, dim0 = dst[n:], dim0+n
	}
}

// Normal fills dst with standard normal numbers: dimensions dim0 … dim0+len(dst)-1 of a sample.
func Normal(dst []float32, seed uint64, stream uint32, sample uint64, dim0 int) {
	for n := 0; n < len(dst); {
		d := dim0 + n
		w := block(seed, stream, sample, d/4)
		var z [4]float32
		z[0], z[1] = pair(w[0], w[1])
		z[2], z[3] = pair(w[2], w[3])
		n += copy(dst[n:], z[d%4:])
	}
}

// pair is the normal transform of the package comment.
func pair(a, b uint32) (float32, float32) {
	u := float32(float32(a)*0x1p-32) + 0x1p-33
	// At u = 1 the logarithm is 0, never above.
	r := float32(math.Sqrt(float64(-2 * ln(u))))
	sin, cos := sincos(b >> 8)
	return r * cos, r * sin
}

// lnPoly is ln(1+x) on sqrt(1/2) <= 1+x < sqrt 2: x - x²/2 + x³·Σ lnPoly[i]·x⁸⁻ⁱ (logf of the Cephes library, Moshier).
var lnPoly = [...]float32{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
	-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1}

const (
	lnHigh = 0.693359375 // ln 2 in two parts
	lnLow  = -2.12194440e-4
)

// ln returns the natural logarithm of a normal u > 0.
func ln(u float32) float32 {
	bits := math.Float32bits(u)
	e := float32(int32(bits>>23) - 127)
	m := math.Float32frombits(bits&(1<<23-1) | 127<<23) // [1, 2)
	if m >= math.Sqrt2 {
		m *= 0.5
		e++
	}
	x := m - 1
	x2 := x * x
	y := lnPoly[0]
	for _, c := range lnPoly[1:] {
		y = float32(y*x) + c
	}
	y = float32(float32(y*x)*x2) + float32(e*lnLow)
	y -= 0.5 * x2
	return float32(x+y) + float32(e*lnHigh)
}

// sin x = x + x³·Σ sinPoly[i]·x²⁽²⁻ⁱ⁾ and cos x = 1 - x²/2 + x⁴·Σ cosPoly[i]·x²⁽²⁻ⁱ⁾ on |x| <= π/4 (Cephes).
var (
	sinPoly = [...]float32{-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1}
	cosPoly = [...]float32{2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2}
)

// sincos returns the sine and cosine of 2π·w·2⁻²⁴, w < 2²⁴. The quarter turn is split off in integers, exactly.
func sincos(w uint32) (sin, cos float32) {
	const quarter = 1 << 22
	q := (w + quarter/2) / quarter
	x := float32(int32(w)-int32(q*quarter)) * (math.Pi / 2 / quarter)
	x2 := x * x
	s, c := sinPoly[0], cosPoly[0]
	for i := 1; i < 3; i++ {
		s = float32(s*x2) + sinPoly[i]
		c = float32(c*x2) + cosPoly[i]
	}
	s = float32(float32(s*x2)*x) + x
	c = float32(float32(c*x2)*x2) - float32(0.5*x2) + 1
	switch q & 3 {
	case 1:
		return c, -s
	case 2:
		return -s, -c
	case 3:
		return -c, s
	}
	return s, c
}
