package tensor_test

import (
	"math"
	"testing"

	"netfusion/kernels/activation"
	"netfusion/kernels/affine"
	"netfusion/kernels/coupling"
	"netfusion/kernels/matmul"
	"netfusion/kernels/random"
	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
)

func TestPTXNormalisations(t *testing.T) {
	r, reference := newRig(t, usual), cpu(t)
	const rows, n = 6, 40
	x, residual := normals(rows, n, 1), normals(rows, n, 2)
	gamma, beta := normals(1, n, 3).Data, normals(1, n, 4).Data
	g, b := vector(r, gamma), vector(r, beta)
	plain, summed, grouped := tensor.New(rows, n), tensor.New(rows, n), tensor.New(rows, n)
	reference.LayerNorm(plain, x, tensor.Tensor{}, gamma, beta, 1e-5)
	reference.LayerNorm(summed, x, residual, gamma, beta, 1e-5)
	activation.LeakyReLU(summed.Data, summed.Data)
	reference.GroupNorm(grouped, x, gamma, beta, 2, 5, 1e-5)
	from, add := r.put(x), r.put(residual)
	one, two, three := r.fresh(rows, n), r.fresh(rows, n), r.fresh(rows, n)
	r.run(func() {
		r.LayerNorm(one, from, tensor.Buffer{}, g, b, 1e-5, matmul.None)
		r.LayerNorm(two, from, add, g, b, 1e-5, matmul.LeakyReLU)
		r.GroupNorm(three, from, g, b, 2, 5, 1e-5, 1)
	})
	r.near(one, plain, 1e-5)
	r.near(two, summed, 1e-5)
	r.near(three, grouped, 1e-5)
}

func TestPTXAffine(t *testing.T) {
	r, reference := newRig(t, usual), cpu(t)
	const images, pixels, n = 2, 3, 150
	x, a := normals(images*pixels, n, 1), tensor.Affine{Scale: normals(images, n, 2), Offset: normals(images, n, 3)}
	want := tensor.New(x.Rows, n)
	reference.ReLUAffine(want, x, a)
	from, dst := r.put(x), r.fresh(x.Rows, n)
	scale, offset := r.packed(a.Scale), r.packed(a.Offset)
	r.run(func() { r.ReLUAffine(dst, from, tensor.GPUAffine{Scale: scale, Offset: offset}) })
	r.near(dst, want, 1e-6)

	mean, invStd, bias := normals(1, n, 4).Data, normals(1, n, 5).Data, normals(1, n, 6).Data
	for i := range images {
		affine.Fold(a.Scale.Row(i), a.Offset.Row(i), mean, invStd, bias)
	}
	m, s, b := vector(r, mean), vector(r, invStd), vector(r, bias)
	r.run(func() { r.Fold(scale, offset, m, s, b) })
	r.near(scale, a.Scale, 1e-6)
	r.near(offset, a.Offset, 1e-6)
}

func TestPTXColumns(t *testing.T) {
	r := newRig(t, usual)
	const rows, n = 3, 6
	x := normals(rows, n, 1)
	from, before, scale, after := []int32{5, 0, 2, 1}, normals(1, 4, 2).Data, normals(1, 4, 3).Data, normals(1, 4, 4).Data
	mapped, part := tensor.New(rows, 4), tensor.New(rows, 2)
	for i := range rows {
		for j, k := range from {
			mapped.Row(i)[j] = float32((x.Row(i)[k]+before[j])*scale[j]) + after[j]
		}
		copy(part.Row(i), x.Row(i)[3:5])
	}
	src, one, two := r.put(x), r.fresh(rows, 4), r.fresh(rows, 2)
	m := tensor.ColumnMap{From: vector(r, from), Before: vector(r, before), Scale: vector(r, scale), After: vector(r, after)}
	r.run(func() {
		r.Columns(one, src, m)
		r.Copy(two, src.Columns(3, 5))
	})
	r.near(one, mapped, 1e-6)
	r.near(two, part, 0)
}

