package flow

import (
	"errors"
	"math"
)

var errNotPositive = errors.New("matrix is not positive definite")

// cholesky replaces a [n][n], of which it reads the lower triangle, by L with L·Lᵀ = a. The upper triangle becomes zero.
func cholesky(a []float64, n int) error {
	for j := range n {
		for i := j; i < n; i++ {
			a[i*n+j] -= dot(a[i*n:i*n+j], a[j*n:j*n+j])
		}
		d := a[j*n+j]
		if !(d > 0) {
			return errNotPositive
		}
		r := 1 / math.Sqrt(d)
		for i := j; i < n; i++ {
			a[i*n+j] *= r
		}
		clear(a[j*n+j+1 : (j+1)*n])
	}
	return nil
}

// solve replaces each row of b [m][n] by the solution y of L·Lᵀ·y = row.
func solve(l, b []float64, n, m int) {
	up := make([]float64, n*n) // Lᵀ, so that both passes read rows
	for i := range n {
		for j := range i + 1 {
			up[j*n+i] = l[i*n+j]
		}
	}
	for r := range m {
		y := b[r*n:][:n]
		for i := range n {
			y[i] = (y[i] - dot(l[i*n:i*n+i], y[:i])) / l[i*n+i]
		}
		for i := n - 1; i >= 0; i-- {
			y[i] = (y[i] - dot(up[i*n+i+1:(i+1)*n], y[i+1:])) / up[i*n+i]
		}
	}
}

// invertLower returns the inverse of a lower triangular matrix.
func invertLower(l []float64, n int) []float64 {
	inv := make([]float64, n*n)
	for i := range n {
		row := inv[i*n:][:n]
		for k := range i {
			axpy(row[:k+1], -l[i*n+k], inv[k*n:][:k+1])
		}
		row[i] = 1
		for k := range i + 1 {
			row[k] /= l[i*n+i]
		}
	}
	return inv
}

// dot sums in four chains, in a fixed order.
func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i] * b[i])
		s1 += float64(a[i+1] * b[i+1])
		s2 += float64(a[i+2] * b[i+2])
		s3 += float64(a[i+3] * b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

// axpy adds c·x to y.
func axpy(y []float64, c float64, x []float64) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += float64(c * v)
	}
}
