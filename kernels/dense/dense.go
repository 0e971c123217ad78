// Package dense is a fully connected layer as training needs it: y = W·x + b, ∂L/∂x = Wᵀ·∂L/∂y and ∂L/∂W = ∂L/∂y·xᵀ, where W
// changes with every step. W and its gradient lie row-major, [n][k] ("out, in", as in PyTorch's Linear), and are read and written
// where they lie: there is no packed copy that each step would have to make and memory would have to hold.
//
// For that a batch lies the other way round than elsewhere: x is [k][ld] and y [n][ld], one feature to a row and one sample to a
// column, with ld a multiple of 16. Columns from the batch's size on may hold anything: the products for y and ∂L/∂x take each
// column by itself, and sums over the batch leave them out.
//
// Every output is one chain of multiply-adds in order, started at 0 or at the bias, so a result does not depend on how the work is
// split. The vector forms fuse each multiply-add and give the same bits as each other; the generic form rounds the product as
// well, so it differs from them in the last bits.
//
// On a GPU the products are those of kernels/matmul; dense.cu is what training needs beside them.
package dense

import (
	"math"

	"netfusion/kernels/activation"
)

// Width is what ld is a multiple of.
const Width = 16

// block is how many values of x or ∂L/∂y, which every tile of a block of the sums reads, stay in the first-level cache meanwhile.
const block = 1 << 13

// Forward computes, for o0 <= o < o1 and all columns j,
//
//	y[o][j] = act(Σ_i w[o][i]·x[i][j] + bias[o])
//
// where w is [n][k], x [k][ld] and y [n][ld]; act is LeakyReLU, or nothing. Meanwhile next is fetched into the cache: the weights
// that are multiplied after these, for all the time that a product takes is the time in which the next one's operands can come.
func Forward(y, w, bias, x []float32, n, k, ld, o0, o1 int, leaky bool, next []float32) {
	check(n, k, ld, o0, o1, n)
	if len(w) < n*k || len(bias) < n || len(x) < k*ld || len(y) < o1*ld {
		panic("dense: operand too short")
	}
	rows := o1 - o0
	if rows == 0 || ld == 0 {
		return
	}
	steps := block / min(ld, 4*Width)
	for p := 0; p < k || p == 0; p += steps {
		m := min(steps, k-p)
		t := task{
			dst: y[o0*ld:], ldd: ld, a: w[o0*k+p:], lda: k, astep: 1, b: x[p*ld:], ldb: ld, rows: rows, cols: ld, k: m,
			add: p > 0, leaky: leaky && p+m == k,
		}
		if p == 0 {
			t.bias = bias[o0:o1]
		}
		if k > 0 {
			t.next = next[len(next)*p/k : len(next)*(p+m)/k]
		}
		t.multiply()
	}
}

// Inputs computes, for i0 <= i < i1 and all columns j,
//
//	dx[i][j] = mask[i][j]·slope(h[i][j])·Σ_o w[o][i]·dy[o][j]
//
// where w is [n][k], dy [n][ld], and dx, h and mask are [k][ld]; slope is that of a LeakyReLU that left h: 1, or 0.01 where h has a
// negative sign; mask is that of a dropout after it. Each of the two may be nil, and its factor then is 1. With add the sum starts
// from dx.
func Inputs(dx, w, dy, h, mask []float32, n, k, ld, i0, i1 int, add bool) {
	check(n, k, ld, i0, i1, k)
	if len(w) < n*k || len(dy) < n*ld || len(dx) < i1*ld || h != nil && len(h) < i1*ld || mask != nil && len(mask) < i1*ld {
		panic("dense: operand too short")
	}
	if i0 == i1 || ld == 0 {
		return
	}
	steps := min(128, max(1, block/ld)) // so that as many rows of w and the next ones are in the second-level cache
	for p := 0; p < n || p == 0; p += steps {
		m := min(steps, n-p)
		t := task{
			dst: dx[i0*ld:], ldd: ld, a: w[p*k+i0:], lda: 1, astep: k, b: dy[p*ld:], ldb: ld, rows: i1 - i0, cols: ld, k: m,
			add: add || p > 0,
		}
		if p+m < n {
			t.shift = m * k
		} else {
			if h != nil {
				t.gate = h[i0*ld:]
			}
			if mask != nil {
				t.mask = mask[i0*ld:]
			}
		}
		t.multiply()
	}
}

