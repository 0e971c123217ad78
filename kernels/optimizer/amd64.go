//go:build amd64 && !purego

package optimizer

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// The functions on *float32 are the loops of generic.go over n elements, a multiple of the lanes: 16, or 8 with AVX2, or 32 for
// sumSquares, which overwrites its sums. A NaN in v reaches peak; one in peak alone, which no step leaves, does not stay there.

//go:noescape
func adamAVX512(p, grad, m, v, peak *float32, n int, c *constants)

//go:noescape
func adamAVX2(p, grad, m, v, peak *float32, n int, c *constants)

//go:noescape
func amsgradAVX512(p, grad, m, v, peak *float32, n int, c *constants)

//go:noescape
func amsgradAVX2(p, grad, m, v, peak *float32, n int, c *constants)

//go:noescape
func averageAVX512(ema, p *float32, n int, c float32)

//go:noescape
func averageAVX2(ema, p *float32, n int, c float32)

//go:noescape
func sumSquaresAVX512(sums *float64, x *float32, n int)

//go:noescape
func sumSquaresAVX2(sums *float64, x *float32, n int)

// whole is how many of n elements the vector form takes.
func whole(n int) int {
	switch {
	case cpu.AVX512:
		return n &^ 15
	case cpu.AVX2:
		return n &^ 7
	}
	return 0
}

func (c *constants) adam(p, g, m, v []float32) {
	n := whole(len(p))
	if n > 0 {
		if cpu.AVX512 {
			adamAVX512(&p[0], &g[0], &m[0], &v[0], nil, n, c)
		} else {
			adamAVX2(&p[0], &g[0], &m[0], &v[0], nil, n, c)
		}
	}
	c.adamGeneric(p[n:], g[n:], m[n:], v[n:])
}

func (c *constants) amsgrad(p, g, m, v, peak []float32) {
	n := whole(len(p))
	if n > 0 {
		if cpu.AVX512 {
			amsgradAVX512(&p[0], &g[0], &m[0], &v[0], &peak[0], n, c)
		} else {
			amsgradAVX2(&p[0], &g[0], &m[0], &v[0], &peak[0], n, c)
		}
	}
	c.amsgradGeneric(p[n:], g[n:], m[n:], v[n:], peak[n:])
}

func average(ema, p []float32, c float32) {
	n := whole(len(p))
	if n > 0 {
		if cpu.AVX512 {
			averageAVX512(&ema[0], &p[0], n, c)
		} else {
			averageAVX2(&ema[0], &p[0], n, c)
		}
	}
	averageGeneric(ema[n:], p[n:], c)
}

func sumSquares(sums *[32]float64, g []float32) {
	n := len(g) &^ 31
	if n > 0 && cpu.AVX2 {
		if cpu.AVX512 {
			sumSquaresAVX512(&sums[0], &g[0], n)
		} else {
			sumSquaresAVX2(&sums[0], &g[0], n)
		}
		g = g[n:]
	}
	sumSquaresGeneric(sums, g)
}
