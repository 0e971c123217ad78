package flow

import (
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/tensor"
)

// A linear world z = B·c + 0.5·e, with more columns that mean nothing.
func TestFitFindsTheLinearModel(t *testing.T) {
	const n, d, cond = 3000, 4, 10
	r := rand.New(rand.NewPCG(1, 2))
	x, c, group := tensor.New(n, d), tensor.New(n, cond), make([]int, n)
	for i := range n {
		group[i] = i / 3
		for j := range cond {
			c.Row(i)[j] = float32(3 + 0.1*r.NormFloat64()) // far from standard
		}
		common := r.NormFloat64()
		for j := range d {
			x.Row(i)[j] = 2 + 10*(c.Row(i)[j]-3) + float32(0.4*r.NormFloat64()+0.3*common)
		}
	}
	f, err := New(Config{Dialect: NetFusion, Latent: d, Cond: cond, Blocks: 2, Hidden: 4, Clamp: 2, Embed: 2, EmbedWidth: 4}, 1)
	if err != nil {
		t.Fatal(err)
	}
	fit, err := f.Fit(x, c, group)
	if err != nil {
		t.Fatal(err)
	}
	// Covariance 0.16·I + 0.09·11ᵀ, determinant 0.16⁴·(1 + 4·0.09/0.16).
	best := 0.5*(math.Log(2*math.Pi)+1) + 0.5*(4*math.Log(0.16)+math.Log(1+0.36/0.16))/4
	if math.Abs(fit.NLL-best) > 0.03 {
		t.Errorf("held-out NLL is %v per dimension, the truth has %v", fit.NLL, best)
	}
	if fit.Ridge > 0.1 || fit.Shrinkage > 0.1 {
		t.Errorf("chose %+v where there is plenty of data", fit)
	}
	// Untrained couplings do nothing, so the density is the linear model's.
	logp := make([]float64, n)
	session(t, f, 64, 1).LogProb(logp, nil, x, c)
	var nll float64
	for _, v := range logp {
		nll -= v / n / d
	}
	if math.Abs(nll-best) > 0.03 {
		t.Errorf("the flow starts at %v nats per dimension, want %v", nll, best)
	}
}

func TestFitShrinksWhereDataIsScarce(t *testing.T) {
	const n, d, cond = 60, 12, 40
	f, err := New(Config{Dialect: NetFusion, Latent: d, Cond: cond, Blocks: 1, Hidden: 4, Clamp: 2, Embed: 2, EmbedWidth: 4}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, c, group := normal(n, d, 1), normal(n, cond, 2), make([]int, n)
	for i := range group {
		group[i] = i
	}
	fit, err := f.Fit(x, c, group)
	if err != nil {
		t.Fatal(err)
	}
	if fit.Ridge < 3 || fit.Shrinkage < 0.3 {
		t.Errorf("chose %+v where text and latent have nothing in common", fit)
	}
	if best := 0.5 * (math.Log(2*math.Pi) + 1); fit.NLL > best+0.15 {
		t.Errorf("held-out NLL is %v per dimension, white noise has %v", fit.NLL, best)
	}
}

func TestFitKeepsGroupsTogether(t *testing.T) {
	// Every latent appears ten times: if copies were on both sides of a fold, memorising them would look good.
	const n, d, cond = 400, 3, 60
	f, err := New(Config{Dialect: NetFusion, Latent: d, Cond: cond, Blocks: 1, Hidden: 4, Clamp: 2, Embed: 2, EmbedWidth: 4}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, c, group := normal(n, d, 1), normal(n, cond, 2), make([]int, n)
	for i := range n {
		group[i] = i / 10
		copy(x.Row(i), x.Row(i/10*10))
		copy(c.Row(i), c.Row(i/10*10))
	}
	fit, err := f.Fit(x, c, group)
	if err != nil {
		t.Fatal(err)
	}
	if fit.Ridge < 1 {
		t.Errorf("chose %+v: copies of a sample judged it", fit)
	}
}

func TestFitRefusesWhatItCannotUse(t *testing.T) {
	f, err := New(small["netfusion"], 1)
	if err != nil {
		t.Fatal(err)
	}
	x, c := normal(20, 6, 1), normal(20, 4, 2)
	if _, err := f.Fit(x, c, make([]int, 20)); err == nil {
		t.Error("one group for five folds: no error")
	}
	if _, err := f.Fit(x, c, make([]int, 19)); err == nil {
		t.Error("a group is missing: no error")
	}
	g, err := New(small["net2net"], 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Fit(x, c, make([]int, 20)); err == nil {
		t.Error("net2net: no error")
	}
}
