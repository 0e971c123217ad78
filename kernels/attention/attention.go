// Package attention computes softmax(Q·Kᵀ)·V, one head at a time (Vaswani et al. 2017).
package attention

import "netfusion/kernels/activation"

const (
	// Queries is the most queries of one call.
	Queries = 64

	block = 128 // keys whose scores are in work at a time; they and their keys stay in the second-level cache
	group = 12  // queries that pass a block together, at most
)

// WorkLen is the room that F32 needs for n keys of d channels. It does not grow beyond that of 128 keys.
func WorkLen(n, d int) int {
	n = min(n, block)
	return roundUp(n)*roundUp(d) + group*roundUp(n)
}

// roundUp is n rounded up to whole panels of 16.
func roundUp(n int) int { return (n + 15) &^ 15 }

// F32 computes one head of up to Queries of the queries of a sequence of n keys:
//
//	dst[i] = Σ_j softmax_j(q[i]·k[j])·v[j]
//
// q [m][d], k and v [n][d] have row stride ld, dst [m][d] has row stride ldd. The usual 1/√d is not applied: fold it into
// the weights that make q. work [WorkLen(n, d)] is overwritten. dst must not overlap the others.
//
// Keys are streamed: a block of them is turned into panels once, all queries pass it, a few at a time, and what they got
// from blocks before is scaled to the new largest score (online softmax, Milakov and Gimelshein 2018). So it takes 4·m·n·d
// operations, m·n exponentials, and memory that does not depend on n. A result does not depend on which queries share a call.
func F32(dst []float32, ldd int, q, k, v []float32, ld, m, n, d int, work []float32) {
	if m < 0 || m > Queries || n < 0 || d <= 0 || ld < d || ldd < d {
		panic("attention: bad size")
	}
	if m == 0 || n == 0 {
		return
	}
	if need := (n-1)*ld + d; len(q) < (m-1)*ld+d || len(k) < need || len(v) < need {
		panic("attention: q, k or v too short")
	}
	if len(dst) < (m-1)*ldd+d {
		panic("attention: dst too short")
	}
	if len(work) < WorkLen(n, d) {
		panic("attention: work too short")
	}
	panel := 16 * roundUp(d)
	packed := roundUp(min(n, block)) / 16 * panel
	keys, scores := work[:packed], work[packed:]
	var peak, sum, keep [Queries]float32 // of each query's scores so far
	for j := 0; j < n; j += block {
		b := min(block, n-j)
		width := roundUp(b)
		packKeys(keys, k[j*ld:], ld, b, d)
		for i, rows := 0, 0; i < m; i += rows {
			passes := (m - i + group - 1) / group
			rows = (m - i + passes - 1) / passes // shared out evenly
			// Whole panels of scores, although what lies beyond the last key is of no use: reading parts of vectors back waits.
			multiply(&product{dst: scores, ldd: width, x: q[i*ld:], ldx: ld, w: keys, step: 16, panel: panel, rows: rows, cols: width, k: d})
			p := product{dst: dst[i*ldd:], ldd: ldd, x: scores, ldx: width, w: v[j*ld:], step: ld, panel: 16, rows: rows, cols: d, k: b}
			if j > 0 {
				p.keep = keep[i:]
			}
			activation.SoftmaxPart(scores, rows, b, width, peak[i:], sum[i:], p.keep)
			if j+b == n {
				for r := range rows {
					sum[i+r] = 1 / sum[i+r]
				}
				p.scale = sum[i:]
			}
			multiply(&p)
		}
	}
}

// packKeys turns k [n][d] into panels [ceil(n/16)][d rounded up][16]; what lies beyond n and d is of no use.
func packKeys(dst, k []float32, ld, n, d int) {
	panel := 16 * roundUp(d)
	for j := 0; j < n; j += 16 {
		packPanel(dst[j/16*panel:][:panel], k[j*ld:], ld, min(16, n-j), d)
	}
}

// product is dst = (keep·dst + x·w)·scale: x [rows][k] and dst [rows][cols], rows at strides ldx and ldd, and column j of
// step p of w at p·step + j/16·panel + j%16. keep and scale have one value per row; without keep, dst is not read.
type product struct {
	dst           []float32
	ldd           int
	x             []float32
	ldx           int
	w             []float32
	step, panel   int
	rows, cols, k int
	keep, scale   []float32
}
