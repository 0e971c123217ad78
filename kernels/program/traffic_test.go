//go:build !cuda

package program_test

import (
	"testing"

	. "netfusion/kernels/program"
	. "netfusion/tensor/kerneltest"
)

func TestPTXTraffic(t *testing.T) {
	for _, f := range formats {
		Traffic(t, PTX, f.Entry(), 4, func(k *Kernel) {
			for _, m := range []int{1, 8} {
				r := newRig(t, f, k)
				const n, hidden = 64, 256
				x, h := r.in(Single, m, n), r.Hidden(m, hidden)
				norm := &Norm{Gamma: r.vector(n, 1), Beta: r.vector(n, 1), Epsilon: 1e-5, Copy: r.Singles(m, n)}
				r.Add(&MatMul{M: m, N: hidden, K: n, X: x, Norm: norm, Weights: r.weights(hidden, n), Bias: r.vector(hidden, 1), Out: h},
					&MatMul{M: m, N: n, K: hidden, X: h, Weights: r.weights(n, hidden), Bias: r.vector(n, 1), Out: r.out(m, n)})
				r.encode(4)
				if err := r.launch(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
