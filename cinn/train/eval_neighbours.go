package train

import (
	"math"
	"slices"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// neighbours is the retrieval baseline: the k training captions nearest to c, by cosine, and the training images that they
// describe. As a density it is a mixture of their dequantised posteriors, widened,
//
//	p(x|c) = Σ_i w_i N(z; mean_i, std_i² + h²) N(e; E_class(i), σ²)    w = (1-ε)·neighbours + ε·all training images
//
// where each of the k captions has weight 1/k, shared by its images. k, h and ε come from validation.
type neighbours struct {
	e        *Eval
	captions []int       // of training concepts
	unit     [][]float32 // their embeddings, at length 1
	images   []int       // of the training split
	of       [][]int     // the images of a caption, as indices into images

	k          int
	background float64   // ε
	precision  []float32 // 1/(std² + h²), [images][Latent]
	constant   []float64 // log of the normal density's constant, [images]
}

var (
	neighbourCounts = []int{1, 2, 3, 5, 10, 20, 40, 80, 160, 320}
	bandwidths      = []float64{0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1}
	backgrounds     = []float64{0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9}
)

func (e *Eval) fitNeighbours(r *Report) *neighbours {
	n := &neighbours{e: e, images: e.Set.Rows(pairs.Train)}
	at := make([][]int, len(e.Set.Concepts)) // images of a concept, as indices into n.images
	for i, image := range n.images {
		concept := e.Set.Images[image].Concept
		at[concept] = append(at[concept], i)
	}
	for concept, images := range at {
		if images == nil {
			continue
		}
		first, end := e.Conditions.Of(concept)
		for k := first; k < end; k++ {
			var shown []int
			for _, i := range images {
				if fits(e.Conditions.Captions[k], e.Set.Images[n.images[i]]) {
					shown = append(shown, i)
				}
			}
			if shown != nil {
				n.captions, n.unit, n.of = append(n.captions, k), append(n.unit, unit(e.Conditions.Vector(k))), append(n.of, shown)
			}
		}
	}
	h := n.tune()
	n.widen(h)
	r.Tuned.K, r.Tuned.Bandwidth, r.Tuned.Background = n.k, h, n.background
	return n
}

func unit(v []float32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(float64(x) * float64(x))
	}
	s := float32(1 / math.Sqrt(max(sum, 1e-30)))
	u := make([]float32, len(v))
	for i, x := range v {
		u[i] = x * s
	}
	return u
}

