package biggan

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"netfusion/kernels/cpu/cputest"
	"netfusion/kernels/random"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// expertFile opens the tiny generator's file, of which the caller changes some of the config.
func expertFile(t testing.TB, storage nn.Storage) (*safetensors.File, *Model) {
	t.Helper()
	meta, tensors, err := Convert("testdata/tiny", storage)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "expert")
	if err := safetensors.WriteFile(path, meta, tensors); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := load(f, meta, tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	return f, m
}

func gradient(t testing.TB, workers int) (*Gradient, *oracle) {
	t.Helper()
	f, m := expertFile(t, "f32")
	dev := tensor.CPU(workers)
	t.Cleanup(dev.Close)
	g, err := NewGradient(f, m, dev)
	if err != nil {
		t.Fatal(err)
	}
	return g, &oracle{m, nn.Load(f)}
}

func normal(n int, sample uint64) []float32 {
	v := make([]float32, n)
	random.Normal(v, 11, 0, sample, 0)
	return v
}

func TestTheGradientsForwardIsTheGenerator(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		g, o := gradient(t, 2)
		s := g.s.m.NewSession(g.s.dev, 1)
		for _, truncation := range []float64{1, 0.4} {
			z, class := normal(2, 1), normal(2, 2)
			want, err := s.Generate(tensor.Of(1, 2, z), tensor.Of(1, 2, class), Truncation{Value: truncation})
			if err != nil {
				t.Fatal(err)
			}
			got := g.Forward(z, class, Truncation{Value: truncation})
			exact := o.forward(wide64(z), wide64(class), Truncation{Value: truncation})
			for i, v := range got.Data {
				if math.Abs(float64(v-want.Data[i])) > 1e-5 || math.Abs(float64(v)-exact[i]) > 1e-4 {
					t.Fatalf("truncation %v: value %d is %v, the generator's %v, exactly %v", truncation, i, v, want.Data[i], exact[i])
				}
			}
		}
	})
}

// The loss is Σ weight·image; its derivatives are compared with differences of the oracle, which computes in float64.
func TestTheGradientIsThatOfTheOracle(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		g, o := gradient(t, 2)
		for sample := range uint64(3) {
			z, class := normal(2, 10+sample), normal(2, 20+sample)
			weight := normal(3*16*16, 30+sample)
			g.Forward(z, class, Truncation{})
			dz, dclass := g.Backward(tensor.Of(16*16, 3, weight))
			got := append(slices.Clone(dz), dclass...)
			loss := func(at int, step float64) (sum float64) {
				x := append(wide64(z), wide64(class)...)
				x[at] += step
				for i, v := range o.forward(x[:2], x[2:], Truncation{}) {
					sum += v * float64(weight[i])
				}
				return sum
			}
			for i, d := range got {
				const h = 1e-6
				want := (loss(i, h) - loss(i, -h)) / (2 * h)
				if math.Abs(float64(d)-want) > 1e-4*max(1, math.Abs(want)) {
					t.Errorf("draw %d: derivative %d is %v, want %v", sample, i, d, want)
				}
			}
		}
	})
}

func TestTheGradientIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	var want []float32
	for _, workers := range []int{1, 2, 7} {
		g, _ := gradient(t, workers)
		image := g.Forward(normal(2, 1), normal(2, 2), Truncation{})
		got := slices.Clone(image.Data)
		dz, dclass := g.Backward(image)
		got = append(append(got, dz...), dclass...)
		if workers == 1 {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("%d workers give other bits", workers)
		}
	}
}

