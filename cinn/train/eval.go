package train

import (
	"context"
	"fmt"
	"math"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/tensor"
)

// Density is a conditional density of x = [z ; e] given c, the embedding of a caption. LogProb writes the log-likelihood of
// each row in nats, in two parts whose sum it is: z gets log p(z | e, c) and class gets log p(e | c). x is [m][Latent+Class],
// c is [m][Cond]. A flow.Session is one.
type Density interface {
	LogProb(z, class []float64, x, c tensor.Tensor)
}

// Sampler draws x [m][Latent+Class] given c [m][Cond]. A flow.Session is one.
type Sampler interface {
	Sample(x, c tensor.Tensor, d flow.Draw)
}

// Eval says what to evaluate and against what.
type Eval struct {
	Set        *pairs.Set
	Conditions *pairs.Conditions
	Table      tensor.Tensor // class embeddings of the target expert, [classes][Class]
	ClassNoise float32       // noise that dequantises them
	Split      pairs.Split   // to report on: Test for a final table, Validation while choosing; the zero value is Train

	Flow interface {
		Density
		Sampler
	}
	Config        flow.Config // of Flow; if its condition is a map, ridge reads what its linear layer reads
	Unconditional Density     // the same architecture, trained without text (see Blind); nil leaves it out
	Draw          flow.Draw   // how the shipped model draws; Sample is the first sample number

	// Features writes what the pictures' encoder sees, [Latent], in the picture that row x [Latent+Class] is drawn as: the space in which samples
	// are compared with the images of the split. nil compares latents as they are, which needs no pictures.
	Features func(dst, x []float32) error
	// Decode draws row x [Latent+Class] as a picture of the Set's size, RGB. nil measures distances between latents only.
	Decode func(rgb []uint8, x []float32) error

	Seed     uint64
	Device   *tensor.Device
	Progress func(stage string) // unless nil, hears what is being worked on
}

const (
	evalDraws  = 16 // noise draws of every image, and samples of every concept
	tuneDraws  = 4  // noise draws of validation images when a baseline is tuned
	fitRepeats = 8  // captions and noise draws of every training image that ridge is fitted on
	sliceRows  = 1 << 11

	// Streams of the noise generator, beside those of the trainer.
	evalNoiseStream   = 20 // of dequantisation
	evalCaptionStream = 21 // which caption a training image gets
	bootstrapStream   = 22 // which concepts a resample takes
	netStream         = 23 // initial weights of baselines, one sample a layer
	netOrderStream    = 24 // of the rows, one sample an epoch
	evalPickStream    = 25 // which of its components a baseline draws from
	evalSampleStream  = 26 // the noise that it adds
	retrievalStream   = 27 // which captions and images stand beside the right one
	probeStream       = 28 // the directions that a probe looks for
	editStream        = 29 // what an image is edited to
)

// Run computes the table. The same Eval gives the same Report for any number of workers. ctx is read now and then, in some
// parts every few seconds only.
func (e *Eval) Run(ctx context.Context) (*Report, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	r := &Report{Split: e.Split.String(), Latent: e.Set.Latent, Class: e.Table.Cols, Draws: evalDraws}
	rows := e.Set.Rows(e.Split)
	r.Images = len(rows)
	r.Concepts = len(e.concepts(rows))

	if err := e.begin(ctx, "ridge"); err != nil {
		return nil, err
	}
	ridge, err := e.fitRidge(r)
	if err != nil {
		return nil, err
	}
	if err := e.begin(ctx, "nearest captions"); err != nil {
		return nil, err
	}
	near := e.fitNeighbours(r)
	if err := e.begin(ctx, "MLP"); err != nil {
		return nil, err
	}
	mlp, err := e.fitMLP(ctx, r)
	if err != nil {
		return nil, err
	}

	if err := e.begin(ctx, "mixture density network"); err != nil {
		return nil, err
	}
	mixture, err := e.fitMixture(ctx, r)
	if err != nil {
		return nil, err
	}

	if err := e.begin(ctx, "likelihoods"); err != nil {
		return nil, err
	}
	models := []named{
		{"flow", e.Flow}, {"unconditional flow", e.Unconditional}, {"ridge", ridge}, {"nearest captions", near},
		{"mixture density network", mixture}, {"MLP", mlp}, {"Procrustes", e.fitProcrustes()}, {"mean", e.fitMean()},
	}
	e.likelihoods(r, rows, models)
	if err := e.begin(ctx, "retrieval"); err != nil {
		return nil, err
	}
	e.retrieval(r, rows, models)
	if err := e.qualities(ctx, r, rows, models); err != nil {
		return nil, err
	}
	if inverse, ok := e.Flow.(invertible); ok && r.Concepts > 1 {
		if err := e.begin(ctx, "residuals"); err != nil {
			return nil, err
		}
		if err := e.independence(r, rows, inverse); err != nil {
			return nil, err
		}
		e.edits(r, rows, inverse)
	}
	if err := e.begin(ctx, "samples"); err != nil {
		return nil, err
	}
	if err := e.samples(ctx, r, rows, near); err != nil {
		return nil, err
	}
	if err := e.begin(ctx, "nearest images"); err != nil {
		return nil, err
	}
	return r, e.nearestImages(ctx, r)
}

