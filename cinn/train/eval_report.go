package train

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"netfusion/kernels/random"
)

// Report is the outcome of an evaluation.
type Report struct {
	Split    string `json:"split"`
	Images   int    `json:"images"`
	Concepts int    `json:"concepts"`
	Latent   int    `json:"latent"` // dimensions of z
	Class    int    `json:"class"`  // dimensions of the class part
	Draws    int    `json:"draws"`  // noise draws per image, samples per concept

	Precision string `json:"precision,omitempty"` // of the flow's products

	Likelihoods []Likelihood `json:"likelihoods"`
	Agreement   Agreement    `json:"class_agreement"`
	Nearest     Nearest      `json:"nearest_image"`
	Diversity   Diversity    `json:"diversity"`
	Retrieval   []Retrieval  `json:"retrieval"`
	Space       string       `json:"space"` // in which Qualities and Edits are measured
	Qualities   []Quality    `json:"qualities"`
	Probe       *Probe       `json:"probe,omitempty"` // of a Flow that gives residuals
	Edits       *Edits       `json:"edits,omitempty"`
	Tuned       Tuned        `json:"tuned"`
}

// Likelihood is a model's negative log-likelihood in nats per dimension of raw latent units, given the names of the concepts.
type Likelihood struct {
	Model      string   `json:"model"`
	Total      float64  `json:"nll"`       // per dimension of [z ; e]
	Z          float64  `json:"nll_z"`     // of z given the class part, per dimension of z
	Class      float64  `json:"nll_class"` // of the class part, per dimension of the class part
	Difference Interval `json:"above_flow"`
}

// Interval is a mean difference and its 95 % interval, by a paired bootstrap over concepts.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Agreement is how often the class of a sample is that of the concept that was asked for.
type Agreement struct {
	Flow           float64  `json:"flow"`      // mean over samples
	FlowVote       float64  `json:"flow_vote"` // the most common class of the samples
	Neighbours     float64  `json:"neighbours"`
	NeighboursVote float64  `json:"neighbours_vote"`
	K              int      `json:"k"`      // captions to draw one from, by validation
	KVote          int      `json:"k_vote"` // captions to vote, by validation
	Gain           Interval `json:"gain"`   // of the flow over the neighbours
	GainVote       Interval `json:"gain_vote"`
}

// Nearest is how often the training image nearest to a sample for a training concept's name shows that concept.
type Nearest struct {
	Space       string  `json:"space"` // "pixels" of decoded samples, or "latents"
	Concepts    int     `json:"concepts"`
	SameConcept float64 `json:"same_concept"`
	SameClass   float64 `json:"same_class"`
}

// Diversity is the mean pairwise distance of the samples for one name.
type Diversity struct {
	Latent float64 `json:"latent"` // Euclidean, of z
	Pixels float64 `json:"pixels"` // root mean square, of 255; 0 if nothing was decoded
}

// Tuned is what the baselines chose for themselves.
type Tuned struct {
	RidgeZ     [3]float64 `json:"ridge_z"`     // penalty of the text part, shrinkage, cross-validated NLL per dimension
	RidgeClass [3]float64 `json:"ridge_class"` // the same
	K          int        `json:"neighbours_k"`
	Bandwidth  float64    `json:"neighbours_bandwidth"`
	Background float64    `json:"neighbours_background"`
	MLPEpochs  int        `json:"mlp_epochs"`
	MLPNLL     float64    `json:"mlp_validation_nll"`

	MixtureEpochs int     `json:"mixture_epochs"`
	MixtureNLL    float64 `json:"mixture_validation_nll"`
}

const resamples = 10000

// bootstrap returns Σ d / Σ n, where each index is a concept, and the interval of it over resampled concepts.
func (e *Eval) bootstrap(d, n []float64) Interval {
	means, words := make([]float64, resamples), make([]uint32, len(d))
	for b := range means {
		random.Words(words, e.Seed, bootstrapStream, uint64(b), 0)
		var x, y float64
		for _, w := range words {
			k := int(uint64(w) * uint64(len(d)) >> 32)
			x += d[k]
			y += n[k]
		}
		means[b] = x / y
	}
	slices.SortFunc(means, cmp.Compare[float64])
	return Interval{ratio(d, n), means[resamples*25/1000], means[resamples*975/1000]}
}

// bootstrapDifference is the interval of the mean of a - b.
func (e *Eval) bootstrapDifference(a, b []float64) Interval {
	d, n := make([]float64, len(a)), make([]float64, len(a))
	for i := range d {
		d[i], n[i] = a[i]-b[i], 1
	}
	return e.bootstrap(d, n)
}

// Write writes the report as an aligned table.
func (r *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s split: %d images of %d concepts, %d draws; nats per dimension\n\n", r.Split, r.Images, r.Concepts, r.Draws)
	fmt.Fprintf(t, "model\tNLL\tz part\tclass part\tbits\tabove the flow (95 %%)\n")
	for i, l := range r.Likelihoods {
		fmt.Fprintf(t, "%s\t%.4f\t%.4f\t%.4f\t%.4f\t", l.Model, l.Total, l.Z, l.Class, l.Total/math.Ln2)
		if i > 0 {
			fmt.Fprintf(t, "%v", l.Difference)
		}
		fmt.Fprintln(t)
	}
	r.writeRetrieval(t)
	r.writeQualities(t)
	r.writeResiduals(t)
	a := r.Agreement
	fmt.Fprintf(t, "\nclass agreement\tsamples\tmajority\n")
	fmt.Fprintf(t, "flow\t%.3f\t%.3f\n", a.Flow, a.FlowVote)
	fmt.Fprintf(t, "nearest captions\t%.3f (k = %d)\t%.3f (k = %d)\n", a.Neighbours, a.K, a.NeighboursVote, a.KVote)
	fmt.Fprintf(t, "gain (95 %%)\t%v\t%v\n", a.Gain, a.GainVote)
	fmt.Fprintf(t, "\nnearest training image of %d training names, by %s\n", r.Nearest.Concepts, r.Nearest.Space)
	fmt.Fprintf(t, "same concept\t%.3f\nsame class\t%.3f\n", r.Nearest.SameConcept, r.Nearest.SameClass)
	fmt.Fprintf(t, "\nmean distance of %d samples of a name\nlatent\t%.2f\n", r.Draws, r.Diversity.Latent)
	if r.Diversity.Pixels > 0 {
		fmt.Fprintf(t, "pixels (RMS of 255)\t%.1f\n", r.Diversity.Pixels)
	}
	return t.Flush()
}

// String is "+0.123 [0.100, 0.150]".
func (i Interval) String() string { return fmt.Sprintf("%+.4f [%.4f, %.4f]", i.Mean, i.Low, i.High) }
