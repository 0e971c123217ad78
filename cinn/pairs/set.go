// Package pairs is the training set of a fusion, captions and the latents of the images that they describe: in one file,
// independent of the expert and the data that it was made from.
package pairs

import (
	"fmt"
	"math"
)

// Set is images with their latents, and the concepts that they show. It is read-only once made.
type Set struct {
	Source   string    `json:"source"`  // what the latents and images were made from, for people
	Classes  []string  `json:"classes"` // names of the target expert's classes
	Styles   []Style   `json:"styles"`
	Concepts []Concept `json:"concepts"`
	Latent   int       `json:"latent"` // dimensions of z
	Size     int       `json:"size"`   // pixels along a side

	Images []Image   `json:"-"`
	Mean   []float32 `json:"-"` // [images][Latent], of the posterior of z
	Std    []float32 `json:"-"` // [images][Latent]
	Pixels []uint8   `json:"-"` // [images][Size][Size][3] RGB, in the 64 levels that the file keeps
}

// Style is a way of drawing, and the words that captions use for it.
type Style struct {
	Name  string   `json:"name"`
	Words []string `json:"words"` // captions with %s for the name of the concept
}

// Concept is what an image may show.
type Concept struct {
	Name     string   `json:"name"`
	Tags     []string `json:"tags"`
	Short    []string `json:"short"` // short names
	Class    string   `json:"class"`
	Category string   `json:"category"`
	Hex      string   `json:"hex"` // code points
}

// Image is one image: indices into the Set's Concepts, Styles and Classes.
type Image struct{ Concept, Style, Class int }

// Z returns the posterior of image i: mean [Latent] and standard deviation [Latent].
func (s *Set) Z(i int) (mean, std []float32) {
	return s.Mean[i*s.Latent:][:s.Latent:s.Latent], s.Std[i*s.Latent:][:s.Latent:s.Latent]
}

// Picture returns the pixels of image i, [Size][Size][3].
func (s *Set) Picture(i int) []uint8 {
	n := s.Size * s.Size * 3
	return s.Pixels[i*n:][:n:n]
}

// Bounds of a Set, which keep every product of sizes small.
const (
	maxImages = 1 << 20
	maxLatent = 1 << 12
	maxSize   = 1 << 9
	maxBytes  = 1 << 30 // of the images' pixels, and of their latents
)

// validate tells what is inconsistent in s, besides its arrays, whose lengths the reader checks first.
func (s *Set) validate() error {
	if s.Latent < 1 || s.Latent > maxLatent || s.Size < 1 || s.Size > maxSize {
		return fmt.Errorf("latent %d and size %d, want 1 to %d and 1 to %d", s.Latent, s.Size, maxLatent, maxSize)
	}
	class := map[string]bool{}
	for _, c := range s.Classes {
		class[c] = true
	}
	if len(class) != len(s.Classes) || len(class) == 0 {
		return fmt.Errorf("%d names for %d classes", len(class), len(s.Classes))
	}
	for i, c := range s.Concepts {
		if clean(c.Name) == "" || !class[c.Class] { // captions begin with the name
			return fmt.Errorf("concept %d: name %q, class %q", i, c.Name, c.Class)
		}
	}
	return nil
}

func (s *Set) validateImages() error {
	for i, im := range s.Images {
		if !within(im.Concept, len(s.Concepts)) || !within(im.Style, len(s.Styles)) || !within(im.Class, len(s.Classes)) {
			return fmt.Errorf("image %d: concept %d of %d, style %d of %d, class %d of %d", i,
				im.Concept, len(s.Concepts), im.Style, len(s.Styles), im.Class, len(s.Classes))
		}
	}
	for i, v := range s.Mean {
		if d := s.Std[i]; !(d >= 0) || math.IsInf(float64(d), 0) || v-v != 0 {
			return fmt.Errorf("image %d: latent dimension %d is %v ± %v", i/s.Latent, i%s.Latent, v, d)
		}
	}
	return nil
}

func within(i, n int) bool { return 0 <= i && i < n }