func TestPTXMixAndAdd(t *testing.T) {
	r := newRig(t, usual)
	const rows, n, factor = 3, 5, 2.5
	x, base := normals(rows, n, 1), normals(rows, n, 2)
	mixed, added := tensor.New(rows, n), tensor.New(rows, n)
	for i, v := range x.Data {
		mixed.Data[i] = base.Data[i] + factor*(v-base.Data[i])
		added.Data[i] = base.Data[i] + factor*v
	}
	one, b, two, from, by := r.put(x), r.put(base), r.put(base), r.put(x), vector(r, []float32{factor})
	r.run(func() {
		r.Mix(one, b, by)
		r.AddScaled(two, from, by)
	})
	r.near(one, mixed, 1e-6)
	r.near(two, added, 1e-6)
}

func TestPTXActivations(t *testing.T) {
	r := newRig(t, usual)
	const rows, n = 4, 70
	x := normals(rows, n, 1)
	tanhGELU := func(dst, x []float32) {
		for i, v := range x {
			v := float64(v)
			dst[i] = float32(v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))))
		}
	}
	for name, c := range map[string]struct {
		on func(dst, x tensor.Buffer)
		at func(dst, x []float32)
	}{
		"exp": {r.Exp, activation.Exp}, "tanh": {r.Tanh, activation.Tanh}, "gelu": {r.GELU, activation.GELU}, "relu": {r.ReLU, activation.ReLU},
		"tanhGELU": {r.TanhGELU, tanhGELU},
		"prelu":    {func(dst, x tensor.Buffer) { r.PReLU(dst, x, 0.2) }, func(dst, x []float32) { activation.PReLU(dst, x, 0.2) }},
		"softmax": {func(dst, x tensor.Buffer) { r.Copy(dst, x); r.Softmax(dst) }, func(dst, x []float32) {
			copy(dst, x)
			activation.Softmax(dst, rows, n, n)
		}},
	} {
		want, dst, from := tensor.New(rows, n), r.fresh(rows, n), r.put(x)
		c.at(want.Data, x.Data)
		r.run(func() { c.on(dst, from) })
		t.Run(name, func(t *testing.T) {
			r.t = t
			r.near(dst, want, 2e-6)
		})
	}
}

func TestPTXPick(t *testing.T) {
	r := newRig(t, usual)
	logits := tensor.Of(3, 3, []float32{0, 10, 0, 1, 1, 1, 2, 0, 1})
	u, from, picked := vector(r, []float32{0.5, 0.99, 0.01}), r.packed(logits), tensor.Alloc[int32](r.g, 3)
	one, none := vector(r, []float32{1}), vector(r, []float32{0})
	for _, c := range []struct {
		temperature tensor.Array[float32]
		want        [3]int32
	}{{one, [3]int32{1, 2, 0}}, {none, [3]int32{1, 0, 0}}} {
		r.run(func() { r.Pick(picked, from, u, c.temperature) })
		var got [3]int32
		if err := tensor.Get(r.Queue, got[:], picked); err != nil || got != c.want {
			t.Errorf("%v, %v, want %v", got, err, c.want)
		}
	}
}

func TestPTXCoupling(t *testing.T) {
	r := newRig(t, usual)
	const rows, n, alpha = 5, 37, 1.5
	x, raw, shift, d := normals(rows, n, 1), normals(rows, n, 2), normals(rows, n, 3), normals(rows, n, 4)
	s, y, logdet, scratch := tensor.New(rows, n), tensor.New(rows, n), make([]float32, rows), make([]float32, rows*n)
	coupling.Clamp(s.Data, raw.Data, rows, n, n, alpha)
	coupling.Forward(y.Data, n, x.Data, n, s.Data, shift.Data, n, logdet, rows, n, scratch)
	draw, dt, dx := tensor.New(rows, n), tensor.New(rows, n), tensor.New(rows, n)
	copy(dx.Data, d.Data)
	coupling.Backward(dx.Data, n, draw.Data, dt.Data, n, x.Data, n, s.Data, -0.5, alpha, rows, n, scratch)

	from, rawOn, shiftOn, back := r.put(x), r.put(raw), r.put(shift), r.put(d)
	yOn, again, sOn, drawOn, dtOn := r.fresh(rows, n), r.fresh(rows, n), r.packed(tensor.New(rows, n)), r.fresh(rows, n), r.fresh(rows, n)
	logs := tensor.Alloc[float32](r.g, rows)
	r.run(func() {
		r.Couple(yOn, from, rawOn, shiftOn, sOn, logs, alpha)
		r.Uncouple(again, yOn, rawOn, shiftOn, alpha)
		r.CoupleBack(back, drawOn, dtOn, from, sOn, -0.5, alpha)
	})
	r.near(yOn, y, 1e-5)
	r.near(again, x, 1e-5)
	r.near(tensor.Matrix(logs, 1, rows), tensor.Of(1, rows, logdet), 1e-5)
	r.near(back, dx, 1e-5)
	r.near(drawOn, draw, 1e-5)
	r.near(dtOn, dt, 0)
}

