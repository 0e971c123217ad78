package tensor

import (
	"fmt"
	"testing"

	"netfusion/bench/roofline"
)

// BenchmarkPooledAttention is the attention of BigGAN-deep: of the 128-pixel model, and of the larger ones. The roof is that
// of float32.
func BenchmarkPooledAttention(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for i := range 4 {
			c, precision := 256<<(i/2), []Precision{F32, BF16}[i%2]
			b.Run(fmt.Sprintf("c=%d/%v/workers=%d", c, precision, workers), func(b *testing.B) {
				const side, pixels = 64, 64 * 64
				roof := roofline.Measure(workers)
				dev := CPU(workers)
				defer dev.Close()
				var p PooledAttention
				Plan(func(a *Arena) { p = NewPooledAttention(a, precision, 1, side, side, c/8, c/2) })
				dev.Reserve(p.Scratch())
				x, dst := normals(pixels, c/8+c/8+c/2, 1), New(pixels, c/2)
				for b.Loop() {
					dev.PooledAttention(dst, x, &p)
				}
				roof.Report(b, 2*pixels*pixels/4*float64(c/8+c/2), 4*float64(len(x.Data)+len(dst.Data)), roofline.L3)
			})
		}
	}
}

// BenchmarkConv is the 3×3 convolutions of BigGAN-deep and of the emoji generator, and what it does to colours. The rate counts
// the operations of the direct sum, on the upsampled map where there is one, so that algorithms compare: a part of the roof
// above 100 % is what was saved. Weights are cold, as in a network: every call takes other ones.
func BenchmarkConv(b *testing.B) {
	const weights = 64 << 20 // bytes that a network's other layers put between
	for _, s := range []ConvShape{
		{In: 512, H: 4}, {In: 512, H: 4, Up: true}, {In: 512, H: 8}, {In: 512, H: 8, Up: true}, {In: 512, H: 16},
		{In: 256, H: 16, Up: true}, {In: 256, H: 32}, {In: 128, H: 32, Up: true}, {In: 128, H: 64}, {In: 64, H: 64, Up: true}, {In: 64, H: 128},
		{In: 192, H: 8}, {In: 96, H: 16, Up: true}, {In: 96, H: 16}, {In: 48, H: 32}, {In: 24, H: 64}, {In: 128, H: 128, Out: 3},
	} {
		s.W, s.Size, s.Stride = s.H, 3, 1
		if s.Out == 0 {
			s.Out = s.In
		}
		for _, p := range []Precision{F32, BF16} {
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("h=%d,in=%d,out=%d,up=%v/%v/workers=%d", s.H, s.In, s.Out, s.Up, p, workers), func(b *testing.B) {
					roof := roofline.Measure(workers)
					dev := CPU(workers)
					defer dev.Close()
					w := normals(s.Out, 9*s.In, 1).Data
					filters := []Filter{NewFilter(p, w, s)}
					for len(filters)*filters[0].Bytes() < weights {
						filters = append(filters, NewFilter(p, w, s))
					}
					f := &filters[0]
					dev.Reserve(f.Scratch(s.H, s.W))
					pixels := s.H * s.W * f.up() * f.up()
					x, dst, bias := normals(s.H*s.W, s.In, 2), New(pixels, s.Out), make([]float32, s.Out)
					i := 0
					for b.Loop() {
						dev.Conv(dst, x, s.H, s.W, &filters[i%len(filters)], ConvEpilogue{Bias: bias})
						i++
					}
					roof.Report(b, 18*float64(pixels*s.In*s.Out), 4*float64(len(x.Data)+len(dst.Data)), roofline.L3)
				})
			}
		}
	}
}
