package pairs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// backwards describes a latent by the sign of its first coordinate, and embeds a caption as its length.
func backwards(describe func(z []float32, class int, u float32) string) *Backwards {
	return &Backwards{
		Seed: 3, Truncation: 2.5, Classes: []int{4, 7, 9},
		Describe: func(_ context.Context, z []float32, class int, u float32) (string, error) {
			return describe(z, class, u), nil
		},
		Embed: func(_ context.Context, dst []float32, caption string) error {
			dst[0] = float32(len(caption))
			return nil
		},
	}
}

func TestPairsAreMadeBackwardsEachByItsNumber(t *testing.T) {
	b := backwards(func(z []float32, class int, u float32) string {
		return fmt.Sprintf("class %d, %.3f, %.3f", class, z[0], u)
	})
	make1 := func(i int) (Pair, []float32, string) {
		p, z := Pair{Condition: make([]float32, 1)}, make([]float32, 6)
		caption, err := b.Pair(t.Context(), i, &p, z)
		if err != nil {
			t.Fatal(err)
		}
		return p, z, caption
	}
	type made struct {
		p Pair
		z []float32
		c string
	}
	var first []made
	for i := range 50 {
		p, z, c := make1(i)
		first = append(first, made{p, z, c})
		if want := fmt.Sprintf("class %d, %.3f", p.Class, z[0]); !strings.HasPrefix(c, want) || p.Condition[0] != float32(len(c)) {
			t.Errorf("pair %d is %+v of %v, called %q", i, p, z, c)
		}
	}
	for i := 49; i >= 0; i-- {
		if p, z, c := make1(i); !reflect.DeepEqual(made{p, z, c}, first[i]) {
			t.Errorf("pair %d is another the second time", i)
		}
	}
	b.Seed++
	if _, z, _ := make1(0); slices.Equal(z, first[0].z) {
		t.Error("another seed makes the same pair")
	}
}

func TestLatentsAreTruncatedNormalsAndClassesEven(t *testing.T) {
	b := backwards(func([]float32, int, float32) string { return "a picture" })
	const n, dims = 4000, 6
	var beyond1, squares, us float64
	count, splits := map[int]int{}, map[Split]int{}
	b.Describe = func(_ context.Context, _ []float32, _ int, u float32) (string, error) {
		us += float64(u) / n
		return "a picture", nil
	}
	p, z := Pair{Condition: make([]float32, 1)}, make([]float32, dims)
	for i := range n {
		if _, err := b.Pair(t.Context(), i, &p, z); err != nil {
			t.Fatal(err)
		}
		count[p.Class]++
		splits[p.Split]++
		for _, v := range z {
			if math.Abs(float64(v)) > 2.5 {
				t.Fatalf("a latent holds %v", v)
			}
			squares += float64(v*v) / (n * dims)
			if math.Abs(float64(v)) > 1 {
				beyond1 += 1.0 / (n * dims)
			}
		}
	}
	// Of a normal within ±2.5: 1 - (Φ(1)-Φ(-1))/(Φ(2.5)-Φ(-2.5)), and its variance.
	if math.Abs(beyond1-(1-0.68269/0.98758)) > 0.01 || math.Abs(squares-0.9113) > 0.02 {
		t.Errorf("%.3f of the coordinates are beyond 1, their variance is %.3f", beyond1, squares)
	}
	if math.Abs(us-0.5) > 0.02 {
		t.Errorf("the mean of u is %v", us)
	}
	for _, k := range b.Classes {
		if math.Abs(float64(count[k])/n-1./3) > 0.03 {
			t.Errorf("class %d is drawn %d times of %d", k, count[k], n)
		}
	}
	for s, share := range map[Split]float64{Train: 0.8, Validation: 0.1, Test: 0.1} {
		if math.Abs(float64(splits[s])/n-share) > 0.02 {
			t.Errorf("%v has %d of %d", s, splits[s], n)
		}
	}
}

