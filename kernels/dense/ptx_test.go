package dense_test

import (
	"math"
	"testing"

	"netfusion/kernels/dense"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, dense.PTX) }

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
	for _, s := range []struct{ rows, n, ld int }{{1, 2, 2}, {3, 31, 32}, {5, 32, 35}, {2, 130, 132}} {
		x, d, gamma := Normals(1, s.rows*s.ld, 2), Normals(2, s.rows*s.ld, 1), Normals(3, s.n, 1)
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
		k.Run(Size{Up(s.rows, 4)}, Size{128}, got, x, old, s.ld, gamma, s.rows, s.n, float32(eps))
		for i := range s.rows {
			row, di := wide[i*s.ld:][:s.n], d[i*s.ld:][:s.n]
			Equal(t, old[i*s.ld:][:s.n], di)
			Equal(t, got[i*s.ld+s.n:(i+1)*s.ld], d[i*s.ld+s.n:(i+1)*s.ld])
			hat := norm(row, ones, eps)
			Near(t, x[i*s.ld:][:s.n], func(j int) (float64, float64) { return hat[j], 1e-5 })
			Near(t, got[i*s.ld:][:s.n], func(j int) (float64, float64) {
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

func TestPTXBatchNormIsThatOfTheColumns(t *testing.T) {
	k := Load(t, dense.PTX, "dense_batch_norm")
	const eps, momentum = 1e-5, 0.1
	for _, s := range []struct{ rows, n int }{{2, 1}, {9, 31}, {70, 40}} {
		for frozen := range 2 {
			ld := s.n + 3
			x, gamma, beta := Normals(1, s.rows*ld, 2), Normals(2, s.n, 1), Normals(3, s.n, 1)
			mean, variance := Normals(4, s.n, 1), Normals(5, s.n, 0.1)
			for j := range variance {
				variance[j] += 1
			}
			hat, y, rstd := append([]float32(nil), x...), Poison(len(x)), Poison(s.n)
			newMean, newVariance := append([]float32(nil), mean...), append([]float32(nil), variance...)
			k.Run(Size{Up(s.n, 32)}, Size{256}, y, hat, ld, gamma, beta, newMean, newVariance, rstd, s.rows, s.n, float32(momentum), float32(eps), frozen)
			for j := range s.n {
				m, v := float64(mean[j]), float64(variance[j])
				if frozen == 0 {
					m, v = 0, 0
					for i := range s.rows {
						m += float64(x[i*ld+j]) / float64(s.rows)
					}
					for i := range s.rows {
						d := float64(x[i*ld+j]) - m
						v += d * d / float64(s.rows)
					}
					unbiased := v * float64(s.rows) / float64(s.rows-1)
					Near(t, newMean[j:j+1], func(int) (float64, float64) { return 0.9*float64(mean[j]) + 0.1*m, 1e-6 })
					Near(t, newVariance[j:j+1], func(int) (float64, float64) { return 0.9*float64(variance[j]) + 0.1*unbiased, 1e-5 })
				} else {
					Equal(t, newMean[j:j+1], mean[j:j+1])
					Equal(t, newVariance[j:j+1], variance[j:j+1])
				}
				r := 1 / math.Sqrt(v+eps)
				Near(t, rstd[j:j+1], func(int) (float64, float64) { return r, 1e-6 * r })
				for i := range s.rows {
					want := (float64(x[i*ld+j]) - m) * r
					z := want*float64(gamma[j]) + float64(beta[j])
					Near(t, hat[i*ld+j:][:1], func(int) (float64, float64) { return want, 3e-6 * (1 + math.Abs(want)) * r })
					Near(t, y[i*ld+j:][:1], func(int) (float64, float64) { return max(z, 0.01*z), 1e-5 * (1 + r) })
				}
			}
		}
	}
}

// The gradient is that of differences of the loss Σ d·(gamma·x̂ + beta).
func TestPTXBatchNormBack(t *testing.T) {
	k := Load(t, dense.PTX, "dense_batch_norm_back")
	const eps = 1e-5
	for _, s := range []struct{ rows, n int }{{2, 1}, {9, 31}, {40, 33}} {
		ld := s.n + 1
		x, d, gamma := Normals(1, s.rows*ld, 2), Normals(2, s.rows*ld, 1), Normals(3, s.n, 1)
		hat, rstd, dgamma, dbeta := Poison(len(x)), Poison(s.n), Poison(s.n), Poison(s.n)
		ones := make([]float64, s.rows)
		for i := range ones {
			ones[i] = 1
		}
		column := func(v []float32, j int) (c []float64) {
			for i := range s.rows {
				c = append(c, float64(v[i*ld+j]))
			}
			return c
		}
		want, wantGamma, wantBeta := make([]float64, len(x)), make([]float64, s.n), make([]float64, s.n)
		for j := range s.n {
			c, dc := column(x, j), make([]float32, s.rows)
			var mean, square float64
			for i, v := range c {
				mean += v / float64(s.rows)
				dc[i] = d[i*ld+j]
			}
			for _, v := range c {
				square += (v - mean) * (v - mean) / float64(s.rows)
			}
			rstd[j] = float32(1 / math.Sqrt(square+eps))
			for i, v := range norm(c, ones, eps) {
				hat[i*ld+j] = float32(v)
				wantGamma[j] += v * float64(dc[i])
				wantBeta[j] += float64(dc[i])
			}
			for i := range c {
				const h = 1e-4
				v := c[i]
				c[i] = v + h
				up := loss(c, ones, eps, dc)
				c[i] = v - h
				down := loss(c, ones, eps, dc)
				c[i] = v
				want[i*ld+j] = (up - down) / (2 * h) * float64(gamma[j])
			}
		}
		got := append([]float32(nil), d...)
		k.Run(Size{Up(s.n, 32)}, Size{256}, got, hat, ld, gamma, rstd, dgamma, dbeta, s.rows, s.n)
		for i := range s.rows {
			Near(t, got[i*ld:][:s.n], func(j int) (float64, float64) {
				return want[i*ld+j], 2e-5 * (1 + float64(rstd[j]))
			})
		}
		Near(t, dgamma, func(j int) (float64, float64) { return wantGamma[j], 1e-5 * float64(s.rows) })
		Near(t, dbeta, func(j int) (float64, float64) { return wantBeta[j], 1e-5 * float64(s.rows) })
	}
}

// layer is a Layer of dense.cu.
type layer struct {
	rows, in, out, ldx, ldy, ldw, ldh, ldi int
	add                                    bool
	dx, dy, w, h, x, dw, db                []float32
	squares                                []float64
}

func newLayer(seed uint64, rows, in, out int, add, leaky bool) *layer {
	l := &layer{rows: rows, in: in, out: out, ldx: in + 3, ldy: Up(out, 4)*4 + 4, ldw: Up(in, 4) * 4, ldh: in + 5, ldi: Up(in, 4)*4 + 8, add: add}
	l.dx, l.dy = Normals(seed, rows*l.ldx, 1), Normals(seed+1, rows*l.ldy, 1)
	l.w, l.x = make([]float32, out*l.ldw), make([]float32, rows*l.ldi)
	for o := range out {
		copy(l.w[o*l.ldw:], Normals(seed+uint64(10+o), in, 1))
	}
	for i := range rows {
		copy(l.x[i*l.ldi:], Normals(seed+uint64(1000+i), in, 1))
	}
	if leaky {
		l.h = Normals(seed+2, rows*l.ldh, 1)
		l.h[0] = float32(math.Copysign(0, -1))
	}
	l.dw, l.db = Poison(out*l.ldw), Poison(out)
	l.squares = make([]float64, Up(in, 64)*Up(out, 128))
	return l
}

// blocks is how many do inputs, and all.
func (l *layer) blocks() (inputs, all int) {
	if l.dx != nil {
		inputs = Up(l.in, 16) * Up(l.rows, 16)
	}
	return inputs, inputs + len(l.squares)
}

func (l *layer) args() []any {
	if l == nil {
		return []any{Null, Null, Null, Null, Null, Null, Null, Null, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	inputs, _ := l.blocks()
	add := 0
	if l.add {
		add = 1
	}
	return []any{l.dx, l.dy, l.w, l.h, l.x, l.dw, l.db, l.squares, l.ldx, l.ldy, l.ldw, l.ldh, l.ldi, l.rows, l.in, l.out, add, inputs}
}

func backArgs(one, two *layer) (grid Size, args []any) {
	_, begin := one.blocks()
	all := begin
	if two != nil {
		_, more := two.blocks()
		all += more
	}
	return Size{all}, append(append(one.args(), two.args()...), begin)
}

// check compares with float64; old is what dx was.
func (l *layer) check(t *testing.T, old []float32) {
	t.Helper()
	for i := range l.rows {
		if l.dx == nil {
			break
		}
		Near(t, l.dx[i*l.ldx:][:l.in], func(j int) (want, tolerance float64) {
			for o := range l.out {
				v := float64(l.dy[i*l.ldy+o]) * float64(l.w[o*l.ldw+j])
				want += v
				tolerance += math.Abs(v)
			}
			if l.h != nil && math.Signbit(float64(l.h[i*l.ldh+j])) {
				want *= 0.01
			}
			if l.add {
				want += float64(old[i*l.ldx+j])
			}
			return want, float64(l.out+4) * 0x1p-24 * (tolerance + math.Abs(want))
		})
		Equal(t, l.dx[i*l.ldx+l.in:(i+1)*l.ldx], old[i*l.ldx+l.in:(i+1)*l.ldx])
	}
	var sum, got float64
	for o := range l.out {
		var bias, size float64
		for r := range l.rows {
			v := float64(l.dy[r*l.ldy+o])
			bias, size = bias+v, size+math.Abs(v)
		}
		Near(t, l.db[o:o+1], func(int) (float64, float64) { return bias, float64(l.rows+1) * 0x1p-24 * size })
		Near(t, l.dw[o*l.ldw:][:l.ldw], func(i int) (want, tolerance float64) {
			for r := range l.rows {
				v := float64(l.dy[r*l.ldy+o]) * float64(l.x[r*l.ldi+i])
				want, tolerance = want+v, tolerance+math.Abs(v)
			}
			return want, float64(l.rows+1) * 0x1p-24 * tolerance
		})
		for _, v := range l.dw[o*l.ldw:][:l.ldw] {
			sum += float64(v) * float64(v)
		}
	}
	for _, v := range l.squares {
		got += v
	}
	if math.Abs(got-sum) > 1e-13*sum {
		t.Errorf("squares %v, want %v", got, sum)
	}
}

func TestPTXBack(t *testing.T) {
	k := Load(t, dense.PTX, "dense_back")
	for i, s := range []struct{ rows, in, out int }{{1, 1, 1}, {3, 66, 9}, {16, 64, 130}, {33, 70, 60}, {2, 16, 300}} {
		one := newLayer(uint64(i), s.rows, s.in, s.out, i%2 == 0, i%3 != 0)
		two := newLayer(uint64(100+i), s.rows+1, s.out, s.in, i%2 == 1, i%2 == 0)
		if i%3 == 1 {
			two.dx = nil
		}
		alone := newLayer(uint64(i), s.rows, s.in, s.out, i%2 == 0, i%3 != 0)
		oldOne, oldTwo := append([]float32(nil), one.dx...), append([]float32(nil), two.dx...)
		grid, args := backArgs(one, two)
		k.Run(grid, Size{256}, args...)
		one.check(t, oldOne)
		two.check(t, oldTwo)
		grid, args = backArgs(alone, nil)
		k.Run(grid, Size{256}, args...)
		Equal(t, alone.dx, one.dx)
		Equal(t, alone.dw, one.dw)
	}
}

func TestPTXNeedsEveryBarrier(t *testing.T) {
	x, gamma := Normals(1, 20*32, 1), Normals(2, 32, 1)
	Needs(t, dense.PTX, "dense_sums", func(k *Kernel) error {
		return k.Try(Size{2}, Size{256}, Poison(64), Normals(3, 64*64, 1), 64, Null, 0, 64, 64)
	})
	Needs(t, dense.PTX, "dense_batch_norm", func(k *Kernel) error {
		mean, variance := make([]float32, 32), Normals(3, 32, 1)
		return k.Try(Size{1}, Size{256}, Poison(20*32), x, 32, gamma, gamma, mean, variance, Poison(32), 20, 32, float32(0.1), float32(1), 0)
	})
	Needs(t, dense.PTX, "dense_batch_norm_back", func(k *Kernel) error {
		return k.Try(Size{1}, Size{256}, Normals(1, 20*32, 1), x, 32, gamma, gamma, Poison(32), Poison(32), 20, 32)
	})
	Needs(t, dense.PTX, "dense_back", func(k *Kernel) error {
		grid, args := backArgs(newLayer(1, 4, 16, 70, false, false), newLayer(2, 4, 16, 70, false, false))
		return k.Try(grid, Size{256}, args...)
	})
}
