// Package attention computes softmax(Q·Kᵀ)·V, one head at a time (Vaswani et al. 2017).
//
// The GPU form is attention.cu, which also has products on tensor cores.
package attention

import "netfusion/kernels/activation"

const (
	// Queries is the most queries of one call.
	Queries = 64

	blockKeys    = 128 // whose scores are in work at a time: they stay in the first-level cache
	blockQueries = 32  // whose scores they are
)

// WorkLen is the room that F32 needs for d channels, whatever the number of keys.
func WorkLen(d int) int { return Queries*roundUp(d) + blockKeys*blockQueries }

// roundUp is n rounded up to whole panels of 16.
func roundUp(n int) int { return (n + 15) &^ 15 }

// F32 computes one head of up to Queries of the queries of a sequence of n keys:
//
//	dst[i] = Σ_j softmax_j(q[i]·k[j])·v[j]
//
// q [m][d], k and v [n][d] have row stride ld, dst [m][d] has row stride ldd. The usual 1/√d is not applied: fold it into
// the weights that make q. work [WorkLen(d)] is overwritten. dst must not overlap the others.
//
// Queries are turned into panels once, and keys and values are streamed past them where they lie. Scores have a row for each
// key: so a vector holds those of 16 queries, and the softmax needs no sums within one. What queries got from earlier keys is
// scaled to their new largest score (online softmax, Milakov and Gimelshein 2018). That takes 4·m·n·d operations, m·n
// exponentials, and memory that does not depend on n. A result does not depend on which queries share a call.
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
	if len(work) < WorkLen(d) {
		panic("attention: work too short")
	}
	panel := 16 * roundUp(d)
	queries, scores := work[:Queries*roundUp(d)], work[Queries*roundUp(d):]
	pack(queries, q, ld, m, d)
	var peak, sum, keep [Queries]float32 // of each query's scores so far
	for j := 0; j < n; j += blockKeys {
		rows := min(blockKeys, n-j)
		for i := 0; i < m; i += blockQueries {
			width := min(blockQueries, roundUp(m-i)) // what lies beyond the last query is of no use
			multiply(&product{dst: scores, ldd: blockQueries, x: k[j*ld:], ldx: ld, stepX: 1, w: queries[i/16*panel:], stepW: 16, panel: panel,
				rows: rows, cols: width, k: d})
			p := product{dst: dst[i*ldd:], ldd: ldd, x: scores, ldx: 1, stepX: blockQueries, w: v[j*ld:], stepW: ld, panel: 16,
				rows: min(blockQueries, m-i), cols: d, k: rows}
			if j > 0 {
				p.keep = keep[i:]
			}
			activation.SoftmaxPart(scores, rows, width, blockQueries, peak[i:], sum[i:], p.keep)
			if j+rows == n {
				for r := range p.rows {
					sum[i+r] = 1 / sum[i+r]
				}
				p.scale = sum[i:]
			}
			multiply(&p)
		}
	}
}

// pack turns x [n][d], row stride ld, into panels [ceil(n/16)][d rounded up][16]; what lies beyond n and d is of no use.
func pack(dst, x []float32, ld, n, d int) {
	panel := 16 * roundUp(d)
	for i := 0; i < n; i += 16 {
		packPanel(dst[i/16*panel:][:panel], x[i*ld:], ld, min(16, n-i), d)
	}
}

// product is dst = (keep·dst + x·w)·scale: dst is [rows][cols], row stride ldd; step p of row i of x is at i·ldx + p·stepX, and
// step p of column j of w at j/16·panel + p·stepW + j%16. keep and scale have one value per row; without keep, dst is not read.
type product struct {
	dst           []float32
	ldd           int
	x             []float32
	ldx, stepX    int
	w             []float32
	panel, stepW  int
	rows, cols, k int
	keep, scale   []float32
}
