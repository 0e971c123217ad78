package train

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Quality is how the samples of a model, some for the condition of each image of the split, compare with these images.
type Quality struct {
	Model     string  `json:"model"`
	Frechet   float64 `json:"frechet"`   // distance of the Gaussians fitted to both (Heusel et al. 2017), in the features of Report.Space
	Precision float64 `json:"precision"` // samples within the images' neighbourhoods (Kynkäänniemi et al. 2019, 3 neighbours)
	Recall    float64 `json:"recall"`    // images within the samples' neighbourhoods
	Diversity float64 `json:"diversity"` // mean distance of two samples for one condition, as a part of that of two images of the split
}

const (
	qualitySamples = 4 // for the condition of each image
	manifold       = 3 // neighbours
)

// qualities fills r.Qualities. The last row, other images of the training split in the place of samples, is what a perfect model would get that
// knows nothing of the conditions.
func (e *Eval) qualities(ctx context.Context, r *Report, rows []int, models []named) error {
	r.Space = "latents"
	if e.Features != nil {
		r.Space = "what the pictures' encoder sees"
	}
	real := e.names(rows, 1, 0)
	images, err := e.features(ctx, real.x, e.Features != nil, real.image)
	if err != nil {
		return err
	}
	apart := meanDistance(images)
	measure := func(name string, features tensor.Tensor) {
		q := Quality{Model: name, Frechet: frechet(images, features)}
		one := tensor.New(images.Rows, features.Cols) // the first sample for each condition
		for i := range one.Rows {
			copy(one.Row(i), features.Row(i*(features.Rows/images.Rows)))
		}
		q.Precision, q.Recall = within(one, images), within(images, one)
		for i := 0; i < features.Rows; i += qualitySamples {
			if features.Rows > images.Rows {
				q.Diversity += meanDistance(features.Slice(i, i+qualitySamples)) / apart / float64(images.Rows)
			}
		}
		r.Qualities = append(r.Qualities, q)
	}
	c := tensor.New(len(rows)*qualitySamples, real.c.Cols)
	for i := range c.Rows {
		copy(c.Row(i), real.c.Row(i/qualitySamples))
	}
	x := tensor.New(c.Rows, real.x.Cols)
	draw := func(name string, s Sampler, d flow.Draw) error {
		if err := e.begin(ctx, "samples of "+name); err != nil {
			return err
		}
		s.Sample(x, c, d)
		features, err := e.features(ctx, x, e.Features != nil, nil)
		if err == nil {
			measure(name, features)
		}
		return err
	}
	plain := flow.Draw{Seed: e.Draw.Seed, Sample: e.Draw.Sample, Temperature: 1, Guidance: 1}
	for _, m := range models {
		s, ok := m.model.(Sampler)
		if !ok {
			continue
		}
		if err := draw(m.name, s, plain); err != nil {
			return err
		}
		if m.model == Density(e.Flow) && e.Draw != plain {
			if err := draw(fmt.Sprintf("%s, temperature %.3g, guidance %.3g", m.name, e.Draw.Temperature, e.Draw.Guidance), s, e.Draw); err != nil {
				return err
			}
		}
	}
	other := e.names(e.someTraining(len(rows)*qualitySamples), 1, 0)
	features, err := e.features(ctx, other.x, e.Features != nil, other.image)
	if err == nil {
		measure("training images", features)
	}
	return err
}

// features are what is compared of latents x: their z, or what the encoder sees of their pictures. What it sees of the Set's own images is known: the means
// of their latents.
func (e *Eval) features(ctx context.Context, x tensor.Tensor, seen bool, images []int) (tensor.Tensor, error) {
	f := tensor.New(x.Rows, e.Set.Latent)
	for i := range f.Rows {
		switch {
		case !seen:
			copy(f.Row(i), x.Row(i))
		case images != nil:
			mean, _ := e.Set.Z(images[i])
			copy(f.Row(i), mean)
		default:
			if err := ctx.Err(); err != nil {
				return f, err
			}
			if err := e.Features(f.Row(i), x.Row(i)); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// someTraining draws n images of the training split, or takes all if there are no more.
func (e *Eval) someTraining(n int) []int {
	rows := slices.Clone(e.Set.Rows(pairs.Train))
	words := make([]uint32, len(rows))
	random.Words(words, e.Seed, editStream, 1, 0)
	for i := range min(n, len(rows)) {
		j := i + int(uint64(words[i])*uint64(len(rows)-i)>>32)
		rows[i], rows[j] = rows[j], rows[i]
	}
	return rows[:min(n, len(rows))]
}

// meanDistance is the mean distance of two rows.
func meanDistance(t tensor.Tensor) float64 {
	return spread(t.Rows, func(i, j int) float64 { return math.Sqrt(distance(t.Row(i), t.Row(j))) })
}

// within is the part of the rows of a that lie in a neighbourhood of one of b: no farther than its own third neighbour in b does.
func within(a, b tensor.Tensor) float64 {
	radius := make([]float64, b.Rows)
	near := make([]float64, b.Rows)
	for i := range radius {
		for j := range near {
			near[j] = distance(b.Row(i), b.Row(j))
		}
		slices.SortFunc(near, cmp.Compare[float64])
		radius[i] = near[min(manifold, len(near)-1)] // the nearest is the row itself
	}
	hits := 0
	for i := range a.Rows {
		for j := range b.Rows {
			if distance(a.Row(i), b.Row(j)) <= radius[j] {
				hits++
				break
			}
		}
	}
	return float64(hits) / float64(a.Rows)
}

// frechet is |m_a - m_b|² + tr(A + B - 2·(A·B)^½) of the means and the covariances of the rows of a and b.
func frechet(a, b tensor.Tensor) float64 {
	n := a.Cols
	meanA, covA := gaussian(a)
	meanB, covB := gaussian(b)
	var d float64
	for i, v := range meanA {
		d += float64((v - meanB[i]) * (v - meanB[i]))
		d += covA[i*n+i] + covB[i*n+i]
	}
	// The eigenvalues of A·B are those of the symmetric A^½·B·A^½.
	root := symmetricRoot(covA, n)
	values, _ := eigen(product(product(root, covB, n), root, n), n)
	for _, v := range values {
		d -= 2 * math.Sqrt(max(v, 0))
	}
	return max(d, 0)
}

// gaussian returns the mean and the covariance [n][n] of rows.
func gaussian(t tensor.Tensor) (mean, cov []float64) {
	n := t.Cols
	mean, cov = make([]float64, n), make([]float64, n*n)
	for i := range t.Rows {
		for j, v := range t.Row(i) {
			mean[j] += float64(v) / float64(t.Rows)
		}
	}
	row := make([]float64, n)
	for i := range t.Rows {
		for j, v := range t.Row(i) {
			row[j] = float64(v) - mean[j]
		}
		for j, v := range row {
			axpy(cov[j*n:][:n], v/float64(max(t.Rows-1, 1)), row)
		}
	}
	return mean, cov
}

func (r *Report) writeQualities(w io.Writer) {
	if len(r.Qualities) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%d samples for each image's condition, by %s\tFréchet distance\tprecision\trecall\tdiversity\n", qualitySamples, r.Space)
	for _, q := range r.Qualities {
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.3f\t%.3f\n", q.Model, q.Frechet, q.Precision, q.Recall, q.Diversity)
	}
}
