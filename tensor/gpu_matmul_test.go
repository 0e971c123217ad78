package tensor_test

import (
	"fmt"
	"math"
	"testing"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
)

// A product on a GPU is that of a Device: in float32 and tf32 within their roundings, in bfloat16, whose operands are the same, within
// those of the sums, and in int8, whose sums are exact, within those of the activations.
func TestPTXMatMul(t *testing.T) {
	reference := cpu(t)
	for _, c := range []struct {
		device
		precision tensor.Precision
		rows      tensor.Precision
		shapes    [][3]int
		tolerance float64
	}{
		{usual, tensor.F32, tensor.F32, [][3]int{{1, 9, 20}, {2, 6, 132}, {3, 5, 64}, {7, 3, 8}, {13, 17, 24}, {65, 70, 33}, {1, 5, 7}}, 2e-5},
		{device{108, true}, tensor.F32, tensor.F32, [][3]int{{33, 35, 24}, {40, 33, 516}, {33, 5, 772}}, 3e-3},
		{device{4, true}, tensor.F32, tensor.F32, [][3]int{{130, 66, 20}}, 3e-3},
		{device{1, true}, tensor.F32, tensor.F32, [][3]int{{33, 35, 20}}, 3e-3},
		{usual, tensor.BF16, tensor.F32, [][3]int{{1, 9, 20}, {17, 5, 64}, {33, 5, 64}, {65, 35, 21}, {3, 35, 21}, {65, 33, 516}, {65, 5, 1541}}, 1e-4},
		{usual, tensor.BF16, tensor.BF16, [][3]int{{1, 9, 24}, {17, 5, 64}, {33, 5, 64}}, 1e-4},
		{device{4, false}, tensor.BF16, tensor.F32, [][3]int{{130, 66, 21}}, 1e-4},
		{device{1, false}, tensor.BF16, tensor.F32, [][3]int{{33, 35, 21}}, 1e-4},
		{usual, tensor.Int8, tensor.F32, [][3]int{{1, 9, 21}, {17, 5, 64}, {33, 5, 64}, {65, 35, 21}, {65, 33, 516}, {65, 5, 3077}}, 1e-5},
		{device{4, false}, tensor.Int8, tensor.F32, [][3]int{{130, 66, 21}}, 1e-5},
		{device{1, false}, tensor.Int8, tensor.F32, [][3]int{{33, 35, 21}}, 1e-5},
	} {
		r := newRig(t, c.device)
		for i, s := range c.shapes {
			for _, fused := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%v rows/%+v/%v/%v", c.precision, c.rows, c.device, s, fused), func(t *testing.T) {
					r.t = t
					product(r, reference, c.precision, c.rows, s[0], s[1], s[2], matmul.Act(i%5), fused, c.tolerance)
				})
			}
		}
	}
}

// On compute capability 9.0 large products of bfloat16 take the kernels for it, if those are trusted.
func TestPTXMatMulOnHopper(t *testing.T) {
	d := OpenFor(t, matmul.HopperPTX)
	reference := cpu(t)
	for tile, multiprocessors := range map[int]int{64: 6, 128: 1} {
		g, err := tensor.OpenGPU(&spy{d, multiprocessors}, tensor.GPUOptions{Unproven: true})
		if err != nil {
			t.Fatal(err)
		}
		q, err := g.NewQueue(0)
		if err != nil {
			t.Fatal(err)
		}
		entry := fmt.Sprintf("matmul_bf16_w%d", tile)
		delete(launched, entry)
		for _, fused := range []bool{false, true} {
			product(&rig{t, g, q}, reference, tensor.BF16, tensor.F32, 130, 66, 77, matmul.LeakyReLU, fused, 1e-4)
		}
		if !launched[entry] {
			t.Errorf("%s was not chosen", entry)
		}
	}
}

// product compares one product, of rows that are rounded on their way or, where rows is BF16, before it.
func product(r *rig, reference *tensor.Device, p, rows tensor.Precision, m, n, k int, act matmul.Act, fused bool, tolerance float64) {
	x, w, bias, residual := normals(m, k, 1), tensor.Of(n, k, Normals(2, n*k, 1/math.Sqrt(float64(k)))), normals(1, n, 3).Data, normals(m, n, 4)
	weight, want := tensor.NewWeightIn(p, w.Data, n, k), tensor.New(m, n)
	weight.Reserve(reference, m)
	e, on := matmul.Epilogue{Act: act}, tensor.GPUEpilogue{Act: act}
	if fused {
		e.Bias, on.Bias = bias, vector(r, bias)
	}
	reference.MatMul(want, x, weight, e)
	if fused && m%2 == 0 { // two images
		a := tensor.Affine{Scale: normals(2, n, 5), Offset: normals(2, n, 6)}
		reference.ReLUAffine(want, want, a)
		on.After = tensor.GPUAffine{Scale: r.put(a.Scale), Offset: r.put(a.Offset)}
	}
	dst := r.fresh(m, n)
	if fused {
		for i, v := range residual.Data {
			want.Data[i] += v
		}
		on.Residual = r.put(residual)
	}
	from, matrix := r.put(x), r.g.NewWeight(p, w.Data, n, k)
	r.run(func() {
		x := from
		if rows == tensor.BF16 {
			x = r.TakeIn(tensor.BF16, m, k)
			r.Round(x, from)
		}
		r.MatMul(dst, x, matrix, on)
	})
	r.near(dst, want, tolerance)
}

// Groups are columns of one operand and of one result.
func TestPTXGroupedMatMul(t *testing.T) {
	r, reference := newRig(t, usual), cpu(t)
	const m, n, k, groups = 3, 6, 8, 3
	x, bias, residual := normals(m, groups*k, 1), normals(1, groups*n, 2).Data, normals(m, groups*n, 3)
	var weights []tensor.Weight
	var on []tensor.GPUWeight
	for g := range groups {
		w := normals(n, k, uint64(10+g)).Data
		weights, on = append(weights, tensor.NewWeight(w, n, k)), append(on, r.g.NewWeight(tensor.F32, w, n, k))
	}
	want, dst := tensor.New(m, groups*n), r.fresh(m, groups*n)
	reference.GroupedMatMul(want, x, weights, matmul.Epilogue{Bias: bias, Act: matmul.LeakyReLU, Residual: residual.Data, LdRes: groups * n})
	from, add, b := r.put(x), r.put(residual), vector(r, bias)
	r.run(func() {
		r.GroupedMatMul(dst, from, on, tensor.GPUEpilogue{Bias: b, Act: matmul.LeakyReLU, Residual: add})
	})
	r.near(dst, want, 1e-5)
}

// Rows of a weight are a weight, in every precision.
func TestPTXRowsOfAWeight(t *testing.T) {
	r, reference := newRig(t, usual), cpu(t)
	const n, k, i, j = 11, 20, 3, 9
	w, x := normals(n, k, 1), normals(2, k, 2)
	for _, p := range []tensor.Precision{tensor.F32, tensor.BF16, tensor.Int8} {
		part := tensor.NewWeightIn(p, w.Slice(i, j).Data, j-i, k)
		part.Reserve(reference, 2)
		want, dst := tensor.New(2, j-i), r.fresh(2, j-i)
		reference.MatMul(want, x, part, matmul.Epilogue{})
		from, all := r.put(x), r.g.NewWeight(p, w.Data, n, k)
		r.run(func() { r.MatMul(dst, from, all.Rows(i, j), tensor.GPUEpilogue{}) })
		r.near(dst, want, 1e-4)
	}
}
