package flow

import (
	"encoding/json"
	"math"
	"slices"
	"sync"
	"testing"

	"netfusion/nn"
	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
)

// testGPU is the device of this package's tests: a GPU if they are built with CUDA, or else the interpreter.
var testGPU = sync.OnceValues(func() (*tensor.GPU, error) {
	return tensor.OpenGPU(kerneltest.Open("flow"), tensor.GPUOptions{})
})

func openGPU(t testing.TB) *tensor.GPU {
	t.Helper()
	if testing.Short() {
		t.Skip("the interpreter takes long")
	}
	g, err := testGPU()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func gpuSession(t testing.TB, f *Flow, g *tensor.GPU, p tensor.Precision, rows int) *GPUSession {
	t.Helper()
	d, err := f.GPU(p, g)
	if err != nil {
		t.Fatal(err)
	}
	return newGPUSession(t, d, g, rows)
}

func newGPUSession(t testing.TB, d *GPUFlow, g *tensor.GPU, rows int) *GPUSession {
	t.Helper()
	s, err := d.NewSession(g, rows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// vectors calls do for the small configs whose condition is no map.
func vectors(t *testing.T, do func(t *testing.T, c Config)) {
	each(t, func(t *testing.T, c Config) {
		if c.Side == 0 {
			do(t, c)
		}
	})
}

// gpuTolerance is how far a GPU's float32 results may be from the CPU's: sums have other orders, and a block multiplies what it is given.
const gpuTolerance = 2e-5

func TestPTXAGPUSessionComputesWhatASessionDoes(t *testing.T) {
	g := openGPU(t)
	each(t, func(t *testing.T, c Config) {
		const m = 5
		f := trained(t, c)
		want, got := session(t, f, m, 1), gpuSession(t, f, g, tensor.F32, 3) // so the last rows are fewer
		cond := normal(m, c.Cond, 2)
		x, y := tensor.New(m, c.dims()), tensor.New(m, c.dims())
		for _, d := range []Draw{
			{Seed: 1 << 40, Sample: 1<<32 - 2, Temperature: 0.9, Guidance: 1.5},
			{Seed: 2, Temperature: 1, Guidance: 1},
			{Seed: 3, Temperature: 0.5, Guidance: 0, Snap: true},
		} {
			want.Sample(x, cond, d)
			got.Sample(y, cond, d)
			agrees(t, "samples", y, x, gpuTolerance)
		}

		v, w, logs, dets := tensor.New(m, c.Latent), tensor.New(m, c.Latent), tensor.New(1, m), tensor.New(1, m)
		want.Forward(v, logs.Data, x, cond)
		got.Forward(w, dets.Data, x, cond)
		agrees(t, "residuals", w, v, gpuTolerance)
		agrees(t, "log-determinants", dets, logs, gpuTolerance)
		want.Residual(v, x, cond, 2)
		got.Residual(w, x, cond, 2)
		agrees(t, "guided residuals", w, v, gpuTolerance)
		want.Restore(x, v, cond, tensor.Tensor{}, 2)
		got.Restore(y, v, cond, tensor.Tensor{}, 2)
		agrees(t, "what is restored", y, x, gpuTolerance)
		want.Inverse(x, v, cond)
		got.Inverse(y, v, cond)
		agrees(t, "what is inverted", y, x, gpuTolerance)

		z, class, z2, class2 := make([]float64, m), make([]float64, m), make([]float64, m), make([]float64, m)
		want.LogProb(z, class, x, cond)
		got.LogProb(z2, class2, x, cond)
		for i := range m {
			if math.Abs(z2[i]-z[i]) > gpuTolerance*(1+math.Abs(z[i])) || math.Abs(class2[i]-class[i]) > gpuTolerance*(1+math.Abs(class[i])) {
				t.Errorf("row %d: log p is %v and %v, want %v and %v", i, z2[i], class2[i], z[i], class[i])
			}
		}
		if c.Classes == 0 {
			return
		}
		hat, hat2 := tensor.New(m, c.Class), tensor.New(m, c.Class)
		want.ClassMeans(hat, x)
		got.ClassMeans(hat2, x)
		agrees(t, "class means", hat2, hat, gpuTolerance)
		other := normal(m, c.Class, 6)
		want.Restore(x, v, cond, other, 1.5)
		got.Restore(y, v, cond, other, 1.5)
		agrees(t, "what is restored under class means", y, x, gpuTolerance)
		p, p2 := tensor.New(m, c.Classes), tensor.New(m, c.Classes)
		want.ClassDraw(p, cond, Draw{Temperature: 0.7, Guidance: 2})
		got.ClassDraw(p2, cond, Draw{Temperature: 0.7, Guidance: 2})
		agrees(t, "probabilities of draws", p2, p, gpuTolerance)
		want.ClassProbabilities(p, cond)
		got.ClassProbabilities(p2, cond)
		agrees(t, "probabilities", p2, p, gpuTolerance)
		want.LogClasses(p, cond)
		got.LogClasses(p2, cond)
		agrees(t, "log-probabilities", p2, p, gpuTolerance)
	})
}

// A flow on a GPU is loaded from where one for Sessions is, in each precision, and errs as much.
func TestPTXAFlowOnAGPUInEveryPrecision(t *testing.T) {
	g := openGPU(t)
	const m = 18 // more than are multiplied without tiles
	for _, c := range []Config{
		{Dialect: Net2Net, Latent: 12, Cond: 16, Blocks: 3, Hidden: 48, Depth: 1, Clamp: 1, Embed: 12, EmbedWidth: 24, EmbedDepth: 1},
		{Dialect: NetFusion, Latent: 12, Cond: 16, Class: 6, Classes: 7, ClassNoise: 0.4, HeadHidden: 20, Blocks: 3, Hidden: 48, Depth: 1, Clamp: 2,
			Embed: 12, EmbedWidth: 24, EmbedDepth: 1},
	} {
		f := trained(t, c)
		cond := normal(m, c.Cond, 2)
		want, draw := tensor.New(m, c.dims()), Draw{Seed: 1, Temperature: 1, Guidance: 1.5}
		session(t, f, m, 1).Sample(want, cond, draw)
		config, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		likely := make([]float64, m)
		session(t, f, m, 1).LogProb(likely, nil, want, cond)
		for p, bound := range roundingError {
			d, err := LoadGPU(nn.Memory("a flow", f.Tensors(false)), config, p, g)
			if err != nil {
				t.Fatal(err)
			}
			s := newGPUSession(t, d, g, m)
			x, z := tensor.New(m, c.dims()), make([]float64, m)
			s.Sample(x, cond, draw)
			s.LogProb(z, nil, want, cond)
			sample, nats := apart(x, want, z, likely)
			if sample > bound.sample+1e-6 || nats > bound.nats+1e-6 {
				t.Errorf("%s, %v: samples are off by %v, log p by %v a dimension", c.Dialect, p, sample, nats)
			}
		}
	}
}

// One graph serves every draw, and gives the same bits whenever it is replayed and on whatever schedule.
func TestPTXSamplesDependOnTheirDrawAlone(t *testing.T) {
	c := small["class"]
	const m = 3
	f := trained(t, c)
	cond := normal(m, c.Cond, 2)
	draws := []Draw{{Seed: 1, Temperature: 1, Guidance: 1}, {Seed: 2, Temperature: 0.7, Guidance: 3, Snap: true}, {Seed: 1, Sample: 5, Temperature: 1, Guidance: 1}}
	var first [][]float32
	for _, name := range []string{"one order", "another order"} {
		g, err := tensor.OpenGPU(kerneltest.Open(name), tensor.GPUOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := gpuSession(t, f, g, tensor.F32, m)
		for turn := range 2 {
			for i, d := range draws {
				x := tensor.New(m, c.dims())
				s.Sample(x, cond, d)
				if len(first) <= i {
					first = append(first, x.Data)
				} else if !slices.Equal(x.Data, first[i]) {
					t.Errorf("%s, turn %d: draw %d gives %v, and gave %v", name, turn, i, x.Data, first[i])
				}
			}
		}
	}
	if slices.Equal(first[0], first[1]) || slices.Equal(first[0], first[2]) {
		t.Error("different draws give the same")
	}
}
