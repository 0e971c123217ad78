package train

import (
	"fmt"
	"io"
	"math"

	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// invertible is a model with residuals: v [m][Latent] of x under c, and the z of x = [z ; e] back from v. A flow.Session is one.
type invertible interface {
	Sampler
	Forward(v tensor.Tensor, logdet []float32, x, c tensor.Tensor)
	Inverse(x, v, c tensor.Tensor)
}

// Probe tells what a linear-Gaussian probe, fitted on the training images, learns of the condition: nats about each of some random directions of it.
// The residual should tell nothing; what the probe makes of it is at most 0 but for chance. The latent itself shows what there is to be told.
type Probe struct {
	Residual Interval `json:"residual"`
	Latent   Interval `json:"latent"`
	// How often the class whose training images have the nearest mean is the image's: by residuals, by latents, and if one always says the class that is most
	// common in the split.
	ClassResidual float64 `json:"class_residual"`
	ClassLatent   float64 `json:"class_latent"`
	ClassCommon   float64 `json:"class_common"`
}

// Edits are what becomes of an image when its residual is kept and its condition is replaced by that of another image of the split, of another
// concept. The class and the style of a latent are those of the nearest training image.
type Edits struct {
	Class      [3]float64 `json:"class"` // how often it is the other image's class: before, after, and for a fresh sample
	Style      [3]float64 `json:"style"`
	Drift      Interval   `json:"drift"`       // how far z moves, as a part of the mean distance of two images
	FreshDrift float64    `json:"fresh_drift"` // the same for a fresh sample: what the residual keeps is the difference
}

const probeDirections = 16

// independence fills r.Probe.
func (e *Eval) independence(r *Report, rows []int, model invertible) error {
	learn, judge := e.names(e.Set.Rows(pairs.Train), 1, 0), e.names(rows, 1, 0)
	// Directions of the standardised condition, the same for both.
	center, scale := e.conditionMoments(learn.c)
	k := min(probeDirections, learn.c.Cols)
	direction := make([]float32, k*learn.c.Cols)
	for i := range k {
		random.Normal(direction[i*learn.c.Cols:][:learn.c.Cols], e.Seed, probeStream, uint64(i), 0)
	}
	look := func(c tensor.Tensor) tensor.Tensor {
		t := tensor.New(c.Rows, k)
		for i := range c.Rows {
			for j := range k {
				var sum float64
				for d, v := range c.Row(i) {
					sum += float64((v-center[d])/scale[d]) * float64(direction[j*c.Cols+d])
				}
				t.Row(i)[j] = float32(sum / math.Sqrt(float64(c.Cols)))
			}
		}
		return t
	}
	group := make([]int, len(learn.image))
	for i, image := range learn.image {
		group[i] = e.Set.Images[image].Concept
	}
	sees := func(b batch) (v, z tensor.Tensor) {
		v = tensor.New(b.x.Rows, e.Set.Latent)
		model.Forward(v, nil, b.x, b.c)
		z, _ = parts(b.x, e.Set.Latent)
		return v, z
	}
	learnV, learnZ := sees(learn)
	judgeV, judgeZ := sees(judge)
	score := func(in, out tensor.Tensor) ([]float64, error) {
		var tuned [3]float64
		probe, err := e.linear(look(learn.c), in, group, &tuned)
		if err != nil {
			return nil, err
		}
		log := make([]float64, out.Rows)
		probe.LogProb(log, nil, look(judge.c), out)
		return log, nil
	}
	blank, err := score(tensor.New(learnV.Rows, 1), tensor.New(judgeV.Rows, 1))
	if err != nil {
		return err
	}
	fromV, err := score(learnV, judgeV)
	if err != nil {
		return err
	}
	fromZ, err := score(learnZ, judgeZ)
	if err != nil {
		return err
	}
	r.Probe = &Probe{Residual: e.gain(judge, fromV, blank, k), Latent: e.gain(judge, fromZ, blank, k)}
	r.Probe.ClassResidual = e.classByMeans(learn, judge, learnV, judgeV)
	r.Probe.ClassLatent = e.classByMeans(learn, judge, learnZ, judgeZ)
	count := make([]int, e.Table.Rows)
	for _, image := range judge.image {
		count[e.Set.Images[image].Class]++
	}
	r.Probe.ClassCommon = float64(count[mostCommon(count)]) / float64(len(judge.image))
	return nil
}

// classByMeans is how often the rows of out are nearest to the mean of those rows of in that have their class.
func (e *Eval) classByMeans(learn, judge batch, in, out tensor.Tensor) float64 {
	mean, count := tensor.New(e.Table.Rows, in.Cols), make([]float32, e.Table.Rows)
	for i, image := range learn.image {
		k := e.Set.Images[image].Class
		count[k]++
		for j, v := range in.Row(i) {
			mean.Row(k)[j] += v
		}
	}
	for k, n := range count {
		for j := range mean.Row(k) {
			if n == 0 {
				mean.Row(k)[j] = float32(math.Inf(1)) // no class of any image
			} else {
				mean.Row(k)[j] /= n
			}
		}
	}
	hits := 0.0
	for i, image := range judge.image {
		hits += indicator(nearestRow(mean, out.Row(i)) == e.Set.Images[image].Class)
	}
	return hits / float64(len(judge.image))
}

// gain is the mean of a - b over the rows of a batch, per dimension, with an interval over concepts.
func (e *Eval) gain(b batch, x, y []float64, dims int) Interval {
	place := map[int]int{}
	var d, n []float64
	for i, image := range b.image {
		concept := e.Set.Images[image].Concept
		k, ok := place[concept]
		if !ok {
			k = len(d)
			place[concept] = k
			d, n = append(d, 0), append(n, 0)
		}
		d[k] += (x[i] - y[i]) / float64(dims)
		n[k]++
	}
	return e.bootstrap(d, n)
}

// edits fills r.Edits, in latents whatever r.Space is.
func (e *Eval) edits(r *Report, rows []int, model invertible) {
	b := e.names(rows, 1, 0)
	n := b.x.Rows
	words := make([]uint32, n)
	random.Words(words, e.Seed, editStream, 0, 0)
	to := make([]int, n) // which row each is edited to
	c := tensor.New(n, b.c.Cols)
	for i := range to {
		to[i] = int(uint64(words[i]) * uint64(n) >> 32)
		for e.Set.Images[b.image[to[i]]].Concept == e.Set.Images[b.image[i]].Concept {
			to[i] = (to[i] + 1) % n
		}
		copy(c.Row(i), b.c.Row(to[i]))
	}
	v, fresh, edited := tensor.New(n, e.Set.Latent), tensor.New(n, b.x.Cols), tensor.New(n, b.x.Cols)
	model.Forward(v, nil, b.x, b.c)
	model.Sample(fresh, c, e.Draw)
	copy(edited.Data, fresh.Data) // for the class part
	model.Inverse(edited, v, c)

	r.Edits = &Edits{}
	for k, x := range []tensor.Tensor{b.x, edited, fresh} {
		job := &nearestJob{e: e, rows: e.Set.Rows(pairs.Train), x: x, best: make([]int, n)}
		e.Device.Run(job, n)
		for i, image := range job.best {
			got, want := e.Set.Images[image], e.Set.Images[b.image[to[i]]]
			r.Edits.Class[k] += indicator(got.Class == want.Class) / float64(n)
			r.Edits.Style[k] += indicator(got.Style == want.Style) / float64(n)
		}
	}
	z, _ := parts(b.x, e.Set.Latent)
	apart := meanDistance(z)
	moved := func(x tensor.Tensor) []float64 {
		d := make([]float64, n)
		for i := range d {
			d[i] = math.Sqrt(distance(x.Row(i)[:e.Set.Latent], z.Row(i))) / apart
		}
		return d
	}
	r.Edits.Drift = e.gain(b, moved(edited), make([]float64, n), 1)
	r.Edits.FreshDrift = total(moved(fresh)) / float64(n)
}

func (r *Report) writeResiduals(w io.Writer) {
	if r.Probe != nil {
		fmt.Fprintf(w, "\na linear probe learns of the condition (95 %%)\tnats for each direction\n")
		fmt.Fprintf(w, "from the latent\t%v\nfrom the residual\t%v\n", r.Probe.Latent, r.Probe.Residual)
		fmt.Fprintf(w, "\nthe class with the nearest mean is right\nby the latent\t%.3f\nby the residual\t%.3f\nthe most common class, always\t%.3f\n",
			r.Probe.ClassLatent, r.Probe.ClassResidual, r.Probe.ClassCommon)
	}
	if d := r.Edits; d != nil {
		fmt.Fprintf(w, "\nedited to the condition of another image\tbefore\tafter\tfresh sample\n")
		fmt.Fprintf(w, "nearest training image is of its class\t%.3f\t%.3f\t%.3f\n", d.Class[0], d.Class[1], d.Class[2])
		fmt.Fprintf(w, "of its style\t%.3f\t%.3f\t%.3f\n", d.Style[0], d.Style[1], d.Style[2])
		fmt.Fprintf(w, "z has moved, as a part of two images' distance\t\t%.3f [%.3f, %.3f]\t%.3f\n", d.Drift.Mean, d.Drift.Low, d.Drift.High, d.FreshDrift)
	}
}
