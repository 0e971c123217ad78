package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/tensor"
)

// toy is a small world with classes: the condition says where the latent lies and which class it is of.
func toy(images int, seed uint64) *Data {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &Data{Cond: tensor.New(2*images, 5), Mean: tensor.New(images, 6), Std: tensor.New(images, 6)}
	for i := range images {
		k := r.IntN(3)
		d.Class = append(d.Class, k)
		for v := range 2 {
			c := d.Cond.Row(2*i + v)
			for j := range c {
				c[j] = float32(r.NormFloat64())
			}
			c[0] = float32(k - 1)
			d.Pairs = append(d.Pairs, Pair{Caption: 2*i + v, Image: i, Group: i, Weight: 1 + float64(v)})
		}
		for j := range d.Mean.Cols {
			d.Mean.Row(i)[j] = d.Cond.Row(2 * i)[j%5] + 0.3*float32(r.NormFloat64())
			d.Std.Row(i)[j] = 0.1 + 0.1*float32(j)
		}
	}
	return d
}

func toyFlow(t testing.TB, d *Data, dialect string) *flow.Flow {
	t.Helper()
	c := flow.Config{Dialect: dialect, Latent: 6, Cond: 5, Blocks: 2, Hidden: 16, Depth: 1, Clamp: 1, Embed: 6, EmbedWidth: 12, EmbedDepth: 1}
	if dialect == flow.NetFusion {
		c.Class, c.Classes, c.ClassNoise, c.HeadHidden = 2, 3, 0.2, 8
	}
	f, err := flow.New(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	if dialect == flow.NetFusion {
		f.SetClasses(tensor.Of(3, 2, []float32{1, 0, 0, 1, -1, -1}))
		if _, err := Fit(f, d, 500, 1); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// plain is a recipe for small worlds: Defaults are for the built-in fusion, and change with it.
func plain() Options {
	return Options{
		Steps: 100, Batch: 128, Seed: 1,
		Optimizer: "adamw", Rate: 1e-3, Warmup: 10, Floor: 0.01, Beta1: 0.9, Beta2: 0.99, Decay: 0.05, HeadDecay: 0.05, Clip: 5, EMA: 0.998,
		Validate: 50, Draws: 4,
	}
}

// toyOptions use everything that a run can: dropout of both kinds, and noise.
func toyOptions() Options {
	o := plain()
	o.Steps, o.Batch, o.Rate, o.Warmup, o.Validate, o.Draws = 40, 32, 5e-4, 5, 10, 2
	o.Dropout, o.ConditionDropout, o.ConditionNoise = 0.1, 0.1, 0.05
	return o
}

// checkpoint trains and returns the bytes of the file at the end. A run is interrupted at the step stop and resumed, unless
// stop is never.
func checkpoint(t *testing.T, dialect string, o Options, workers, stop int) []byte {
	t.Helper()
	dev := tensor.CPU(workers)
	defer dev.Close()
	d, v := toy(60, 1), toy(20, 2)
	tr, err := New(toyFlow(t, d, dialect), d, v, o, dev)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.safetensors")
	tr.Checkpoint = path
	tr.Fingerprints = map[string]string{"text expert": "abc"}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if stop != never {
		tr.Log = &stopper{at: fmt.Sprintf("step %d:", stop), cancel: cancel}
		if err := tr.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("an interrupted run returns %v", err)
		}
		if tr, err = Resume(path, d, v, tr.Fingerprints, dev); err != nil {
			t.Fatal(err)
		}
		if tr.Step() != stop {
			t.Fatalf("resumed at step %d, want %d", tr.Step(), stop)
		}
		tr.Checkpoint = path
	}
	if err := tr.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const never = -1

// stopper cancels when a line of the log begins with at.
type stopper struct {
	at     string
	cancel context.CancelFunc
}

func (s *stopper) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), s.at) {
		s.cancel()
	}
	return len(b), nil
}

