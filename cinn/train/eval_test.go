package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// world is a Set in which z is linear in the embedding of the text, plus noise, and the class follows its sign:
// embedding [4] → z [3], two classes with embeddings in [2].
func world(t *testing.T, concepts int) *Eval {
	s := &pairs.Set{Classes: []string{"low", "high"}, Styles: []pairs.Style{{Name: "a"}, {Name: "b"}}, Latent: 3, Size: 2}
	vector := func(i int) []float32 {
		v := make([]float32, 4)
		random.Normal(v, 1, 0, uint64(i), 0)
		return v
	}
	for i := range concepts {
		v, noise := vector(i), make([]float32, 6)
		random.Normal(noise, 2, 0, uint64(i), 0)
		class := 0
		if v[0] > 0 {
			class = 1
		}
		s.Concepts = append(s.Concepts, pairs.Concept{Name: fmt.Sprintf("thing %d", i), Class: s.Classes[class]})
		for style := range 2 {
			s.Images = append(s.Images, pairs.Image{Concept: i, Style: style, Class: class})
			for d := range 3 {
				s.Mean = append(s.Mean, 2*v[d]+v[d+1]+0.3*noise[3*style+d])
				s.Std = append(s.Std, 0.2)
			}
			for p := range 12 {
				s.Pixels = append(s.Pixels, uint8(7*i+p+style))
			}
		}
	}
	c, err := s.Embed(pairs.Encoder{Dim: 4, Embed: func(texts []string, dst []float32) error {
		for k, text := range texts {
			var i int
			if _, err := fmt.Sscanf(text[strings.Index(text, "thing"):], "thing %d", &i); err != nil {
				return err
			}
			copy(dst[4*k:], vector(i))
			dst[4*k+3] += 0.01 * float32(len(text)) // wordings differ a little
		}
		return nil
	}}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Eval{Set: s, Conditions: c, Table: tensor.Of(2, 2, []float32{-1, 0, 1, 0.5}), ClassNoise: 0.2, Split: pairs.Test,
		Seed: 5, Draw: flow.Draw{Seed: 9, Temperature: 1, Guidance: 1}}
}

// flowFor fits a flow without blocks and puts it into e.
func flowFor(t *testing.T, e *Eval) {
	f, err := flow.New(flow.Config{Dialect: flow.NetFusion, Latent: 3, Cond: 4, Class: 2, Classes: 2, ClassNoise: 0.2,
		Hidden: 4, Clamp: 1, Embed: 2, EmbedWidth: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f.SetClasses(e.Table)
	b := e.captions(2, 0)
	if _, err := f.Fit(b.x, b.c, b.image); err != nil {
		t.Fatal(err)
	}
	s, err := f.NewSession(e.Device, 64)
	if err != nil {
		t.Fatal(err)
	}
	e.Flow, e.Unconditional = s, Blind(s)
}

func report(t *testing.T, workers int) *Report {
	e := world(t, 150)
	e.Device = tensor.CPU(workers)
	defer e.Device.Close()
	flowFor(t, e)
	e.Decode = func(rgb []uint8, x []float32) error {
		for i := range rgb {
			rgb[i] = uint8(100 + 20*x[i%3])
		}
		return nil
	}
	r, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	var first []byte
	for _, workers := range []int{1, 2, 7} {
		r := report(t, workers)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
			checkReport(t, r)
		} else if !bytes.Equal(b, first) {
			t.Errorf("%d workers:\n%s\nwant\n%s", workers, b, first)
		}
	}
}

// checkReport compares the models with what the world is: z is Gaussian with variance 0.09 + 0.04 around a linear mean.
func checkReport(t *testing.T, r *Report) {
	t.Helper()
	nll := map[string]Likelihood{}
	for _, l := range r.Likelihoods {
		nll[l.Model] = l
		dims := float64(r.Latent + r.Class)
		if d := l.Total - (l.Z*float64(r.Latent)+l.Class*float64(r.Class))/dims; math.Abs(d) > 1e-9 {
			t.Errorf("%s: the parts do not make the whole: %+v", l.Model, l)
		}
		if l.Model != "flow" && !(l.Difference.Low <= l.Difference.Mean && l.Difference.Mean <= l.Difference.High) {
			t.Errorf("%s: interval %+v", l.Model, l.Difference)
		}
	}
	entropy := 0.5 * math.Log(2*math.Pi*math.E*0.13)
	if z := nll["ridge"].Z; math.Abs(z-entropy) > 0.12 {
		t.Errorf("ridge has %.3f nats for z, the world's entropy is %.3f", z, entropy)
	}
	for _, m := range []string{"ridge", "MLP", "nearest captions", "mixture density network", "Procrustes"} {
		if nll[m].Total >= nll["unconditional flow"].Total {
			t.Errorf("%s (%.3f) does not beat the model without text (%.3f)", m, nll[m].Total, nll["unconditional flow"].Total)
		}
	}
	if a := r.Agreement; a.Neighbours < 0.6 || a.Flow < 0.3 || a.Flow > 0.7 || a.K == 0 || a.KVote == 0 {
		t.Errorf("agreement %+v: neighbours know the class, an untrained head draws it blindly", a)
	}
	if r.Nearest.Space != "pixels" || r.Diversity.Latent <= 0 || r.Diversity.Pixels <= 0 {
		t.Errorf("%+v %+v", r.Nearest, r.Diversity)
	}
	checkSamples(t, r)
	var table strings.Builder
	if err := r.Write(&table); err != nil || !strings.Contains(table.String(), "unconditional flow") {
		t.Errorf("table: %v\n%s", err, table.String())
	}
}

// checkSamples compares what is measured of samples, residuals and edits with what the world is. z says much of c; its linear flow's residual does not.
func checkSamples(t *testing.T, r *Report) {
	t.Helper()
	for _, m := range r.Retrieval {
		knows := m.Model == "flow" || m.Model == "ridge"
		if chance := 1 / float64(m.Among); knows && m.Caption < 5*chance || m.Model == "mean" && math.Abs(m.Caption-chance) > 1e-9 || m.CaptionTen < m.Caption {
			t.Errorf("%+v", m)
		}
	}
	quality := map[string]Quality{}
	for _, q := range r.Qualities {
		quality[q.Model] = q
	}
	if f, m := quality["flow"], quality["mean"]; f.Frechet >= m.Frechet/2 || f.Recall <= m.Recall || f.Diversity <= 0 || m.Diversity != 0 {
		t.Errorf("flow %+v, mean %+v", f, m)
	}
	if q := quality["training images"]; math.Abs(q.Diversity-1) > 0.25 || q.Precision < 0.5 || q.Recall < 0.5 {
		t.Errorf("training images %+v", q)
	}
	if p := r.Probe; p == nil || p.Latent.Low < 0.2 || p.Residual.Mean > 0.05 || p.Residual.Mean > p.Latent.Mean/5 {
		t.Errorf("probe %+v", p)
	}
	if p := r.Probe; p.ClassLatent < 0.7 || p.ClassResidual > p.ClassLatent-0.1 || p.ClassCommon < 0.5 {
		t.Errorf("probe of classes %+v", p)
	}
	if d := r.Edits; d == nil || d.Drift.Mean <= 0 || d.Drift.Mean >= d.FreshDrift*1.2 {
		t.Errorf("edits %+v", d)
	}
}

func TestNearestImageInLatentSpaceFindsTheConcept(t *testing.T) {
	e := world(t, 60)
	e.Device = tensor.CPU(1)
	defer e.Device.Close()
	e.Flow = oracle{e}
	var r Report
	if err := e.nearestImages(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Nearest.Space != "latents" || r.Nearest.SameConcept < 0.99 || r.Nearest.SameClass < 0.99 {
		t.Errorf("%+v", r.Nearest)
	}
}

// oracle draws the first image of the concept whose name has the embedding c.
type oracle struct{ e *Eval }

func (o oracle) LogProb(z, class []float64, x, c tensor.Tensor) {}

func (o oracle) Sample(x, c tensor.Tensor, d flow.Draw) {
	for r := range x.Rows {
		for i, im := range o.e.Set.Images {
			name, _ := o.e.Conditions.Of(im.Concept)
			if im.Style == 0 && distance(o.e.Conditions.Vector(name), c.Row(r)) == 0 {
				mean, _ := o.e.Set.Z(i)
				copy(x.Row(r), mean)
				copy(x.Row(r)[3:], o.e.Table.Row(im.Class))
			}
		}
	}
}

// TestNeighboursAreADensity integrates the mixture over e and over z, one at a time.
func TestNeighboursAreADensity(t *testing.T) {
	e := world(t, 40)
	e.Device = tensor.CPU(2)
	defer e.Device.Close()
	n := e.fitNeighbours(&Report{})
	name, _ := e.Conditions.Of(0)
	const step, reach = 0.05, 2.5
	var class float64
	x, c := tensor.New(1, 5), tensor.Of(1, 4, e.Conditions.Vector(name))
	var lz, le [1]float64
	for a := -reach; a < reach; a += step {
		for b := -reach; b < reach; b += step {
			x.Data[3], x.Data[4] = float32(a), float32(b)
			n.LogProb(lz[:], le[:], x, c)
			class += math.Exp(le[0]) * step * step
		}
	}
	if math.Abs(class-1) > 1e-3 {
		t.Errorf("the class part integrates to %v", class)
	}
	const wide, far = 0.6, 12.0
	var z float64
	rows := tensor.New(0, 5)
	for a := -far; a < far; a += wide {
		for b := -far; b < far; b += wide {
			for d := -far; d < far; d += wide {
				rows.Data = append(rows.Data, float32(a), float32(b), float32(d), 1, 0.5)
				rows.Rows++
			}
		}
	}
	conds := tensor.New(rows.Rows, 4)
	for i := range conds.Rows {
		copy(conds.Row(i), c.Data)
	}
	zs, classes := make([]float64, rows.Rows), make([]float64, rows.Rows)
	n.LogProb(zs, classes, rows, conds)
	for _, v := range zs {
		z += math.Exp(v) * wide * wide * wide
	}
	if math.Abs(z-1) > 0.02 {
		t.Errorf("the z part integrates to %v", z)
	}
}

func TestBootstrapInterval(t *testing.T) {
	e := &Eval{Seed: 3}
	n := 400
	d, ones := make([]float64, n), make([]float64, n)
	noise := make([]float32, n)
	random.Normal(noise, 1, 0, 0, 0)
	for i := range d {
		d[i], ones[i] = 2+float64(noise[i]), 1
	}
	got := e.bootstrap(d, ones)
	half := 1.96 / math.Sqrt(float64(n))
	if math.Abs(got.Mean-2) > 0.15 || math.Abs(got.High-got.Mean-half) > 0.15*half || math.Abs(got.Mean-got.Low-half) > 0.15*half {
		t.Errorf("got %+v, want about 2 ± %.3f", got, half)
	}
	if same := e.bootstrapDifference(d, d); same != (Interval{}) {
		t.Errorf("no difference: %+v", same)
	}
}

func TestEvalRefuses(t *testing.T) {
	e := world(t, 60)
	if _, err := e.Run(t.Context()); err == nil {
		t.Error("ran without a flow")
	}
	e.Device = tensor.CPU(1)
	defer e.Device.Close()
	e.Flow = oracle{e}
	e.Table = tensor.New(3, 2)
	if _, err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "classes") {
		t.Errorf("a wrong class table: %v", err)
	}
}

func TestNearestCaptionsComeInOrder(t *testing.T) {
	n := &neighbours{unit: [][]float32{{0, 1}, unit([]float32{1, 1}), {1, 0}, {1, 0}, {-1, 0}}}
	for k, want := range [][]int{1: {2}, 2: {2, 3}, 3: {2, 3, 1}, 5: {2, 3, 1, 0, 4}, 9: {2, 3, 1, 0, 4}} {
		if k > 0 && want != nil {
			if got := n.nearest([]float32{5, 0}, k); !slices.Equal(got, want) {
				t.Errorf("k = %d: %v, want %v", k, got, want)
			}
		}
	}
}

func TestEvalEndsWithItsContext(t *testing.T) {
	e := world(t, 60)
	e.Device = tensor.CPU(1)
	defer e.Device.Close()
	flowFor(t, e)
	for _, stage := range []string{"ridge", "MLP", "nearest images"} {
		ctx, cancel := context.WithCancel(t.Context())
		e.Progress = func(s string) {
			if s == stage {
				cancel()
			}
		}
		if _, err := e.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", stage, err)
		}
	}
}