func TestPTXEmbeddings(t *testing.T) {
	r := newRig(t, usual)
	const vocab, n = 6, 36
	table, positions, ids := normals(vocab, n, 1), normals(4, n, 2), []int32{5, 0, 3, 3}
	q, scale := make([]int8, vocab*n), make([]float32, vocab)
	for i := range vocab {
		scale[i] = 0.01 * float32(i+1)
		for j := range n {
			q[i*n+j] = int8(17*i + j - 60)
		}
	}
	summed, eight := tensor.New(4, n), tensor.New(4, n)
	for i, id := range ids {
		for j := range n {
			summed.Row(i)[j] = table.Row(int(id))[j] + positions.Row(i)[j]
			eight.Row(i)[j] = scale[id] * float32(q[int(id)*n+j])
		}
	}
	on := tensor.GPUTable{Rows: vocab, Cols: n, F32: vector(r, table.Data)}
	on8 := tensor.GPUTable{Rows: vocab, Cols: n, I8: vector(r, q), Scale: vector(r, scale)}
	at, idsOn, places := vector(r, positions.Data), vector(r, ids), vector(r, []int32{0, 1, 2, 3})
	one, two := r.fresh(4, n), r.fresh(4, n)
	r.run(func() {
		r.Embed(one, &on, idsOn)
		r.EmbedAdd(one, at, places)
		r.Embed(two, &on8, idsOn)
	})
	r.near(one, summed, 1e-6)
	r.near(two, eight, 1e-6)

	// The mean of two texts, of unit length.
	starts, want := []int32{0, 3, 4}, tensor.New(2, n)
	for i := range 2 {
		var square float64
		for j := range n {
			for token := starts[i]; token < starts[i+1]; token++ {
				want.Row(i)[j] += summed.Row(int(token))[j] / float32(starts[i+1]-starts[i])
			}
			square += float64(want.Row(i)[j]) * float64(want.Row(i)[j])
		}
		for j := range n {
			want.Row(i)[j] /= float32(math.Sqrt(square))
		}
	}
	startsOn, pooled := vector(r, starts), r.fresh(2, n)
	r.run(func() { r.PoolTokens(pooled, one, startsOn, true, true) })
	r.near(pooled, want, 1e-5)
}

func TestPTXPosterior(t *testing.T) {
	r := newRig(t, usual)
	const classes, n, half = 5, 8, 0.7
	e, table := normals(2, n, 1), normals(classes, n, 2)
	scores, hat := tensor.New(2, classes), tensor.New(2, n)
	for i := range 2 {
		var sum float64
		for k := range classes {
			var d float64
			for j := range n {
				v := float64(e.Row(i)[j]) - float64(table.Row(k)[j])
				d += v * v
			}
			scores.Row(i)[k] = float32(-half * d)
			sum += math.Exp(-half * d)
		}
		for k := range classes {
			w := float32(math.Exp(float64(scores.Row(i)[k])) / sum)
			for j := range n {
				hat.Row(i)[j] += w * table.Row(k)[j]
			}
		}
	}
	from, on, scoresOn, hatOn := r.packed(e), r.packed(table), r.packed(tensor.New(2, classes)), r.packed(tensor.New(2, n))
	r.run(func() { r.Posterior(hatOn, scoresOn, from, on, half) })
	r.near(scoresOn, scores, 1e-5)
	r.near(hatOn, hat, 1e-5)
}