// The traps of the paper's captioner: special tokens stay in captions, and a search that finds no sentence gives only padding. (The
// third, a picture in other numbers than the captioner expects, is where pictures are handed over: see cinn/cmd.)
func TestCaptionsAreAsPeopleType(t *testing.T) {
	for said, want := range map[string]string{
		"<start> a red  bus <end> ":           "a red bus",
		"<start> a red bus <end> <pad> <pad>": "a red bus",
		strings.Repeat("<pad> ", 9):           "",
		"[CLS] two dogs [SEP]":                "two dogs",
		"<s>a cat</s>":                        "a cat",
		"<|startoftext|>7<|endoftext|>":       "7",
		"a < b and c > d":                     "a < b and c > d",
		"":                                    "",
		" ... ":                               "",
		"Ein Hund [mit Ball]":                 "Ein Hund [mit Ball]",
		"<start> <unk> standing in front of <unk> <end>.": "standing in front of .",
	} {
		if got := Plain(said); got != want {
			t.Errorf("%q becomes %q, want %q", said, got, want)
		}
	}
	tries := 0
	b := backwards(func(z []float32, class int, u float32) string {
		if tries++; z[0] < 0 {
			return "<pad> <pad> <pad>"
		}
		return "<start> something <end>"
	})
	p, z := Pair{Condition: make([]float32, 1)}, make([]float32, 2)
	for i := range 20 {
		caption, err := b.Pair(t.Context(), i, &p, z)
		if err != nil || caption != "something" || z[0] < 0 || p.Condition[0] != 9 {
			t.Errorf("%q of %v, %v", caption, z, err)
		}
	}
	if tries < 30 || tries > 60 {
		t.Errorf("%d tries for 20 captions, of which every other fails", tries)
	}
	b = backwards(func([]float32, int, float32) string { return "<pad>" })
	if _, err := b.Pair(t.Context(), 0, &p, z); err == nil || !strings.Contains(err.Error(), "no caption") {
		t.Errorf("a captioner that says nothing: %v", err)
	}
	broken := errors.New("broken")
	b.Describe = func(context.Context, []float32, int, float32) (string, error) { return "", broken }
	if _, err := b.Pair(t.Context(), 0, &p, z); !errors.Is(err, broken) {
		t.Errorf("a captioner that fails: %v", err)
	}
}

func TestACaptionsPairsStayInOneSplit(t *testing.T) {
	b := backwards(func(z []float32, class int, u float32) string { return fmt.Sprint("number ", int(u*40)) })
	b.BySplit = true
	of, groups := map[string]Split{}, map[string]int{}
	p, z := Pair{Condition: make([]float32, 1)}, make([]float32, 2)
	for i := range 400 {
		caption, err := b.Pair(t.Context(), i, &p, z)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := of[caption]; ok && (s != p.Split || groups[caption] != p.Group) {
			t.Errorf("%q is in two splits or groups", caption)
		}
		of[caption], groups[caption] = p.Split, p.Group
	}
	counts := [3]int{}
	for _, s := range of {
		counts[s]++
	}
	if len(of) != 40 || counts[Validation] == 0 || counts[Train] < 20 {
		t.Errorf("%v of %d captions", counts, len(of))
	}
}

func TestTablesOfCaptions(t *testing.T) {
	names := []string{"face-smiling", "heart", "flag"}
	table, err := ParseTable([]byte(`{"heart": ["a heart", "love"], "2": ["a flag"]}`), 3, names)
	if err != nil || !reflect.DeepEqual(table, Table{nil, {"a heart", "love"}, {"a flag"}}) || !slices.Equal(table.Classes(), []int{1, 2}) {
		t.Fatalf("%v, %v", table, err)
	}
	for u, want := range map[float32]string{0.01: "a heart", 0.49: "a heart", 0.51: "love", 0.9999999: "love"} {
		if got, err := table.Describe(t.Context(), nil, 1, u); got != want || err != nil {
			t.Errorf("u = %v: %q, %v", u, got, err)
		}
	}
	for bad, want := range map[string]string{
		`[]`: "want an object", `{"3": ["x"]}`: `"3" is no class`, `{"hearts": ["x"]}`: "no class", `{"1": ["x"], "heart": ["y"]}`: "twice", `{"1": ["<pad>"]}`: "says nothing", `{"1": []}`: "no class has",
	} {
		if _, err := ParseTable([]byte(bad), 3, names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
	table, err = NameTable(names)
	if err != nil || table[0][2] != "a picture of a smiling face" {
		t.Errorf("%v, %v", table, err)
	}
	if _, err := NameTable([]string{"…"}); err == nil {
		t.Error("a name of no letter")
	}
}
