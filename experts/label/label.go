// Package label is the expert behind labels: what it knows of a picture is which of a few words are true of it, so that a flow can
// change one of them and keep the rest of the picture.
package label

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Kind is what a pack calls this expert.
const Kind = "label"

// Config is all of an expert.
type Config struct {
	Kind   string  `json:"kind"`
	Groups []Group `json:"groups"`
}

// Group is labels of which exactly one is true of a picture.
type Group struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

// maxLabels bounds the labels of all groups together.
const maxLabels = 1 << 14

// ParseConfig reads a Config from JSON; name stands for it in errors.
func ParseConfig(name string, data []byte) (Config, error) {
	var c Config
	err := json.Unmarshal(data, &c)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return c, fmt.Errorf("%s: labels: %w", name, err)
	}
	return c, nil
}

func (c Config) check() error {
	var seen []string
	for _, g := range c.Groups {
		if len(g.Labels) < 2 {
			return fmt.Errorf("group %q has %d labels, want at least 2", g.Name, len(g.Labels))
		}
		for _, l := range g.Labels {
			if l == "" || strings.ContainsRune(l, ',') || strings.TrimSpace(l) != l {
				return fmt.Errorf("label %q of group %q: want words without a comma", l, g.Name)
			}
			seen = append(seen, strings.ToLower(l))
		}
	}
	if len(seen) == 0 || len(seen) > maxLabels {
		return fmt.Errorf("%d labels, want 2 to %d", len(seen), maxLabels)
	}
	slices.Sort(seen)
	for i := range seen[1:] {
		if seen[i] == seen[i+1] {
			return fmt.Errorf("label %q stands twice", seen[i])
		}
	}
	return nil
}

// Width is how many numbers stand for a picture: one for each label.
func (c Config) Width() (n int) {
	for _, g := range c.Groups {
		n += len(g.Labels)
	}
	return n
}

// Set writes to dst [Width] the picture of which label k of each group is true, where k is that group's entry of labels; -1 says
// nothing about a group: each of its labels is as true as the others.
func (c Config) Set(dst []float32, labels ...int) {
	for i, g := range c.Groups {
		group := dst[:len(g.Labels)]
		dst = dst[len(g.Labels):]
		for j := range group {
			group[j] = 0
			if labels[i] < 0 {
				group[j] = 1 / float32(len(group))
			}
		}
		if labels[i] >= 0 {
			group[labels[i]] = 1
		}
	}
}

// Encode writes to dst [Width] what text says: labels with commas between them, in any order and case, at most one of a group. It
// allocates nothing unless it fails.
func (c Config) Encode(dst []float32, text string) error {
	if len(dst) != c.Width() {
		return fmt.Errorf("labels: room for %d numbers, want %d", len(dst), c.Width())
	}
	var none [1]int
	for i, at := 0, 0; i < len(c.Groups); i++ {
		none[0] = -1
		one := Config{Groups: c.Groups[i : i+1]}
		n := len(c.Groups[i].Labels)
		one.Set(dst[at:at+n], none[:]...)
		at += n
	}
	for rest, more := text, true; more; {
		var word string
		word, rest, more = strings.Cut(rest, ",")
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		if err := c.encode(dst, word); err != nil {
			return err
		}
	}
	return nil
}

// encode makes word the true label of its group.
func (c Config) encode(dst []float32, word string) error {
	for _, g := range c.Groups {
		group := dst[:len(g.Labels)]
		dst = dst[len(g.Labels):]
		for k, l := range g.Labels {
			if !strings.EqualFold(l, word) {
				continue
			}
			if was := slices.Index(group, 1); was >= 0 && was != k {
				return fmt.Errorf("labels: %q and %q are both of the group %q", g.Labels[was], l, g.Name)
			}
			clear(group)
			group[k] = 1
			return nil
		}
	}
	return fmt.Errorf("labels: %q is none; want, with commas between them, %s", word, c)
}

// String lists the labels: "style: Noto, Fluent; category: food, …".
func (c Config) String() string {
	var groups []string
	for _, g := range c.Groups {
		groups = append(groups, g.Name+": "+strings.Join(g.Labels, ", "))
	}
	return strings.Join(groups, "; ")
}
