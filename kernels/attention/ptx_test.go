package attention_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"netfusion/kernels/attention"
	"netfusion/kernels/quantize"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, attention.PTX) }

// rows is a matrix with a row stride.
type rows struct {
	at []float32
	ld int
}

// exact and tf32 are how an entry rounds the operands of its products.
func exact(v float32) float64 { return float64(v) }

func tf32(v float32) float64 {
	return float64(math.Float32frombits((math.Float32bits(v) + 1<<12) &^ (1<<13 - 1)))
}

func bf16(v float32) float64 {
	return float64(math.Float32frombits(uint32(quantize.BF16(v)) << 16))
}

// attend is the definition, in float64: softmax over the keys of q·k, times v, and what its rounding errors are in proportion to.
func attend(q []float32, k, v rows, keys, depth, width int, round func(float32) float64) (dst, size []float64) {
	weight, top := make([]float64, keys), math.Inf(-1)
	for j := range keys {
		for p := range depth {
			weight[j] += round(q[p]) * round(k.at[j*k.ld+p])
		}
		top = max(top, weight[j])
	}
	var sum float64
	for j := range weight {
		weight[j] = math.Exp(weight[j] - top)
		sum += weight[j]
	}
	dst, size = make([]float64, width), make([]float64, width)
	for j := range keys {
		for c := range width {
			dst[c] += weight[j] / sum * round(v.at[j*v.ld+c])
			size[c] += weight[j] / sum * math.Abs(round(v.at[j*v.ld+c]))
		}
	}
	return dst, size
}

// In float32, scores of this size, up to 20 apart, err by some 30 roundings. In tf32 the weights are rounded, too, to 11 bits, and
// their sum is that of the rounded ones.
const (
	tolerance     = 4e-6
	toleranceTF32 = 0x1p-10
	toleranceBF16 = 0x1p-7 // weights to 8 bits, and the result
)

func compare(t *testing.T, got []float32, want, size []float64, tolerance float64) {
	t.Helper()
	Near(t, got, func(i int) (float64, float64) { return want[i], tolerance * (size[i] + 1e-3) })
}

// parts are the queries, keys and values of texts, where they lie side by side.
func parts[T any](qkv []T, tokens, hidden int) []any {
	ld := 3 * hidden
	return []any{qkv[:(tokens-1)*ld+hidden], qkv[hidden : (tokens-1)*ld+2*hidden], qkv[2*hidden:]}
}

// rest is the keys and values.
func rest(qkv []float32, hidden int) (k, v []float32) { return qkv[hidden:], qkv[2*hidden:] }

func TestPTXTexts(t *testing.T) {
	for _, c := range []struct {
		entry        string
		depth, heads int
		starts       []int32
		round        func(float32) float64
		tolerance    float64
	}{
		{"attention_text_32", 32, 2, []int32{0, 1, 34, 99}, exact, tolerance},
		{"attention_text_32", 7, 3, []int32{0, 65}, exact, tolerance},
		{"attention_text_64", 64, 1, []int32{0, 33, 38}, exact, tolerance},
		{"attention_text_64", 40, 2, []int32{0, 70}, exact, tolerance},
		{"attention_tf32_text_32", 32, 2, []int32{0, 1, 34, 99}, tf32, toleranceTF32},
		{"attention_tf32_text_32", 12, 3, []int32{0, 65}, tf32, toleranceTF32},
		{"attention_tf32_text_64", 64, 1, []int32{0, 33, 38}, tf32, toleranceTF32},
		{"attention_tf32_text_64", 40, 2, []int32{0, 70}, tf32, toleranceTF32},
		{"attention_bf16_text_32", 32, 2, []int32{0, 1, 34, 99}, bf16, toleranceBF16},
		{"attention_bf16_text_32", 8, 3, []int32{0, 65}, bf16, toleranceBF16},
		{"attention_bf16_text_64", 64, 1, []int32{0, 33, 38}, bf16, toleranceBF16},
		{"attention_bf16_text_64", 40, 2, []int32{0, 70}, bf16, toleranceBF16},
	} {
		t.Run(fmt.Sprint(c.entry, c.depth, c.starts), func(t *testing.T) {
			hidden, tokens := c.heads*c.depth, int(c.starts[len(c.starts)-1])
			ld, ldd := 3*hidden, hidden+1+3*(c.heads%2) // aligned rows, and others
			halves := strings.Contains(c.entry, "bf16")
			if halves {
				ldd = hidden + 8
			}
			std := 1.5 / math.Pow(float64(c.depth), 0.25)
			qkv, dst := Normals(1, tokens*ld, std), Poison(tokens*ldd)
			args := []any{dst, ldd}
			result := func() {}
			if halves {
				half, to := make([]uint16, len(qkv)), make([]uint16, len(dst))
				quantize.F32ToBF16(half, qkv)
				args = append([]any{to, ldd}, parts(half, tokens, hidden)...)
				quantize.F32ToBF16(to, dst) // poison
				result = func() {
					for i, h := range to {
						if bits := uint32(h) << 16; bits != 0x7fc00000 {
							dst[i] = math.Float32frombits(bits)
						}
					}
				}
			} else {
				args = append(args, parts(qkv, tokens, hidden)...)
			}
			k, v := rest(qkv, hidden)
			longest := 0
			for i := range c.starts[1:] {
				longest = max(longest, int(c.starts[i+1]-c.starts[i]))
			}
			Load(t, attention.PTX, c.entry).Run(Size{Up(longest, 64), c.heads, len(c.starts) - 1}, Size{128},
				append(args, ld, c.starts, c.depth, make([]float32, 500), 2000, 0)...)
			result()
			for text := range c.starts[1:] {
				begin, end := int(c.starts[text]), int(c.starts[text+1])
				for i := begin; i < end; i++ {
					for h := range c.heads {
						at := begin*ld + h*c.depth
						want, size := attend(qkv[i*ld+h*c.depth:], rows{k[at:], ld}, rows{v[at:], ld}, end-begin, c.depth, c.depth, c.round)
						compare(t, dst[i*ldd+h*c.depth:][:c.depth], want, size, c.tolerance)
					}
					if !Poisoned(dst[i*ldd+hidden]) {
						t.Fatalf("wrote behind row %d", i)
					}
				}
			}
		})
	}
}

