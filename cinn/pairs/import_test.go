package pairs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"netfusion/bench/tiny"
)

// brightness is an encoder whose latents say which picture it saw.
var brightness = ImageEncoder{Name: "test", Latent: 2, Encode: func(mean, std []float32, picture []uint8) error {
	for _, v := range picture {
		mean[0] += float32(v)
	}
	mean[1], std[0], std[1] = float32(len(picture)), 1, 0.5
	return nil
}}

func TestEncodeAsksTheEncoderForEveryImage(t *testing.T) {
	data := t.TempDir()
	tiny.Images(t, data)
	var reports []int
	s, err := Encode(data, brightness, func(done, total int) { reports = append(reports, done, total) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []Image{{0, 0, 1}, {1, 0, 2}, {0, 1, 1}}; !slices.Equal(s.Images, want) || len(s.Styles) != 2 || s.Styles[1].Name != "Fluent flat" {
		t.Errorf("images %v, styles %v", s.Images, s.Styles)
	}
	if !slices.Equal(reports, []int{1, 3, 2, 3, 3, 3}) {
		t.Errorf("reports %v", reports)
	}
	images, err := openImages(filepath.Join(data, "emoji64.npz"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Images {
		want := make([]float32, 4)
		brightness.Encode(want[:2], want[2:], images.picture(i))
		if mean, std := s.Z(i); !slices.Equal(mean, want[:2]) || !slices.Equal(std, want[2:]) {
			t.Errorf("image %d: %v ± %v, want %v", i, mean, std, want)
		}
	}

	// Latents that are read from a file make the same Set, in the order of that file.
	expert := t.TempDir()
	latents := tiny.Keys()
	for _, a := range latents {
		slices.Reverse(a.Data)
	}
	rows := []int{2, 1, 0}
	var mean, std []float32
	for _, i := range rows {
		m, d := s.Z(i)
		mean, std = append(mean, m...), append(std, d...)
	}
	latents["mean"], latents["std"] = tiny.Floats([]int{3, 2}, mean), tiny.Floats([]int{3, 2}, std)
	tiny.NPZ(t, filepath.Join(expert, "latents.npz"), latents)
	got, err := Import(data, expert)
	if err != nil {
		t.Fatal(err)
	}
	for k, i := range rows {
		a, b := got.Images[k], s.Images[i]
		gotMean, _ := got.Z(k)
		wantMean, _ := s.Z(i)
		if a != b || !slices.Equal(gotMean, wantMean) || !slices.Equal(got.Picture(k), s.Picture(i)) {
			t.Errorf("row %d: %v %v, want %v %v, or another picture", k, a, gotMean, b, wantMean)
		}
	}
	if !reflect.DeepEqual(got.Concepts, s.Concepts) || !reflect.DeepEqual(got.Styles, s.Styles) {
		t.Errorf("concepts %v, styles %v", got.Concepts, got.Styles)
	}
}

func TestImportNamesTheFileThatIsWrong(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		spoil func(data string)
		e     ImageEncoder
		want  []string
	}{
		"encoder":    {func(string) {}, ImageEncoder{Latent: 1, Encode: func(_, _ []float32, _ []uint8) error { return broken }}, []string{"emoji64.npz", "image 0", "broken"}},
		"no latents": {func(string) {}, ImageEncoder{}, []string{"latent 0"}},
		"no images":  {func(data string) { os.Remove(filepath.Join(data, "emoji64.npz")) }, brightness, []string{"emoji64.npz"}},
		"no names":   {func(data string) { os.Remove(filepath.Join(data, "emoji.json")) }, brightness, []string{"emoji.json"}},
		"no pixels":  {func(data string) { tiny.NPZ(t, filepath.Join(data, "emoji64.npz"), tiny.Keys()) }, brightness, []string{"emoji64.npz", "array image"}},
	} {
		data := t.TempDir()
		tiny.Images(t, data)
		test.spoil(data)
		_, err := Encode(data, test.e, nil)
		for _, w := range test.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", name, err, w)
			}
		}
	}
	data := t.TempDir()
	tiny.Images(t, data)
	if _, err := Import(data, data); err == nil || !strings.Contains(err.Error(), "latents.npz") {
		t.Errorf("no latents: %v", err)
	}
}
