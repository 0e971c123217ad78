package pairs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"

	"netfusion/nn/safetensors"
)

// Encoder is the text expert: Embed writes the embeddings of texts, [len(texts)][Dim], into dst.
type Encoder struct {
	Fingerprint string // of the expert: cached embeddings are used again only by the same
	Dim         int
	Embed       func(texts []string, dst []float32) error
}

// Conditions is the captions of a Set with the embeddings of their texts.
type Conditions struct {
	Captions []Caption
	Dim      int

	vectors []float32 // [texts][Dim]
	text    []int     // of caption i: a row of vectors
	begin   []int     // of concept i: its first caption, and one more at the end
}

// Vector returns the embedding of caption i, [Dim].
func (c *Conditions) Vector(i int) []float32 {
	return c.vectors[c.text[i]*c.Dim:][:c.Dim:c.Dim]
}

// Of returns the range of captions [i, j) of a concept; i is its name.
func (c *Conditions) Of(concept int) (i, j int) { return c.begin[concept], c.begin[concept+1] }

// Draw picks a caption for an image by its weight, among those that fit its style, with a uniform u in [0, 1).
func (c *Conditions) Draw(im Image, u float32) int {
	i, j := c.Of(im.Concept)
	var total float32
	for k := i; k < j; k++ {
		if s := c.Captions[k].Style; s == AnyStyle || s == im.Style {
			total += c.Captions[k].Weight
		}
	}
	left := u * total
	last := i
	for k := i; k < j; k++ {
		if s := c.Captions[k].Style; s == AnyStyle || s == im.Style {
			last = k
			if left -= c.Captions[k].Weight; left < 0 {
				break
			}
		}
	}
	return last
}

const (
	embedBatch   = 64
	vectorTensor = "embeddings"
)

// Embed computes the embeddings of all captions of s. They are kept in the folder cache, unless that is empty, under a name
// that says which captions and which expert they belong to; a folder that cannot be written to is no error. progress, unless nil, hears how many texts are done.
func (s *Set) Embed(e Encoder, cache string, progress func(done, total int)) (*Conditions, error) {
	c, texts := s.conditions(e.Dim)
	path := ""
	if cache != "" {
		path = filepath.Join(cache, "embeddings-"+fingerprint(texts, e)+".safetensors")
		if c.load(path, len(texts)) == nil {
			return c, nil
		}
	}
	c.vectors = make([]float32, len(texts)*e.Dim)
	if err := c.embed(e, texts, progress); err != nil {
		return nil, err
	}
	if path == "" {
		return c, nil
	}
	t := safetensors.NewF32(vectorTensor, []int{len(texts), e.Dim}, c.vectors)
	_ = safetensors.WriteFile(path, map[string]string{"arch": "embeddings"}, []safetensors.Tensor{t}) // without it, the next call takes as long
	return c, nil
}

// conditions returns everything but the vectors, and the distinct texts in the order of their first caption.
func (s *Set) conditions(dim int) (*Conditions, []string) {
	c := &Conditions{Captions: s.Captions(), Dim: dim, begin: make([]int, len(s.Concepts)+1)}
	var texts []string
	rows := map[string]int{}
	for _, cap := range c.Captions {
		row, ok := rows[cap.Text]
		if !ok {
			row = len(texts)
			rows[cap.Text] = row
			texts = append(texts, cap.Text)
		}
		c.text = append(c.text, row)
		c.begin[cap.Concept+1]++
	}
	for i := range s.Concepts {
		c.begin[i+1] += c.begin[i]
	}
	return c, texts
}

// fingerprint names the embeddings of texts by e.
func fingerprint(texts []string, e Encoder) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q\n", e.Dim, e.Fingerprint)
	for _, t := range texts {
		fmt.Fprintf(h, "%q\n", t)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// load reads a cache, or tells why it cannot be used.
func (c *Conditions) load(path string, texts int) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	t, err := lookup(f, vectorTensor, safetensors.F32, texts, c.Dim)
	if err != nil {
		return err
	}
	if err := f.Verify(); err != nil {
		return err
	}
	c.vectors = make([]float32, texts*c.Dim)
	return t.Float32(c.vectors)
}

// embed calls the expert with texts of about the same length together, so that little of a batch is padding.
func (c *Conditions) embed(e Encoder, texts []string, progress func(done, total int)) error {
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(texts[a]), len(texts[b])) })
	batch, dst := make([]string, embedBatch), make([]float32, embedBatch*e.Dim)
	for i := 0; i < len(order); i += embedBatch {
		part := order[i:min(i+embedBatch, len(order))]
		for k, row := range part {
			batch[k] = texts[row]
		}
		if err := e.Embed(batch[:len(part)], dst[:len(part)*e.Dim]); err != nil {
			return fmt.Errorf("embedding captions: %w", err)
		}
		for k, row := range part {
			copy(c.vectors[row*e.Dim:], dst[k*e.Dim:][:e.Dim])
		}
		if progress != nil {
			progress(i+len(part), len(order))
		}
	}
	return nil
}
