package pairs

// Given makes the conditions of a Set that are no text: vector writes that of an image to dst [dim]. Each image has one, which to
// whoever reads captions is a caption of the image's concept in its style, without words.
func (s *Set) Given(dim int, vector func(image int, dst []float32) error) (*Conditions, error) {
	c := &Conditions{Dim: dim, begin: make([]int, len(s.Concepts)+1), vectors: make([]float32, len(s.Images)*dim)}
	for _, im := range s.Images {
		c.begin[im.Concept+1]++
	}
	for i := range s.Concepts {
		c.begin[i+1] += c.begin[i]
	}
	c.Captions, c.text = make([]Caption, len(s.Images)), make([]int, len(s.Images))
	next := make([]int, len(s.Concepts))
	for i, im := range s.Images {
		at := c.begin[im.Concept] + next[im.Concept]
		next[im.Concept]++
		c.Captions[at] = Caption{Concept: im.Concept, Style: im.Style, Weight: 1}
		c.text[at] = i
		if err := vector(i, c.vectors[i*dim:][:dim:dim]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// For returns the first caption that fits an image: the name of its concept, or its own condition where those are Given.
func (c *Conditions) For(im Image) int {
	i, end := c.Of(im.Concept)
	for k := i; k < end; k++ {
		if s := c.Captions[k].Style; s == AnyStyle || s == im.Style {
			return k
		}
	}
	return i
}
