package pairs

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"unicode"
)

// Split is the part of the data that a concept belongs to.
type Split uint8

// The three splits. Test is for final tables only.
const (
	Train      Split = iota // 80 %
	Validation              // 10 %
	Test                    // 10 %
)

// String returns the split's name.
func (s Split) String() string { return [...]string{"train", "validation", "test"}[s] }

// neutral lists the words that do not count in a concept's name: gender and age, the titles that carry a gender, and
// the words that join two people. Words that carry both a gender and a meaning are replaced.
var neutral = map[string]string{
	"man": "", "men": "", "woman": "", "women": "", "boy": "", "girl": "", "boys": "", "girls": "", "person": "", "people": "",
	"male": "", "female": "", "adult": "", "child": "", "children": "", "mr": "", "mrs": "", "mx": "", "and": "",
	"santa": "", "prince": "royal", "princess": "royal", "king": "royal", "queen": "royal", "merman": "mer", "mermaid": "mer",
	"merperson": "mer", "older": "old", "father": "parent", "mother": "parent", "grandfather": "grandparent", "grandmother": "grandparent",
}

// qualifiers of people, which make near-twins: hair and the direction that somebody faces.
var qualifiers = strings.NewReplacer(": facing right", "", ": red hair", " hair", ": curly hair", " hair", ": white hair", " hair",
	": blond hair", " hair", ": bald", " hair", "light skin tone", "", "dark skin tone", "", "medium skin tone", "",
	"’s", "", "'s", "")

// Group is the part of a concept's name that decides its split: lower case, without gender words and the qualifiers of
// people, so that "woman farmer" and "man farmer" stay together.
func Group(name string) string {
	words := strings.FieldsFunc(qualifiers.Replace(strings.ToLower(name)), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	kept := words[:0]
	for _, w := range words {
		if other, ok := neutral[w]; ok {
			w = other
		}
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

// SplitOf returns the split of a concept, which the SHA-256 of its Group decides.
func SplitOf(name string) Split {
	sum := sha256.Sum256([]byte(Group(name)))
	switch binary.BigEndian.Uint64(sum[:]) % 10 {
	case 8:
		return Validation
	case 9:
		return Test
	}
	return Train
}

// Rows returns the images of a split.
func (s *Set) Rows(split Split) []int {
	of := make([]Split, len(s.Concepts))
	for i, c := range s.Concepts {
		of[i] = SplitOf(c.Name)
	}
	var rows []int
	for i, im := range s.Images {
		if of[im.Concept] == split {
			rows = append(rows, i)
		}
	}
	return rows
}
