package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"

	"netfusion/cinn"
)

func scoreCommand() command {
	return command{
		name:  "score",
		args:  "[flags] PICTURE TEXT…",
		brief: "say how likely a picture is under texts",
		about: `  cinn score "@heart.png" "red heart" "blue heart"   two lines, in the order of the texts
  cinn score "red heart" "red heart" cat             of a picture that is drawn

log p is the exact log-likelihood of the picture's latent given the text, in nats, z and class its two parts. gain is by how much the
text raises it. Of a file, z is the encoder's mean, and the classes are summed over, with weights that say how well the generator
redraws the picture in them. Likelihoods are densities: above 0 is no mistake.
` + operandHelp,
		setup: func(f *flag.FlagSet) action {
			r := new(rankRun)
			r.declare(f)
			return r.score
		},
	}
}

func rankCommand() command {
	return command{
		name:  "rank",
		args:  "[flags] PICTURE TEXT… | -pictures TEXT PICTURE…",
		brief: "find the text that fits a picture, or the picture that fits a text",
		about: `  cinn rank "@heart.png" "red heart" "blue heart" cat   the best text first
  cinn rank "@heart.png" - <captions.txt                texts from standard input, one a line
  cinn rank -pictures cat @a.png @b.png @c.png          the best picture first

-by match, the default, ranks best: the gain in likelihood that the text brings, with z counted a quarter. gain counts it in full, and
logp is the likelihood itself, by which pictures cannot be compared well. cinn score prints them all.
` + operandHelp,
		setup: func(f *flag.FlagSet) action {
			r := new(rankRun)
			r.by = measures[0]
			f.Var(&r.by, "by", "rank by `WHAT`: match, gain or logp (default match)")
			f.BoolVar(&r.pictures, "pictures", false, "rank pictures for a text")
			f.IntVar(&r.top, "top", 0, "print the best `N`; 0 is all")
			r.declare(f)
			return r.rank
		},
	}
}

// rankRun scores and ranks as its flags say.
type rankRun struct {
	operation
	by       measure
	pictures bool
	top      int
}

// declare leaves out the flags of sheets.
func (r *rankRun) declare(f *flag.FlagSet) {
	r.name = f.Name()
	f.Uint64Var(&r.seed, "seed", 1, "`NUMBER` of the noise of what is drawn (default 1)")
	f.Var((*scalar)(&r.temperature), "temperature", "scale `T` of the noise of what is drawn; 0 is the pack's default")
	f.Var((*scalar)(&r.guidance), "guidance", "pull `G` of the texts on what is drawn, 1 is plain; 0 is the pack's default")
	f.BoolVar(&r.json, "json", false, "print JSON objects, one a line")
	r.modelFlags.declare(f)
}

// measure is what a Score is ranked by.
type measure struct {
	name string
	of   func(cinn.Score) float64
}

var measures = []measure{{"match", cinn.Score.Match}, {"gain", cinn.Score.Gain}, {"logp", cinn.Score.LogProb}}

func (m *measure) Set(text string) error {
	for _, other := range measures {
		if text == other.name {
			*m = other
			return nil
		}
	}
	return errors.New("want match, gain or logp")
}

func (m *measure) String() string { return m.name }

// scored is one line of the result.
type scored struct {
	Text    string  `json:"text,omitempty"`
	Picture string  `json:"picture,omitempty"`
	LogProb float64 `json:"log_p"`
	Z       float64 `json:"z"`
	Class   float64 `json:"class"`
	Gain    float64 `json:"gain"`
	Match   float64 `json:"match"`
}

func newScored(text, picture string, s cinn.Score) scored {
	return scored{Text: text, Picture: picture, LogProb: s.LogProb(), Z: s.Z, Class: s.Class, Gain: s.Gain(), Match: s.Match()}
}