// nearest returns the k captions nearest to c, as indices into n.captions, the nearest first.
func (n *neighbours) nearest(c []float32, k int) []int {
	q := unit(c)
	score, best := make([]float64, len(n.unit)), make([]int, 0, k+1)
	for i, u := range n.unit {
		var sum float64
		for j, v := range u {
			sum += float64(v * q[j])
		}
		score[i] = sum
		if len(best) == k && sum <= score[best[k-1]] {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, sum, func(b int, sum float64) int {
			if score[b] >= sum { // of equals, the earlier stays in front
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, i)[:min(k, len(best)+1)]
	}
	return best
}

// widen sets the bandwidth h.
func (n *neighbours) widen(h float64) {
	latent := n.e.Set.Latent
	n.precision, n.constant = make([]float32, len(n.images)*latent), make([]float64, len(n.images))
	for i, image := range n.images {
		_, std := n.e.Set.Z(image)
		for d, s := range std {
			v := float64(float64(s)*float64(s)) + h*h
			n.precision[i*latent+d] = float32(1 / v)
			n.constant[i] -= 0.5 * math.Log(2*math.Pi*v)
		}
	}
}

// terms are the logarithms of the mixture's four sums, over the neighbours and over all images, of the joint density and of
// its class part.
type terms struct{ near, nearClass, all, allClass float64 }

// logProb mixes with background ε: log p(z|e,c) and log p(e|c).
func (t terms) logProb(background float64) (z, class float64) {
	near, all := math.Log(1-background), math.Log(background)
	class = logAdd(near+t.nearClass, all+t.allClass)
	return logAdd(near+t.near, all+t.all) - class, class
}

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// mixtureJob computes the terms of one row of x to a tile, for several k.
type mixtureJob struct {
	n     *neighbours
	x     tensor.Tensor
	near  [][]int   // of each row, the nearest captions; as many as the largest k
	ks    []int     // neighbour counts
	terms [][]terms // [row][len(ks)]
}

func (j *mixtureJob) Tile(r int) {
	n, s := j.n, j.n.e.Set
	x := j.x.Row(r)
	z, e := x[:s.Latent], x[s.Latent:]
	half := 0.5 / float64(n.e.ClassNoise*n.e.ClassNoise)
	norm := float64(len(e)) * (0.5*math.Log(2*math.Pi) + math.Log(float64(n.e.ClassNoise)))
	byClass := make([]float64, n.e.Table.Rows)
	for k := range byClass {
		byClass[k] = -half*distance(e, n.e.Table.Row(k)) - norm
	}
	joint, class := make([]float64, len(n.images)), make([]float64, len(n.images))
	weight := make([]float64, len(n.images))
	for i, image := range n.images {
		mean, _ := s.Z(image)
		class[i] = byClass[s.Images[image].Class]
		joint[i] = class[i] + n.constant[i] - 0.5*mahalanobis(z, mean, n.precision[i*s.Latent:][:s.Latent])
		weight[i] = 1 / float64(len(n.images))
	}
	all, allClass := logSum(joint, weight), logSum(class, weight)
	for at, k := range j.ks {
		clear(weight)
		near := j.near[r][:min(k, len(j.near[r]))]
		for _, caption := range near {
			for _, i := range n.of[caption] {
				weight[i] += 1 / float64(len(near)*len(n.of[caption]))
			}
		}
		j.terms[r][at] = terms{logSum(joint, weight), logSum(class, weight), all, allClass}
	}
}

// mahalanobis is Σ (x-m)²·p.
func mahalanobis(x, mean, precision []float32) float64 {
	var sum float64
	for i, v := range x {
		d := v - mean[i]
		sum += float64(float32(d*d) * precision[i])
	}
	return sum
}

// logSum is log Σ w·exp(v).
func logSum(v, w []float64) float64 {
	top := math.Inf(-1)
	for i, x := range v {
		if w[i] > 0 {
			top = max(top, x)
		}
	}
	if math.IsInf(top, -1) {
		return top
	}
	var sum float64
	for i, x := range v {
		if w[i] > 0 {
			sum += float64(w[i] * math.Exp(x-top))
		}
	}
	return top + math.Log(sum)
}

// lookUp finds the k captions nearest to each row of c; equal rows that follow each other are looked up once.
func (n *neighbours) lookUp(c tensor.Tensor, k int) [][]int {
	near := make([][]int, c.Rows)
	for r := range near {
		if r > 0 && slices.Equal(c.Row(r), c.Row(r-1)) {
			near[r] = near[r-1]
		} else {
			near[r] = n.nearest(c.Row(r), k)
		}
	}
	return near
}

// mixture computes the terms of all rows of x, for each of ks, [rows][len(ks)].
func (n *neighbours) mixture(x tensor.Tensor, near [][]int, ks []int) [][]terms {
	j := &mixtureJob{n: n, x: x, near: near, ks: ks, terms: make([][]terms, x.Rows)}
	for r := range j.terms {
		j.terms[r] = make([]terms, len(ks))
	}
	n.e.Device.Run(j, x.Rows)
	return j.terms
}

// LogProb implements Density.
func (n *neighbours) LogProb(z, class []float64, x, c tensor.Tensor) {
	for r, t := range n.mixture(x, n.lookUp(c, n.k), []int{n.k}) {
		z[r], class[r] = t[0].logProb(n.background)
	}
}

// Sample implements Sampler: one of the k nearest captions, one of the images that it describes, and x from its posterior as it is, for what a
// density needs beside it, a bandwidth and a background, would only blur samples.
func (n *neighbours) Sample(x, c tensor.Tensor, d flow.Draw) {
	near := n.lookUp(c, n.k)
	latent := n.e.Set.Latent
	for r := range x.Rows {
		var u [2]float32
		sample := d.Sample + uint64(r)
		random.Uniform(u[:], d.Seed, evalPickStream, sample, 0)
		shown := n.of[near[r][min(int(u[0]*float32(len(near[r]))), len(near[r])-1)]]
		image := n.images[shown[min(int(u[1]*float32(len(shown))), len(shown)-1)]]
		row := x.Row(r)
		random.Normal(row, d.Seed, evalSampleStream, sample, 0)
		mean, std := n.e.Set.Z(image)
		for k, m := range mean {
			row[k] = m + float32(d.Temperature*std[k]*row[k])
		}
		for k, v := range n.e.Table.Row(n.e.Set.Images[image].Class) {
			row[latent+k] = v + float32(d.Temperature*n.e.ClassNoise*row[latent+k])
		}
	}
}

// tune sets k and the background, and returns the bandwidth, that suit the validation images best.
func (n *neighbours) tune() (bandwidth float64) {
	b := n.e.names(n.e.Set.Rows(pairs.Validation), tuneDraws, evalDraws)
	near := n.lookUp(b.c, slices.Max(neighbourCounts))
	best := math.Inf(-1)
	for _, h := range bandwidths {
		n.widen(h)
		rows := n.mixture(b.x, near, neighbourCounts)
		for at, k := range neighbourCounts {
			for _, background := range backgrounds {
				var sum float64
				for _, t := range rows {
					z, class := t[at].logProb(background)
					sum += z + class
				}
				if sum > best {
					best, bandwidth, n.k, n.background = sum, h, k, background
				}
			}
		}
	}
	return bandwidth
}

// hits is, for each concept and the captions nearest to its name, how often one of the first k drawn at random is of its class,
// and whether their majority is.
func (n *neighbours) hits(concepts []int, near [][]int, k int) (drawn, voted []float64) {
	for i, concept := range concepts {
		count, truth := make([]int, n.e.Table.Rows), n.e.classOf(concept)
		first := near[i][:min(k, len(near[i]))]
		for _, c := range first {
			count[n.e.classOf(n.e.Conditions.Captions[n.captions[c]].Concept)]++
		}
		drawn = append(drawn, float64(count[truth])/float64(len(first)))
		voted = append(voted, indicator(mostCommon(count) == truth))
	}
	return drawn, voted
}

// nearNames looks up the names of concepts.
func (n *neighbours) nearNames(concepts []int) [][]int {
	c := tensor.New(len(concepts), n.e.Conditions.Dim)
	for i, concept := range concepts {
		n.e.nameRows(c.Slice(i, i+1), concept)
	}
	return n.lookUp(c, slices.Max(neighbourCounts))
}

// agreement fills r.Agreement from the flow's own hits and votes.
func (n *neighbours) agreement(r *Report, concepts []int, hits, votes []float64) {
	a := &r.Agreement
	tuning := n.e.concepts(n.e.Set.Rows(pairs.Validation))
	near := n.nearNames(tuning)
	var best, bestVote float64
	for _, k := range neighbourCounts {
		drawn, voted := n.hits(tuning, near, k)
		if s := total(drawn); a.K == 0 || s > best {
			best, a.K = s, k
		}
		if s := total(voted); a.KVote == 0 || s > bestVote {
			bestVote, a.KVote = s, k
		}
	}
	near = n.nearNames(concepts)
	drawn, _ := n.hits(concepts, near, a.K)
	_, voted := n.hits(concepts, near, a.KVote)
	count := float64(len(concepts))
	a.Flow, a.FlowVote = total(hits)/count, total(votes)/count
	a.Neighbours, a.NeighboursVote = total(drawn)/count, total(voted)/count
	a.Gain, a.GainVote = n.e.bootstrapDifference(hits, drawn), n.e.bootstrapDifference(votes, voted)
}

func total(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum
}
