package attention

import (
	"unsafe"

	"netfusion/kernels/activation"
	"netfusion/kernels/affine"
	"netfusion/kernels/matmul"
	"netfusion/kernels/quantize"
)

// KeysLen is the length of the packed form of n keys of depth channels.
func KeysLen(n, depth int) int { return roundUp(n) * roundUp(depth) }

// PackKeys writes the packed form of keys [n][depth] for Pooled to dst. Every 16 keys are packed on their own: a multiple of 16
// of them, from key j on, go to dst[KeysLen(j, depth):].
func PackKeys(dst, keys []float32, n, depth int) {
	if n < 0 || depth <= 0 {
		panic("attention: bad size")
	}
	if len(keys) < n*depth {
		panic("attention: keys too short")
	}
	if len(dst) < KeysLen(n, depth) {
		panic("attention: packed keys too short")
	}
	pack(dst, keys, depth, n, depth)
}

// group is how many queries of pooled attention pass all keys together, at most.
const group = 12

// PooledWork is the room that Pooled needs for n keys.
func PooledWork(n int) int { return group * roundUp(n) }

// Pooled computes for m queries q [m][depth], row stride ldq, the attention of the SAGAN layer (Zhang et al. 2019):
//
//	dst[i] = Σ_j softmax_j(q[i]·key[j])·values[j]
//
// without the usual 1/√depth. keys is the packed form of [n][depth], values is [n][width], dst [m][width] with row stride ldd.
// work, PooledWork(n) values, is overwritten: few queries pass at a time, so that their scores over all keys stay in the
// first-level cache. A result does not depend on which queries share a call.
func Pooled(dst []float32, ldd int, q []float32, ldq int, keys, values, work []float32, m, n, depth, width int) {
	check(dst, ldd, q, ldq, keys, m, n, depth, width)
	if m <= 0 {
		return
	}
	if len(values) < n*width {
		panic("attention: values too short")
	}
	if len(work) < PooledWork(n) {
		panic("attention: work too short")
	}
	ld := roundUp(n)
	var sum [group]float32
	for i, rows := 0, 0; i < m; i += rows {
		rows = min(group, m-i)
		p := pooledScores(work, q[i*ldq:], ldq, keys, rows, n, depth, sum[:])
		multiply(&product{dst: dst[i*ldd:], ldd: ldd, x: p, ldx: ld, w: values, stepX: 1, stepW: width, panel: 16, rows: rows, cols: width, k: n, scale: sum[:]})
	}
}

// pooledScores computes exp(q·key - the largest of them) for some queries, at most a group, as rows of n rounded up to 16 in
// work, and 1/Σ of each row.
func pooledScores(work, q []float32, ldq int, keys []float32, rows, n, depth int, sum []float32) []float32 {
	ld := roundUp(n)
	multiply(&product{dst: work, ldd: ld, x: q, ldx: ldq, w: keys, stepX: 1, stepW: 16, panel: 16 * roundUp(depth), rows: rows, cols: ld, k: depth})
	activation.SoftmaxSums(work, rows, n, ld, sum)
	for r := range rows {
		sum[r] = 1 / sum[r]
	}
	return work
}

// PackValues rounds rows p0 <= p < p0+rows of values, [n][width] from row p0 on, to bfloat16 and writes them to their place in the
// packed form of all n for PooledBF16, of matmul.PackedLenBF16(width, n). p0 is even, and so is rows but for the last ones.
func PackValues(dst []uint16, values []float32, p0, rows, n, width int) {
	if p0 < 0 || p0%2 != 0 || rows < 0 || p0+rows > n || rows%2 != 0 && p0+rows != n || width <= 0 {
		panic("attention: bad size")
	}
	if len(values) < rows*width {
		panic("attention: values too short")
	}
	if len(dst) < matmul.PackedLenBF16(width, n) {
		panic("attention: packed values too short")
	}
	panel := matmul.PackedLenBF16(1, n)
	for j := 0; j < width; j += matmul.Width {
		cols := min(matmul.Width, width-j)
		for p := 0; p < rows; p += 2 {
			var pair [2][matmul.Width]uint16 // zero beyond width and n
			for i := range min(2, rows-p) {
				quantize.F32ToBF16(pair[i][:cols], values[(p+i)*width+j:][:cols])
			}
			line := dst[j/matmul.Width*panel+(p0+p)*matmul.Width:][:2*matmul.Width]
			for c, v := range pair[0] {
				line[2*c], line[2*c+1] = v, pair[1][c]
			}
		}
	}
}

// PooledWorkBF16 is the room that PooledBF16 needs for n keys.
func PooledWorkBF16(n int) int { return PooledWork(n) * 3 / 2 }

// PooledBF16 is Pooled with values, and what they are multiplied by, in bfloat16: values is their packed form (see PackValues),
// and work has PooledWorkBF16(n) values. Scores stay float32, since their rounding would be an error of the exponential.
func PooledBF16(dst []float32, ldd int, q []float32, ldq int, keys []float32, values []uint16, work []float32, m, n, depth, width int) {
	check(dst, ldd, q, ldq, keys, m, n, depth, width)
	if m <= 0 {
		return
	}
	if len(values) < matmul.PackedLenBF16(width, n) {
		panic("attention: values too short")
	}
	if len(work) < PooledWorkBF16(n) {
		panic("attention: work too short")
	}
	ld := roundUp(n)
	scores, rest := work[:group*ld], work[group*ld:]
	weights := unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(rest))), group*ld)
	var sum [group]float32
	for i, rows := 0, 0; i < m; i += rows {
		rows = min(group, m-i)
		p := pooledScores(scores, q[i*ldq:], ldq, keys, rows, n, depth, sum[:])
		for r := range rows {
			clear(p[r*ld+n : (r+1)*ld]) // multiplied by zero if n is odd
		}
		quantize.F32ToBF16(weights[:rows*ld], p[:rows*ld])
		matmul.BF16(dst[i*ldd:], ldd, weights, ld, values, rows, width, n, 0, width, nil)
		affine.Scale(dst[i*ldd:], ldd, sum[:rows], width)
	}
}

func check(dst []float32, ldd int, q []float32, ldq int, keys []float32, m, n, depth, width int) {
	if m < 0 || n <= 0 || depth <= 0 || width <= 0 || ldq < depth || ldd < width {
		panic("attention: bad size")
	}
	if m == 0 {
		return
	}
	if len(q) < (m-1)*ldq+depth || len(keys) < KeysLen(n, depth) {
		panic("attention: q or keys too short")
	}
	if len(dst) < (m-1)*ldd+width {
		panic("attention: dst too short")
	}
}
