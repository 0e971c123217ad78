package flow

import (
	"fmt"
	"math"

	"netfusion/tensor"
)

// oracle is the flow written plainly in float64: one row after the other, no buffers, no packing. Values are by name.
type oracle struct {
	c      Config
	values map[string][]float64
	perm   [][]int
	batch  bool // BatchNorm by the moments of the batch
}

func newOracle(f *Flow) *oracle {
	o := &oracle{c: f.Config, values: map[string][]float64{}}
	wide := func(v []float32) []float64 {
		w := make([]float64, len(v))
		for i, x := range v {
			w[i] = float64(x)
		}
		return w
	}
	for _, p := range f.params {
		o.values[p.Name] = wide(f.values[p.Begin:][:p.Len])
	}
	for _, b := range f.buffers {
		o.values[b.name] = wide(b.data)
	}
	for _, b := range f.blocks {
		o.perm = append(o.perm, b.perm)
	}
	return o
}

func rows64(t tensor.Tensor) [][]float64 {
	r := make([][]float64, t.Rows)
	for i := range r {
		for _, v := range t.Row(i) {
			r[i] = append(r[i], float64(v))
		}
	}
	return r
}

// mlp runs all rows through a network; batch normalisation needs them together.
func (o *oracle) mlp(name string, x [][]float64, hidden int, kind normKind) [][]float64 {
	at := 0
	linear := func(x [][]float64) [][]float64 {
		w, b := o.values[fmt.Sprintf("%s.main.%d.weight", name, at)], o.values[fmt.Sprintf("%s.main.%d.bias", name, at)]
		at++
		y := make([][]float64, len(x))
		for r, row := range x {
			y[r] = make([]float64, len(b))
			for i := range b {
				y[r][i] = b[i]
				for j, v := range row {
					y[r][i] += w[i*len(row)+j] * v
				}
			}
		}
		return y
	}
	for range hidden {
		x = linear(x)
		if kind != noNorm {
			prefix := fmt.Sprintf("%s.main.%d.", name, at)
			at++
			o.normalise(prefix, x, kind)
		}
		at++
		for _, row := range x {
			for j, v := range row {
				if v < 0 {
					row[j] = 0.01 * v
				}
			}
		}
	}
	return linear(x)
}

func (o *oracle) normalise(prefix string, x [][]float64, kind normKind) {
	gamma, beta := o.values[prefix+"weight"], o.values[prefix+"bias"]
	moments := func(v []float64) (mean, variance float64) {
		for _, x := range v {
			mean += x / float64(len(v))
		}
		for _, x := range v {
			variance += (x - mean) * (x - mean) / float64(len(v))
		}
		return mean, variance
	}
	mean, variance := make([]float64, len(gamma)), make([]float64, len(gamma))
	if kind == batchNorm {
		copy(mean, o.values[prefix+"running_mean"])
		copy(variance, o.values[prefix+"running_var"])
		for j := range gamma {
			if o.batch {
				var col []float64
				for _, row := range x {
					col = append(col, row[j])
				}
				mean[j], variance[j] = moments(col)
			}
		}
	}
	for _, row := range x {
		m, v := moments(row)
		for j := range row {
			if kind == batchNorm {
				m, v = mean[j], variance[j]
			}
			row[j] = (row[j]-m)/math.Sqrt(v+1e-5)*gamma[j] + beta[j]
		}
	}
}

// run returns, for each row, the residual, log|det ∂v/∂z| and the class part of the log-likelihood.
func (o *oracle) run(x, c [][]float64) (v [][]float64, logdet, class []float64) {
	n := o.c.Latent
	kind := o.c.norm()
	var u, text, input [][]float64
	for r := range x {
		row := o.average(c[r])
		if o.c.Classes > 0 {
			row = append(row, o.hat(x[r][n:])...)
		}
		if o.c.Dialect == NetFusion {
			for j := range row {
				row[j] = (row[j] - o.values["condition.mean"][j]) * o.values["condition.inverse_std"][j]
			}
		}
		u = append(u, row)
		text = append(text, row[:o.c.pooled()])
		if o.c.Side > 0 {
			row = append(o.features(c[r]), row[o.c.pooled():]...)
		}
		input = append(input, row)
	}
	e := o.mlp("embedder", input, o.c.EmbedDepth+1, kind)
	for r := range x {
		z := append([]float64(nil), x[r][:n]...)
		ld := 0.0
		if o.c.Dialect == NetFusion {
			l := o.values["linear.cholesky"]
			for i := range z {
				z[i] -= o.values["linear.bias"][i]
				for j, w := range u[r] {
					z[i] -= o.values["linear.weight"][i*len(u[r])+j] * w
				}
			}
			for i := range z { // forward substitution
				for j := range i {
					z[i] -= l[i*n+j] * z[j]
				}
				z[i] /= l[i*n+i]
				ld -= math.Log(l[i*n+i])
			}
		}
		v, logdet = append(v, z), append(logdet, ld)
	}
	for k := range o.c.Blocks {
		prefix := fmt.Sprintf("sub_layers.%d.", k)
		loc, scale := o.values[prefix+"norm_layer.loc"], o.values[prefix+"norm_layer.scale"]
		a, b := make([][]float64, len(x)), make([][]float64, len(x))
		for r := range v {
			for j := range v[r] {
				v[r][j] = scale[j] * (v[r][j] + loc[j])
				logdet[r] += math.Log(math.Abs(scale[j]))
			}
			a[r], b[r] = v[r][:n-n/2], v[r][n-n/2:]
		}
		b = o.couple(prefix, 0, a, b, e, logdet)
		a = o.couple(prefix, 1, b, a, e, logdet)
		for r := range v {
			y := append(append([]float64(nil), b[r]...), a[r]...)
			v[r] = make([]float64, n)
			for j, from := range o.perm[k] {
				v[r][j] = y[from]
			}
		}
	}
	if o.c.Classes > 0 {
		hidden := 0
		if o.c.HeadHidden > 0 {
			hidden = 1
		}
		logits := o.mlp("head", text, hidden, layerNorm)
		for r := range x {
			class = append(class, o.mixture(logits[r], x[r][n:]))
		}
	}
	return v, logdet, class
}