func TestPTXPooled(t *testing.T) {
	type shape struct{ images, queries, keys, depth, width int }
	for _, e := range []struct {
		entry     string
		shapes    []shape
		round     func(float32) float64
		tolerance float64
	}{
		{"attention_pooled", []shape{{1, 1, 1, 1, 1}, {2, 70, 33, 16, 72}, {3, 5, 64, 64, 64}}, exact, tolerance},
		{"attention_tf32_pooled", []shape{{1, 1, 1, 4, 4}, {2, 70, 33, 16, 72}, {3, 5, 64, 64, 64}}, tf32, toleranceTF32},
		{"attention_tf32_pooled_32", []shape{{1, 1, 1, 4, 4}, {2, 70, 33, 16, 72}, {3, 5, 64, 32, 64}}, tf32, toleranceTF32},
	} {
		kernel := Load(t, attention.PTX, e.entry)
		for _, c := range e.shapes {
			ldq, ldk, ldv, ldd := c.depth+3, c.depth+4, c.width+8, c.width+1
			q, k := Normals(1, c.images*c.queries*ldq, 1/math.Pow(float64(c.depth), 0.25)), Normals(2, c.images*c.keys*ldk, 1)
			v, dst := Normals(3, c.images*c.keys*ldv, 1), Poison(c.images*c.queries*ldd)
			kernel.Run(Size{Up(c.queries, 64), Up(c.width, 64), c.images}, Size{128},
				dst, ldd, q, ldq, k, ldk, v, ldv, c.queries, c.keys, c.depth, c.width)
			for i := range c.images * c.queries {
				image := i / c.queries
				keys, values := rows{k[image*c.keys*ldk:], ldk}, rows{v[image*c.keys*ldv:], ldv}
				want, size := attend(q[i*ldq:], keys, values, c.keys, c.depth, c.width, e.round)
				compare(t, dst[i*ldd:][:c.width], want, size, e.tolerance)
				if !Poisoned(dst[i*ldd+c.width]) {
					t.Fatalf("wrote behind row %d", i)
				}
			}
		}
	}
}

// Queries in tf32 are read by words of half a sector, of which the first-level cache has the other half.
func TestPTXAddressesLieWell(t *testing.T) {
	const tokens, heads = 64, 2
	for _, c := range []struct {
		entry string
		depth int
		most  float64
	}{{"attention_text_32", 32, 1}, {"attention_text_64", 64, 1}, {"attention_tf32_text_32", 32, 2}, {"attention_tf32_text_64", 64, 2},
		{"attention_bf16_text_32", 32, 2}, {"attention_bf16_text_64", 64, 2}} {
		hidden := heads * c.depth
		qkv, dst := Normals(1, tokens*3*hidden, 0.5), Poison(tokens*hidden)
		args := append([]any{dst, hidden}, parts(qkv, tokens, hidden)...)
		if c.entry[:14] == "attention_bf16" {
			half := make([]uint16, len(qkv))
			args = append([]any{make([]uint16, len(dst)), hidden}, parts(half, tokens, hidden)...)
		}
		Traffic(t, attention.PTX, c.entry, c.most, func(kernel *Kernel) {
			kernel.Run(Size{1, heads, 1}, Size{128}, append(args, 3*hidden, []int32{0, tokens}, c.depth, Null, 0, 0)...)
		})
	}
	const queries, keys, width = 128, 64, 64
	for entry, depth := range map[string]int{"attention_pooled": 32, "attention_tf32_pooled": 64, "attention_tf32_pooled_32": 32} {
		most := 1.0
		if strings.Contains(entry, "tf32") {
			most = 2
		}
		Traffic(t, attention.PTX, entry, most, func(kernel *Kernel) {
			kernel.Run(Size{Up(queries, 64), 1, 1}, Size{128}, Poison(queries*width), width, Normals(1, queries*depth, 0.2), depth,
				Normals(2, keys*depth, 1), depth, Normals(3, keys*width, 1), width, queries, keys, depth, width)
		})
	}
}

func TestPTXNeedsEveryWaitAndBarrier(t *testing.T) {
	const tokens, depth = 100, 32
	q, k, v := Normals(1, tokens*depth, 0.5), Normals(2, tokens*depth, 0.5), Normals(3, tokens*depth, 1)
	for _, entry := range []string{"attention_text_32", "attention_tf32_text_32"} {
		Needs(t, attention.PTX, entry, func(kernel *Kernel) error {
			return kernel.Try(Size{2, 1, 1}, Size{128}, Poison(tokens*depth), depth, q, k, v, depth, []int32{0, tokens}, depth, Null, 0, 0)
		})
	}
	half := make([]uint16, tokens*depth)
	quantize.F32ToBF16(half, q)
	Needs(t, attention.PTX, "attention_bf16_text_32", func(kernel *Kernel) error {
		return kernel.Try(Size{2, 1, 1}, Size{128}, make([]uint16, tokens*depth), depth, half, half, half, depth, []int32{0, tokens}, depth, Null, 0, 0)
	})
}
