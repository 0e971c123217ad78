// Command operations makes what docs/operations.md is made from: pictures for the commands that begin with one, and the table of how
// often the right text is found for a picture, and the right picture for a text.
//
//	operations -data FOLDER -o runs/operations     writes the pictures of the test split, name-style.png
//	operations -data FOLDER -rank                  prints the table
//
// FOLDER holds emoji.json and emoji64.npz. The test split is what the flow of the built-in fusion never saw: neither the names nor
// pictures of what they name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"

	"netfusion/cinn"
	"netfusion/cinn/pack"
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/nn/npz"
)

func main() {
	data := flag.String("data", "", "`FOLDER` of the emoji data")
	out := flag.String("o", "", "`FOLDER` for the pictures")
	rank := flag.Bool("rank", false, "print the table")
	validation := flag.Bool("validation", false, "take the validation split")
	flag.Parse()
	split := pairs.Test
	if *validation {
		split = pairs.Validation
	}
	emoji, err := read(*data, split)
	if err == nil && *out != "" {
		err = write(*out, emoji)
	}
	if err == nil && *rank {
		err = table(emoji)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "operations:", err)
		os.Exit(1)
	}
}

// emoji is one picture of the data.
type emoji struct {
	name, style string
	picture     *image.NRGBA
}

var styles = map[int]string{0: "noto", 3: "fluent-3d", 4: "fluent-flat"}

func read(folder string, split pairs.Split) ([]emoji, error) {
	raw, err := os.ReadFile(filepath.Join(folder, "emoji.json"))
	if err != nil {
		return nil, err
	}
	var file struct{ Captions []struct{ Name string } }
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	arrays, err := npz.Open(filepath.Join(folder, "emoji64.npz"))
	if err != nil {
		return nil, err
	}
	concept, err1 := arrays["emoji"].Ints()
	style, err2 := arrays["style"].Ints()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	pixels := arrays["image"]
	side := pixels.Shape[1]
	var all []emoji
	for i, c := range concept {
		name := file.Captions[c].Name
		if pairs.SplitOf(name) != split {
			continue
		}
		picture := image.NewNRGBA(image.Rect(0, 0, side, side))
		for p := range side * side {
			copy(picture.Pix[4*p:], pixels.Data[3*(i*side*side+p):][:3])
			picture.Pix[4*p+3] = 255
		}
		all = append(all, emoji{name, styles[style[i]], picture})
	}
	return all, nil
}

func write(folder string, all []emoji) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, e := range all {
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(e.name))
		f, err := os.Create(filepath.Join(folder, name+"."+e.style+".png"))
		if err != nil {
			return err
		}
		if err := errors.Join(png.Encode(f, e.picture), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// among is how many candidates there are, the right one with them.
const among = 100

// table ranks, one picture for each concept that the split keeps apart.
func table(all []emoji) error {
	seen := map[string]bool{}
	var pictures []cinn.Subject
	var texts []cinn.Condition
	for _, e := range all {
		if group := pairs.Group(e.name); !seen[group] {
			seen[group] = true
			pictures, texts = append(pictures, cinn.Subject{Image: e.picture}), append(texts, cinn.Condition{Prompt: e.name})
		}
	}
	model, err := pack.Open(cinn.Options{})
	if err != nil {
		return err
	}
	defer model.Close()
	s, err := model.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	scores, err := s.Rank(context.Background(), pictures, texts)
	if err != nil {
		return err
	}
	n := len(texts)
	fmt.Printf("%d pictures and their names, %d candidates each\n", n, min(among, n))
	fmt.Println("by        text of a picture: first  in 5   picture of a text: first  in 5")
	weighed := func(z float64) func(cinn.Score) float64 {
		return func(s cinn.Score) float64 { return s.Class - s.PriorClass + z*(s.Z-s.PriorZ) }
	}
	for _, by := range []struct {
		name string
		of   func(cinn.Score) float64
	}{
		{"match", cinn.Score.Match}, {"gain", cinn.Score.Gain}, {"logp", cinn.Score.LogProb},
		{"z × 1/2", weighed(0.5)}, {"z × 1/10", weighed(0.1)}, {"z × 0", weighed(0)},
	} {
		var text, picture [2]float64
		for i := range n {
			others := candidates(i, n)
			count(&text, others, by.of(scores[i*n+i]), func(j int) float64 { return by.of(scores[i*n+j]) })
			count(&picture, others, by.of(scores[i*n+i]), func(j int) float64 { return by.of(scores[j*n+i]) })
		}
		percent := func(hits float64) float64 { return 100 * hits / float64(n) }
		fmt.Printf("%-8s %24.0f %% %4.0f %% %24.0f %% %4.0f %%\n", by.name, percent(text[0]), percent(text[1]), percent(picture[0]), percent(picture[1]))
	}
	return nil
}

// candidates are the wrong ones for the one of n at i: some at random.
func candidates(i, n int) []int {
	keys := make([]float32, n)
	random.Uniform(keys, 1, 0, uint64(i), 0)
	values := make([]float64, n)
	for k, v := range keys {
		values[k] = float64(v)
	}
	var others []int
	for _, k := range cinn.Order(values) {
		if k != i && len(others) < among-1 {
			others = append(others, k)
		}
	}
	return others
}

// count counts in hits how often the right one is the first, and among the first five. A tie counts against it.
func count(hits *[2]float64, others []int, right float64, of func(int) float64) {
	better := 0
	for _, k := range others {
		if of(k) >= right {
			better++
		}
	}
	for i, most := range [2]int{1, 5} {
		if better < most {
			hits[i]++
		}
	}
}
