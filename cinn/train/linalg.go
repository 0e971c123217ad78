package train

import "math"

// axpy adds s·x to y.
func axpy(y []float64, s float64, x []float64) {
	for i, v := range x {
		y[i] += float64(s * v)
	}
}

// eigen decomposes the symmetric a [n][n], which it overwrites: a = Vᵀ·diag(values)·V, where row i of the vectors V [n][n] belongs to
// value i. By Jacobi's cyclic rotations (Golub and Van Loan, Matrix Computations, §8.5).
func eigen(a []float64, n int) (values, vectors []float64) {
	vectors = make([]float64, n*n)
	var norm float64
	for i := range n {
		vectors[i*n+i] = 1
		for j := range n {
			norm += float64(a[i*n+j] * a[i*n+j])
		}
	}
	const sweeps = 30
	for range sweeps {
		var off float64
		for p := range n {
			for q := p + 1; q < n; q++ {
				off += float64(a[p*n+q] * a[p*n+q])
			}
		}
		if off <= 1e-24*norm {
			break
		}
		for p := range n {
			for q := p + 1; q < n; q++ {
				if float64(a[p*n+q]*a[p*n+q]) > 1e-28*norm {
					rotate(a, vectors, n, p, q)
				}
			}
		}
	}
	values = make([]float64, n)
	for i := range n {
		values[i] = a[i*n+i]
	}
	return values, vectors
}

// rotate makes a[p][q] zero by a rotation of rows and columns p and q, which it applies to the vectors too.
func rotate(a, vectors []float64, n, p, q int) {
	theta := (a[q*n+q] - a[p*n+p]) / (2 * a[p*n+q])
	t := 1 / (math.Abs(theta) + math.Sqrt(float64(theta*theta)+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(float64(t*t)+1)
	s := t * c
	turn := func(x, y []float64) {
		for i, u := range x {
			v := y[i]
			x[i], y[i] = float64(c*u)-float64(s*v), float64(s*u)+float64(c*v)
		}
	}
	turn(a[p*n:][:n], a[q*n:][:n])
	for i := range n {
		u, v := a[i*n+p], a[i*n+q]
		a[i*n+p], a[i*n+q] = float64(c*u)-float64(s*v), float64(s*u)+float64(c*v)
	}
	turn(vectors[p*n:][:n], vectors[q*n:][:n])
}

// polar returns the matrix with orthonormal rows that is nearest to m [rows][cols], (m·mᵀ)^-½·m, for rows <= cols, or the one with
// orthonormal columns. What m maps to nothing, the result does too.
func polar(m []float64, rows, cols int) []float64 {
	if rows > cols {
		return transpose(polar(transpose(m, rows, cols), cols, rows), cols, rows)
	}
	gram := make([]float64, rows*rows)
	for i := range rows {
		for j := range i + 1 {
			gram[i*rows+j] = dot(m[i*cols:][:cols], m[j*cols:][:cols])
			gram[j*rows+i] = gram[i*rows+j]
		}
	}
	values, vectors := eigen(gram, rows)
	var top float64
	for _, v := range values {
		top = max(top, v)
	}
	out, turned := make([]float64, rows*cols), make([]float64, cols)
	for k, v := range values {
		if v <= 1e-10*top {
			continue
		}
		vector := vectors[k*rows:][:rows]
		clear(turned)
		for i, u := range vector {
			axpy(turned, u, m[i*cols:][:cols])
		}
		for i, u := range vector {
			axpy(out[i*cols:][:cols], u/math.Sqrt(v), turned)
		}
	}
	return out
}

func transpose(m []float64, rows, cols int) []float64 {
	t := make([]float64, len(m))
	for i := range rows {
		for j := range cols {
			t[j*rows+i] = m[i*cols+j]
		}
	}
	return t
}

func dot(a, b []float64) float64 {
	var sum float64
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}

// symmetricRoot is the square root of a symmetric, positive semidefinite a [n][n].
func symmetricRoot(a []float64, n int) []float64 {
	values, vectors := eigen(append([]float64(nil), a...), n)
	root := make([]float64, n*n)
	for k, v := range values {
		vector := vectors[k*n:][:n]
		for i, u := range vector {
			axpy(root[i*n:][:n], u*math.Sqrt(max(v, 0)), vector)
		}
	}
	return root
}

// product is a·b of [n][n] matrices.
func product(a, b []float64, n int) []float64 {
	c := make([]float64, n*n)
	for i := range n {
		for k, v := range a[i*n:][:n] {
			axpy(c[i*n:][:n], v, b[k*n:][:n])
		}
	}
	return c
}
