// Package attention computes softmax(Q·Kᵀ)·V, one head at a time (Vaswani et al. 2017).
//
// Both products are those of kernels/matmul: keys and values are packed into its panels as a weight matrix would be, so
// every vector form of it serves here, and the assembly stays in one place. Packing reads each key and value once,
// where the products read them once for every query.
package attention

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
)

// block is how many queries have their scores in work at a time: their rows stay in the first-level cache.
const block = 32

// WorkLen is the room that F32 needs for n keys of d channels.
func WorkLen(n, d int) int {
	return matmul.PackedLen(n, d) + matmul.PackedLen(d, n) + min(n, block)*n
}

// F32 computes one head of one sequence of n tokens, every token attending to all:
//
//	dst[i] = Σ_j softmax_j(q[i]·k[j])·v[j]
//
// q, k, v [n][d] have row stride ld, dst [n][d] has row stride ldd. The usual 1/√d is not applied: fold it into the
// weights that make q. work [WorkLen(n, d)] is overwritten. The softmax takes two passes over whole rows of scores. dst
// must not overlap the others.
func F32(dst []float32, ldd int, q, k, v []float32, ld, n, d int, work []float32) {
	if n < 0 || d <= 0 || ld < d || ldd < d {
		panic("attention: bad size")
	}
	if n == 0 {
		return
	}
	if need := (n-1)*ld + d; len(q) < need || len(k) < need || len(v) < need {
		panic("attention: q, k or v too short")
	}
	if len(dst) < (n-1)*ldd+d {
		panic("attention: dst too short")
	}
	if len(work) < WorkLen(n, d) {
		panic("attention: work too short")
	}
	keys, work := work[:matmul.PackedLen(n, d)], work[matmul.PackedLen(n, d):]
	values, scores := work[:matmul.PackedLen(d, n)], work[matmul.PackedLen(d, n):]
	packKeys(keys, k, ld, n, d)
	packValues(values, v, ld, n, d)
	for i := 0; i < n; i += block {
		m := min(block, n-i)
		matmul.F32(scores, n, q[i*ld:], ld, keys, m, n, d, 0, n, nil)
		activation.Softmax(scores, m, n, n)
		matmul.F32(dst[i*ldd:], ldd, scores, n, values, m, d, n, 0, d, nil)
	}
}

// packKeys packs k [n][d] as the weight matrix of n outputs and d inputs: panels [ceil(n/16)][d][16].
func packKeys(dst, k []float32, ld, n, d int) {
	const w = matmul.Width
	for j := 0; j < n; j += w {
		panel := dst[j*d:][:w*d]
		if n-j < w {
			clear(panel)
		}
		for r := range min(w, n-j) {
			out := panel[r:]
			for p, v := range k[(j+r)*ld:][:d] {
				out[p*w] = v
			}
		}
	}
}

// packValues packs v [n][d] as the weight matrix of d outputs and n inputs: panels [ceil(d/16)][n][16].
func packValues(dst, v []float32, ld, n, d int) {
	const w = matmul.Width
	for c := 0; c < d; c += w {
		panel := dst[c*n:][:w*n]
		width := min(w, d-c)
		if width < w {
			clear(panel)
		}
		for p := range n {
			copy(panel[p*w:], v[p*ld+c:][:width])
		}
	}
}
