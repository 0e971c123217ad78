package tensor

import (
	"fmt"
	"runtime"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/matmul"
)

// BenchmarkMatMul is a network of equal layers, larger than the last cache, for one worker and for one a processor. The part
// of the roof counts weights, rows and outputs once each, the weights in their precision and read from DRAM.
func BenchmarkMatMul(b *testing.B) {
	for precision := F32; precision <= Int8; precision++ {
		for _, s := range [][2]int{{384, 384}, {1536, 384}, {1024, 1024}} { // n, k
			for _, m := range []int{1, 8, 16, 32, 128, 1024} {
				for workers := 1; ; workers = runtime.GOMAXPROCS(0) {
					b.Run(fmt.Sprintf("%v/m=%d,n=%d,k=%d/workers=%d", precision, m, s[0], s[1], workers), func(b *testing.B) {
						benchmarkMatMul(b, precision, m, s[0], s[1], workers)
					})
					if workers == runtime.GOMAXPROCS(0) {
						break
					}
				}
			}
		}
	}
}

func benchmarkMatMul(b *testing.B, p Precision, m, n, k, workers int) {
	roof := roofline.Measure(workers)
	bytes := map[Precision]float64{F32: 4, BF16: 2, Int8: 1}[p] * float64(n*k)
	switch p {
	case BF16:
		roof = roof.InBF16()
	case Int8:
		roof = roof.InI8()
	}
	w := make([]float32, n*k)
	for i := range w {
		w[i] = float32(i%7) - 3
	}
	d := CPU(workers)
	defer d.Close()
	layers := make([]Weight, int((96<<20)/bytes))
	for i := range layers {
		layers[i] = NewWeightIn(p, w, n, k)
		if i > 0 {
			layers[i-1].Then(layers[i])
		}
	}
	layers[0].Reserve(d, m)
	x, dst := normals(m, k, 1), New(m, n)
	e := matmul.Epilogue{Bias: make([]float32, n)}
	at := 0
	b.SetBytes(int64(bytes))
	for b.Loop() {
		d.MatMul(dst, x, layers[at], e)
		at = (at + 1) % len(layers)
	}
	roof.Report(b, 2*float64(m)*float64(n)*float64(k), bytes+4*float64(m*k+m*n), roofline.DRAM)
}
