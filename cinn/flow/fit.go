package flow

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Fitted reports what Fit chose by cross-validation.
type Fitted struct {
	Ridge      float64 // penalty on the weights of the text part, per sample and unit of standardised condition
	RidgeClass float64 // the same for the class part
	Shrinkage  float64 // of the residual covariance towards its diagonal, 0 to 1
	NLL        float64 // held-out negative log-likelihood of z, nats per dimension
}

const folds = 5

// Fit computes the closed-form first layer of the NetFusion dialect from samples x [n][Latent+Class] and c [n][Cond]: the
// condition's moments, ridge regression z ≈ A·u + b, and the Cholesky factor of the shrunk covariance of its residuals. The
// penalties and the shrinkage are chosen by 5-fold cross-validation, where rows of one group (the same concept) stay
// together, and the covariance is that of the out-of-fold residuals. SetClasses comes first.
func (f *Flow) Fit(x, c tensor.Tensor, group []int) (Fitted, error) {
	if f.Config.Dialect != NetFusion {
		return Fitted{}, fmt.Errorf("flow: dialect %s has no closed-form layer", f.Config.Dialect)
	}
	if x.Rows != c.Rows || len(group) != x.Rows || x.Cols != f.Config.dims() || c.Cols != f.Config.Cond {
		return Fitted{}, errors.New("flow: the samples to fit have the wrong shape")
	}
	m := newMoments(f, x, c, group)
	for _, n := range m.count {
		if n < 1 || int(n) == x.Rows {
			return Fitted{}, fmt.Errorf("flow: %d samples of too few groups, want at least one group in each of %d folds", x.Rows, folds)
		}
	}
	fit, err := m.choose()
	if err != nil {
		return Fitted{}, err
	}
	weights, err := m.ridge(-1, fit.Ridge, fit.RidgeClass)
	if err != nil {
		return Fitted{}, err
	}
	for i := range m.d {
		w := weights[i*m.w:][:m.w]
		for j := range m.u {
			f.linear.a[i*m.u+j] = float32(w[j])
		}
		f.linear.b[i] = float32(w[m.u])
	}
	if err := m.factor(f.linear.l, &fit); err != nil {
		return Fitted{}, err
	}
	f.Pack()
	return fit, nil
}

// moments are the second moments of [u ; 1 ; z] within each fold.
type moments struct {
	text, u, w, d, all int // pooled, pooled+Class, u+1, Latent, w+d
	count              [folds]float64
	fold               [folds][]float64 // [all][all] each
}

// newMoments standardises the condition, sets the Flow's statistics of it, and sums the moments of each fold.
func newMoments(f *Flow, x, c tensor.Tensor, group []int) *moments {
	conf := &f.Config
	m := &moments{text: conf.pooled(), u: conf.inputs(), w: conf.inputs() + 1, d: conf.Latent, all: conf.inputs() + 1 + conf.Latent}
	// The condition of every sample, with ê in place of e: a pass of its own that does nothing else.
	u := tensor.New(x.Rows, m.u)
	p := front{flow: f, rows: 256}
	p.dev = tensor.CPU(1)
	defer p.dev.Close()
	p.e, p.hat, p.scores = tensor.New(p.rows, conf.Class), tensor.New(p.rows, conf.Class), tensor.New(p.rows, conf.Classes)
	for i := 0; i < x.Rows; i += p.rows {
		n := min(p.rows, x.Rows-i)
		for r := range n {
			conf.average(u.Row(i + r)[:m.text], c.Row(i+r))
			copy(p.e.Row(r), x.Row(i + r)[conf.Latent:])
		}
		if conf.Classes > 0 {
			p.posterior(n)
			for r := range n {
				copy(u.Row(i + r)[m.text:], p.hat.Row(r))
			}
		}
	}
	for j := range m.u {
		var sum, squares float64
		for i := range u.Rows {
			sum += float64(u.Data[i*m.u+j])
		}
		mean := sum / float64(u.Rows)
		for i := range u.Rows {
			d := float64(u.Data[i*m.u+j]) - mean
			squares += float64(d * d)
		}
		f.mean[j], f.inverse[j] = float32(mean), inverseStd(squares/float64(u.Rows))
	}
	if conf.Side > 0 {
		f.maps.fit(c)
	}

	var members [folds][]int
	for i, g := range group {
		k := int(random.Word(uint64(g), 0, 0, 0) % folds)
		members[k] = append(members[k], i)
	}
	var wait sync.WaitGroup
	for k := range m.fold {
		m.count[k] = float64(len(members[k]))
		m.fold[k] = make([]float64, m.all*m.all)
		wait.Go(func() { m.sum(m.fold[k], members[k], f, u, x) })
	}
	wait.Wait()
	return m
}

