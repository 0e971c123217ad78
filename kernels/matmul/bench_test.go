package matmul

import (
	"fmt"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/cpu/cputest"
)

// The part of the roof counts the weights, x and dst once each, as read from where the weights lie: DRAM for cold
// weights; for warm ones L2 if all three fit there, or else L3. The ceilings are those of one thread with the form.

// BenchmarkF32 is one thread over shapes of the models. The weights are cold: each call takes the next of
// many copies, more than the last cache holds, as layers of a model do.
func BenchmarkF32(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, s := range modelShapes {
			for _, m := range []int{1, 8, 16, 32, 128} {
				benchmark(b, m, s[0], s[1], 96<<20)
			}
		}
	})
}

// BenchmarkF32Warm has the weights in the cache and m large: the rate of the tiles alone.
func BenchmarkF32Warm(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, m := range []int{6, 16, 128, 1024} {
			benchmark(b, m, 1536, 384, 0)
		}
		benchmark(b, 256, 512, 4608, 0) // a 3×3 convolution of 512 channels
	})
}

func benchmark(b *testing.B, m, n, k, weightBytes int) {
	b.Run(fmt.Sprintf("m=%d,n=%d,k=%d", m, n, k), func(b *testing.B) {
		roof := roofline.Measure(1)
		bytes := 4 * float64(n*k+m*k+m*n)
		level := roofline.DRAM
		if weightBytes == 0 {
			level = roofline.Warm(bytes)
		}
		size := PackedLen(n, k)
		copies := max(1, weightBytes/(4*size))
		w := make([]float32, copies*size)
		x, dst := make([]float32, m*k), make([]float32, m*n)
		for i := range w {
			w[i] = float32(i%7) - 3
		}
		for i := range x {
			x[i] = float32(i%5) - 2
		}
		e := &Epilogue{Bias: make([]float32, n)}
		b.SetBytes(int64(4 * size))
		at := 0
		for b.Loop() {
			F32(dst, n, x, k, w[at*size:][:size], m, n, k, 0, n, e)
			at = (at + 1) % copies
		}
		roof.Report(b, 2*float64(m)*float64(n)*float64(k), bytes, level)
	})
}

func BenchmarkPack(b *testing.B) {
	const n, k = 1536, 384
	w, dst := make([]float32, n*k), make([]float32, PackedLen(n, k))
	for name, pack := range map[string]func(dst, w []float32, n, k int){"Pack": Pack, "PackT": PackT} {
		b.Run(fmt.Sprintf("%s/n=%d,k=%d", name, n, k), func(b *testing.B) {
			b.SetBytes(2 * 4 * n * k)
			for b.Loop() {
				pack(dst, w, n, k)
			}
		})
	}
}
