package layernorm_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"netfusion/kernels/embedding"
	"netfusion/kernels/layernorm"
	"netfusion/kernels/quantize"
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

// copies are what layernorm_next can leave beside dst: nothing, bfloat16, uint8. Rows have ld values.
var copies = []string{"none", "bf16", "uint8"}

// rounded is the kernel's Rounded of a kind, and check compares it with dst, whose bits it has.
func rounded(kind string, rows, n int) (args []any, check func(t *testing.T, dst []float32)) {
	ld := Up(n, 16) * 16
	switch kind {
	case "bf16":
		half := make([]uint16, rows*ld)
		for i := range half {
			half[i] = 7
		}
		return []any{half, Null, Null, ld, 0}, func(t *testing.T, dst []float32) {
			want := make([]uint16, rows*ld)
			for i := range rows {
				quantize.F32ToBF16(want[i*ld:][:n], dst[i*n:][:n])
			}
			if !slices.Equal(half, want) {
				t.Fatal("the copy in bfloat16 is not that of dst")
			}
		}
	case "uint8":
		q, scale, zero := bytes.Repeat([]byte{7}, rows*ld), Poison(rows), make([]int32, rows)
		return []any{q, scale, zero, ld, 0}, func(t *testing.T, dst []float32) {
			want, wantScale, wantZero := make([]byte, rows*ld), make([]float32, rows), make([]int32, rows)
			quantize.F32ToU8Rows(want, ld, wantScale, wantZero, dst, n, rows, n)
			Equal(t, scale, wantScale)
			if !bytes.Equal(q, want) || !slices.Equal(zero, wantZero) {
				t.Fatal("the copy in uint8 is not that of dst")
			}
		}
	}
	return []any{Null, Null, Null, 0, 0}, func(*testing.T, []float32) {}
}

func TestPTXNextIsTheCPUs(t *testing.T) {
	const eps = 1e-5
	for _, s := range []struct{ rows, n int }{{1, 1}, {3, 31}, {2, 384}, {3, 1027}} {
		x, residual, gamma, beta := Normals(1, s.rows*s.n, 1), Normals(2, s.rows*s.n, 1), Normals(3, s.n, 1), Normals(4, s.n, 1)
		for _, residual := range [][]float32{nil, residual} {
			for _, kind := range copies {
				t.Run(fmt.Sprint(s, residual != nil, kind), func(t *testing.T) {
					want, dst := Poison(len(x)), slices.Clone(x) // in place
					layernorm.F32(want, x, residual, gamma, beta, s.rows, s.n, eps)
					args, check := rounded(kind, s.rows, s.n)
					args = append([]any{dst, dst, residual, gamma, beta, s.n, float32(eps)}, args...)
					Load(t, layernorm.PTX, "layernorm_next").Run(Size{s.rows}, Size{128}, append(args, gamma, 4*s.n, 0)...)
					Near(t, dst, func(i int) (float64, float64) {
						return float64(want[i]), 2e-6 * (1 + math.Abs(float64(gamma[i%s.n])) + math.Abs(float64(want[i])))
					})
					check(t, dst)
				})
			}
		}
	}
}

func TestPTXTextIsTheCPUs(t *testing.T) {
	const eps, n = 1e-5, 300
	ids, places, kinds := []int32{5, 0, 3, 5, 8}, []int32{0, 1, 2, 0, 1}, []int32{0, 0, 1, 0, 0}
	rows := len(ids)
	words, positions, types := Normals(1, 9*n, 1), Normals(2, 3*n, 1), Normals(3, 2*n, 1)
	gamma, beta, scale, q := Normals(4, n, 1), Normals(5, n, 1), Normals(6, 9, 0.01), make([]int8, 9*n)
	for i := range q {
		q[i] = int8(i*37 - 128)
	}
	for _, int8s := range []bool{false, true} {
		for _, kind := range copies {
			dst, want := Poison(rows*n), Poison(rows*n)
			table, scales := any(words), []float32(nil)
			if int8s {
				table, scales = q, scale
				embedding.I8Rows(want, q, scale, ids, n)
			} else {
				embedding.F32(want, words, ids, n)
			}
			embedding.Add(want, positions, places, n)
			embedding.Add(want, types, kinds, n)
			layernorm.F32(want, want, nil, gamma, beta, rows, n, eps)
			args, check := rounded(kind, rows, n)
			args = append([]any{dst, table, scales, positions, types, ids, places, kinds, gamma, beta, n, float32(eps)}, args...)
			Load(t, layernorm.PTX, "layernorm_text").Run(Size{rows}, Size{128}, append(args, Null, 0, 0)...)
			Near(t, dst, func(i int) (float64, float64) { return float64(want[i]), 1e-5 })
			check(t, dst)
		}
	}
}

func TestPTXNeedsEveryBarrier(t *testing.T) {
	x, gamma := Normals(1, 400, 1), Normals(2, 200, 1)
	args, _ := rounded("uint8", 2, 200)
	Needs(t, layernorm.PTX, "layernorm_next", func(k *Kernel) error {
		return k.Try(Size{2}, Size{128}, append(append([]any{Poison(400), x, Null, gamma, gamma, 200, float32(1e-5)}, args...), Null, 0, 0)...)
	})
}
