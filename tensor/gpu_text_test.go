package tensor_test

import (
	"testing"

	"netfusion/kernels/layernorm"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// What a normalisation leaves for the product that follows is what that would round.
func TestPTXLayerNormNext(t *testing.T) {
	r, reference := newRig(t, usual), cpu(t)
	const rows, n, outputs = 5, 40, 6
	x, residual, w := normals(rows, n, 1), normals(rows, n, 2), normals(outputs, n, 3)
	gamma, beta := normals(1, n, 4).Data, normals(1, n, 5).Data
	want := tensor.New(rows, n)
	reference.LayerNorm(want, x, residual, gamma, beta, 1e-5)
	from, add, g, b := r.put(x), r.put(residual), vector(r, gamma), vector(r, beta)
	for _, p := range []tensor.Precision{tensor.BF16, tensor.Int8} {
		weight, product := tensor.NewWeightIn(p, w.Data, outputs, n), tensor.New(rows, outputs)
		weight.Reserve(reference, rows)
		reference.MatMul(product, want, weight, matmul.Epilogue{})
		on, dst, y := r.g.NewWeight(p, w.Data, outputs, n), r.fresh(rows, n), r.fresh(rows, outputs)
		r.run(func() {
			next := r.TakeIn(p, rows, n)
			r.LayerNormNext(dst, next, from, add, g, b, 1e-5, on)
			r.MatMul(y, next, on, tensor.GPUEpilogue{})
		})
		r.near(dst, want, 1e-5)
		r.near(y, product, 3e-2) // a sum of which some operands are rounded the other way
	}
}

func TestPTXEmbedText(t *testing.T) {
	r := newRig(t, usual)
	const vocab, n = 6, 36
	words, positions, types := normals(vocab, n, 1), normals(4, n, 2), normals(2, n, 3)
	gamma, beta := normals(1, n, 4).Data, normals(1, n, 5).Data
	ids, places, kinds := []int32{5, 0, 3, 3, 1}, []int32{0, 1, 2, 0, 1}, []int32{0, 0, 1, 0, 0}
	eight, scale := make([]int8, vocab*n), make([]float32, vocab)
	for i := range eight {
		eight[i], scale[i/n] = int8(37*i), 0.01*float32(1+i/n)
	}
	tables := tensor.TextTables{
		Positions: vector(r, positions.Data), Types: vector(r, types.Data), Gamma: vector(r, gamma), Beta: vector(r, beta), Eps: 1e-5,
	}
	text := tensor.Text{IDs: vector(r, ids), Places: vector(r, places), Types: vector(r, kinds)}
	for _, int8s := range []bool{false, true} {
		want := tensor.New(len(ids), n)
		for i, id := range ids {
			for j := range n {
				v := words.Row(int(id))[j]
				if int8s {
					v = scale[id] * float32(eight[int(id)*n+j])
				}
				want.Row(i)[j] = v + positions.Row(int(places[i]))[j] + types.Row(int(kinds[i]))[j]
			}
		}
		layernorm.F32(want.Data, want.Data, nil, gamma, beta, want.Rows, n, 1e-5)
		tables.Words = tensor.GPUTable{Rows: vocab, Cols: n, F32: vector(r, words.Data)}
		if int8s {
			tables.Words = tensor.GPUTable{Rows: vocab, Cols: n, I8: vector(r, eight), Scale: vector(r, scale)}
		}
		dst := r.fresh(want.Rows, n)
		r.run(func() { r.EmbedText(dst, tensor.Buffer{}, &tables, text, tensor.GPUWeight{}) })
		r.near(dst, want, 1e-5)
	}
}
