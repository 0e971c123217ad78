package flow

import (
	"fmt"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/optimizer"
	"netfusion/tensor"
)

// sizes are the flow that ships with the built-in fusion and that of the paper's text-to-image fusion.
var sizes = map[string]Config{
	"shipped": {Dialect: NetFusion, Latent: 128, Cond: 384, Class: 128, Classes: 95, ClassNoise: 0.2, Blocks: 12, Hidden: 256, Depth: 1, Clamp: 2,
		Embed: 64, EmbedWidth: 256, EmbedDepth: 1},
	"paper": {Dialect: Net2Net, Latent: 268, Cond: 768, Blocks: 24, Hidden: 1024, Depth: 2, Clamp: 1, Embed: 268, EmbedWidth: 256, EmbedDepth: 2},
}

// BenchmarkStep is a whole training step: forward, backward, the gradient's norm, Adam, and what is derived from the weights.
func BenchmarkStep(b *testing.B) {
	for _, s := range []struct {
		size string
		rows int
	}{{"shipped", 128}, {"paper", 16}, {"paper", 64}} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/rows=%d/workers=%d", s.size, s.rows, workers), func(b *testing.B) { benchmarkStep(b, sizes[s.size], s.rows, workers) })
		}
	}
}

func benchmarkStep(b *testing.B, c Config, m, workers int) {
	f, err := New(c, 7)
	if err != nil {
		b.Fatal(err)
	}
	dev := tensor.CPU(workers)
	defer dev.Close()
	g, err := f.NewGradient(dev, m, Regularisation{}, 1)
	if err != nil {
		b.Fatal(err)
	}
	x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
	n := len(f.values)
	first, second := make([]float32, n), make([]float32, n)
	step := 0
	var sum float64
	for b.Loop() {
		step++
		g.Step(x, cond, uint64(step))
		sum += optimizer.SumSquares(g.Values())
		a := optimizer.Adam{Rate: 1e-5, Beta1: 0.5, Beta2: 0.9, Epsilon: 1e-8, Step: step}
		a.Apply(f.values, g.Values(), first, second, nil, 1)
	}
	roofline.Measure(workers).Report(b, 6*float64(m)*float64(n), 40*float64(n), roofline.DRAM)
}
