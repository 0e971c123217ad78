// Package coupling is the affine coupling of a conditional flow: y = x·exp(s) + t with s and t from a network that never
// sees x, so the inverse is as cheap and log|det ∂y/∂x| is the sum of s (Dinh et al. 2017, "Density estimation using Real NVP").
//
// The log-scale is bounded, s = α·tanh(raw/α): plain tanh for α = 1, and the soft clamp of later flows for others.
//
// Letters: a call works on rows of n values. x, y and their gradients have row strides of their own; the scales and the shifts
// may lie side by side in one matrix, so they share one stride, lds. Forward keeps s for Backward in a packed [rows][n].
//
// The GPU form is coupling.cu.
package coupling

import "netfusion/kernels/activation"

// Clamp computes s = α·tanh(raw/α) for rows of n: s is packed [rows][n], raw has row stride ldr.
func Clamp(s, raw []float32, rows, n, ldr int, alpha float32) {
	check(rows, n, ldr, len(raw))
	if len(s) < rows*n {
		panic("coupling: s too short")
	}
	inverse := 1 / alpha
	for i := range rows {
		dst := s[i*n:][:n]
		for j, v := range raw[i*ldr:][:n] {
			dst[j] = v * inverse
		}
		activation.Tanh(dst, dst)
		for j, v := range dst {
			dst[j] = v * alpha
		}
	}
}

// Forward computes y = x·exp(s) + t and adds the row sums of s, log|det ∂y/∂x|, to logdet [rows], unless that is nil: s is packed
// [rows][n], scratch holds n values. y may be x; scratch may be y where that is not x, and there is one row.
func Forward(y []float32, ldy int, x []float32, ldx int, s, t []float32, ldt int, logdet []float32, rows, n int, scratch []float32) {
	check(rows, n, ldy, len(y))
	check(rows, n, ldx, len(x))
	check(rows, n, ldt, len(t))
	if len(s) < rows*n || logdet != nil && len(logdet) < rows || len(scratch) < n {
		panic("coupling: s, logdet or scratch too short")
	}
	e := scratch[:n]
	for i := range rows {
		si, ti := s[i*n:][:n], t[i*ldt:][:n]
		activation.Exp(e, si)
		yi, xi := y[i*ldy:][:n], x[i*ldx:][:n]
		var sum float32
		for j, ej := range e {
			yi[j] = float32(xi[j]*ej) + ti[j]
			sum += si[j]
		}
		if logdet != nil {
			logdet[i] += sum
		}
	}
}

// Inverse computes x = (y - t)·exp(-s); s is packed [rows][n], scratch holds n values. x may be y.
func Inverse(x []float32, ldx int, y []float32, ldy int, s, t []float32, ldt int, rows, n int, scratch []float32) {
	check(rows, n, ldy, len(y))
	check(rows, n, ldx, len(x))
	check(rows, n, ldt, len(t))
	if len(s) < rows*n || len(scratch) < n {
		panic("coupling: s or scratch too short")
	}
	e := scratch[:n]
	for i := range rows {
		for j, v := range s[i*n:][:n] {
			e[j] = -v
		}
		activation.Exp(e, e)
		yi, xi, ti := y[i*ldy:][:n], x[i*ldx:][:n], t[i*ldt:][:n]
		for j, ej := range e {
			xi[j] = (yi[j] - ti[j]) * ej
		}
	}
}

// Backward turns d = ∂L/∂y into ∂L/∂x in place and writes draw = ∂L/∂raw and dt = ∂L/∂t, both at row stride ldr. x and s
// are those of Forward, alpha that of Clamp; dlogdet is ∂L/∂logdet, the same for every row. scratch holds n values; of
// one row it may be draw.
func Backward(d []float32, ldd int, draw, dt []float32, ldr int, x []float32, ldx int, s []float32, dlogdet, alpha float32, rows, n int, scratch []float32) {
	check(rows, n, ldd, len(d))
	check(rows, n, ldx, len(x))
	check(rows, n, ldr, len(draw))
	check(rows, n, ldr, len(dt))
	if len(s) < rows*n || len(scratch) < n {
		panic("coupling: s or scratch too short")
	}
	e := scratch[:n]
	square := 1 / (alpha * alpha)
	for i := range rows {
		si := s[i*n:][:n]
		activation.Exp(e, si)
		di, xi := d[i*ldd:][:n], x[i*ldx:][:n]
		dr, dti := draw[i*ldr:][:n], dt[i*ldr:][:n]
		for j, ej := range e {
			g := di[j]
			ge := g * ej
			slope := 1 - float32(float32(si[j]*si[j])*square) // of α·tanh(raw/α)
			dr[j] = (float32(ge*xi[j]) + dlogdet) * slope
			dti[j] = g
			di[j] = ge
		}
	}
}

func check(rows, n, ld, length int) {
	if rows < 0 || n < 0 || ld < n {
		panic("coupling: bad size")
	}
	if rows > 0 && length < (rows-1)*ld+n {
		panic("coupling: matrix too short")
	}
}
