package biggan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

var shapes = []struct {
	name string
	Config
}{
	{"emoji32", Config{Resolution: 32, Width: 32, Classes: 95, Attention: 4,
		Layers: []Layer{{true, 16, 8}, {false, 8, 8}, {true, 8, 4}, {false, 4, 4}, {true, 4, 2}, {false, 2, 1}}}},
	{"emoji64", Config{Resolution: 64, Width: 48, Classes: 95, Attention: 6,
		Layers: []Layer{{true, 16, 16}, {false, 16, 8}, {true, 8, 8}, {false, 8, 4}, {true, 4, 4}, {false, 4, 2}, {true, 2, 2}, {false, 2, 1}}}},
	{"public128", Config{Resolution: 128, Width: 128, Classes: 1000, Attention: 8,
		Layers: []Layer{{false, 16, 16}, {true, 16, 16}, {false, 16, 16}, {true, 16, 8}, {false, 8, 8}, {true, 8, 4}, {false, 4, 4}, {true, 4, 2}, {false, 2, 2}, {true, 2, 1}}}},
	{"public256", Config{Resolution: 256, Width: 128, Classes: 1000, Attention: 8,
		Layers: []Layer{{false, 16, 16}, {true, 16, 16}, {false, 16, 16}, {true, 16, 8}, {false, 8, 8}, {true, 8, 8}, {false, 8, 8}, {true, 8, 4}, {false, 4, 4}, {true, 4, 2}, {false, 2, 2}, {true, 2, 1}}}},
	{"public512", Config{Resolution: 512, Width: 128, Classes: 1000, Attention: 8,
		Layers: []Layer{{false, 16, 16}, {true, 16, 16}, {false, 16, 16}, {true, 16, 8}, {false, 8, 8}, {true, 8, 8}, {false, 8, 8}, {true, 8, 4}, {false, 4, 4}, {true, 4, 2}, {false, 2, 2}, {true, 2, 1}, {false, 1, 1}, {true, 1, 1}}}},
}

// randomModel has the weights of randomTensors.
func randomModel(tb testing.TB, c Config, p tensor.Precision) *Model {
	tb.Helper()
	c.ZDim, c.ClassDim, c.Eps, c.Stats, c.StatsRows = 128, 128, 1e-4, 51, 1
	m, err := Load(nn.Memory("random weights", randomTensors(c)), c, p)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// randomTensors has weights of the size that keeps activations near 1.
func randomTensors(c Config) []safetensors.Tensor {
	r := rand.New(rand.NewPCG(1, 1))
	var ts []safetensors.Tensor
	add := func(name string, shape ...int) {
		n, fan := 1, 1
		for i, d := range shape {
			n *= d
			if i > 0 {
				fan *= d
			}
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() / math.Sqrt(float64(fan)))
		}
		if name == "norms.vars" || name == "bn.weight" {
			for i := range v {
				v[i] = 1
			}
		}
		ts = append(ts, safetensors.NewF32(name, shape, v))
	}
	_, channels := c.norms()
	ch, cond := c.Width, c.cond()
	add("classes.weight", c.Classes, c.ClassDim)
	add("norms.scale.weight", channels, cond)
	add("norms.offset.weight", channels, cond)
	add("norms.means", 1, channels+ch)
	add("norms.vars", 1, channels+ch)
	add("gen_z.weight", 256*ch, cond)
	add("gen_z.bias", 256*ch)
	for i, l := range c.Layers {
		in, mid, out := l.In*ch, l.In*ch/reduction, l.Out*ch
		if c.hasAttention(i) {
			add("attention.query.weight", in/8, in)
			add("attention.key.weight", in/8, in)
			add("attention.value.weight", in/2, in)
			add("attention.output.weight", in, in/2)
		}
		for k, shape := range [][]int{{mid, in}, {mid, 3, 3, mid}, {mid, 3, 3, mid}, {out, mid}} {
			add(fmt.Sprintf("blocks.%d.conv_%d.weight", i, k), shape...)
			add(fmt.Sprintf("blocks.%d.conv_%d.bias", i, k), shape[0])
		}
	}
	add("bn.weight", ch)
	add("bn.bias", ch)
	add("conv_to_rgb.weight", 3, 3, 3, ch)
	add("conv_to_rgb.bias", 3)
	return ts
}

// macs counts the multiply-adds of the direct sums of one image, upsampling folded into them. Transforms take fewer.
func macs(c Config) float64 {
	c.ZDim, c.ClassDim = 128, 128
	_, channels := c.norms()
	ch := float64(c.Width)
	n := float64(c.cond()) * (2*float64(channels) + 256*ch)
	pixels := 16.0
	for i, l := range c.Layers {
		in, mid, out := float64(l.In)*ch, float64(l.In)*ch/reduction, float64(l.Out)*ch
		if c.hasAttention(i) {
			n += pixels * (in*in*3/4 + in*in/2 + pixels/4*in*5/8)
		}
		n += pixels * in * mid
		taps := 9.0
		if l.Up {
			pixels, taps = 4*pixels, 4
		}
		n += pixels * (taps*mid*mid + 9*mid*mid + mid*out)
	}
	return n + pixels*27*ch
}

func BenchmarkGenerate(b *testing.B) {
	for _, shape := range shapes {
		for _, precision := range []tensor.Precision{tensor.F32, tensor.BF16} {
			var m *Model
			for _, workers := range []int{1, 2} {
				for _, batch := range []int{1, 8} {
					if batch > 1 && shape.Resolution > 64 {
						continue
					}
					b.Run(fmt.Sprintf("shape=%s/%v/workers=%d/batch=%d", shape.name, precision, workers, batch), func(b *testing.B) {
						if m == nil {
							m = randomModel(b, shape.Config, precision)
						}
						generate(b, m, precision, workers, batch)
					})
				}
			}
		}
	}
}

func generate(b *testing.B, m *Model, precision tensor.Precision, workers, batch int) {
	dev := tensor.CPU(workers)
	defer dev.Close()
	s := m.NewSession(dev, batch)
	z, class := tensor.New(batch, m.ZDim), tensor.New(batch, m.ClassDim)
	for i := range batch {
		copy(class.Row(i), m.Class(i))
		for j := range z.Row(i) {
			z.Row(i)[j] = float32(math.Sin(float64(i + 3*j)))
		}
	}
	for b.Loop() {
		if _, err := s.Generate(z, class, Truncation{}); err != nil {
			b.Fatal(err)
		}
	}
	images := float64(b.N * batch)
	b.ReportMetric(b.Elapsed().Seconds()*1e3/images, "ms/image")
	b.ReportMetric(2*macs(m.Config)*images/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	model, session := m.Memory(precision, batch, workers)
	b.ReportMetric(float64(model+session)/1e6, "MB")
}
