package pairs

import (
	"slices"
	"strings"
)

// Caption is one way to ask for a concept, in any style or in one.
type Caption struct {
	Text    string
	Concept int
	Style   int     // index into Styles, or AnyStyle
	Weight  float32 // how often training draws it, relative to the concept's other captions
}

// AnyStyle marks captions that say nothing about the style.
const AnyStyle = -1

// How often each kind of caption is drawn. The name leads, since it is what people type and what is evaluated.
const (
	nameWeight     = 4.0
	shortWeight    = 2.0 // short names, shared among them
	templateWeight = 0.6 // each
	tagsWeight     = 1.0 // each caption made of the name and some tags
	tagWeight      = 1.5 // single tags, shared among them
	classWeight    = 0.5 // each caption with the class
	styleWeight    = 2.0 // each caption with the style
)

// A tag is worth a caption of its own, or can stand for the concept beside its noun, if few others carry it.
const (
	maxSharing = 12 // concepts
	maxTags    = 5  // a concept
)

// Captions lists the captions of every concept that has an image, in the order of the concepts. The first of each is its
// name. The list depends on nothing but the Set.
func (s *Set) Captions() []Caption {
	drawn := make([][]bool, len(s.Concepts)) // [concept][style]
	for _, im := range s.Images {
		if drawn[im.Concept] == nil {
			drawn[im.Concept] = make([]bool, len(s.Styles))
		}
		drawn[im.Concept][im.Style] = true
	}
	sharing := map[string]int{}
	for _, c := range s.Concepts {
		for _, t := range c.Tags {
			sharing[clean(t)]++
		}
	}
	l := list{}
	for i, c := range s.Concepts {
		if drawn[i] == nil {
			continue
		}
		l.begin(i)
		l.describe(c, sharing)
		for k, st := range s.Styles {
			if !drawn[i][k] {
				continue
			}
			for _, words := range st.Words {
				l.add(strings.Replace(words, "%s", clean(c.Name), 1), k, styleWeight)
			}
		}
	}
	return l.captions
}

// list collects captions, each text once for a concept.
type list struct {
	captions []Caption
	concept  int
	seen     map[string]bool
}

func (l *list) begin(concept int) { l.concept, l.seen = concept, map[string]bool{} }

func (l *list) add(text string, style int, weight float32) {
	if text == "" || l.seen[text] {
		return
	}
	l.seen[text] = true
	l.captions = append(l.captions, Caption{text, l.concept, style, weight})
}

// describe adds the captions of any style.
func (l *list) describe(c Concept, sharing map[string]int) {
	name, class := clean(c.Name), classPhrase(c.Class)
	l.add(name, AnyStyle, nameWeight)
	for _, s := range c.Short {
		l.add(clean(s), AnyStyle, shortWeight/float32(len(c.Short)))
	}
	for _, t := range []string{"an emoji of " + article(name), "a picture of " + article(name), name + " emoji", name + " icon", article(name)} {
		l.add(t, AnyStyle, templateWeight)
	}
	tags := telling(c.Tags, name, sharing)
	if len(c.Tags) > 1 {
		l.add(clean(strings.Join(c.Tags[:min(8, len(c.Tags))], " ")), AnyStyle, tagsWeight)
	}
	if len(tags) > 1 {
		l.add(name+", "+strings.Join(tags[:min(3, len(tags))], ", "), AnyStyle, tagsWeight)
	}
	words := strings.Fields(name)
	noun := words[len(words)-1]
	for _, t := range tags[:min(2, len(tags))] {
		l.add(t+" "+noun, AnyStyle, tagsWeight/2)
		if len(words) <= 2 {
			l.add(name+" "+t, AnyStyle, tagsWeight/2)
		}
		l.add(t+" "+class, AnyStyle, classWeight/2)
	}
	l.add(name+", "+class, AnyStyle, classWeight)
	l.add(name+" ("+strings.ToLower(c.Category)+")", AnyStyle, classWeight)
	for _, t := range tags {
		l.add(t, AnyStyle, tagWeight/float32(len(tags)))
	}
}

// telling returns the tags that few concepts share and that are not words of the name, the rarest first.
func telling(tags []string, name string, sharing map[string]int) []string {
	words := strings.Fields(name)
	var t []string
	for _, tag := range tags {
		if tag = clean(tag); tag != "" && sharing[tag] <= maxSharing && !slices.Contains(words, tag) && !slices.Contains(t, tag) {
			t = append(t, tag)
		}
	}
	slices.SortStableFunc(t, func(a, b string) int { return sharing[a] - sharing[b] })
	return t[:min(maxTags, len(t))]
}

var plain = strings.NewReplacer(":", "", "“", "", "”", "", "’", "'", "_", " ")

// clean is text as people type it: lower case, straight quotes, no colons ("keycap: #" is "keycap #").
func clean(text string) string {
	return strings.Join(strings.Fields(plain.Replace(strings.ToLower(text))), " ")
}

// classPhrase makes words of a class name: the part after the first hyphen qualifies the part before, so that
// "face-smiling" is "smiling face".
func classPhrase(class string) string {
	head, rest, ok := strings.Cut(class, "-")
	if ok {
		head = rest + " " + head
	}
	return clean(strings.ReplaceAll(head, "-", " "))
}

func article(name string) string {
	if strings.ContainsRune("aeiou", rune(name[0])) {
		return "an " + name
	}
	return "a " + name
}