// average returns the condition as the linear layer reads it.
func (o *oracle) average(c []float64) []float64 {
	if o.c.Side == 0 {
		return append([]float64(nil), c...)
	}
	side, channels := o.c.Side/o.c.Pool, o.c.channels(0)
	mean := make([]float64, o.c.pooled())
	for i, v := range c {
		pixel := i / channels
		y, x := pixel/o.c.Side/o.c.Pool, pixel%o.c.Side/o.c.Pool
		mean[(y*side+x)*channels+i%channels] += v / float64(o.c.Pool*o.c.Pool)
	}
	return mean
}

// features runs a map through the convolutions, [row][column][channel].
func (o *oracle) features(c []float64) []float64 {
	side, channels := o.c.Side, o.c.channels(0)
	x := make([]float64, len(c))
	for i, v := range c {
		k := i % channels
		x[k*side*side+i/channels] = (v - o.values["map.mean"][i]) * o.values["map.inverse_std"][k]
	}
	for i := range o.c.Convs {
		prefix := fmt.Sprintf("convolutions.%d.", i)
		w, loc, scale := o.values[prefix+"weight"], o.values[prefix+"norm_layer.loc"], o.values[prefix+"norm_layer.scale"]
		half := side / 2
		y := make([]float64, len(loc)*half*half)
		for at := range y {
			out, row, col := at/(half*half), at/half%half, at%half
			sum := loc[out]
			for ky := range 4 {
				for kx := range 4 {
					iy, ix := 2*row-1+ky, 2*col-1+kx
					if iy < 0 || iy >= side || ix < 0 || ix >= side {
						continue
					}
					for k := range channels {
						sum += w[((out*4+ky)*4+kx)*channels+k] * x[(k*side+iy)*side+ix]
					}
				}
			}
			if y[at] = sum * scale[out]; y[at] < 0 {
				y[at] *= 0.2
			}
		}
		x, side, channels = y, half, len(loc)
	}
	last := make([]float64, len(x))
	for i, v := range x { // [channel][row][column] until here
		last[i%(side*side)*channels+i/(side*side)] = v
	}
	return last
}

func (o *oracle) couple(prefix string, k int, in, x, e [][]float64, logdet []float64) [][]float64 {
	var joined [][]float64
	for r := range in {
		joined = append(joined, append(append([]float64(nil), in[r]...), e[r]...))
	}
	var s, t [][]float64
	if o.c.Dialect == Net2Net {
		s = o.mlp(fmt.Sprintf("%scoupling.s.%d", prefix, k), joined, o.c.Depth+1, noNorm)
		t = o.mlp(fmt.Sprintf("%scoupling.t.%d", prefix, k), joined, o.c.Depth+1, noNorm)
	} else {
		for _, row := range o.mlp(fmt.Sprintf("%scoupling.st.%d", prefix, k), joined, o.c.Depth+1, noNorm) {
			s, t = append(s, row[:len(row)/2]), append(t, row[len(row)/2:])
		}
	}
	alpha := float64(o.c.Clamp)
	y := make([][]float64, len(x))
	for r := range x {
		for j, v := range x[r] {
			scale := alpha * math.Tanh(s[r][j]/alpha)
			y[r] = append(y[r], v*math.Exp(scale)+t[r][j])
			logdet[r] += scale
		}
	}
	return y
}

func (o *oracle) squares(e []float64) []float64 {
	d := make([]float64, o.c.Classes)
	for k := range d {
		for j, v := range e {
			g := v - o.values["classes.weight"][k*o.c.Class+j]
			d[k] += g * g
		}
	}
	return d
}

func (o *oracle) hat(e []float64) []float64 {
	s2 := float64(o.c.ClassNoise) * float64(o.c.ClassNoise)
	hat, total := make([]float64, o.c.Class), 0.0
	for k, d := range o.squares(e) {
		w := math.Exp(-d / (2 * s2))
		total += w
		for j := range hat {
			hat[j] += w * o.values["classes.weight"][k*o.c.Class+j]
		}
	}
	for j := range hat {
		hat[j] /= total
	}
	return hat
}

func (o *oracle) mixture(logits, e []float64) float64 {
	s2 := float64(o.c.ClassNoise) * float64(o.c.ClassNoise)
	var prior, joint float64
	for k, d := range o.squares(e) {
		prior += math.Exp(logits[k])
		joint += math.Exp(logits[k]) * math.Exp(-d/(2*s2)) / math.Pow(2*math.Pi*s2, float64(o.c.Class)/2)
	}
	return math.Log(joint / prior)
}

// loss is the mean negative log-likelihood, in its two parts.
func (o *oracle) loss(x, c [][]float64) (z, class float64) {
	v, logdet, logp := o.run(x, c)
	m := float64(len(x))
	for r := range v {
		for _, a := range v[r] {
			z += (0.5*a*a + 0.5*math.Log(2*math.Pi)) / m
		}
		z -= logdet[r] / m
		if logp != nil {
			class -= logp[r] / m
		}
	}
	return z, class
}
