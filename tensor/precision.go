package tensor

import (
	"fmt"

	"netfusion/kernels/matmul"
	"netfusion/kernels/memory"
	"netfusion/kernels/quantize"
)

// Precision is how a Weight is kept and multiplied. Tensors are float32 whatever the weights are: each product rounds the rows
// that it reads.
type Precision uint8

const (
	F32  Precision = iota
	BF16           // weights and rows in bfloat16, sums in float32
	Int8           // weights in int8 with a scale per output, rows in uint8 with a scale and a zero point each; exact sums
)

// ParsePrecision reads what String prints; "" is F32.
func ParsePrecision(s string) (Precision, error) {
	for p, name := range precisions {
		if s == name {
			return Precision(p), nil
		}
	}
	if s == "" {
		return F32, nil
	}
	return F32, fmt.Errorf("precision %q: wanted f32, bf16 or int8", s)
}

var precisions = [...]string{F32: "f32", BF16: "bf16", Int8: "int8"}

func (p Precision) String() string { return precisions[p] }

// Weight is a matrix W [N][K] (outputs by inputs, as checkpoints store it), packed once into the tile order of kernels/matmul.
type Weight struct {
	N, K      int
	Precision Precision
	Panels    []float32 // F32: matmul.PackedLen(N, K)
	bf16      []uint16  // BF16: matmul.PackedLenBF16(N, K)
	int8      matmul.Int8
	next      []Weight // see Then
}

// Then says that next, a group if there are several, is multiplied after w, or after the group of which w is the first, as
// layers of a network follow each other: the beginning of next comes into the cache while the last outputs of w are computed. It
// changes no result.
func (w *Weight) Then(next ...Weight) { w.next = next }

// from returns the packed form from column j on.
func (w *Weight) from(j int) []byte {
	switch w.Precision {
	case BF16:
		return matmul.Bytes(w.bf16[j*roundUp(w.K, 2):])
	case Int8:
		return matmul.Bytes(w.int8.Panels[j*roundUp(w.K, 4):])
	default:
		return matmul.Bytes(w.Panels[j*w.K:])
	}
}

// NewWeight packs w [n][k] in float32.
func NewWeight(w []float32, n, k int) Weight { return NewWeightIn(F32, w, n, k) }

// NewWeightIn packs w [n][k] in precision p.
func NewWeightIn(p Precision, w []float32, n, k int) Weight {
	t := newWeight(p, n, k)
	t.Pack(w)
	return t
}

// NewWeightFrom is NewWeightIn for a matrix that is there only some rows at a time: read writes those from i on to
// dst [rows][k]. It is called for all rows, in order.
func NewWeightFrom(p Precision, n, k int, read func(dst []float32, i int)) Weight {
	t := newWeight(p, n, k)
	t.PackFrom(read)
	return t
}

func newWeight(p Precision, n, k int) Weight {
	t := Weight{N: n, K: k, Precision: p}
	switch p {
	case BF16:
		t.bf16 = memory.Make[uint16](matmul.PackedLenBF16(n, k))
	case Int8:
		t.int8 = matmul.NewInt8(n, k)
	default:
		t.Panels = memory.Make[float32](matmul.PackedLen(n, k))
	}
	return t
}

// Pack gives t the values w [N][K] in place of those that it has.
func (t Weight) Pack(w []float32) { t.pack(w, 0, t.N) }

// PackFrom is Pack from rows as for NewWeightFrom.
func (t Weight) PackFrom(read func(dst []float32, i int)) {
	const rows = 2 * matmul.Width // stay in L2 until they are packed
	block := make([]float32, rows*t.K)
	for i := 0; i < t.N; i += rows {
		n := min(rows, t.N-i)
		read(block[:n*t.K], i)
		t.pack(block, i, n)
	}
}

// pack packs n rows w to those from i on, which must be a multiple of matmul.Width.
func (t Weight) pack(w []float32, i, n int) {
	end := (i + n + matmul.Width - 1) / matmul.Width * matmul.Width
	switch k := t.K; t.Precision {
	case BF16:
		k2 := roundUp(k, 2)
		matmul.PackBF16(t.bf16[i*k2:end*k2], w, n, k)
	case Int8:
		k4 := roundUp(k, 4)
		matmul.PackI8(matmul.Int8{Panels: t.int8.Panels[i*k4 : end*k4], Scale: t.int8.Scale[i:end], Sum: t.int8.Sum[i:end]}, w, n, k)
	default:
		matmul.Pack(t.Panels[i*k:end*k], w, n, k)
	}
}

// Reserve prepares dev for products of up to rows rows with w, or with groups of which w is one and that have rows rows
// together. Whoever plans memory calls it once for each Weight; float32 needs nothing.
func (w Weight) Reserve(dev *Device, rows int) {
	a := &dev.rounded
	switch w.Precision {
	case BF16:
		grow(&a.bf16, rows*roundUp(w.K, 2))
	case Int8:
		grow(&a.u8, rows*roundUp(w.K, 4))
		grow(&a.scale, rows)
		grow(&a.zero, rows)
	}
}

func grow[T any](s *[]T, n int) {
	if n > len(*s) {
		*s = make([]T, n)
	}
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// rounded holds the rows of the product under way in the precision of its weights: those of the first group, then those of the
// second, and so on. One Device does one product at a time.
type rounded struct {
	bf16  []uint16
	u8    []uint8
	scale []float32
	zero  []int32
}

// roundJob rounds the rows of x for weights: row i of group g is row g·x.Rows + i of to.
type roundJob struct {
	to        *rounded
	x         Tensor
	k         int // columns of a group
	precision Precision
	rows      int // of a tile
}

const roundTile = 1 << 15 // values of a tile: some microseconds

// round brings the rows of x into the precision of w.
func (d *Device) round(x Tensor, w []Weight) {
	a := &d.rounded
	k, p, rows := w[0].K, w[0].Precision, len(w)*x.Rows
	if p == F32 {
		return
	}
	if p == BF16 && len(a.bf16) < rows*roundUp(k, 2) || p == Int8 && (len(a.u8) < rows*roundUp(k, 4) || len(a.scale) < rows) {
		panic("tensor: a Weight that was not reserved")
	}
	j := &d.roundRows
	*j = roundJob{to: a, x: x, k: k, precision: p, rows: max(1, roundTile/x.Cols)}
	d.pool.Run(j, (x.Rows+j.rows-1)/j.rows)
	*j = roundJob{}
}

func (j *roundJob) Tile(i int) {
	r, k := i*j.rows, j.k
	m := min(j.rows, j.x.Rows-r)
	for g := range j.x.Cols / k {
		j.group(g*j.x.Rows+r, j.x.Data[r*j.x.Cols+g*k:], m)
	}
}

// group rounds m rows that begin at x, to rows from row on.
func (j *roundJob) group(row int, x []float32, m int) {
	k, ldx := j.k, j.x.Cols
	if j.precision == Int8 {
		ld := roundUp(k, 4)
		quantize.F32ToU8Rows(j.to.u8[row*ld:], ld, j.to.scale[row:], j.to.zero[row:], x, ldx, m, k)
		return
	}
	ld := roundUp(k, 2)
	if ld == ldx {
		quantize.F32ToBF16(j.to.bf16[row*k:][:m*k], x[:m*k])
		return
	}
	for i := range m {
		dst := j.to.bf16[(row+i)*ld:][:ld]
		quantize.F32ToBF16(dst[:k], x[i*ldx:][:k])
		clear(dst[k:])
	}
}
