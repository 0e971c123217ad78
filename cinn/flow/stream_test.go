package flow

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"netfusion/bench/roofline"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// BenchmarkSample draws a sample at a time, which is one pass over all weights: the part of the roof is that of the rate at
// which they can be read.
func BenchmarkSample(b *testing.B) {
	stream(b, func(s *Session, x, c tensor.Tensor) func() {
		return func() { s.Sample(x, c, Draw{Seed: 1, Temperature: 1, Guidance: 1.5}) }
	})
}

// BenchmarkScore computes the likelihood of one row.
func BenchmarkScore(b *testing.B) {
	stream(b, func(s *Session, x, c tensor.Tensor) func() {
		z, class := make([]float64, 1), make([]float64, 1)
		return func() { s.LogProb(z, class, x, c) }
	})
}

func stream(b *testing.B, prepare func(s *Session, x, c tensor.Tensor) func()) {
	for _, size := range []string{"shipped", "paper"} {
		for _, p := range []tensor.Precision{tensor.F32, tensor.BF16, tensor.Int8} {
			var f *Flow // packed once, by the first that runs
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%v/workers=%d", size, p, workers), func(b *testing.B) {
					if f == nil {
						f = synthetic(sizes[size], p)
					}
					s := session(b, f, 1, workers)
					call := prepare(s, normal(1, f.Config.dims(), 1), normal(1, f.Config.Cond, 2))
					inTurns(b, f, workers, call)
				})
			}
		}
	}
}

// inTurns reports the median rate at which call reads the weights of f, and how much that is of the median rate of a stream that
// reads memory in turns with it; of a cache's, measured before, where the weights stay in one.
func inTurns(b *testing.B, f *Flow, workers int, call func()) {
	bytes := f.weightBytes()
	var stream *roofline.Stream
	var roofs, rates []float64
	if bytes < 16<<20 {
		roofs = []float64{roofline.Measure(workers).Read[roofline.Warm(bytes)]}
	} else {
		stream = roofline.NewStream(workers)
	}
	for i := 0; b.Loop(); i++ {
		if stream != nil && i%4 == 0 {
			b.StopTimer()
			roofs = append(roofs, stream.Read())
			b.StartTimer()
		}
		start := time.Now()
		call()
		rates = append(rates, bytes/time.Since(start).Seconds())
	}
	slices.Sort(roofs)
	slices.Sort(rates)
	rate, roof := rates[len(rates)/2], roofs[len(roofs)/2]
	b.ReportMetric(1e3*bytes/rate, "p50-ms")
	b.ReportMetric(rate/1e9, "GB/s")
	b.ReportMetric(100*rate/roof, "%roof")
	b.ReportMetric(100*rates[len(rates)-1]/roofs[len(roofs)-1], "%roof-best")
}

// synthetic is a Flow for Sessions with weights of the size that PyTorch starts with, made without the memory and the time that
// 254.7 million random numbers take: layers are windows of one sequence.
func synthetic(c Config, p tensor.Precision) *Flow {
	f, lay := layout(c, 7, true)
	f.allocate(lay)
	f.precision = p
	for i := range f.blocks {
		copy(f.values[f.blocks[i].scale:][:c.Latent], constant(c.Latent, 1))
	}
	scaled := map[int][]float32{} // by the number of inputs
	at := 0
	f.packNetworks(func(d *dense, dst []float32, _ int) {
		w := scaled[d.in]
		if w == nil {
			probe := dense{in: d.in, out: 1 << 20 / d.in, b: 1 << 20 / d.in * d.in}
			w = make([]float32, probe.b+probe.out)
			probe.initialise(w, 1, uint64(d.in))
			scaled[d.in] = w
		}
		at = (at + 7919) % (len(w) - len(dst))
		copy(dst, w[at:])
	})
	if c.Classes > 0 {
		random.Normal(f.table.Data, 1, noiseStream, 0, 0)
	}
	f.Pack()
	return f
}

// weightCount is how many weights a sample takes, and weightBytes the memory that they lie in.
func (f *Flow) weightCount() (n float64) {
	f.networks(func(net *network) {
		for _, l := range net.layers {
			for _, w := range l.weights {
				n += float64(w.N * w.K)
			}
		}
	})
	return n
}

func (f *Flow) weightBytes() float64 {
	size := map[tensor.Precision]float64{tensor.F32: 4, tensor.BF16: 2, tensor.Int8: 1}
	return f.weightCount() * size[f.precision]
}
