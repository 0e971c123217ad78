package flow

import (
	"fmt"
	"testing"

	"netfusion/tensor"
)

var shipped = Config{Dialect: NetFusion, Latent: 128, Cond: 384, Class: 128, Classes: 95, ClassNoise: 0.2, Blocks: 12, Hidden: 256, Depth: 1, Clamp: 2,
	Embed: 64, EmbedWidth: 256, EmbedDepth: 1}

func BenchmarkStep(b *testing.B) {
	for _, m := range []int{64, 128} {
		b.Run(fmt.Sprintf("rows=%d", m), func(b *testing.B) {
			f := trained(b, shipped)
			dev := tensor.CPU(0)
			defer dev.Close()
			g, err := f.NewGradient(dev, m, Regularisation{}, 1)
			if err != nil {
				b.Fatal(err)
			}
			x, c := normal(m, shipped.dims(), 1), normal(m, shipped.Cond, 2)
			b.ReportMetric(float64(len(f.values)), "parameters")
			for b.Loop() {
				g.Step(x, c, 1)
				g.Pack()
			}
		})
	}
}

func BenchmarkSample(b *testing.B) {
	f := trained(b, shipped)
	s := session(b, f, 8, 0)
	x, c := tensor.New(8, shipped.dims()), normal(8, shipped.Cond, 2)
	for b.Loop() {
		s.Sample(x, c, Draw{Seed: 1, Temperature: 1, Guidance: 1})
	}
}