func TestSameBytesForAnyWorkersAndAfterAnInterruption(t *testing.T) {
	for name, c := range map[string]struct {
		dialect, optimizer string
	}{"netfusion": {flow.NetFusion, "adamw"}, "net2net": {flow.Net2Net, "amsgrad"}} {
		t.Run(name, func(t *testing.T) {
			o := toyOptions()
			o.Optimizer = c.optimizer
			if c.optimizer != "adamw" {
				o.Decay, o.HeadDecay = 0, 0
			}
			want := checkpoint(t, c.dialect, o, 1, never)
			for _, workers := range []int{2, 7} {
				if !bytes.Equal(checkpoint(t, c.dialect, o, workers, never), want) {
					t.Errorf("%d workers give other bytes than 1", workers)
				}
			}
			for _, stop := range []int{0, 20} {
				if !bytes.Equal(checkpoint(t, c.dialect, o, 2, stop), want) {
					t.Errorf("interrupted at step %d and resumed, a run gives other bytes than an uninterrupted one", stop)
				}
			}
			o.Seed++
			if bytes.Equal(checkpoint(t, c.dialect, o, 2, never), want) {
				t.Error("another seed gives the same bytes")
			}
		})
	}
}

// What a run takes is said in advance: 16 bytes a parameter, 4 more each for AMSGrad and an average, and what a step keeps of a
// batch. There is no packed copy of the weights in it, and what was best so far is in a file.
func TestMemoryIsAsStated(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	d := toy(60, 1)
	c := flow.Config{Dialect: flow.Net2Net, Latent: 6, Cond: 5, Blocks: 3, Hidden: 256, Depth: 1, Clamp: 1, Embed: 6, EmbedWidth: 12, EmbedDepth: 1}
	d.Class = nil
	heap := func() int {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	o := plain()
	o.Batch, o.Decay, o.HeadDecay, o.Steps, o.Validate = 16, 0, 0, 1, 1
	for _, test := range []struct {
		optimizer string
		average   float64
		bytes     int
	}{{"adam", 0, 16}, {"adam", 0.9, 20}, {"amsgrad", 0, 20}, {"amsgrad", 0.9, 24}} {
		o.Optimizer, o.EMA = test.optimizer, test.average
		plan, err := Plan(c, o, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		begin := heap()
		f, err := flow.New(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := New(f, d, d, o, dev)
		if err != nil {
			t.Fatal(err)
		}
		tr.Checkpoint = filepath.Join(t.TempDir(), "run")
		if err := tr.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		took, stated := heap()-begin, plan.Total()-plan.Program
		if want := test.bytes*len(f.Values()) + plan.Step; stated < want || stated > want+64<<10 {
			t.Errorf("%s, average %v: %d bytes are stated, want %d", test.optimizer, test.average, stated, want)
		}
		const few = 512 << 10 // names, pieces, …: of what is stated for the program
		if took > stated+few {
			t.Errorf("%s, average %v: a trainer of %d parameters takes %d bytes, %d are stated", test.optimizer, test.average, len(f.Values()), took, stated)
		}
		runtime.KeepAlive(tr)
	}
}

func TestACheckpointThatCannotBeSavedIsAnErrorAtOnce(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	d, v := toy(60, 1), toy(20, 2)
	tr, err := New(toyFlow(t, d, flow.NetFusion), d, v, toyOptions(), dev)
	if err != nil {
		t.Fatal(err)
	}
	tr.Checkpoint = filepath.Join(t.TempDir(), "absent", "run.safetensors")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), stopped} {
		if err := tr.Run(ctx); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled) || tr.Step() != 0 {
			t.Errorf("step %d: %v", tr.Step(), err)
		}
	}
}