func (r *rankRun) score(ctx context.Context, s stdio, words []string) error {
	scores, texts, _, err := r.scores(ctx, s, words)
	if err != nil {
		return err
	}
	var lines []scored
	for i, text := range texts {
		lines = append(lines, newScored(text, "", scores[i]))
	}
	return r.print(s, lines)
}

func (r *rankRun) rank(ctx context.Context, s stdio, words []string) error {
	if r.top < 0 {
		return usagef("-top %d: want 0 or more", r.top)
	}
	scores, texts, pictures, err := r.scores(ctx, s, words)
	if err != nil {
		return err
	}
	values := make([]float64, len(scores))
	for i, score := range scores {
		values[i] = r.by.of(score)
	}
	order := cinn.Order(values)
	if r.top > 0 && r.top < len(order) {
		order = order[:r.top]
	}
	var lines []scored
	for _, i := range order {
		if r.pictures {
			lines = append(lines, newScored("", pictures[i].String(), scores[i]))
		} else {
			lines = append(lines, newScored(texts[i], "", scores[i]))
		}
	}
	return r.print(s, lines)
}

// scores scores a picture under texts, or pictures under a text.
func (r *rankRun) scores(ctx context.Context, s stdio, words []string) (_ []cinn.Score, texts []string, pictures []operand, _ error) {
	if len(words) < 2 {
		return nil, nil, nil, usagef("want a picture and texts, or a text and pictures")
	}
	first, rest := words[0], words[1:]
	if len(rest) == 1 && rest[0] == "-" {
		lines, err := readLines(s)
		if err != nil {
			return nil, nil, nil, err
		}
		rest = lines
	}
	shown := rest
	if texts = rest; !r.pictures {
		shown = []string{first}
	} else {
		texts = []string{first}
	}
	for _, word := range shown {
		p, err := parseOperand(word)
		if err != nil {
			return nil, nil, nil, err
		}
		pictures = append(pictures, p)
	}
	a, err := r.begin(s)
	if err != nil {
		return nil, nil, nil, err
	}
	defer a.Close()
	var conditions []cinn.Condition
	for _, text := range texts {
		c, err := a.condition(text)
		if err != nil {
			return nil, nil, nil, err
		}
		conditions = append(conditions, c)
	}
	var subjects []cinn.Subject
	for i, p := range pictures {
		subject, err := r.subject(a, p, uint64(i))
		if err != nil {
			return nil, nil, nil, err
		}
		subjects = append(subjects, subject)
	}
	scores, err := a.Rank(ctx, subjects, conditions)
	return scores, texts, pictures, err
}

// subject is what is scored of p.
func (r *rankRun) subject(a *artist, p operand, sample uint64) (cinn.Subject, error) {
	if p.file != "" {
		img, err := readPicture(a.model, p.file)
		return cinn.Subject{Image: img}, err
	}
	c, err := a.condition(p.text)
	return cinn.Subject{Draw: &cinn.Request{Prompt: c.Prompt, Image: c.Image, Vector: c.Vector, Seed: r.seed, Sample: sample,
		Temperature: r.temperature, Guidance: r.guidance}}, err
}

func readLines(s stdio) (lines []string, err error) {
	texts := bufio.NewScanner(s.in)
	texts.Buffer(nil, 1<<20)
	for texts.Scan() {
		lines = append(lines, texts.Text())
	}
	return lines, named("standard input", texts.Err())
}

func (r *rankRun) print(s stdio, lines []scored) error {
	out := bufio.NewWriter(s.out)
	if r.json {
		encode := json.NewEncoder(out)
		encode.SetEscapeHTML(false)
		for _, l := range lines {
			if err := encode.Encode(l); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "log p\tz\tclass\tgain\tmatch\t\n")
	for _, l := range lines {
		fmt.Fprintf(table, "%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t  %s\n", l.LogProb, l.Z, l.Class, l.Gain, l.Match, l.Text+l.Picture)
	}
	table.Flush()
	return out.Flush()
}
