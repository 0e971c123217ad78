package flow

import (
	"math"
	"slices"
	"testing"

	"netfusion/tensor"
)

func TestASampleDependsOnItsNumberAlone(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 9
		f := trained(t, c)
		cond := normal(m, c.Cond, 2)
		d := Draw{Seed: 3, Sample: 1 << 40, Temperature: 0.9, Guidance: 1.5}
		want := tensor.New(m, c.dims())
		session(t, f, m, 1).Sample(want, cond, d)
		for _, workers := range []int{2, 7} {
			got := tensor.New(m, c.dims())
			session(t, f, 4, workers).Sample(got, cond, d)
			if !slices.Equal(got.Data, want.Data) {
				t.Errorf("%d workers and other batches give other bits", workers)
			}
		}
		last := tensor.New(1, c.dims())
		alone := d
		alone.Sample += m - 1
		session(t, f, 1, 1).Sample(last, cond.Slice(m-1, m), alone)
		if !slices.Equal(last.Data, want.Row(m-1)) {
			t.Error("a sample drawn alone differs")
		}
		for _, other := range []Draw{{Seed: 4, Sample: 1 << 40, Temperature: 0.9, Guidance: 1.5}, {Seed: 3, Sample: 1<<40 + 1, Temperature: 0.9, Guidance: 1.5},
			{Seed: 3, Sample: 1 << 40, Temperature: 0.8, Guidance: 1.5}, {Seed: 3, Sample: 1 << 40, Temperature: 0.9, Guidance: 1}} {
			got := tensor.New(m, c.dims())
			session(t, f, m, 1).Sample(got, cond, other)
			if slices.Equal(got.Row(0), want.Row(0)) {
				t.Errorf("%+v gives the same as %+v", other, d)
			}
		}
	})
}

// The residual of a sample is the noise that it was drawn from.
func TestTheResidualOfASampleIsItsNoise(t *testing.T) {
	each(t, func(t *testing.T, c Config) {
		const m = 300
		f := trained(t, c)
		cond, x, v := normal(m, c.Cond, 2), tensor.New(m, c.dims()), tensor.New(m, c.Latent)
		s := session(t, f, 64, 2)
		s.Sample(x, cond, Draw{Seed: 1, Temperature: 1, Guidance: 1})
		s.Forward(v, nil, x, cond)
		var sum, squares float64
		for _, a := range v.Data {
			sum += float64(a)
			squares += float64(a) * float64(a)
		}
		n := float64(len(v.Data))
		if math.Abs(sum/n) > 5/math.Sqrt(n) || math.Abs(squares/n-1) > 5*math.Sqrt(2/n) {
			t.Errorf("residuals have mean %v and mean square %v", sum/n, squares/n)
		}
	})
}

func TestSnapGivesAClassEmbeddingAndClassesFollowTheHead(t *testing.T) {
	c := small["class"]
	const m = 4000
	f := trained(t, c)
	cond, x := tensor.New(m, c.Cond), tensor.New(m, c.dims())
	for i := range m {
		copy(cond.Row(i), []float32{0.5, -1, 0.3})
	}
	s := session(t, f, 256, 2)
	s.Sample(x, cond, Draw{Seed: 1, Temperature: 1, Guidance: 1, Snap: true})
	count := make([]float64, c.Classes)
	for i := range m {
		e := x.Row(i)[c.Latent:]
		k := 0
		for k < c.Classes && !slices.Equal(e, f.ClassEmbedding(k)) {
			k++
		}
		if k == c.Classes {
			t.Fatalf("sample %d is no class embedding", i)
		}
		count[k]++
	}
	p := tensor.New(1, c.Classes)
	s.ClassProbabilities(p, cond.Slice(0, 1))
	for k, n := range count {
		want := float64(p.Data[k])
		if math.Abs(n/m-want) > 5*math.Sqrt(want*(1-want)/m) {
			t.Errorf("class %d was drawn with frequency %v, its probability is %v", k, n/m, want)
		}
	}
}

// Without text there is nothing to pull towards; with it, the pull moves samples.
func TestGuidanceLeavesTheNullConditionAlone(t *testing.T) {
	for _, name := range []string{"netfusion", "class"} {
		c := small[name]
		f := trained(t, c)
		s := session(t, f, 4, 1)
		cond := tensor.Of(1, c.Cond, slices.Clone(f.NullCondition()))
		plain, pulled := tensor.New(1, c.dims()), tensor.New(1, c.dims())
		s.Sample(plain, cond, Draw{Seed: 1, Temperature: 1, Guidance: 1})
		s.Sample(pulled, cond, Draw{Seed: 1, Temperature: 1, Guidance: 3})
		for i, v := range plain.Data {
			if math.Abs(float64(v-pulled.Data[i])) > 1e-5 {
				t.Errorf("%s: guidance moves the null condition's sample from %v to %v", name, v, pulled.Data[i])
			}
		}
	}
}

// The density of [z ; e] integrates to one: a sum over a grid that holds nearly all of it.
func TestTheDensityWithAClassHeadIntegratesToOne(t *testing.T) {
	c := Config{Dialect: NetFusion, Latent: 2, Cond: 2, Class: 1, Classes: 3, ClassNoise: 0.5, HeadHidden: 4,
		Blocks: 1, Hidden: 6, Clamp: 1, Embed: 3, EmbedWidth: 4}
	f := trained(t, c)
	const step, half = 0.2, 30
	const side = 2*half + 1
	x, cond := tensor.New(side*side, 3), tensor.New(side*side, 2)
	for i := range cond.Rows {
		copy(cond.Row(i), []float32{0.4, -0.8})
	}
	s := session(t, f, 512, 2)
	z, class := make([]float64, x.Rows), make([]float64, x.Rows)
	var total float64
	for k := -half; k <= half; k++ {
		for i := range x.Rows {
			copy(x.Row(i), []float32{step * float32(i%side-half), step * float32(i/side-half), step * float32(k)})
		}
		s.LogProb(z, class, x, cond)
		for i := range z {
			total += math.Exp(z[i]+class[i]) * step * step * step
		}
	}
	if math.Abs(total-1) > 0.01 {
		t.Errorf("the density integrates to %v", total)
	}
}

func BenchmarkFit(b *testing.B) {
	f, err := New(sizes["shipped"], 1)
	if err != nil {
		b.Fatal(err)
	}
	const n = 16384
	x, c, group := normal(n, sizes["shipped"].dims(), 1), normal(n, sizes["shipped"].Cond, 2), make([]int, n)
	for i := range group {
		group[i] = i / 12
	}
	f.SetClasses(normal(sizes["shipped"].Classes, sizes["shipped"].Class, 3))
	for b.Loop() {
		if _, err := f.Fit(x, c, group); err != nil {
			b.Fatal(err)
		}
	}
}