func TestPTXPixels(t *testing.T) {
	r := newRig(t, usual)
	x, words := r.put(tensor.Of(2, 3, []float32{-1, 0, 1, 0.5, -2, 2})), tensor.Alloc[uint32](r.g, 2)
	r.run(func() { r.Pixels(words, x) })
	var got [2]uint32
	if err := tensor.Get(r.Queue, got[:], words); err != nil || got != [2]uint32{0xffff8000, 0xffff00c0} {
		t.Errorf("%#x, %v", got, err)
	}
}

// Noise has the bits of the CPU's, whichever dimension it begins with.
func TestPTXNoise(t *testing.T) {
	r := newRig(t, usual)
	const seed, sample, stream, rows, n, dim0 = 7, 1 << 33, 3, 3, 21, 6
	draw := vector(r, []uint64{seed, sample})
	words, uniform, normal := tensor.Alloc[uint32](r.g, n), r.fresh(rows, n), r.fresh(rows, n)
	r.run(func() {
		r.Words(words, draw, stream, dim0)
		r.Uniform(uniform, draw, stream, dim0)
		r.Normal(normal, draw, stream, dim0)
	})
	u, v, w, got := tensor.New(rows, n), tensor.New(rows, n), make([]uint32, n), make([]uint32, n)
	random.Words(w, seed, stream, sample, dim0)
	for i := range rows {
		random.Uniform(u.Row(i), seed, stream, sample+uint64(i), dim0)
		random.Normal(v.Row(i), seed, stream, sample+uint64(i), dim0)
	}
	if err := tensor.Get(r.Queue, got, words); err != nil {
		t.Fatal(err)
	}
	for i := range w {
		if got[i] != w[i] {
			t.Fatalf("word %d is %#x, want %#x", i, got[i], w[i])
		}
	}
	r.near(uniform, u, 0)
	r.near(normal, v, 0)

	// Dropout on the host has a feature to a row.
	const cut, keep = 77, 1.25
	x := normals(rows, n, 1)
	dropped := r.put(x)
	r.run(func() { r.Dropout(dropped, draw, stream, cut, keep) })
	want, feature, mask := tensor.New(rows, n), make([]float32, rows), make([]float32, rows)
	for j := range n {
		for i := range rows {
			feature[i] = x.Row(i)[j]
		}
		random.Dropout(feature, mask, cut, seed, stream, sample+uint64(j))
		for i := range rows {
			want.Row(i)[j] = feature[i]
		}
	}
	kept := 0
	for i, v := range r.get(dropped).Data {
		if v != 0 {
			kept++
		}
		if (v == 0) != (want.Data[i] == 0) {
			t.Fatalf("value %d is %v, on the host %v", i, v, want.Data[i])
		}
	}
	if kept == 0 || kept == rows*n {
		t.Errorf("%d of %d values are left", kept, rows*n)
	}
}

// What does not fit panics before anything is launched.
func TestShapesThatDoNotFitPanic(t *testing.T) {
	r := newRig(t, usual)
	a, b := r.packed(normals(2, 8, 1)), r.packed(normals(3, 8, 1))
	w, v := r.g.NewWeight(tensor.F32, Normals(1, 64, 1), 8, 8), vector(r, make([]float32, 8))
	for name, operation := range map[string]func(){
		"MatMul":    func() { r.MatMul(a, b, w, tensor.GPUEpilogue{}) },
		"alignment": func() { r.MatMul(a, a.Columns(1, 8), w, tensor.GPUEpilogue{}) },
		"LayerNorm": func() { r.LayerNorm(a, b, tensor.Buffer{}, v, v, 1, matmul.None) },
		"rows apart": func() {
			r.LayerNorm(a.Columns(0, 4), a.Columns(0, 4), tensor.Buffer{}, v.Slice(0, 4), v.Slice(0, 4), 1, matmul.None)
		},
		"Couple":      func() { r.Couple(a, b, a, a, tensor.Buffer{}, v, 1) },
		"Embed":       func() { r.Embed(a, &tensor.GPUTable{Cols: 8, Rows: 1, F32: v}, tensor.Array[int32]{}) },
		"bfloat16":    func() { r.Tanh(r.TakeIn(tensor.BF16, 2, 8), r.TakeIn(tensor.BF16, 2, 8)) },
		"out of rows": func() { a.Slice(1, 3) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			r.Run(operation)
		}()
	}
	r.run(func() { r.Copy(b, b) }) // the Queue is as it was
}