func TestAGradientDoesNotAllocate(t *testing.T) {
	g, _ := gradient(t, 1)
	z, class := normal(2, 1), normal(2, 2)
	if n := testing.AllocsPerRun(10, func() { g.Backward(g.Forward(z, class, Truncation{})) }); n != 0 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestAGradientNamesTheTensorThatIsMissing(t *testing.T) {
	f, m := expertFile(t, "f32")
	if _, err := NewGradient(nn.Under(f, "blocks."), m, tensor.CPU(1)); err == nil {
		t.Error("no error without weights")
	}
}

// oracle is the generator in float64, as its paper and its checkpoint define it, and slowly.
type oracle struct {
	m *Model
	w nn.Weights
}

func wide64(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

// read returns a tensor of the file.
func (o *oracle) read(name string, shape ...int) []float64 {
	v := o.w.F32(name, shape...)
	if v == nil {
		panic(o.w.Err())
	}
	return wide64(v)
}

// image64 is a map, [h·w][c].
type image64 struct {
	side, c int
	v       []float64
}

func (o *oracle) forward(z, class []float64, t Truncation) []float64 {
	m, cond := o.m, append(slices.Clone(z), class...)
	mean, invStd := make([]float32, m.channels+m.Width), make([]float32, m.channels+m.Width)
	m.statistics(mean, invStd, t)
	gains := product(o.read("norms.scale.weight", m.channels, len(cond)), cond)
	shifts := product(o.read("norms.offset.weight", m.channels, len(cond)), cond)
	normalise := func(x image64, n norm) image64 {
		y := image64{x.side, x.c, make([]float64, len(x.v))}
		for i, v := range x.v {
			k := n.at + i%x.c
			y.v[i] = max(0, (v-float64(mean[k]))*float64(invStd[k])*(1+gains[k])+shifts[k])
		}
		return y
	}
	x := image64{firstSize, firstMult * m.Width, product(o.read("gen_z.weight", 16*firstMult*m.Width, len(cond)), cond)}
	for i, b := range o.read("gen_z.bias", len(x.v)) {
		x.v[i] += b
	}
	for i, b := range m.blocks {
		if m.hasAttention(i) {
			x = o.attend(x)
		}
		conv := func(x image64, k int) image64 {
			f := b.filters[k].ConvShape
			prefix := "blocks." + string(rune('0'+i)) + ".conv_" + string(rune('0'+k))
			shape := []int{f.Out, f.In}
			if f.Size == 3 {
				shape = []int{f.Out, 3, 3, f.In}
			}
			return convolve(x, o.read(prefix+".weight", shape...), o.read(prefix+".bias", f.Out), f.Size)
		}
		h := normalise(conv(normalise(x, b.norms[0]), 0), b.norms[1])
		skip := x
		if b.Up {
			h, skip = double(h), double(skip)
		}
		h = conv(normalise(conv(normalise(conv(h, 1), b.norms[2]), 2), b.norms[3]), 3)
		for p := range h.side * h.side {
			for c := range h.c {
				h.v[p*h.c+c] += skip.v[p*skip.c+c]
			}
		}
		x = h
	}
	for i := range x.v {
		c := i % x.c
		k := m.channels + c
		x.v[i] = max(0, (x.v[i]-float64(mean[k]))*float64(invStd[k])*float64(m.gain[c])+float64(m.shift[c]))
	}
	rgb := convolve(x, o.read("conv_to_rgb.weight", 3, 3, 3, m.Width), o.read("conv_to_rgb.bias", 3), 3)
	for i, v := range rgb.v {
		rgb.v[i] = math.Tanh(v)
	}
	return rgb.v
}

// product is W·x for W [n][len(x)].
func product(w, x []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for i := range y {
		for j, v := range x {
			y[i] += w[i*len(x)+j] * v
		}
	}
	return y
}

func convolve(x image64, w, bias []float64, size int) image64 {
	y := image64{x.side, len(bias), make([]float64, x.side*x.side*len(bias))}
	for r := range x.side {
		for q := range x.side {
			for o := range y.c {
				sum := bias[o]
				for ky := range size {
					for kx := range size {
						a, b := r+ky-size/2, q+kx-size/2
						if a < 0 || b < 0 || a >= x.side || b >= x.side {
							continue
						}
						for i := range x.c {
							sum += w[((o*size+ky)*size+kx)*x.c+i] * x.v[(a*x.side+b)*x.c+i]
						}
					}
				}
				y.v[(r*x.side+q)*y.c+o] = sum
			}
		}
	}
	return y
}

func double(x image64) image64 {
	y := image64{2 * x.side, x.c, make([]float64, 4*len(x.v))}
	for p := range y.side * y.side {
		from := p/y.side/2*x.side + p%y.side/2
		copy(y.v[p*x.c:][:x.c], x.v[from*x.c:])
	}
	return y
}

func (o *oracle) attend(x image64) image64 {
	point := func(name string, out int) image64 {
		return convolve(x, o.read("attention."+name+".weight", out, x.c), make([]float64, out), 1)
	}
	pool := func(x image64) image64 {
		y := image64{x.side / 2, x.c, make([]float64, len(x.v)/4)}
		for i := range y.v {
			p, c := i/x.c, i%x.c
			at := p/y.side*2*x.side + p%y.side*2
			y.v[i] = max(x.v[at*x.c+c], x.v[(at+1)*x.c+c], x.v[(at+x.side)*x.c+c], x.v[(at+x.side+1)*x.c+c])
		}
		return y
	}
	q, k, v := point("query", x.c/8), pool(point("key", x.c/8)), pool(point("value", x.c/2))
	attended := image64{x.side, v.c, make([]float64, x.side*x.side*v.c)}
	for p := range x.side * x.side {
		weights, total := make([]float64, k.side*k.side), 0.0
		for j := range weights {
			for c := range q.c {
				weights[j] += q.v[p*q.c+c] * k.v[j*k.c+c]
			}
			weights[j] = math.Exp(weights[j])
			total += weights[j]
		}
		for j, w := range weights {
			for c := range v.c {
				attended.v[p*v.c+c] += w / total * v.v[j*v.c+c]
			}
		}
	}
	y := convolve(attended, o.read("attention.output.weight", x.c, v.c), make([]float64, x.c), 1)
	for i := range y.v {
		y.v[i] += x.v[i]
	}
	return y
}
