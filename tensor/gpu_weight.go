package tensor

import "netfusion/kernels/quantize"

// GPUWeight is a matrix W [N][K] (outputs by inputs) on a GPU, as Weight is on the host, but not packed: rows begin at multiples of
// 16 bytes, and are zero behind K.
type GPUWeight struct {
	N, K      int
	Precision Precision
	ptr       DevicePtr
	ld        int // values from one row to the next
	scale     Array[float32]
	sum       Array[int32]
}

// unit is how many values of a GPUWeight, or of rows rounded for it, are 16 bytes.
func (p Precision) unit() int { return [...]int{F32: 4, BF16: 8, Int8: 16}[p] }

// bytes is the size of a value.
func (p Precision) bytes() int { return [...]int{F32: 4, BF16: 2, Int8: 1}[p] }

// NewWeight uploads w [n][k] in precision p.
func (g *GPU) NewWeight(p Precision, w []float32, n, k int) GPUWeight {
	return g.NewWeightFrom(p, n, k, func(dst []float32, i int) { copy(dst, w[i*k:]) })
}

// NewWeightFrom is NewWeight for a matrix that is there only some rows at a time: read writes those from i on to dst [rows][k].
// It is called for all rows, in order.
func (g *GPU) NewWeightFrom(p Precision, n, k int, read func(dst []float32, i int)) GPUWeight {
	t := GPUWeight{N: n, K: k, Precision: p, ld: roundUp(k, p.unit())}
	size := p.bytes()
	t.ptr = g.alloc(n * t.ld * size)
	rows := min(n, max(1, loadStaging/(4*t.ld)))
	x, scales, sums := make([]float32, rows*k), make([]float32, n), make([]int32, n)
	f32, bf16, int8s := make([]float32, rows*t.ld), make([]uint16, rows*t.ld), make([]int8, rows*t.ld)
	for i := 0; i < n; i += rows {
		m := min(rows, n-i)
		read(x[:m*k], i)
		to := t.ptr + DevicePtr(i*t.ld*size)
		for r := range m {
			row := x[r*k:][:k]
			switch p {
			case F32:
				copy(f32[r*t.ld:], row)
			case BF16:
				quantize.F32ToBF16(bf16[r*t.ld:][:k], row)
			case Int8:
				q := int8s[r*t.ld:][:k]
				quantize.F32ToI8Rows(q, scales[i+r:i+r+1], row, 1, k)
				for _, v := range q {
					sums[i+r] += int32(v)
				}
			}
		}
		switch p {
		case F32:
			g.upload(to, bytesOf(f32[:m*t.ld]))
		case BF16:
			g.upload(to, bytesOf(bf16[:m*t.ld]))
		case Int8:
			g.upload(to, bytesOf(int8s[:m*t.ld]))
		}
	}
	if p == Int8 {
		t.scale, t.sum = Put(g, scales), Put(g, sums)
	}
	return t
}

// AsWeight views b as a float32 GPUWeight, as training multiplies by what an optimizer changes, or by what Transpose made. Its rows
// must begin at multiples of 16 bytes and be zero behind their columns up to such a multiple.
func AsWeight(b Buffer) GPUWeight {
	if b.Precision != F32 || b.Ld%F32.unit() != 0 || b.Ptr%16 != 0 {
		panic("tensor: rows of a weight that do not begin at multiples of 16 bytes")
	}
	return GPUWeight{N: b.Rows, K: b.Cols, ptr: b.Ptr, ld: b.Ld}
}

// Rows views the outputs [i, j) of w.
func (w GPUWeight) Rows(i, j int) GPUWeight {
	if i < 0 || j < i || j > w.N {
		panic("tensor: GPUWeight.Rows out of range")
	}
	w.N, w.ptr = j-i, w.ptr+DevicePtr(i*w.ld*w.Precision.bytes())
	if w.Precision == Int8 {
		w.scale, w.sum = w.scale.Slice(i, j), w.sum.Slice(i, j)
	}
	return w
}

// bytes is the memory of w's values.
func (w GPUWeight) bytes() int { return w.N * w.ld * w.Precision.bytes() }
