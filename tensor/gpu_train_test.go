package tensor_test

import (
	"math"
	"slices"
	"sort"
	"testing"

	"netfusion/kernels/optimizer"
	"netfusion/kernels/random"
	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
)

// The way back through a layer with a LeakyReLU before it.
func TestPTXLinearBack(t *testing.T) {
	r := newRig(t, usual)
	const rows, in, out = 3, 6, 5
	dy, w, h := normals(rows, out, 1), normals(out, in, 2), normals(rows, in, 3)
	wide := func(x tensor.Tensor) tensor.Tensor { // zero behind its columns, as a weight and what it multiplies are
		y := tensor.New(x.Rows, 8)
		for i := range x.Rows {
			copy(y.Row(i), x.Row(i))
		}
		return y
	}
	dx, dw, db, square := tensor.New(rows, in), tensor.New(out, in), tensor.New(1, out), 0.0
	for i := range rows {
		for o, d := range dy.Row(i) {
			db.Data[o] += d
			for j := range in {
				dx.Row(i)[j] += d * w.Row(o)[j]
				dw.Row(o)[j] += d * h.Row(i)[j]
			}
		}
		for j, v := range h.Row(i) {
			if v < 0 {
				dx.Row(i)[j] *= 0.01
			}
		}
	}
	for _, v := range dw.Data {
		square += float64(v) * float64(v)
	}
	twice := tensor.New(rows, in)
	for i, v := range dx.Data {
		twice.Data[i] = 2 * v
	}
	dyOn, wOn, hOn := r.put(dy), r.put(wide(w)).Columns(0, in), r.put(wide(h)).Columns(0, in)
	dxOn, dwOn := r.fresh(rows, in), r.fresh(out, 8).Columns(0, in)
	dbOn, squares := vector(r, Poison(out)), vector(r, make([]float64, tensor.SquaresOf(out, in)))
	back := tensor.LinearBack{DX: dxOn, H: hOn, DW: dwOn, DB: dbOn, Squares: squares, DY: dyOn, W: wOn, X: hOn}
	r.run(func() { r.LinearBack(back) })
	r.near(dxOn, dx, 1e-5)
	r.near(dwOn, dw, 1e-5)
	r.near(tensor.Matrix(dbOn, 1, out), db, 1e-5)
	if got := get(r, squares); len(got) != 1 || math.Abs(got[0]-square) > 1e-5*square {
		t.Errorf("squares %v, want %v", got, square)
	}
	other := back // of the same layer, which leaves its weights alone
	other.DX, other.DW, other.DB, other.Squares = tensor.Buffer{}, r.fresh(out, 8).Columns(0, in), vector(r, Poison(out)), vector(r, make([]float64, 1))
	back.Add = true
	r.run(func() { r.LinearBack(back, other) })
	r.near(dxOn, twice, 1e-5)
	r.near(other.DW, dw, 1e-5)
	if w := r.Work(); w.FLOPs != 3*2*rows*in*out || w.Weights != 3*4*in*out || w.Maps != 4*rows*(2*(in+out)+in) || w.Launches != 1 {
		t.Errorf("%+v", w)
	}
}

// get downloads a.
func get[T tensor.Value](r *rig, a tensor.Array[T]) []T {
	r.t.Helper()
	v := make([]T, a.Len)
	if err := tensor.Get(r.Queue, v, a); err != nil {
		r.t.Fatal(err)
	}
	return v
}

// With gamma of 1 and beta of 0, and the gradient d = 1, nothing comes back: a normalisation does not see what all have in common.
func TestPTXNormalisationsBack(t *testing.T) {
	r := newRig(t, usual)
	const rows, n = 5, 8
	x, ones, none := normals(rows, n, 1), vector(r, slices.Repeat([]float32{1}, n)), vector(r, make([]float32, n))
	want := tensor.New(rows, n) // x̂ of the columns
	for j := range n {
		var mean, square float64
		for i := range rows {
			mean += float64(x.Row(i)[j]) / rows
		}
		for i := range rows {
			square += math.Pow(float64(x.Row(i)[j])-mean, 2) / rows
		}
		for i := range rows {
			want.Row(i)[j] = float32((float64(x.Row(i)[j]) - mean) / math.Sqrt(square+1e-5))
		}
	}
	leaky := tensor.New(rows, n)
	for i, v := range want.Data {
		leaky.Data[i] = max(v, 0.01*v)
	}
	xOn, y, d := r.put(x), r.fresh(rows, n), r.put(tensor.Of(rows, n, slices.Repeat([]float32{1}, rows*n)))
	mean, variance, rstd := vector(r, make([]float32, n)), vector(r, slices.Repeat([]float32{1}, n)), vector(r, Poison(n))
	dgamma, dbeta := vector(r, Poison(n)), vector(r, Poison(n))
	r.run(func() {
		r.BatchNorm(y, xOn, ones, none, mean, variance, rstd, 0.1, 1e-5, false)
		r.BatchNormBack(d, xOn, ones, rstd, dgamma, dbeta)
	})
	r.near(xOn, want, 1e-5)
	r.near(y, leaky, 1e-5)
	r.near(d, tensor.New(rows, n), 1e-5)
	r.near(tensor.Matrix(dgamma, 1, n), tensor.New(1, n), 1e-5)
	r.near(tensor.Matrix(dbeta, 1, n), tensor.Of(1, n, slices.Repeat([]float32{rows}, n)), 1e-5)

	xOn, d, old := r.put(x), r.put(tensor.Of(rows, n, slices.Repeat([]float32{1}, rows*n))), r.fresh(rows, n)
	r.run(func() {
		r.LayerNormBack(d, xOn, old, ones, 1e-5)
		r.ColumnSums(dbeta, old, tensor.Buffer{})
		r.ColumnSums(dgamma, old, xOn)
	})
	r.near(d, tensor.New(rows, n), 1e-5)
	r.near(old, tensor.Of(rows, n, slices.Repeat([]float32{1}, rows*n)), 0)
	r.near(tensor.Matrix(dbeta, 1, n), tensor.Of(1, n, slices.Repeat([]float32{rows}, n)), 1e-5)
	sums, hat := tensor.New(1, n), r.get(xOn)
	for i := range rows {
		for j, v := range hat.Row(i) {
			sums.Data[j] += v
		}
	}
	r.near(tensor.Matrix(dgamma, 1, n), sums, 1e-5)
}

