package layernorm_test

import (
	"math"
	"testing"

	"netfusion/kernels/layernorm"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, layernorm.PTX) }

// The row's mean is up to a thousand times its spread. An error of 1e-6 of the product with gamma is 17 roundings.
func TestPTXIsTheCPUs(t *testing.T) {
	k := Load(t, layernorm.PTX, "layernorm_f32")
	const eps, leaky = 1e-5, 3
	for _, s := range []struct{ rows, n int }{{1, 1}, {1, 2}, {3, 31}, {5, 32}, {2, 384}, {3, 1027}} {
		x, residual, gamma, beta := Normals(1, s.rows*s.n, 1), Normals(2, s.rows*s.n, 1), Normals(3, s.n, 1), Normals(4, s.n, 1)
		for i := range x {
			x[i] += float32(1000 * (i / s.n % 2))
		}
		for _, residual := range [][]float32{nil, residual} {
			for _, act := range []int{0, leaky} {
				dst, want := Poison(len(x)), Poison(len(x))
				layernorm.F32(want, x, residual, gamma, beta, s.rows, s.n, eps)
				grid := Size{Up(s.rows, 4)}
				k.Run(grid, Size{128}, dst, x, residual, gamma, beta, s.rows, s.n, float32(eps), act)
				near := func(i int) (float64, float64) {
					w, b := float64(want[i]), float64(beta[i%s.n])
					tolerance := 1e-6*math.Abs(w-b) + 1e-6*(math.Abs(b)+math.Abs(float64(gamma[i%s.n])))
					if act == leaky && w < 0 {
						w *= 0.01
					}
					return w, tolerance
				}
				Near(t, dst, near)
				copy(dst, x)
				k.Run(grid, Size{128}, dst, dst, residual, gamma, beta, s.rows, s.n, float32(eps), act)
				Near(t, dst, near)
			}
		}
	}
}