func TestResumeRefusesOtherDataAndExperts(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	d, v := toy(60, 1), toy(20, 2)
	o := toyOptions()
	o.Steps = 2
	tr, err := New(toyFlow(t, d, flow.NetFusion), d, v, o, dev)
	if err != nil {
		t.Fatal(err)
	}
	tr.Fingerprints = map[string]string{"text expert": "abc"}
	path := filepath.Join(t.TempDir(), "run.safetensors")
	if err := tr.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(path, d, v, map[string]string{"text expert": "abd"}, dev); err == nil || !strings.Contains(err.Error(), "text expert") {
		t.Errorf("another expert: %v", err)
	}
	if _, err := Resume(path, toy(60, 3), v, tr.Fingerprints, dev); err == nil || !strings.Contains(err.Error(), "training data") {
		t.Errorf("other data: %v", err)
	}
	if _, err := Resume(path, d, v, tr.Fingerprints, dev); err != nil {
		t.Errorf("the same: %v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-5] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(path, d, v, tr.Fingerprints, dev); err == nil {
		t.Error("a damaged checkpoint is accepted")
	}
}

func TestWrongDataAndOptionsAreErrors(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	good := toy(60, 1)
	f := toyFlow(t, good, flow.NetFusion)
	for name, change := range map[string]func(d *Data, o *Options){
		"no pairs":       func(d *Data, o *Options) { d.Pairs = nil },
		"caption":        func(d *Data, o *Options) { d.Pairs[3].Caption = 120 },
		"image":          func(d *Data, o *Options) { d.Pairs[3].Image = -1 },
		"weight":         func(d *Data, o *Options) { d.Pairs[3].Weight = 0 },
		"class":          func(d *Data, o *Options) { d.Class[0] = 3 },
		"classes":        func(d *Data, o *Options) { d.Class = nil },
		"dimensions":     func(d *Data, o *Options) { d.Cond = tensor.New(120, 4) },
		"optimizer":      func(d *Data, o *Options) { o.Optimizer = "sgd" },
		"decay":          func(d *Data, o *Options) { o.Optimizer = "adam" },
		"learning rate":  func(d *Data, o *Options) { o.Rate = math.NaN() },
		"no validations": func(d *Data, o *Options) { o.Validate = 0 },
	} {
		d, o := toy(60, 1), toyOptions()
		change(d, &o)
		if _, err := New(f, d, good, o, dev); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A Gaussian world: z = B·c + noise of a fixed covariance. Entropies are measured on the samples that judge the flow.
func TestAConditionalGaussianIsRecovered(t *testing.T) {
	const n, cond, images = 6, 3, 4000
	r := rand.New(rand.NewPCG(5, 5))
	var mix [n][n + cond]float64
	for i := range mix {
		for j := range mix[i] {
			if j < i || j >= n {
				mix[i][j] = 0.7 * r.NormFloat64()
			}
		}
		mix[i][i] = 0.3 + r.Float64()
	}
	world := func(images int) (d *Data, entropy float64) {
		d = &Data{Cond: tensor.New(images, cond), Mean: tensor.New(images, n), Std: tensor.New(images, n)}
		for i := range images {
			var e [n + cond]float64
			for j := range e {
				e[j] = r.NormFloat64()
			}
			for j := range n {
				entropy += (e[j]*e[j]/2 + 0.5*math.Log(2*math.Pi) + math.Log(mix[j][j])) / float64(images)
			}
			for j := range cond {
				d.Cond.Row(i)[j] = float32(e[n+j])
			}
			for j := range n {
				var v float64
				for k, m := range mix[j] {
					v += m * e[k]
				}
				d.Mean.Row(i)[j] = float32(v)
			}
			d.Pairs = append(d.Pairs, Pair{Caption: i, Image: i, Group: i, Weight: 1})
		}
		return d, entropy
	}
	train, _ := world(images)
	validate, _ := world(1000)
	fresh, entropy := world(10000)
	c := flow.Config{Dialect: flow.NetFusion, Latent: n, Cond: cond, Blocks: 2, Hidden: 16, Clamp: 2, Embed: 4, EmbedWidth: 8}
	recovered(t, c, plain(), train, validate, fresh, entropy)
}

// A mixture world: given c, one of two Gaussians whose places and weights turn with c.
func TestAConditionalMixtureIsRecovered(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	for _, m := range []bimodal{
		{dims: 2, blocks: 5, hidden: 24, images: 40000, steps: 1000, rate: 6e-3},
		{dims: 8, blocks: 10, hidden: 32, images: 160000, steps: 2000, rate: 4e-3},
	} {
		t.Run(fmt.Sprint(m.dims, " dimensions"), m.recovered)
	}
}

// bimodal is a size of that world, and what it takes to learn it: modes apart in many directions need more blocks.
type bimodal struct {
	dims, blocks, hidden, images, steps int
	rate                                float64
}

func (m bimodal) recovered(t *testing.T) {
	n := m.dims
	const sigma = 0.5
	r := rand.New(rand.NewPCG(6, 6))
	// The centres are ±(a, b·c, a, b·c, …), as far from each other in many dimensions as in two.
	even := math.Sqrt(float64(n) / 2)
	centre := func(j int, c float64) float64 {
		if j%2 == 0 {
			return 1.2 / even
		}
		return c / even
	}
	world := func(images int) (d *Data, entropy float64) {
		d = &Data{Cond: tensor.New(images, 1), Mean: tensor.New(images, n), Std: tensor.New(images, n)}
		for i := range images {
			c := 2*r.Float64() - 1
			p := 1 / (1 + math.Exp(-2*c)) // of the first
			side := 1.0
			if r.Float64() > p {
				side = -1
			}
			x := d.Mean.Row(i)
			near, far := 0.0, 0.0 // squared distances to the first centre and to the second
			for j := range x {
				mode := centre(j, c)
				v := side*mode + sigma*r.NormFloat64()
				near, far = near+(v-mode)*(v-mode), far+(v+mode)*(v+mode)
				x[j] = float32(v)
			}
			density := p*math.Exp(-near/(2*sigma*sigma)) + (1-p)*math.Exp(-far/(2*sigma*sigma))
			entropy -= (math.Log(density) - float64(n)*math.Log(math.Sqrt(2*math.Pi)*sigma)) / float64(images)
			d.Cond.Data[i] = float32(c)
			d.Pairs = append(d.Pairs, Pair{Caption: i, Image: i, Group: i, Weight: 1})
		}
		return d, entropy
	}
	train, _ := world(m.images)
	validate, _ := world(2000)
	fresh, entropy := world(10000)
	c := flow.Config{Dialect: flow.NetFusion, Latent: n, Cond: 1, Blocks: m.blocks, Hidden: m.hidden, Depth: 1, Clamp: 2, Embed: 4, EmbedWidth: 16}
	o := plain()
	o.Steps, o.Rate, o.Warmup, o.Validate, o.Decay, o.EMA = m.steps, m.rate, 50, 250, 0, 0.99
	recovered(t, c, o, train, validate, fresh, entropy)
}

// recovered trains and compares the likelihood of fresh samples with what the truth gives them: the difference is the
// Kullback-Leibler divergence.
func recovered(t *testing.T, c flow.Config, o Options, train, validate, fresh *Data, entropy float64) {
	t.Helper()
	f, err := flow.New(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Fit(f, train, 2000, 1); err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(2)
	defer dev.Close()
	tr, err := New(f, train, validate, o, dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	result, err := tr.Result()
	if err != nil {
		t.Fatal(err)
	}
	s, err := result.NewSession(dev, 256)
	if err != nil {
		t.Fatal(err)
	}
	logp := make([]float64, fresh.Mean.Rows)
	s.LogProb(logp, nil, fresh.Mean, fresh.Cond)
	var nll float64
	for _, v := range logp {
		nll -= v / float64(len(logp))
	}
	t.Logf("divergence %.4f nats: %.4f for %.4f", nll-entropy, nll, entropy)
	if kl := nll - entropy; kl > 0.05 || kl < -0.1 {
		t.Errorf("divergence is %.4f nats, want at most 0.05", kl)
	}
}

func TestTrainingOnlyAddsToTheLinearModel(t *testing.T) {
	dev := tensor.CPU(2)
	defer dev.Close()
	d, v := toy(200, 1), toy(50, 2)
	o := toyOptions()
	o.Steps = 200
	var log bytes.Buffer
	tr, err := New(toyFlow(t, d, flow.NetFusion), d, v, o, dev)
	if err != nil {
		t.Fatal(err)
	}
	tr.Log = &log
	if err := tr.begin(); err != nil {
		t.Fatal(err)
	}
	before := tr.Score()
	if err := tr.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	after := tr.Score()
	if after.Z > before.Z || after.Class >= before.Class {
		t.Errorf("validation went from %+v to %+v", before, after)
	}
	if !strings.Contains(log.String(), "step 200: validation") {
		t.Errorf("the log does not tell of the last validation:\n%s", log.String())
	}
}

func TestPatienceEndsARun(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	d, v := toy(60, 1), toy(50, 2)
	o := toyOptions()
	o.Steps, o.Patience, o.Rate, o.EMA = 5000, 2, 0.02, 0
	tr, err := New(toyFlow(t, d, flow.NetFusion), d, v, o, dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if tr.Step() >= 5000 {
		t.Error("the run went on without improving")
	}
}
