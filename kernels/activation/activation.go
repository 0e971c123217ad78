// Package activation applies the activation functions of the models to float32 slices.
//
// Each function writes f(src[i]) to dst[i]; dst may be src itself but must not overlap it otherwise, and must
// be at least as long. The vector forms evaluate the same approximations as the plain Go form with fused
// multiply-adds, so the last bit may differ between forms, never the stated error. An ulp is the distance of two float32
// next to the exact result, or a denormal step where that is denormal. NaN gives NaN.
//
// The GPU form, activation.cu, has the approximations of the vector forms.
package activation

// Exp computes eˣ, within 1.5 ulp.
func Exp(dst, src []float32) { exp(check(dst, src), src) }

// Tanh computes tanh x, within 1.5 ulp.
func Tanh(dst, src []float32) { tanh(check(dst, src), src) }

// GELU computes x·Φ(x) = x/2·(1 + erf(x/√2)) (Hendrycks and Gimpel 2016), not the tanh approximation to it.
// The error is at most 3.1 ulp of max(1, |x|).
func GELU(dst, src []float32) { gelu(check(dst, src), src) }

// ReLU computes max(x, 0).
func ReLU(dst, src []float32) { relu(check(dst, src), src) }

// Slope is the factor of LeakyReLU below zero.
const Slope = 0.01

// LeakyReLU computes x where x > 0 and Slope·x elsewhere.
func LeakyReLU(dst, src []float32) { leakyReLU(check(dst, src), src) }

// PReLU computes x where x > 0 and slope·x elsewhere, 0 <= slope <= 1 (He et al. 2015). There is only the plain Go form:
// an image encoder, which has slope 0.2, spends its time elsewhere.
func PReLU(dst, src []float32, slope float32) {
	if !(slope >= 0 && slope <= 1) {
		panic("activation: bad slope")
	}
	dst = check(dst, src)
	for i, x := range src {
		dst[i] = max(x, slope*x)
	}
}

// Softmax replaces each of the rows of x, cols long at stride ld, by exp(x - max)/Σ exp(x - max).
// The relative error of a value is at most (cols + 8 + d)·2⁻²³, where d is how far its x lies below max, or 110 if that is
// less. A row with a NaN or +Inf, or with only -Inf, becomes NaN.
func Softmax(x []float32, rows, cols, ld int) {
	if rows < 0 || cols < 0 || ld < cols {
		panic("activation: bad size")
	}
	if rows == 0 || cols == 0 {
		return
	}
	if len(x) < (rows-1)*ld+cols {
		panic("activation: x too short")
	}
	for i := range rows {
		softmax(x[i*ld:][:cols])
	}
}

// SoftmaxSums replaces each of the rows of x, cols long at stride ld, by exp(x - max) and writes the sum of each to sum [rows]: a
// Softmax for who multiplies by 1/sum later. ld is at least cols rounded up to a multiple of Room: what lies between is overwritten.
func SoftmaxSums(x []float32, rows, cols, ld int, sum []float32) {
	if rows < 0 || cols <= 0 || ld < (cols+Room-1)/Room*Room {
		panic("activation: bad size")
	}
	if len(sum) < rows {
		panic("activation: sum too short")
	}
	if len(x) < rows*ld {
		panic("activation: x too short")
	}
	if rows > 0 {
		softmaxSums(x, rows, cols, ld, sum)
	}
}

// Room is how many values SoftmaxSums stores together, and how many columns SoftmaxPart takes together.
const Room = 16

// SoftmaxPart is a step of a softmax down the columns of a matrix whose rows come in parts (Milakov and Gimelshein 2018). Of each
// column of x [rows][cols], row stride ld, it keeps in peak [cols] the largest value of all parts up to this one and in sum [cols]
// the sum of their exp(x - peak); x becomes exp(x - peak). What earlier parts were turned into has to be multiplied by keep
// [cols], the exp of how far their peak lay below the new one. For the first part keep is nil, and peak and sum need no value.
// cols is a multiple of Room.
func SoftmaxPart(x []float32, rows, cols, ld int, peak, sum, keep []float32) {
	if rows <= 0 || cols <= 0 || cols%Room != 0 || ld < cols {
		panic("activation: bad size")
	}
	if len(peak) < cols || len(sum) < cols || keep != nil && len(keep) < cols {
		panic("activation: peak, sum or keep too short")
	}
	if len(x) < (rows-1)*ld+cols {
		panic("activation: x too short")
	}
	softmaxPart(x, rows, cols, ld, peak, sum, keep)
}

func check(dst, src []float32) []float32 {
	if len(dst) < len(src) {
		panic("activation: dst too short")
	}
	return dst[:len(src)]
}
