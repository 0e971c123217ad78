package attention

import "netfusion/kernels/activation"

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
	packKeys(dst, keys, depth, n, depth)
}

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
	if m < 0 || n <= 0 || depth <= 0 || width <= 0 || ldq < depth || ldd < width {
		panic("attention: bad size")
	}
	if m == 0 {
		return
	}
	if len(q) < (m-1)*ldq+depth || len(keys) < KeysLen(n, depth) || len(values) < n*width {
		panic("attention: q, keys or values too short")
	}
	if len(dst) < (m-1)*ldd+width {
		panic("attention: dst too short")
	}
	if len(work) < PooledWork(n) {
		panic("attention: work too short")
	}
	ld := roundUp(n)
	var peak, sum [group]float32
	for i, rows := 0, 0; i < m; i += rows {
		passes := (m - i + group - 1) / group
		rows = (m - i + passes - 1) / passes // shared out evenly
		multiply(&product{dst: work, ldd: ld, x: q[i*ldq:], ldx: ldq, w: keys, step: 16, panel: 16 * roundUp(depth), rows: rows, cols: ld, k: depth})
		activation.SoftmaxPart(work, rows, n, ld, peak[:], sum[:], nil)
		for r := range rows {
			sum[r] = 1 / sum[r]
		}
		multiply(&product{dst: dst[i*ldd:], ldd: ldd, x: work, ldx: ld, w: values, step: width, panel: 16, rows: rows, cols: width, k: n, scale: sum[:]})
	}
}
