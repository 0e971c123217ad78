package activation

import "math"

// The constants of exp and tanh are those of expf and tanhf in the Cephes library (Moshier), the constants
// of erf those of the rational approximation in Eigen (Jacob, Guennebaud et al.); the errors
// that activation.go states are measured by the tests. The generator of the vector forms (gen) holds the same.

const (
	expMax  = 89         // e⁸⁹ overflows
	expMin  = -104       // e⁻¹⁰⁴ rounds to 0
	log2e   = 1.44269504 // 1/ln 2
	ln2High = 0.693359375
	ln2Low  = -2.12194440e-4
	shifter = 3 << 22 // adding it rounds to an integer, left in the low bits
)

// expPoly is eʳ on |r| <= ln2/2: 1 + r + r²·Σ expPoly[i]·r⁵⁻ⁱ.
var expPoly = [...]float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}

// exp1 computes eˣ = 2ⁿ·eʳ, where n = round(x/ln 2) and r = x - n·ln 2 in two parts. The factor 2ⁿ is applied
// in two halves, so that neither is out of range where the result is denormal or infinite.
func exp1(x float32) float32 {
	if x != x {
		return x
	}
	x = max(min(x, expMax), expMin)
	k := float32(x*log2e) + shifter
	n := k - shifter
	r := x - float32(n*ln2High)
	r -= float32(n * ln2Low)
	y := expPoly[0]
	for _, c := range expPoly[1:] {
		y = float32(y*r) + c
	}
	y = float32(float32(y*r)*r) + r + 1
	i := int32(n)
	h := i >> 1
	return y * pow2(h) * pow2(i-h)
}

func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// tanhPoly is tanh x on |x| < tanhSmall: x + x³·Σ tanhPoly[i]·x²⁽⁴⁻ⁱ⁾.
var tanhPoly = [...]float32{-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1}

const tanhSmall = 0.625

func tanh1(x float32) float32 {
	a := float32(math.Abs(float64(x)))
	if a < tanhSmall {
		z := x * x
		y := tanhPoly[0]
		for _, c := range tanhPoly[1:] {
			y = float32(y*z) + c
		}
		return x + float32(float32(y*z)*x)
	}
	y := 1 - 2/(exp1(2*a)+1)
	return float32(math.Copysign(float64(y), float64(x)))
}

// erf z = z·Σ erfP[i]·z²⁽⁶⁻ⁱ⁾ / Σ erfQ[i]·z²⁽⁴⁻ⁱ⁾ on |z| <= erfMax, beyond which it is 1.
var (
	erfP = [...]float64{-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
		-7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02}
	erfQ = [...]float64{-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
		-1.42647390514189e-02}
)

const erfMax = 4

// gelu1 works in float64 between the limits: in float32 without fused multiply-adds it would miss its bound.
func gelu1(x float32) float32 {
	z := float64(max(min(x*(1/math.Sqrt2), erfMax), -erfMax))
	t := z * z
	p := erfP[0]
	for _, c := range erfP[1:] {
		p = float64(p*t) + c
	}
	q := erfQ[0]
	for _, c := range erfQ[1:] {
		q = float64(q*t) + c
	}
	erf := max(min(float32(z*p/q), 1), -1)
	h := x * 0.5
	return float32(h*erf) + h
}

func expGeneric(dst, src []float32) {
	for i, x := range src {
		dst[i] = exp1(x)
	}
}

func tanhGeneric(dst, src []float32) {
	for i, x := range src {
		dst[i] = tanh1(x)
	}
}

func geluGeneric(dst, src []float32) {
	for i, x := range src {
		dst[i] = gelu1(x)
	}
}

func reluGeneric(dst, src []float32) {
	for i, x := range src {
		dst[i] = max(x, 0)
	}
}

func leakyReLUGeneric(dst, src []float32) {
	for i, x := range src {
		dst[i] = max(x, Slope*x)
	}
}

// softmaxGeneric works on one row.
func softmaxGeneric(x []float32) {
	m := x[0]
	for _, v := range x[1:] {
		m = max(m, v)
	}
	var sum float32
	for i, v := range x {
		e := exp1(v - m)
		x[i] = e
		sum += e
	}
	scale := 1 / sum
	for i := range x {
		x[i] *= scale
	}
}

// softmaxSumsGeneric is the first two passes of softmaxGeneric.
func softmaxSumsGeneric(x []float32, rows, cols, ld int, sum []float32) {
	for i := range rows {
		row := x[i*ld:][:cols]
		m := row[0]
		for _, v := range row[1:] {
			m = max(m, v)
		}
		var s float32
		for j, v := range row {
			row[j] = exp1(v - m)
			s += row[j]
		}
		sum[i] = s
	}
}

func softmaxPartGeneric(x []float32, rows, cols, ld int, peak, sum, keep []float32) {
	for j := range cols {
		top := x[j]
		for i := 1; i < rows; i++ {
			top = max(top, x[i*ld+j])
		}
		var before float32 // the sum of earlier parts
		if keep != nil {
			top = max(top, peak[j])
			keep[j] = exp1(peak[j] - top)
			before = sum[j] * keep[j]
		}
		var s float32
		for i := range rows {
			e := exp1(x[i*ld+j] - top)
			x[i*ld+j] = e
			s += e
		}
		peak[j], sum[j] = top, float32(before)+s
	}
}