// sum adds the outer products of the samples' rows, four rows at a time, lower triangle only, and mirrors it.
func (m *moments) sum(g []float64, rows []int, f *Flow, u, x tensor.Tensor) {
	var v [4][]float64
	for k := range v {
		v[k] = make([]float64, m.all)
	}
	for at := 0; at < len(rows); at += 4 {
		for k := range v {
			clear(v[k])
			if at+k == len(rows) {
				for k++; k < 4; k++ {
					clear(v[k])
				}
				break
			}
			i := rows[at+k]
			for j, c := range u.Row(i) {
				v[k][j] = float64((c - f.mean[j]) * f.inverse[j])
			}
			v[k][m.u] = 1
			for j, z := range x.Row(i)[:m.d] {
				v[k][m.w+j] = float64(z)
			}
		}
		for i := range m.all {
			a0, a1, a2, a3 := v[0][i], v[1][i], v[2][i], v[3][i]
			out := g[i*m.all:][:i+1]
			v0, v1, v2, v3 := v[0][:i+1], v[1][:i+1], v[2][:i+1], v[3][:i+1]
			for j := range out {
				out[j] += float64(a0*v0[j]) + float64(a1*v1[j]) + float64(a2*v2[j]) + float64(a3*v3[j])
			}
		}
	}
	for i := range m.all {
		for j := range i {
			g[j*m.all+i] = g[i*m.all+j]
		}
	}
}

// ridge solves for the weights [d][w] of all folds but one; without = -1 leaves none out. The intercept is not penalised.
func (m *moments) ridge(without int, text, class float64) ([]float64, error) {
	gram, rhs := make([]float64, m.w*m.w), make([]float64, m.d*m.w)
	var n float64
	for k, g := range m.fold {
		if k == without {
			continue
		}
		n += m.count[k]
		for i := range m.w {
			axpy(gram[i*m.w:][:m.w], 1, g[i*m.all:][:m.w])
		}
		for i := range m.d {
			axpy(rhs[i*m.w:][:m.w], 1, g[(m.w+i)*m.all:][:m.w])
		}
	}
	for i := range m.u {
		p := text
		if i >= m.text {
			p = class
		}
		gram[i*m.w+i] += n * p
	}
	if err := cholesky(gram, m.w); err != nil {
		return nil, fmt.Errorf("flow: ridge regression: %w", err)
	}
	solve(gram, rhs, m.w, m.d)
	return rhs, nil
}

// residual returns Σ r·rᵀ over fold k, [d][d], for r = z - weights·[u ; 1]; only its diagonal unless full.
func (m *moments) residual(k int, weights []float64, full bool) []float64 {
	g := m.fold[k]
	s := make([]float64, m.d*m.d)
	// r·rᵀ = zzᵀ - W·gᵀ - g·Wᵀ + W·G·Wᵀ, where g is the block z·[u ; 1]ᵀ and G that of [u ; 1].
	wg := make([]float64, m.w)
	for i := range m.d {
		wi := weights[i*m.w:][:m.w]
		clear(wg)
		for j, v := range wi {
			axpy(wg, v, g[j*m.all:][:m.w])
		}
		gi := g[(m.w+i)*m.all:]
		for j := range i + 1 {
			if !full && j != i {
				continue
			}
			wj, gj := weights[j*m.w:][:m.w], g[(m.w+j)*m.all:][:m.w]
			v := gi[m.w+j] - dot(wi, gj) - dot(wj, gi[:m.w]) + dot(wg, wj)
			s[i*m.d+j], s[j*m.d+i] = v, v
		}
	}
	return s
}