func TestPTXActNormBack(t *testing.T) {
	r := newRig(t, usual)
	const rows, n = 3, 3
	d, y, scale := normals(rows, 5, 1), normals(rows, 6, 2), normals(1, n, 3).Data
	from, which := []int32{4, -1, 0}, []int32{2, 0, 5} // of d and of y
	dx, dloc, dscale := tensor.New(rows, n), tensor.New(1, n), tensor.New(1, n)
	for j, c := range from {
		if c < 0 {
			continue
		}
		var sum, along float32
		for i := range rows {
			v := d.Row(i)[c]
			dx.Row(i)[j] = v * scale[2-j]
			sum, along = sum+v, along+v*y.Row(i)[which[j]]
		}
		dloc.Data[j], dscale.Data[j] = sum*scale[j], (along-1)/scale[j]
	}
	dOn, yOn, scaleOn, fromOn := r.put(d), r.put(y), vector(r, scale), vector(r, from)
	turned, whichOn := vector(r, []int32{2, 1, 0}), vector(r, which)
	dxOn, locOn, dscaleOn := r.fresh(rows, n), vector(r, Poison(n)), vector(r, Poison(n))
	r.run(func() {
		r.ColumnsBack(dxOn, dOn, fromOn, scaleOn, turned)
		r.ColumnsSums(locOn, dscaleOn, dOn, fromOn, yOn, whichOn, scaleOn)
	})
	r.near(dxOn, dx, 1e-6)
	r.near(tensor.Matrix(locOn, 1, n), dloc, 1e-5)
	r.near(tensor.Matrix(dscaleOn, 1, n), dscale, 1e-5)
}

func TestPTXMapsBack(t *testing.T) {
	r := newRig(t, usual)
	const rows, n = 3, 2
	d, y, from := normals(rows, 4, 1), normals(rows, 4, 2), []int32{3, -1, 0, 2}
	gathered, back := tensor.New(rows, n), tensor.New(rows, 4)
	for i := range rows {
		gathered.Row(i)[0], gathered.Row(i)[1] = d.Row(i)[3]+d.Row(i)[0], d.Row(i)[2]
		for j, v := range d.Row(i) {
			if back.Row(i)[j] = v; y.Row(i)[j] < 0 {
				back.Row(i)[j] = v * 0.2
			}
		}
	}
	dOn, yOn, fromOn, sums := r.put(d), r.put(y), vector(r, from), r.fresh(rows, n)
	r.run(func() {
		r.Gather(sums, dOn, fromOn, 2)
		r.PReLUBack(dOn, yOn, 0.2)
	})
	r.near(sums, gathered, 1e-6)
	r.near(dOn, back, 0)
}

