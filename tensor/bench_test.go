package tensor

import (
	"fmt"
	"testing"

	"netfusion/bench/roofline"
)

// BenchmarkPooledAttention is the attention of BigGAN-deep: of the 128-pixel model, and of the larger ones.
func BenchmarkPooledAttention(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, c := range []int{256, 512} {
			b.Run(fmt.Sprintf("workers=%d/c=%d", workers, c), func(b *testing.B) {
				const side, pixels = 64, 64 * 64
				roof := roofline.Measure(workers)
				dev := CPU(workers)
				defer dev.Close()
				var p PooledAttention
				Plan(func(a *Arena) { p = NewPooledAttention(a, 1, side, side, c/8, c/2) })
				dev.Reserve(p.Scratch())
				x, dst := random(pixels, c/8+c/8+c/2, 1), New(pixels, c/2)
				for b.Loop() {
					dev.PooledAttention(dst, x, &p)
				}
				roof.Report(b, 2*pixels*pixels/4*float64(c/8+c/2), 4*float64(len(x.Data)+len(dst.Data)), roofline.L3)
			})
		}
	}
}