// outOfFold returns the residual sums of each fold under the weights of the others.
func (m *moments) outOfFold(text, class float64, full bool) (s [folds][]float64, err error) {
	var errs [folds]error
	var wait sync.WaitGroup
	for k := range folds {
		wait.Go(func() {
			w, err := m.ridge(k, text, class)
			if err != nil {
				errs[k] = err
				return
			}
			s[k] = m.residual(k, w, full)
		})
	}
	wait.Wait()
	return s, errors.Join(errs[:]...)
}

var penalties = []float64{1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30, 100}

// choose finds the penalties with the best held-out likelihood of independent Gaussians: both at once, then one at a time.
func (m *moments) choose() (Fitted, error) {
	n := m.count[0]
	for _, c := range m.count[1:] {
		n += c
	}
	score := func(text, class float64) (float64, error) {
		s, err := m.outOfFold(text, class, false)
		if err != nil {
			return 0, err
		}
		var sum float64
		for i := range m.d {
			var v float64
			for k := range s {
				v += s[k][i*m.d+i]
			}
			sum += 0.5 * math.Log(v/n+1e-12)
		}
		return sum, nil
	}
	best, fit := math.Inf(1), Fitted{}
	try := func(text, class float64) error {
		v, err := score(text, class)
		if err == nil && v < best {
			best, fit.Ridge, fit.RidgeClass = v, text, class
		}
		return err
	}
	for _, p := range penalties {
		if err := try(p, p); err != nil {
			return fit, err
		}
	}
	if m.text == m.u {
		return fit, nil
	}
	text := fit.Ridge
	for _, p := range penalties {
		if err := try(text, p); err != nil {
			return fit, err
		}
	}
	class := fit.RidgeClass
	for _, p := range penalties {
		if err := try(p, class); err != nil {
			return fit, err
		}
	}
	return fit, nil
}

var shrinkages = []float64{0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1}

// factor chooses the shrinkage and writes the Cholesky factor [d][d] of the covariance to l.
func (m *moments) factor(l []float32, fit *Fitted) error {
	s, err := m.outOfFold(fit.Ridge, fit.RidgeClass, true)
	if err != nil {
		return err
	}
	total, n := make([]float64, m.d*m.d), 0.0
	for k := range s {
		axpy(total, 1, s[k])
		n += m.count[k]
	}
	fit.NLL = math.Inf(1)
	for _, rho := range shrinkages {
		var nll float64
		for k := range s {
			// The covariance of the other folds, judged on this one.
			cov := slices.Clone(total)
			axpy(cov, -1, s[k])
			if cholesky(shrink(cov, m.d, n-m.count[k], rho), m.d) != nil {
				nll = math.Inf(1)
				break
			}
			inv := invertLower(cov, m.d)
			row := make([]float64, m.d)
			for i := range m.d {
				nll += m.count[k] * (math.Log(cov[i*m.d+i]) + halfLog2Pi)
				clear(row)
				for j := range i + 1 {
					axpy(row, inv[i*m.d+j], s[k][j*m.d:][:m.d])
				}
				nll += 0.5 * dot(row, inv[i*m.d:][:m.d])
			}
		}
		if nll /= n * float64(m.d); nll < fit.NLL {
			fit.NLL, fit.Shrinkage = nll, rho
		}
	}
	if math.IsInf(fit.NLL, 1) {
		return fmt.Errorf("flow: residual covariance: %w", errNotPositive)
	}
	if err := cholesky(shrink(total, m.d, n, fit.Shrinkage), m.d); err != nil {
		return fmt.Errorf("flow: residual covariance: %w", err)
	}
	for i, v := range total {
		l[i] = float32(v)
	}
	return nil
}

// shrink makes a covariance of a sum over n: divided, pulled towards its diagonal, and kept off zero.
func shrink(s []float64, d int, n, rho float64) []float64 {
	for i := range d {
		for j := range d {
			if i != j {
				s[i*d+j] *= (1 - rho) / n
			}
		}
		s[i*d+i] = s[i*d+i]/n + 1e-9
	}
	return s
}
