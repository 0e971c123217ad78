package label

import (
	"slices"
	"strings"
	"testing"
)

var config = Config{Kind: Kind, Groups: []Group{{"style", []string{"Noto", "Fluent 3D"}}, {"food", []string{"apple", "bread", "cake", "date"}}}}

func TestTextIsLabelsInAnyOrder(t *testing.T) {
	for text, want := range map[string][]float32{
		"Noto, bread":        {1, 0, 0, 1, 0, 0},
		" CAKE ,fluent 3d, ": {0, 1, 0, 0, 1, 0},
		"date":               {0.5, 0.5, 0, 0, 0, 1},
		"":                   {0.5, 0.5, 0.25, 0.25, 0.25, 0.25},
		"noto, Noto":         {1, 0, 0.25, 0.25, 0.25, 0.25},
	} {
		got := make([]float32, config.Width())
		if err := config.Encode(got, text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	got := make([]float32, config.Width())
	config.Set(got, -1, 2)
	if want := []float32{0.5, 0.5, 0, 0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("set to %v, want %v", got, want)
	}
	if n := testing.AllocsPerRun(10, func() { config.Encode(got, "bread, Noto") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWhatIsNoLabelIsRefused(t *testing.T) {
	dst := make([]float32, config.Width())
	for text, want := range map[string]string{"egg": `"egg"`, "apple, cake": "both of the group", "Noto bread": `"Noto bread"`} {
		if err := config.Encode(dst, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := config.Encode(dst, "egg"); !strings.Contains(err.Error(), "style: Noto, Fluent 3D; food: apple") {
		t.Errorf("the labels are not listed: %v", err)
	}
	if err := config.Encode(dst[1:], "Noto"); err == nil {
		t.Error("wrote to less room than there must be")
	}
}

func TestConfigsAreChecked(t *testing.T) {
	for config, want := range map[string]string{
		`{"groups": []}`: "0 labels",
		`{"groups": [{"name": "a", "labels": ["x"]}]}`:                                           "1 labels",
		`{"groups": [{"name": "a", "labels": ["x", "y, z"]}]}`:                                   `"y, z"`,
		`{"groups": [{"name": "a", "labels": ["x", "y"]}, {"name": "b", "labels": ["z", "X"]}]}`: `"x" stands twice`,
		`7`: "some.pack",
	} {
		if _, err := ParseConfig("some.pack", []byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
