package flow

import (
	"fmt"
	"math"
	"testing"
	"time"

	"netfusion/bench/roofline"
	"netfusion/kernels/memory"
	"netfusion/kernels/optimizer"
	"netfusion/tensor"
)

// sizes are the flow that ships with the built-in fusion, one of its size that reads pictures, and that of the paper's text-to-image
// fusion.
var sizes = map[string]Config{
	"shipped": {Dialect: NetFusion, Latent: 128, Cond: 384, Class: 128, Classes: 95, ClassNoise: 0.2, Blocks: 12, Hidden: 256, Depth: 1, Clamp: 2,
		Embed: 64, EmbedWidth: 256, EmbedDepth: 1},
	"picture": {Dialect: NetFusion, Latent: 128, Cond: 32 * 32 * 3, Side: 32, Convs: 3, ConvWidth: 32, Pool: 4, Class: 128, Classes: 95,
		ClassNoise: 0.2, Blocks: 10, Hidden: 256, Depth: 1, Clamp: 2, Embed: 96, EmbedWidth: 384, EmbedDepth: 1},
	"paper": {Dialect: Net2Net, Latent: 268, Cond: 768, Blocks: 24, Hidden: 1024, Depth: 2, Clamp: 1, Embed: 268, EmbedWidth: 256, EmbedDepth: 2},
}

// BenchmarkStep is a whole training step: forward, backward, the gradient's norm, Adam, and what is derived from the weights.
func BenchmarkStep(b *testing.B) {
	for _, s := range []struct {
		size string
		rows int
		r    Regularisation
	}{{"shipped", 128, Regularisation{Dropout: 0.2, Noise: 0.7}}, {"picture", 128, Regularisation{Dropout: 0.15, Noise: 0.1}}, {"paper", 16, Regularisation{}}, {"paper", 64, Regularisation{}}} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/rows=%d/workers=%d", s.size, s.rows, workers), func(b *testing.B) {
				benchmarkStep(b, sizes[s.size], s.rows, workers, s.r)
			})
		}
	}
}

func benchmarkStep(b *testing.B, c Config, m, workers int, r Regularisation) {
	f, err := New(c, 7)
	if err != nil {
		b.Fatal(err)
	}
	dev := tensor.CPU(workers)
	defer dev.Close()
	g, err := f.NewGradient(dev, m, r, 1)
	if err != nil {
		b.Fatal(err)
	}
	x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
	n := len(f.values)
	adam := adamJob{values: f.values, gradient: g.Values(), first: memory.Make[float32](n), second: memory.Make[float32](n)}
	least, gradient := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	step := func() {
		adam.Step++
		begin := time.Now()
		z, _ := g.Step(x, cond, uint64(adam.Step))
		gradient = min(gradient, time.Since(begin))
		if norm := math.Sqrt(g.SumSquares()); math.IsNaN(z) || math.IsNaN(norm) {
			b.Fatalf("step %d: loss %v, norm %v", adam.Step, z, norm)
		}
		adam.Adam = optimizer.Adam{Rate: 1e-5, Beta1: 0.5, Beta2: 0.9, Epsilon: 1e-8, Step: adam.Step}
		dev.Run(&adam, (n+adamTile-1)/adamTile)
		least = min(least, time.Since(begin))
	}
	step() // touches memory for the first time
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(least.Microseconds())/1e3, "least-ms")
	b.ReportMetric(float64(gradient.Microseconds())/1e3, "gradient-ms") // the least of it, which computing bounds; the rest is bound by memory
	roofline.Measure(workers).Report(b, 6*float64(m)*float64(n), 40*float64(n), roofline.DRAM)
}

type adamJob struct {
	optimizer.Adam
	values, gradient, first, second []float32
}

const adamTile = 1 << 14

func (j *adamJob) Tile(i int) {
	from, to := i*adamTile, min((i+1)*adamTile, len(j.values))
	j.Apply(j.values[from:to], j.gradient[from:to], j.first[from:to], j.second[from:to], nil, 1)
}
