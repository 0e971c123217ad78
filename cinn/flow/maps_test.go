package flow

import (
	"math"
	"strings"
	"testing"

	"netfusion/tensor"
)

// The linear layer of a flow that reads maps is that of a flow which reads their averages.
func TestAMapIsFittedByItsAverages(t *testing.T) {
	const n, d = 400, 3
	c := Config{Dialect: NetFusion, Latent: d, Cond: 4 * 4 * 2, Side: 4, Pool: 2, Convs: 1, ConvWidth: 2, Hidden: 1, Clamp: 1, Embed: 1, EmbedWidth: 1}
	f, err := New(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, cond, small, group := tensor.New(n, d), normal(n, c.Cond, 1), tensor.New(n, c.pooled()), make([]int, n)
	noise := normal(n, d, 2)
	for i := range n {
		group[i] = i
		c.average(small.Row(i), cond.Row(i))
		for j := range d {
			x.Row(i)[j] = 2*small.Row(i)[j] - small.Row(i)[j+4] + noise.Row(i)[j]/4
		}
	}
	got, err := f.Fit(x, cond, group)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := New(Config{Dialect: NetFusion, Latent: d, Cond: c.pooled(), Hidden: 1, Clamp: 1, Embed: 1, EmbedWidth: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want, err := plain.Fit(x, small, group)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("fitted %+v, by averages %+v", got, want)
	}
	var mean float64
	for i := range n {
		mean += float64(cond.Row(i)[5]) / n
	}
	if null := f.NullCondition(); len(null) != c.Cond || math.Abs(float64(null[5])-mean) > 1e-5 {
		t.Errorf("the null condition has %v at 5, want %v", null[5], mean)
	}
}

func TestAFirstBatchNormalisesTheConvolutions(t *testing.T) {
	c := small["map"]
	f, err := New(c, 3)
	if err != nil {
		t.Fatal(err)
	}
	const m = 21
	dev := tensor.CPU(2)
	defer dev.Close()
	g, err := f.NewGradient(dev, m+4, Regularisation{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, cond := normal(m, c.dims(), 1), normal(m, c.Cond, 2)
	for i := range cond.Data {
		cond.Data[i] = 3 + 5*cond.Data[i]
	}
	g.Initialise(x, cond)
	f.Pack()
	g.Step(x, cond, 1)
	for i, trace := range g.maps.traces {
		v := &f.maps.convolutions[i]
		for o := range v.out {
			var sum, squares, n float64
			for p := range v.side * v.side {
				for _, y := range trace.shifted.Row(p*v.out + o)[:m] {
					y := float64(f.values[v.scale+o] * y)
					sum, squares, n = sum+y, squares+y*y, n+1
				}
			}
			if mean, variance := sum/n, squares/n; math.Abs(mean) > 1e-4 || math.Abs(variance-1) > 1e-3 {
				t.Errorf("convolution %d: channel %d has mean %v and variance %v", i, o, mean, variance)
			}
		}
	}
}

// A smaller batch of maps leaves nothing behind in a larger one's place, NaN least of all.
func TestABatchOfMapsLeavesNothingBehind(t *testing.T) {
	c := small["map"]
	const rows, m = 20, 7
	dev := tensor.CPU(2)
	defer dev.Close()
	step := func(before bool) (z, class float64) {
		f := trained(t, c)
		g, err := f.NewGradient(dev, rows, Regularisation{Noise: 0.3}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if before {
			cond := normal(rows, c.Cond, 3)
			for i := range cond.Data {
				cond.Data[i] = float32(math.NaN())
			}
			g.Step(normal(rows, c.dims(), 5), cond, 1)
		}
		z, class = g.Step(normal(m, c.dims(), 1), normal(m, c.Cond, 2), 2)
		return z + g.SumSquares(), class
	}
	z, class := step(false)
	if z2, class2 := step(true); z2 != z || class2 != class {
		t.Errorf("loss and gradient %v + %v after another batch, %v + %v alone", z2, class2, z, class)
	}
}

func TestAMapConfigThatFitsNothingIsRefused(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"as many channels everywhere": func(c *Config) { c.Cond++ },
		"halved 4 times":              func(c *Config) { c.Convs = 4 },
		"conv_width":                  func(c *Config) { c.ConvWidth = 0 },
		"pool":                        func(c *Config) { c.Pool = 3 },
		"side 0":                      func(c *Config) { c.Side = 0 },
		"no maps":                     func(c *Config) { *c = small["net2net"]; c.Side, c.Pool = 2, 1 },
	} {
		c := small["map"]
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
