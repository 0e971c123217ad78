package dense_test

import (
	"math"
	"testing"

	"netfusion/kernels/dense"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, dense.PTX) }

func TestPTXTranspose(t *testing.T) {
	k := Load(t, dense.PTX, "dense_transpose")
	for _, s := range []struct{ rows, cols, ldx, ldd int }{{1, 1, 1, 1}, {33, 31, 40, 36}, {64, 32, 32, 64}, {5, 70, 71, 40}} {
		x, dst, want := Normals(1, s.rows*s.ldx, 1), Poison(s.cols*s.ldd), make([]float32, s.cols*s.ldd)
		for i := range s.rows {
			for j := range s.cols {
				want[j*s.ldd+i] = x[i*s.ldx+j]
			}
		}
		k.Run(Size{Up(s.ldd, 32), Up(s.cols, 32)}, Size{256}, dst, s.ldd, x, s.ldx, s.rows, s.cols)
		Equal(t, dst, want)
	}
}

func TestPTXLeakyBack(t *testing.T) {
	k := Load(t, dense.PTX, "dense_leaky_back")
	for _, n := range []int{1, 256, 300} {
		d, h, want := Normals(1, n, 1), Normals(2, n, 1), Poison(n)
		h[0] = float32(math.Copysign(0, -1)) // of an input that underflowed
		for i, v := range d {
			want[i] = v
			if math.Signbit(float64(h[i])) {
				want[i] = v * 0.01
			}
		}
		k.Run(Size{Up(n, 256)}, Size{256}, d, h, n)
		Equal(t, d, want)
	}
}

func TestPTXSums(t *testing.T) {
	k := Load(t, dense.PTX, "dense_sums")
	for _, s := range []struct{ rows, n int }{{1, 1}, {9, 31}, {64, 32}, {130, 70}} {
		ldd, ldx := s.n+1, s.n+2
		d, x := Normals(1, s.rows*ldd, 1), Normals(2, s.rows*ldx, 1)
		for _, x := range [][]float32{nil, x} {
			sums := Poison(s.n)
			k.Run(Size{Up(s.n, 32)}, Size{256}, sums, d, ldd, x, ldx, s.rows, s.n)
			Near(t, sums, func(j int) (want, tolerance float64) {
				var size float64
				for i := range s.rows {
					v := float64(d[i*ldd+j])
					if x != nil {
						v *= float64(x[i*ldx+j])
					}
					want += v
					size += math.Abs(v)
				}
				return want, float64(s.rows+1) * 0x1p-24 * size
			})
		}
	}
}

// norm is layer normalisation, and loss a function of it whose gradient is d.
func norm(x, gamma []float64, eps float64) (y []float64) {
	var mean, variance float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	for j, v := range x {
		y = append(y, (v-mean)/math.Sqrt(variance+eps)*gamma[j])
	}
	return y
}

func loss(x, gamma []float64, eps float64, d []float32) (sum float64) {
	for j, v := range norm(x, gamma, eps) {
		sum += v * float64(d[j])
	}
	return sum
}

// The gradient is that of differences.
func TestPTXNormBack(t *testing.T) {
	k := Load(t, dense.PTX, "dense_norm_back")
	const eps = 1e-5
	for _, s := range []struct{ rows, n int }{{1, 2}, {3, 31}, {5, 32}, {2, 130}} {
		x, d, gamma := Normals(1, s.rows*s.n, 2), Normals(2, s.rows*s.n, 1), Normals(3, s.n, 1)
		wide, scales, ones := make([]float64, len(x)), make([]float64, s.n), make([]float64, s.n)
		for i, v := range x {
			wide[i] = float64(v) + 10
			x[i] = float32(wide[i])
			wide[i] = float64(x[i])
		}
		for j, v := range gamma {
			scales[j], ones[j] = float64(v), 1
		}
		got, old := append([]float32(nil), d...), Poison(len(d))
		k.Run(Size{Up(s.rows, 4)}, Size{128}, got, x, old, gamma, s.rows, s.n, float32(eps))
		Equal(t, old, d)
		for i := range s.rows {
			row, di := wide[i*s.n:][:s.n], d[i*s.n:][:s.n]
			hat := norm(row, ones, eps)
			Near(t, x[i*s.n:][:s.n], func(j int) (float64, float64) { return hat[j], 1e-5 })
			Near(t, got[i*s.n:][:s.n], func(j int) (float64, float64) {
				const h = 1e-4
				v := row[j]
				row[j] = v + h
				up := loss(row, scales, eps, di)
				row[j] = v - h
				down := loss(row, scales, eps, di)
				row[j] = v
				return (up - down) / (2 * h), 2e-5
			})
		}
	}
}

func TestPTXNeedsEveryBarrier(t *testing.T) {
	x := Normals(1, 64*64, 1)
	Needs(t, dense.PTX, "dense_transpose", func(k *Kernel) error {
		return k.Try(Size{2, 2}, Size{256}, Poison(64*64), 64, x, 64, 64, 64)
	})
	Needs(t, dense.PTX, "dense_sums", func(k *Kernel) error { return k.Try(Size{2}, Size{256}, Poison(64), x, 64, Null, 0, 64, 64) })
}
