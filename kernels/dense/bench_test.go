package dense

import (
	"fmt"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/cpu/cputest"
)

// BenchmarkProducts is one thread over the layers of the paper's flow, each call with weights that are in no cache.
func BenchmarkProducts(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, s := range [][2]int{{1024, 1024}, {1024, 402}, {134, 1024}} {
			for _, m := range []int{16, 64, 128} {
				benchmarkLayer(b, s[0], s[1], m)
			}
		}
	})
}

func benchmarkLayer(b *testing.B, n, k, m int) {
	const copies = 32
	l := newLayer(b, n, k, m)
	w, dw := make([]float32, copies*n*k), make([]float32, copies*n*k)
	for i := range w {
		w[i], dw[i] = float32(i%7)-3, 1
	}
	Turn(l.turned, l.x, k, l.ld, m)
	roof := roofline.Measure(1)
	for _, product := range []struct {
		name  string
		of    []float32
		bytes float64
		run   func(w []float32)
	}{
		{"Forward", w, 4, func(w []float32) {
			strips(n, func(o0, o1 int) {
				Forward(l.y, w, l.bias, l.x, n, k, l.ld, o0, o1, true, w[o1*k:min(n, 2*o1-o0)*k])
			})
		}},
		{"Inputs", w, 4, func(w []float32) { Inputs(l.dx, w, l.dy, l.h, nil, n, k, l.ld, 0, k, false) }},
		{"Weights", dw, 8, func(w []float32) {
			strips(n, func(o0, o1 int) { Weights(w, l.dy, l.turned, n, k, l.ld, m, o0, o1, false, w[o1*k:min(n, 2*o1-o0)*k]) })
		}},
	} {
		b.Run(fmt.Sprintf("%s/m=%d,n=%d,k=%d", product.name, m, n, k), func(b *testing.B) {
			i := 0
			for b.Loop() {
				product.run(product.of[i*n*k:][:n*k])
				i = (i + 1) % copies
			}
			roof.Report(b, 2*float64(m*n*k), product.bytes*float64(n*k), roofline.DRAM)
		})
	}
}

func strips(n int, do func(o0, o1 int)) {
	for o := 0; o < n; o += 24 {
		do(o, min(n, o+24))
	}
}