func (e *Eval) check() error {
	switch {
	case e.Set == nil || e.Conditions == nil || e.Flow == nil || e.Device == nil:
		return fmt.Errorf("evaluation: a set, conditions, a flow and a device are needed")
	case e.Table.Rows != len(e.Set.Classes) || e.Table.Cols < 1 || !(e.ClassNoise > 0):
		return fmt.Errorf("evaluation: class table [%d][%d] with noise %v, want one row for each of %d classes",
			e.Table.Rows, e.Table.Cols, e.ClassNoise, len(e.Set.Classes))
	}
	for _, s := range []pairs.Split{pairs.Train, pairs.Validation, e.Split} {
		if len(e.Set.Rows(s)) < 2 {
			return fmt.Errorf("evaluation: fewer than 2 images in the %v split", s)
		}
	}
	return nil
}

// begin tells of a new stage, unless ctx has ended.
func (e *Eval) begin(ctx context.Context, stage string) error {
	if e.Progress != nil {
		e.Progress(stage)
	}
	return ctx.Err()
}

// Blind is a density that never sees the caption: d given zeros.
func Blind(d Density) Density { return blind{d} }

type blind struct{ d Density }

func (b blind) LogProb(z, class []float64, x, c tensor.Tensor) {
	b.d.LogProb(z, class, x, tensor.New(c.Rows, c.Cols))
}

type named struct {
	name  string
	model Density
}

// likelihoods fills r.Likelihoods: the mean over images and draws, and its difference to the first model's.
func (e *Eval) likelihoods(r *Report, rows []int, models []named) {
	b := e.names(rows, evalDraws, 0)
	place := make([]int, len(e.Set.Concepts)) // of a concept among those of the split
	for k, c := range e.concepts(rows) {
		place[c] = k
	}
	var first sums
	for _, m := range models {
		if m.model == nil {
			continue
		}
		s := newSums(r.Concepts)
		z, class := logProbs(m.model, b)
		for i, image := range b.image {
			k := place[e.Set.Images[image].Concept]
			s.z[k] -= z[i]
			s.class[k] -= class[i]
			s.n[k]++
		}
		l := Likelihood{Model: m.name, Z: ratio(s.z, s.n) / float64(e.Set.Latent), Class: ratio(s.class, s.n) / float64(e.Table.Cols)}
		dims := float64(e.Set.Latent + e.Table.Cols)
		l.Total = (ratio(s.z, s.n) + ratio(s.class, s.n)) / dims
		if first.n == nil {
			first = s
		} else {
			d := make([]float64, len(s.n))
			for k := range d {
				d[k] = (s.z[k] + s.class[k] - first.z[k] - first.class[k]) / dims
			}
			l.Difference = e.bootstrap(d, s.n)
		}
		r.Likelihoods = append(r.Likelihoods, l)
	}
}

// sums are over the rows of each concept.
type sums struct{ z, class, n []float64 }

func newSums(n int) sums { return sums{make([]float64, n), make([]float64, n), make([]float64, n)} }

func ratio(a, n []float64) float64 { return total(a) / total(n) }

// logProbs evaluates m on all rows of b, a slice at a time.
func logProbs(m Density, b batch) (z, class []float64) {
	z, class = make([]float64, b.x.Rows), make([]float64, b.x.Rows)
	for i := 0; i < b.x.Rows; i += sliceRows {
		j := min(i+sliceRows, b.x.Rows)
		m.LogProb(z[i:j], class[i:j], b.x.Slice(i, j), b.c.Slice(i, j))
	}
	return z, class
}

// meanNLL is the mean over rows, in nats per dimension.
func meanNLL(m Density, b batch) float64 {
	z, class := logProbs(m, b)
	var sum float64
	for i := range z {
		sum -= z[i] + class[i]
	}
	return sum / float64(len(z)*b.x.Cols)
}

