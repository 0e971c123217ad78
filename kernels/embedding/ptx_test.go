package embedding_test

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/embedding"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, embedding.PTX) }

func TestPTXRowsHaveTheCPUsBits(t *testing.T) {
	const rows = 9
	ids := []int32{8, 0, 3, 3}
	for _, n := range []int{1, 32, 300} {
		grid, block := Size{len(ids), Up(n, 128)}, Size{128}
		table, scale, q := Normals(1, rows*n, 1), Normals(2, rows, 1), make([]int8, rows*n)
		for i := range q {
			q[i] = int8(i*37 - 128)
		}
		dst, want := Poison(len(ids)*n), Poison(len(ids)*n)
		embedding.I8Rows(want, q, scale, ids, n)
		Load(t, embedding.PTX, "embedding_i8").Run(grid, block, dst, q, scale, ids, n)
		Equal(t, dst, want)
		embedding.Add(want, table, ids, n)
		Load(t, embedding.PTX, "embedding_add").Run(grid, block, dst, table, ids, n)
		Equal(t, dst, want)
		embedding.F32(want, table, ids, n)
		Load(t, embedding.PTX, "embedding_f32").Run(grid, block, dst, table, ids, n)
		Equal(t, dst, want)
	}
}

func TestPTXPool(t *testing.T) {
	k := Load(t, embedding.PTX, "embedding_pool")
	starts := []int32{0, 1, 4, 11}
	for _, n := range []int{1, 32, 300} {
		x := Normals(1, 11*n, 1)
		for _, mean := range []int{0, 1} {
			for _, normalize := range []int{0, 1} {
				dst, want := Poison(3*n), make([]float64, 3*n)
				for i := range 3 {
					row, end := want[i*n:][:n], starts[i]+1
					if mean == 1 {
						end = starts[i+1]
					}
					for token := starts[i]; token < end; token++ {
						for j, v := range x[int(token)*n:][:n] {
							row[j] += float64(v) / float64(end-starts[i])
						}
					}
					var squares float64
					for _, v := range row {
						squares += v * v
					}
					if normalize == 1 {
						for j := range row {
							row[j] /= math.Sqrt(squares)
						}
					}
				}
				k.Run(Size{3}, Size{128}, dst, x, starts, n, mean, normalize)
				Near(t, dst, func(i int) (float64, float64) { return want[i], 1e-6 })
			}
		}
	}
	zero := make([]float32, 40)
	k.Run(Size{1}, Size{128}, zero, slices.Clone(zero), []int32{0, 1}, 40, 1, 1)
	Equal(t, zero, make([]float32, 40))
}

func TestPTXPosterior(t *testing.T) {
	k := Load(t, embedding.PTX, "embedding_posterior")
	for _, s := range []struct{ rows, classes, n int }{{1, 1, 1}, {3, 40, 17}, {2, 130, 140}} {
		const half = 0.7
		table, e := Normals(1, s.classes*s.n, 1), Normals(2, s.rows*s.n, 0.4)
		for i := range e {
			e[i] += table[i%(s.classes*s.n)] // near one of the classes
		}
		hat, scores := Poison(s.rows*s.n), Poison(s.rows*s.classes)
		wantHat, wantScores := make([]float64, s.rows*s.n), make([]float64, s.rows*s.classes)
		for i := range s.rows {
			row := wantScores[i*s.classes:][:s.classes]
			var sum float64
			for c := range row {
				for j := range s.n {
					d := float64(e[i*s.n+j]) - float64(table[c*s.n+j])
					row[c] -= half * d * d
				}
				sum += math.Exp(row[c])
			}
			for c := range row {
				for j := range s.n {
					wantHat[i*s.n+j] += math.Exp(row[c]) / sum * float64(table[c*s.n+j])
				}
			}
		}
		k.Run(Size{s.rows}, Size{128}, hat, scores, e, table, s.classes, s.n, float32(half))
		Near(t, scores, func(i int) (float64, float64) { return wantScores[i], -2e-6 * wantScores[i] })
		Near(t, hat, func(i int) (float64, float64) { return wantHat[i], 1e-4 })
	}
}

func TestPTXNeedsEveryBarrier(t *testing.T) {
	x, e := Normals(1, 6*200, 1), Normals(2, 200, 1)
	Needs(t, embedding.PTX, "embedding_pool", func(k *Kernel) error {
		return k.Try(Size{1}, Size{128}, Poison(200), x, []int32{0, 6}, 200, 1, 1)
	})
	Needs(t, embedding.PTX, "embedding_posterior", func(k *Kernel) error {
		return k.Try(Size{1}, Size{128}, Poison(200), make([]float32, 6), e, x, 6, 200, float32(1))
	})
}

func TestPTXDrawScalesNoiseByTheRows(t *testing.T) {
	k := Load(t, embedding.PTX, "embedding_draw")
	const rows, noise = 9, 0.3
	ids := []int32{8, 0, 3, 3}
	for _, n := range []int{1, 128, 300} {
		ld := n + 3
		table, spread := Normals(1, rows*n, 1), Normals(2, rows*n, 1)
		for _, spread := range [][]float32{spread, nil} {
			dst := Normals(3, len(ids)*ld, 1)
			want := slices.Clone(dst)
			for i, id := range ids {
				for j := range n {
					s := float32(noise)
					if spread != nil {
						s = spread[int(id)*n+j]
					}
					want[i*ld+j] = table[int(id)*n+j] + float32(s*want[i*ld+j])
				}
			}
			k.Run(Size{len(ids), Up(n, 128)}, Size{128}, dst, ld, table, spread, float32(noise), ids, n)
			Equal(t, dst, want)
		}
	}
}
