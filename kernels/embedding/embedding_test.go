package embedding

import (
	"math"
	"testing"

	"netfusion/bench/roofline"
)

const rows, n = 5, 3

var (
	ids   = []int32{4, 0, 0, 2}
	nan   = float32(math.NaN())
	table [rows * n]float32
	q     [rows * n]int8
	scale = [rows]float32{0.5, 1, 2, 4, 0.25}
)

func init() {
	for i := range table {
		table[i], q[i] = float32(i)*1.5-7, int8(20*i-127)
	}
}

// filled returns room for the rows of ids and three values that must stay, all v.
func filled(v float32) []float32 {
	dst := make([]float32, len(ids)*n+3)
	for i := range dst {
		dst[i] = v
	}
	return dst
}

func compare(t *testing.T, dst []float32, want func(id, j int) float32) {
	t.Helper()
	rest := dst[len(ids)*n:]
	for i, id := range ids {
		for j := range n {
			if got := dst[i*n+j]; got != want(int(id), j) {
				t.Errorf("[%d][%d] = %v, want %v", i, j, got, want(int(id), j))
			}
		}
	}
	for i, v := range rest {
		if v == v && v != 10 {
			t.Errorf("wrote %d values too far", i+1)
		}
	}
}

func TestF32(t *testing.T) {
	dst := filled(nan)
	F32(dst, table[:], ids, n)
	compare(t, dst, func(id, j int) float32 { return table[id*n+j] })
}

func TestI8Rows(t *testing.T) {
	dst := filled(nan)
	I8Rows(dst, q[:], scale[:], ids, n)
	compare(t, dst, func(id, j int) float32 { return scale[id] * float32(q[id*n+j]) })
}

func TestAdd(t *testing.T) {
	dst := filled(10)
	Add(dst, table[:], ids, n)
	compare(t, dst, func(id, j int) float32 { return 10 + table[id*n+j] })
}

func TestPanicsBeforeTheFirstStore(t *testing.T) {
	for name, f := range map[string]func(dst []float32){
		"negative id":  func(dst []float32) { F32(dst, table[:], []int32{0, -1}, n) },
		"id too large": func(dst []float32) { Add(dst, table[:], []int32{0, rows}, n) },
		"few scales":   func(dst []float32) { I8Rows(dst, q[:], scale[:2], ids, n) },
		"dst short":    func(dst []float32) { F32(dst[:5], table[:], ids, n) },
		"no columns":   func(dst []float32) { F32(dst, table[:], ids, 0) },
	} {
		dst := filled(10)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f(dst)
		}()
		for _, v := range dst {
			if v != 10 {
				t.Errorf("%s: wrote before the panic", name)
			}
		}
	}
}

func TestDoesNotAllocate(t *testing.T) {
	dst := filled(0)
	if c := testing.AllocsPerRun(10, func() {
		F32(dst, table[:], ids, n)
		I8Rows(dst, q[:], scale[:], ids, n)
		Add(dst, table[:], ids, n)
	}); c != 0 {
		t.Errorf("%v allocations", c)
	}
}

// Benchmark is 128 tokens of MiniLM: a word of int8, a position and a type for each. The tables lie in the cache.
func Benchmark(b *testing.B) {
	const tokens, hidden = 128, 384
	words, scales, positions := make([]int8, 1000*hidden), make([]float32, 1000), make([]float32, tokens*hidden)
	ids, places, types := make([]int32, tokens), make([]int32, tokens), make([]int32, tokens)
	for i := range ids {
		ids[i], places[i] = int32(i*7%1000), int32(i)
	}
	dst := make([]float32, tokens*hidden)
	roof, bytes := roofline.Measure(1), float64(tokens*hidden*(1+4+4))
	b.SetBytes(int64(bytes))
	for b.Loop() {
		I8Rows(dst, words, scales, ids, hidden)
		Add(dst, positions, places, hidden)
		Add(dst, positions, types, hidden)
	}
	roof.Report(b, 3*tokens*hidden, bytes, roofline.Warm(bytes))
}