// Weights computes, for o0 <= o < o1 and 0 <= i < k,
//
//	dw[o][i] = Σ_j dy[o][j]·x[i][j]
//
// over the m samples of the batch: xt is x, turned by Turn, dy [n][ld] and dw [n][k]. With add the sum starts from dw. Meanwhile next,
// which is written after dw, is fetched into the cache: else each line of it would be waited for when it is written.
func Weights(dw, dy, xt []float32, n, k, ld, m, o0, o1 int, add bool, next []float32) {
	check(n, k, ld, o0, o1, n)
	if m < 0 || m > ld {
		panic("dense: bad size")
	}
	if len(dw) < o1*k || len(dy) < o1*ld || len(xt) < TurnedLen(k, m) {
		panic("dense: operand too short")
	}
	if o0 == o1 {
		return
	}
	for i := 0; i < k; i += group {
		cols := min(group, k-i)
		t := task{
			dst: dw[o0*k+i:], ldd: k, a: dy[o0*ld:], lda: ld, astep: 1, b: xt[i*m:], ldb: (cols + Width - 1) / Width * Width,
			rows: o1 - o0, cols: cols, k: m, add: add,
			next: next[len(next)*i/k : len(next)*(i+cols)/k],
		}
		t.multiply()
	}
}

// group is how many features lie side by side in a turned x.
const group = 4 * Width

// TurnedLen is the length of what Turn makes of k features of m samples.
func TurnedLen(k, m int) int { return (k + Width - 1) / Width * Width * m }

// Turn writes the first m columns of x [k][ld] as Weights reads them: 64 features at a time, each sample's side by side,
// [ceil(k/64)][m][64]; the last ones in rows of as many as there are, rounded up to a multiple of 16, zero beyond them. Workers may
// share it by splitting [0, k) at multiples of 64.
func Turn(xt, x []float32, k, ld, m int) {
	if k < 0 || m < 0 || ld < m {
		panic("dense: bad size")
	}
	if len(x) < k*ld || len(xt) < TurnedLen(k, m) {
		panic("dense: operand too short")
	}
	for i := 0; i < k; i += group {
		cols := min(group, k-i)
		width := (cols + Width - 1) / Width * Width
		out := xt[i*m:]
		transpose(out, width, x[i*ld:], ld, cols, m)
		for j := 0; cols < width && j < m; j++ {
			clear(out[j*width+cols:][:width-cols])
		}
	}
}

// Transpose writes the transpose of src [rows][lds] to dst [cols][ldd].
func Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows < 0 || cols < 0 || lds < cols || ldd < rows {
		panic("dense: bad size")
	}
	if rows == 0 || cols == 0 {
		return
	}
	if len(src) < (rows-1)*lds+cols || len(dst) < (cols-1)*ldd+rows {
		panic("dense: operand too short")
	}
	transpose(dst, ldd, src, lds, rows, cols)
}

func check(n, k, ld, from, to, of int) {
	if n < 0 || k < 0 || ld < 0 || ld%Width != 0 || from < 0 || to < from || to > of {
		panic("dense: bad size")
	}
}

// A task is a product with strides: for 0 <= r < rows and 0 <= j < cols,
//
//	dst[r·ldd+j] = act(start + Σ_p a[r·lda+p·astep]·b[p·ldb+j])
//
// where start is bias[r], or dst with add, or 0; act is LeakyReLU, or its slope at gate[r·ldd+j] and mask[r·ldd+j] times the sum, or
// nothing. Rows of b may be read up to the next multiple of 16 columns.
type task struct {
	dst           []float32
	ldd           int
	a             []float32
	lda, astep    int
	b             []float32
	ldb           int
	rows, cols, k int
	bias          []float32 // or nil
	add, leaky    bool
	gate, mask    []float32 // or nil
	next          []float32 // is fetched into the cache meanwhile
	shift         int       // so far behind each value of a that is read, another is fetched; 0 is off
}

// multiplyGeneric is multiply in plain Go and the definition of right, up to the rounding of the products. The conversion keeps the
// compiler from fusing, so that a result does not depend on GOAMD64 or on the architecture.
func (t *task) multiplyGeneric() {
	for r := range t.rows {
		dst := t.dst[r*t.ldd:][:t.cols]
		if t.bias != nil {
			for j := range dst {
				dst[j] = t.bias[r]
			}
		} else if !t.add {
			clear(dst)
		}
		for p := range t.k {
			a := t.a[r*t.lda+p*t.astep]
			for j, b := range t.b[p*t.ldb:][:len(dst)] {
				dst[j] += float32(a * b)
			}
		}
		if t.gate != nil {
			for j, h := range t.gate[r*t.ldd:][:t.cols] {
				dst[j] *= slopes[math.Float32bits(h)>>31]
			}
		}
		if t.mask != nil {
			for j, v := range t.mask[r*t.ldd:][:t.cols] {
				dst[j] *= v
			}
		}
		if t.leaky {
			activation.LeakyReLU(dst, dst)
		}
	}
}

// slopes are those of LeakyReLU by the sign bit: signs are as good as random, so a branch would be taken wrongly half the time.
var slopes = [2]float32{1, activation.Slope}

// transposeGeneric is Transpose, in squares of 16 so that each line of memory is completed while it is in the first-level cache.
func transposeGeneric(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for i := 0; i < rows; i += Width {
		for j := 0; j < cols; j += Width {
			for r := i; r < min(i+Width, rows); r++ {
				for c, v := range src[r*lds+j:][:min(Width, cols-j)] {
					dst[(j+c)*ldd+r] = v
				}
			}
		}
	}
}
