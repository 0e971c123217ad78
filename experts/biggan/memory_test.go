package biggan

import (
	"runtime"
	"testing"

	"netfusion/tensor"
)

// The weights as a checkpoint in float32 has them, and the two largest maps, in bytes.
func floor(c Config) int {
	_, channels := c.norms()
	n := c.Classes*c.ClassDim + 2*c.cond()*channels + 2*c.statsRows()*(channels+c.Width) + 16*firstMult*c.Width*(c.cond()+1)
	size, largest := firstSize, 0
	for i, l := range c.Layers {
		in := l.In * c.Width
		if c.hasAttention(i) {
			n += in*in*3/4 + in*in/2
		}
		for _, s := range c.shapes(l, size) {
			n += s.Out * (s.Size*s.Size*s.In + 1)
		}
		if l.Up {
			size *= 2
		}
		largest = max(largest, size*size*l.Out*c.Width)
	}
	return 4 * (n + 2*largest)
}

func TestMemoryIsAtMostOneAndAHalfTimesWeightsAndTwoMaps(t *testing.T) {
	for _, shape := range shapes {
		c := shape.Config
		c.ZDim, c.ClassDim, c.Eps, c.Stats = 128, 128, 1e-4, 51
		for _, p := range []tensor.Precision{tensor.F32, tensor.BF16, tensor.Int8} {
			model, session := c.Memory(p, 1, 2)
			ratio := float64(model+session) / float64(floor(c))
			t.Logf("%-9s %v: weights %d MB, session %d MB, %.2f times those of a checkpoint and two maps", shape.name, p, model>>20, session>>20, ratio)
			if public := c.Resolution >= 128; public && !(ratio <= 1.5) {
				t.Errorf("%s in %v takes %.2f times its weights and two maps, want at most 1.5", shape.name, p, ratio)
			}
		}
	}
}

// What Memory says is what Go's heap and the pages of the weights grow by.
func TestMemoryIsWhatIsAllocated(t *testing.T) {
	c := shapes[0].Config
	for _, p := range []tensor.Precision{tensor.F32, tensor.BF16} {
		m := randomModel(t, c, p)
		model, session := m.Config.Memory(p, 3, 2)
		var actual int
		for _, b := range m.blocks {
			for i := range b.filters {
				actual += b.filters[i].Bytes()
			}
			actual += 4 * len(b.bias)
		}
		for _, f := range []*tensor.Filter{&m.rgb, &m.attention.projections, &m.attention.output} {
			actual += f.Bytes()
		}
		actual += m.norms.Bytes() + m.first.W.Bytes()
		for _, v := range [][]float32{m.classes, m.biases, m.means, m.vars, m.first.Bias, m.gain, m.shift, m.rgbBias} {
			actual += 4 * len(v)
		}
		if actual != model {
			t.Errorf("%v: the weights take %d bytes, Memory says %d", p, actual, model)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		dev := tensor.CPU(2)
		s := m.NewSession(dev, 3)
		runtime.ReadMemStats(&after)
		grown := int(after.TotalAlloc - before.TotalAlloc)
		if grown < session*98/100 || grown > session*110/100 {
			t.Errorf("%v: a session allocates %d bytes, Memory says %d", p, grown, session)
		}
		runtime.KeepAlive(s)
		dev.Close()
	}
}