// samples fills r.Agreement and r.Diversity from samples for the names of the split's concepts.
func (e *Eval) samples(ctx context.Context, r *Report, rows []int, near *neighbours) error {
	concepts := e.concepts(rows)
	dims := e.Set.Latent + e.Table.Cols
	x, c := tensor.New(evalDraws, dims), tensor.New(evalDraws, e.Conditions.Dim)
	n := len(concepts)
	hits, votes := make([]float64, n), make([]float64, n)
	pictures := make([][]uint8, evalDraws)
	for i := range pictures {
		pictures[i] = make([]uint8, e.Set.Size*e.Set.Size*3)
	}
	for k, concept := range concepts {
		if err := ctx.Err(); err != nil {
			return err
		}
		e.nameRows(c, concept)
		e.Flow.Sample(x, c, e.drawAt(k*evalDraws))
		count := make([]int, e.Table.Rows)
		for i := range evalDraws {
			count[nearestRow(e.Table, x.Row(i)[e.Set.Latent:])]++
		}
		truth := e.classOf(concept)
		hits[k] = float64(count[truth]) / evalDraws
		votes[k] = indicator(mostCommon(count) == truth)
		r.Diversity.Latent += spread(evalDraws, func(i, j int) float64 {
			return math.Sqrt(distance(x.Row(i)[:e.Set.Latent], x.Row(j)[:e.Set.Latent]))
		}) / float64(n)
		if e.Decode == nil {
			continue
		}
		for i := range pictures {
			if err := e.Decode(pictures[i], x.Row(i)); err != nil {
				return err
			}
		}
		r.Diversity.Pixels += spread(evalDraws, func(i, j int) float64 {
			return math.Sqrt(float64(pixelDistance(pictures[i], pictures[j])) / float64(len(pictures[i])))
		}) / float64(n)
	}
	near.agreement(r, concepts, hits, votes)
	return nil
}

// drawAt is the shipped way to draw, beginning i samples on.
func (e *Eval) drawAt(i int) flow.Draw {
	d := e.Draw
	d.Sample += uint64(i)
	return d
}

// spread is the mean of d over pairs.
func spread(n int, d func(i, j int) float64) float64 {
	var sum float64
	for i := range n {
		for j := range i {
			sum += d(i, j)
		}
	}
	return sum / float64(n*(n-1)/2)
}

// nearestImages fills r.Nearest: a sample for the name of every training concept, and whether the training image nearest to
// it shows that concept.
func (e *Eval) nearestImages(ctx context.Context, r *Report) error {
	rows := e.Set.Rows(pairs.Train)
	concepts := e.concepts(rows)
	dims := e.Set.Latent + e.Table.Cols
	x, c := tensor.New(len(concepts), dims), tensor.New(len(concepts), e.Conditions.Dim)
	for k, concept := range concepts {
		e.nameRows(c.Slice(k, k+1), concept)
	}
	e.Flow.Sample(x, c, e.Draw)
	job := &nearestJob{e: e, rows: rows, x: x, best: make([]int, len(concepts))}
	r.Nearest.Space = "latents"
	if e.Decode != nil {
		r.Nearest.Space = "pixels"
		for k := range concepts {
			if err := ctx.Err(); err != nil {
				return err
			}
			rgb := make([]uint8, e.Set.Size*e.Set.Size*3)
			if err := e.Decode(rgb, x.Row(k)); err != nil {
				return err
			}
			job.pictures = append(job.pictures, rgb)
		}
	}
	e.Device.Run(job, len(concepts))
	r.Nearest.Concepts = len(concepts)
	for k, image := range job.best {
		im := e.Set.Images[image]
		r.Nearest.SameConcept += indicator(im.Concept == concepts[k]) / float64(len(concepts))
		r.Nearest.SameClass += indicator(im.Class == e.classOf(concepts[k])) / float64(len(concepts))
	}
	return nil
}

// nearestJob finds the nearest image of one sample to a tile: by pixels if there are pictures, else by z and class.
type nearestJob struct {
	e        *Eval
	rows     []int
	x        tensor.Tensor
	pictures [][]uint8
	best     []int
}

func (j *nearestJob) Tile(k int) {
	best, s := math.Inf(1), j.e.Set
	for _, image := range j.rows {
		var d float64
		if j.pictures != nil {
			d = float64(pixelDistance(j.pictures[k], s.Picture(image)))
		} else {
			mean, _ := s.Z(image)
			x := j.x.Row(k)
			d = distance(x[:s.Latent], mean) + distance(x[s.Latent:], j.e.Table.Row(s.Images[image].Class))
		}
		if d < best {
			best, j.best[k] = d, image
		}
	}
}

func pixelDistance(a, b []uint8) int {
	sum := 0
	for i, v := range a {
		d := int(v) - int(b[i])
		sum += d * d
	}
	return sum
}

// distance is the squared Euclidean distance.
func distance(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		d := float64(v) - float64(b[i])
		sum += float64(d * d)
	}
	return sum
}

func nearestRow(t tensor.Tensor, v []float32) int {
	best, least := 0, math.Inf(1)
	for k := range t.Rows {
		if d := distance(t.Row(k), v); d < least {
			best, least = k, d
		}
	}
	return best
}

func mostCommon(count []int) int {
	best := 0
	for k, n := range count {
		if n > count[best] {
			best = k
		}
	}
	return best
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
