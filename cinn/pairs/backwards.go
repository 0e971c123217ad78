package pairs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"netfusion/kernels/random"
)

// Backwards makes pairs for a generator that has no encoder, as Rombach, Esser and Ommer 2020 do: draw a latent and a class, draw the
// picture that the generator makes of them, describe it, and embed the description. Pair number i is a function of i and the
// settings: so a run that was interrupted goes on with the pairs that it would have made.
type Backwards struct {
	Seed       uint64
	Truncation float64 // bound of a latent's coordinates, which are drawn again beyond it; 0 is none
	Classes    []int   // to draw from, each as often as any other; the only one is 0 where there are none

	// Describe gives a caption for a latent and its class, with a uniform u in (0, 1) for what there is to choose. A caption that says
	// nothing is no error: another picture is drawn then. Special tokens, as captioners leave them in their captions, may be in it.
	Describe func(ctx context.Context, z []float32, class int, u float32) (string, error)
	// Embed writes the embedding of a caption, without special tokens, to dst.
	Embed func(ctx context.Context, dst []float32, caption string) error
	// BySplit puts all pairs of a caption into one split, so that those held out have captions of their own; otherwise each pair is
	// on its own, and held out are fresh draws.
	BySplit bool
}

// Streams of the noise generator; a sample is number·64 + attempt.
const (
	backwardsLatentStream = 50 // dimension round·Latent + i is draw number round of coordinate i
	backwardsChoiceStream = 51 // dimension 0 picks the class, 1 is u, 2 the split
)

// maxAttempts is how many pictures in a row may be without a caption.
const maxAttempts = 64

// Pair makes pair number i: p's condition, class, group and split, and in z [Latent] the latent of the generator. It returns the
// caption.
func (b *Backwards) Pair(ctx context.Context, i int, p *Pair, z []float32) (caption string, err error) {
	for attempt := range uint64(maxAttempts) {
		sample := uint64(i)*maxAttempts + attempt
		b.latent(z, sample)
		choice := [3]uint32{}
		random.Words(choice[:], b.Seed, backwardsChoiceStream, sample, 0)
		p.Class = b.Classes[int(uint64(choice[0])*uint64(len(b.Classes))>>32)]
		said, err := b.Describe(ctx, z, p.Class, (float32(choice[1]>>8)+0.5)*0x1p-24)
		if err != nil {
			return "", err
		}
		caption := Plain(said)
		if caption == "" {
			continue
		}
		h := fnv.New32a()
		h.Write([]byte(caption))
		p.Group = int(h.Sum32() >> 2)
		word := choice[2]
		if b.BySplit {
			word = random.Word(b.Seed, backwardsChoiceStream, math.MaxUint64, p.Group)
		}
		p.Split = [10]Split{8: Validation, 9: Test}[word%10]
		return caption, b.Embed(ctx, p.Condition, caption)
	}
	return "", fmt.Errorf("%d pictures in a row have no caption", maxAttempts)
}

// latent draws z from the truncated normal.
func (b *Backwards) latent(z []float32, sample uint64) {
	random.Normal(z, b.Seed, backwardsLatentStream, sample, 0)
	if b.Truncation <= 0 {
		return
	}
	again := make([]float32, len(z))
	for round := 1; slices.ContainsFunc(z, b.beyond); round++ {
		random.Normal(again, b.Seed, backwardsLatentStream, sample, round*len(z))
		for j, v := range z {
			if b.beyond(v) {
				z[j] = again[j]
			}
		}
	}
}

func (b *Backwards) beyond(v float32) bool { return math.Abs(float64(v)) > b.Truncation }

// special are tokens that are no words: <start>, </s>, <|endoftext|>, [CLS], … A captioner leaves them in its captions, where a prompt
// never has them, and a caption of them alone says nothing.
var special = regexp.MustCompile(`<\|?/?[A-Za-z_0-9]{1,20}\|?>|\[(?:CLS|SEP|PAD|UNK|MASK|BOS|EOS)\]`)

// Plain is a caption as a person would have typed it: without special tokens, with single spaces; empty if it has no letter or digit.
func Plain(caption string) string {
	text := strings.Join(strings.Fields(special.ReplaceAllString(caption, " ")), " ")
	if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return ""
	}
	return text
}

// Table is captions of classes: table[k] are those of class k, each as often as any other.
type Table [][]string

// Describe picks a caption of a class.
func (t Table) Describe(_ context.Context, _ []float32, class int, u float32) (string, error) {
	return t[class][min(len(t[class])-1, int(u*float32(len(t[class]))))], nil
}

// Classes are those that have captions.
func (t Table) Classes() (list []int) {
	for k, captions := range t {
		if len(captions) > 0 {
			list = append(list, k)
		}
	}
	return list
}

// ParseTable reads a table of captions: a JSON object from a class, by its number or its name, to a list of captions. Classes that it
// does not name are left out of what is drawn.
func ParseTable(data []byte, classes int, names []string) (Table, error) {
	var all map[string][]string
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("want an object of classes and lists of captions: %w", err)
	}
	t := make(Table, classes)
	for name, captions := range all {
		k := slices.Index(names, name)
		if k < 0 {
			number, err := strconv.Atoi(name)
			if err != nil || !within(number, classes) {
				return nil, fmt.Errorf("%q is no class: want a number from 0 to %d, or a name", name, classes-1)
			}
			k = number
		}
		if t[k] != nil {
			return nil, fmt.Errorf("class %d is named twice", k)
		}
		for _, c := range captions {
			if Plain(c) == "" {
				return nil, fmt.Errorf("class %q: caption %q says nothing", name, c)
			}
		}
		t[k] = slices.Clone(captions)
	}
	if len(t.Classes()) == 0 {
		return nil, errors.New("no class has a caption")
	}
	return t, nil
}

// NameTable makes captions of the names of classes.
func NameTable(names []string) (Table, error) {
	t := make(Table, len(names))
	for k, name := range names {
		phrase := classPhrase(name)
		if Plain(phrase) == "" {
			return nil, fmt.Errorf("class %d is called %q, of which no caption can be made", k, name)
		}
		t[k] = []string{phrase, article(phrase), "a picture of " + article(phrase), "an image of " + article(phrase)}
	}
	return t, nil
}
