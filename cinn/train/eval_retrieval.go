package train

import (
	"fmt"
	"io"
	"math"

	"netfusion/kernels/random"
	"netfusion/tensor"
)

// Retrieval is how often a model finds what belongs together among others, R-precision: one image of each concept of the split, and its
// condition.
type Retrieval struct {
	Model      string   `json:"model"`
	Among      int      `json:"among"`      // candidates, the right one with them
	Caption    float64  `json:"caption"`    // the condition of an image, by log p(x|c)
	CaptionTen float64  `json:"caption_10"` // it is among the first ten
	Image      float64  `json:"image"`      // the image of a condition, by log p(x|c) - log p(x)
	ImagePlain float64  `json:"image_plain"`
	Interval   Interval `json:"interval"` // of Caption
}

const retrievalAmong = 100

// retrieval fills r.Retrieval. p(x), which images differ in whatever the condition, is the mean of p(x|c) over the conditions at hand; without
// taking it out the most likely image would suit every condition best.
func (e *Eval) retrieval(r *Report, rows []int, models []named) {
	images := e.oneEach(rows)
	n := len(images)
	b := e.names(images, 1, 0)
	others := make([][]int, n) // of each, the candidates beside it
	for i := range others {
		others[i] = e.pickOthers(i, n, min(retrievalAmong, n)-1)
	}
	x, c := tensor.New(n, b.x.Cols), tensor.New(n, b.c.Cols)
	copy(x.Data, b.x.Data)
	z, class := make([]float64, n), make([]float64, n)
	for _, m := range models {
		if m.model == nil {
			continue
		}
		log := make([]float64, n*n) // [condition][image]
		for j := range n {
			for i := range n {
				copy(c.Row(i), b.c.Row(j))
			}
			m.model.LogProb(z, class, x, c)
			for i := range n {
				log[j*n+i] = z[i] + class[i]
			}
		}
		lift := make([]float64, n) // log p(x)
		for i := range n {
			lift[i] = math.Inf(-1)
			for j := range n {
				lift[i] = logAdd(lift[i], log[j*n+i]-math.Log(float64(n)))
			}
		}
		res := Retrieval{Model: m.name, Among: min(retrievalAmong, n)}
		hit := make([]float64, n)
		for i := range n {
			caption := func(j int) float64 { return log[j*n+i] }
			hit[i] = found(others[i], i, 1, caption)
			res.Caption += hit[i] / float64(n)
			res.CaptionTen += found(others[i], i, 10, caption) / float64(n)
			res.Image += found(others[i], i, 1, func(k int) float64 { return log[i*n+k] - lift[k] }) / float64(n)
			res.ImagePlain += found(others[i], i, 1, func(k int) float64 { return log[i*n+k] }) / float64(n)
		}
		res.Interval = e.bootstrapDifference(hit, make([]float64, n))
		r.Retrieval = append(r.Retrieval, res)
	}
}

// oneEach is the first of the images of each concept.
func (e *Eval) oneEach(rows []int) []int {
	seen := map[int]bool{}
	var images []int
	for _, image := range rows {
		if concept := e.Set.Images[image].Concept; !seen[concept] {
			seen[concept] = true
			images = append(images, image)
		}
	}
	return images
}

// pickOthers draws count of the numbers below n without i, none twice.
func (e *Eval) pickOthers(i, n, count int) []int {
	words := make([]uint32, count)
	random.Words(words, e.Seed, retrievalStream, uint64(i), 0)
	all := make([]int, 0, n-1)
	for k := range n {
		if k != i {
			all = append(all, k)
		}
	}
	for k, w := range words {
		j := k + int(uint64(w)*uint64(len(all)-k)>>32)
		all[k], all[j] = all[j], all[k]
	}
	return all[:count]
}

// found is the chance that the right one is among the first n by score. A model that cannot tell candidates apart has them in random order.
func found(others []int, right, n int, score func(int) float64) float64 {
	s := score(right)
	better, equal := 0, 0
	for _, k := range others {
		switch v := score(k); {
		case v > s:
			better++
		case v == s:
			equal++
		}
	}
	return min(max(float64(n-better)/float64(equal+1), 0), 1)
}

func (r *Report) writeRetrieval(w io.Writer) {
	if len(r.Retrieval) == 0 {
		return
	}
	fmt.Fprintf(w, "\nfound among %d\tcondition of an image (95 %%)\tin the first ten\timage of a condition\tby p(x|c) alone\n", r.Retrieval[0].Among)
	for _, t := range r.Retrieval {
		fmt.Fprintf(w, "%s\t%.3f [%.3f, %.3f]\t%.3f\t%.3f\t%.3f\n", t.Model, t.Caption, t.Interval.Low, t.Interval.High, t.CaptionTen, t.Image, t.ImagePlain)
	}
}