func TestPTXLosses(t *testing.T) {
	r := newRig(t, usual)
	const rows, n, weight = 3, 3, 0.5
	y, logdet, from := normals(rows, 5, 1), normals(1, rows, 2).Data, []int32{4, -1, 0}
	loss, d := tensor.New(1, rows), tensor.New(rows, n)
	for i := range rows {
		for j, c := range from {
			if c >= 0 {
				v := y.Row(i)[c]
				d.Row(i)[j] = weight * v
				loss.Data[i] += v * v / 2
			}
		}
		loss.Data[i] -= logdet[i]
	}
	yOn, logdetOn, fromOn, lossOn, dOn := r.put(y), vector(r, logdet), vector(r, from), vector(r, Poison(rows)), r.fresh(rows, n)
	scales, sum := []float32{2, -0.5, 4}, vector(r, make([]float64, 1))
	scalesOn := vector(r, scales)
	r.run(func() {
		r.CoupleLoss(lossOn, dOn, yOn, fromOn, logdetOn, weight)
		r.LogScales(sum, scalesOn)
	})
	r.near(tensor.Matrix(lossOn, 1, rows), loss, 1e-5)
	r.near(dOn, d, 1e-6)
	if got := get(r, sum)[0]; math.Abs(got-math.Log(4)) > 1e-6 {
		t.Errorf("Σ log|scale| is %v, want %v", got, math.Log(4))
	}

	// Where all parts are as likely, the data say nothing of the weights.
	logits, scores := normals(rows, n, 4), tensor.Of(rows, n, slices.Repeat([]float32{-7}, rows*n))
	logitsOn, scoresOn := r.put(logits), r.packed(scores)
	r.run(func() { r.MixtureLoss(lossOn, logitsOn, scoresOn, weight) })
	r.near(tensor.Matrix(lossOn, 1, rows), tensor.Of(1, rows, []float32{7, 7, 7}), 1e-6)
	r.near(logitsOn, tensor.New(rows, n), 1e-6)
}

func TestPTXBatchesAreDrawn(t *testing.T) {
	r := newRig(t, usual)
	const rows, n, seed, step = 20, 5, 7, 3 << 16
	sums, members := []float64{1, 1.5, 4}, []int32{0, 10, 1, 11, 2, 12}
	want := make([]int32, 2*rows)
	for i := range rows {
		w := random.Philox([4]uint32{0, step + uint32(i), 0, 8}, [2]uint32{seed})
		p := sort.SearchFloat64s(sums, (float64(w[0])+0.5)*0x1p-32*4)
		want[i], want[rows+i] = members[2*p], members[2*p+1]
		if (float32(w[1]>>8)+0.5)*0x1p-24 < 0.5 {
			want[i] = 3
		}
	}
	draw, ids := vector(r, []uint64{seed, step}), vector(r, make([]int32, 2*rows))
	list := tensor.PairList{Members: vector(r, members), Sums: vector(r, sums), Columns: 2, Drop: 0.5, Null: 3}
	r.run(func() { r.Pairs(ids, &list, draw, 8) })
	if got := get(r, ids); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	table, spread, noise := normals(4, n, 1), normals(4, n, 2), normals(rows, n, 3)
	drawn := tensor.New(rows, n)
	for i := range rows {
		for j, v := range noise.Row(i) {
			drawn.Row(i)[j] = table.Row(int(want[i]))[j] + float32(spread.Row(int(want[i]))[j]*v)
		}
	}
	tableOn, spreadOn, dst := vector(r, table.Data), vector(r, spread.Data), r.put(noise)
	r.run(func() { r.EmbedDraw(dst, tableOn, spreadOn, 0, ids.Slice(0, rows)) })
	r.near(dst, drawn, 0)
}

func TestPTXOptimizer(t *testing.T) {
	r := newRig(t, usual)
	const n, bound = 300, 2
	p, g, m, v := normals(1, n, 1).Data, normals(1, n, 2).Data, make([]float32, n), make([]float32, n)
	ema, norm := slices.Clone(p), math.Sqrt(optimizer.SumSquares(g))
	a := optimizer.Adam{Rate: 0.1, Beta1: 0.5, Beta2: 0.9, Epsilon: 1e-8, Step: 1}
	step := []float32{0.5, 0.9, 0.5, float32(1 - a.Beta2), 1, 0.2, float32(1 / math.Sqrt(1-a.Beta2)), 1e-8, 0, 0.25}
	pOn, gOn, mOn, vOn, emaOn, stepOn := vector(r, p), vector(r, g), vector(r, m), vector(r, v), vector(r, ema), vector(r, step)
	a.Apply(p, g, m, v, nil, float32(bound/norm))
	optimizer.Average(ema, p, 0.75)
	partial, normOn := vector(r, make([]float64, 2)), vector(r, make([]float64, 1))
	r.run(func() {
		r.SumSquares(partial, gOn)
		r.Clip(normOn, stepOn, partial, bound)
		r.Adam(pOn, gOn, mOn, vOn, tensor.Array[float32]{}, emaOn, stepOn)
	})
	if w := r.Work(); w.Weights != 4*(7+2)*n {
		t.Errorf("%+v", w)
	}
	if got := get(r, normOn)[0]; math.Abs(got-norm) > 1e-12 {
		t.Errorf("the norm is %v, want %v", got, norm)
	}
	for name, pair := range map[string][2][]float32{"p": {get(r, pOn), p}, "m": {get(r, mOn), m}, "v": {get(r, vOn), v}, "ema": {get(r, emaOn), ema}} {
		r.near(tensor.Matrix(vector(r, pair[0]), 1, n), tensor.Of(1, n, pair[1]), 1e-6)
		if slices.Equal(pair[0], make([]float32, n)) {
			t.Errorf("%s was not written", name)
		}
	}
}
