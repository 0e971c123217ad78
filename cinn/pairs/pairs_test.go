package pairs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/planes"
	"netfusion/nn/safetensors"
)

// sample is a small Set whose values survive the file exactly.
func sample() *Set {
	s := &Set{Source: "test", Classes: []string{"face-smiling", "heart"}, Latent: 3, Size: 2,
		Styles: []Style{{"Noto", []string{"%s in the Noto style"}}, {"flat", []string{"flat %s"}}},
		Concepts: []Concept{
			{Name: "red heart", Tags: []string{"love", "red"}, Short: []string{"heart"}, Class: "heart", Category: "Smileys"},
			{Name: "woman smiling", Tags: []string{"happy"}, Class: "face-smiling", Category: "People"},
			{Name: "never drawn", Class: "heart"},
		},
		Images: []Image{{0, 0, 1}, {0, 1, 1}, {1, 1, 0}},
	}
	for i := range 9 {
		s.Mean = append(s.Mean, float32(i)-4)
		s.Std = append(s.Std, float32(i)/8)
	}
	for i := range 3 * 2 * 2 * 3 {
		s.Pixels = append(s.Pixels, value(uint8(i)))
	}
	return s
}

func TestWriteThenOpen(t *testing.T) {
	want := sample()
	path := filepath.Join(t.TempDir(), "pairs")
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestLevelsKeepBlackAndWhiteAndStayNear(t *testing.T) {
	for v := range 256 {
		got := int(value(level(uint8(v))))
		if d := got - v; d < -2 || d > 2 || (v == 0 || v == 255) && d != 0 {
			t.Errorf("%d comes back as %d", v, got)
		}
		if value(level(uint8(got))) != uint8(got) {
			t.Errorf("%d does not stay itself", got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tensors := func() []safetensors.Tensor {
		good, err := sample().Encode()
		if err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		if err := planes.Decompress(t.Context(), &raw, good); err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Parse("test", raw.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return f.Tensors()
	}
	for what, c := range map[string]struct {
		spoil func(ts []safetensors.Tensor) []safetensors.Tensor
		want  string
	}{
		"missing": {func(ts []safetensors.Tensor) []safetensors.Tensor { return ts[:4] }, "image.pixels"},
		"renamed": {func(ts []safetensors.Tensor) []safetensors.Tensor { ts[2].Name = "mean"; return ts }, "latent.mean"},
		"wrong type": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[3].DType = safetensors.BF16
			return ts
		}, "latent.std"},
		"fewer latents": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[2].Shape, ts[2].Data = []int{2, 3}, ts[2].Data[:12]
			return ts
		}, "latent.mean"},
		"level": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[4].Data = slices.Clone(ts[4].Data)
			ts[4].Data[7] = 64
			return ts
		}, "level 64"},
		"concept": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[1].Data = slices.Clone(ts[1].Data)
			ts[1].Data[0] = 3
			return ts
		}, "concept 3 of 3"},
		"not a number": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[2].Data = slices.Clone(ts[2].Data)
			ts[2].Data[1] = 0x7e
			return ts
		}, "NaN"},
		"a name of no letter": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[0].Data = bytes.Replace(ts[0].Data, []byte(`"red heart"`), []byte(`":: :: :::"`), 1)
			return ts
		}, `name ":: :: :::"`},
		"json": {func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[0].Data = bytes.Repeat([]byte("x"), len(ts[0].Data))
			return ts
		}, "set.json"},
	} {
		var raw, packed bytes.Buffer
		if err := safetensors.Write(&raw, map[string]string{"arch": fileArch}, c.spoil(tensors())); err != nil {
			t.Fatal(err)
		}
		if err := planes.Compress(&packed, raw.Bytes()); err != nil {
			t.Fatal(err)
		}
		_, err := Parse("the file", packed.Bytes())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the file") {
			t.Errorf("%s: got %v, want the file's name and %q", what, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz", data)
		if err == nil {
			s.Captions()
		}
	})
}

// FuzzSet gives what a file says to chance, which the checksum of FuzzParse's files keeps from being read.
func FuzzSet(f *testing.F) {
	about, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(about, int16(0), int16(0), int16(1))
	f.Fuzz(func(t *testing.T, about []byte, concept, style, class int16) {
		s := &Set{}
		if json.Unmarshal(about, s) != nil || s.validate() != nil {
			return
		}
		s.Images = []Image{{int(concept), int(style), int(class)}}
		if s.validateImages() != nil {
			return
		}
		captions := s.Captions()
		if len(captions) == 0 || captions[0].Concept != int(concept) {
			t.Errorf("%d captions, the first is not of concept %d", len(captions), concept)
		}
		s.Rows(Train)
	})
}

func names(t *testing.T) []string {
	raw, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

// TestSplitsStayWhatTheyWere holds the counts of the emoji data's concepts: other splits would make results incomparable.
func TestSplitsStayWhatTheyWere(t *testing.T) {
	var count [3]int
	groups := map[string]bool{}
	for _, n := range names(t) {
		count[SplitOf(n)]++
		groups[Group(n)] = true
	}
	if count != [3]int{1345, 147, 144} || len(groups) != 1410 {
		t.Errorf("train, validation, test: %v of %d groups", count, len(groups))
	}
}

func TestNearTwinsStayTogether(t *testing.T) {
	for _, twins := range [][]string{
		{"man farmer", "woman farmer", "farmer"}, {"prince", "princess"}, {"santa claus", "mrs. claus", "mx claus"},
		{"man: red hair", "woman: curly hair", "person: bald"}, {"merman", "mermaid", "merperson"}, {"men’s room", "women’s room"},
		{"family: man, boy, boy", "family: adult, child", "family"}, {"person walking: facing right", "man walking"},
		{"old man", "older person"}, {"men holding hands", "woman and man holding hands"},
	} {
		for _, n := range twins {
			if Group(n) != Group(twins[0]) {
				t.Errorf("%q is in group %q, %q in %q", n, Group(n), twins[0], Group(twins[0]))
			}
		}
	}
	if Group("red heart") == Group("blue heart") {
		t.Error("different hearts share a group")
	}
}

func TestCaptionsStartWithTheNameAndKeepStylesApart(t *testing.T) {
	s := sample()
	captions := s.Captions()
	first := map[int]string{}
	texts := map[string]Caption{}
	for _, c := range captions {
		if _, ok := first[c.Concept]; !ok {
			first[c.Concept] = c.Text
		}
		if !(c.Weight > 0) {
			t.Errorf("%+v is never drawn", c)
		}
		texts[c.Text] = c
	}
	if want := map[int]string{0: "red heart", 1: "woman smiling"}; !reflect.DeepEqual(first, want) {
		t.Errorf("first captions %v, want %v", first, want)
	}
	for text, style := range map[string]int{"red heart": AnyStyle, "a red heart": AnyStyle, "heart": AnyStyle, "love heart": AnyStyle,
		"red heart in the Noto style": 0, "flat red heart": 1, "flat woman smiling": 1, "happy smiling face": AnyStyle} {
		if c, ok := texts[text]; !ok || c.Style != style {
			t.Errorf("caption %q: %+v, present %v", text, c, ok)
		}
	}
	if _, ok := texts["woman smiling in the Noto style"]; ok {
		t.Error("a caption names a style that the concept is not drawn in")
	}
}

// byLength embeds a text as its length and its first byte, and counts calls.
func byLength(calls *int) Encoder {
	return Encoder{Fingerprint: "test", Dim: 2, Embed: func(texts []string, dst []float32) error {
		*calls++
		for i, t := range texts {
			dst[2*i], dst[2*i+1] = float32(len(t)), float32(t[0])
		}
		return nil
	}}
}

func TestEmbedCachesByCaptionsAndExpert(t *testing.T) {
	s, dir, calls := sample(), t.TempDir(), 0
	e := byLength(&calls)
	var done, total int
	c, err := s.Embed(e, dir, func(d, n int) { done, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	if calls == 0 || done != total || total == 0 {
		t.Errorf("%d calls, %d of %d done", calls, done, total)
	}
	for i, cap := range c.Captions {
		if want := []float32{float32(len(cap.Text)), float32(cap.Text[0])}; !slices.Equal(c.Vector(i), want) {
			t.Errorf("caption %q has vector %v", cap.Text, c.Vector(i))
		}
	}
	first := calls
	again, err := s.Embed(e, dir, nil)
	if err != nil || calls != first || !reflect.DeepEqual(again, c) {
		t.Errorf("the cache was not used: %d calls, %v", calls, err)
	}
	e.Fingerprint = "another"
	if _, err := s.Embed(e, dir, nil); err != nil || calls == first {
		t.Errorf("another expert's cache was used: %v", err)
	}
}

func TestEmbedReplacesADamagedCache(t *testing.T) {
	s, dir, calls := sample(), t.TempDir(), 0
	c, err := s.Embed(byLength(&calls), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	raw, err := os.ReadFile(files[0])
	if err != nil || len(files) != 1 {
		t.Fatal(err, files)
	}
	raw[4096] ^= 1
	if err := os.WriteFile(files[0], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := s.Embed(byLength(&calls), dir, nil)
	if err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("got other vectors: %v", err)
	}
}

func TestEmbedReportsTheExpertsError(t *testing.T) {
	broken := errors.New("broken")
	_, err := sample().Embed(Encoder{Dim: 1, Embed: func([]string, []float32) error { return broken }}, "", nil)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestDrawFollowsWeightsAndStyles(t *testing.T) {
	s, calls := sample(), 0
	c, err := s.Embed(byLength(&calls), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 10000
	count := map[int]float32{}
	for i := range n {
		count[c.Draw(s.Images[1], (float32(i)+0.5)/n)]++
	}
	begin, end := c.Of(0)
	var total float32
	fits := func(k int) bool { return c.Captions[k].Style == AnyStyle || c.Captions[k].Style == 1 }
	for k := begin; k < end; k++ {
		if fits(k) {
			total += c.Captions[k].Weight
		}
	}
	for k := begin; k < end; k++ {
		var want float32
		if fits(k) {
			want = n * c.Captions[k].Weight / total
		}
		if d := count[k] - want; d < -2 || d > 2 {
			t.Errorf("%q is drawn %v times of %d, want %v", c.Captions[k].Text, count[k], n, want)
		}
	}
}

func TestShrinkAverages(t *testing.T) {
	src := make([]uint8, 4*4*3)
	for i := range 4 { // the top left square: 0, 252, 252, 0 in red
		src[(i/2*4+i%2)*3] = []uint8{0, 252, 252, 0}[i]
	}
	dst := make([]uint8, 2*2*3)
	shrink(dst, src, 2, 2)
	if want := value(level(126)); dst[0] != want || slices.Max(dst[1:]) != 0 {
		t.Errorf("got %v, want %d first", dst, want)
	}
}

func ExampleSplitOf() {
	fmt.Println(SplitOf("red heart"), SplitOf("man farmer") == SplitOf("woman farmer"))
	// Output: train true
}

func TestGivenConditionsAreThoseOfTheirImages(t *testing.T) {
	s, err := Open("emoji.pairs")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Given(2, func(i int, dst []float32) error {
		dst[0], dst[1] = float32(i), -1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, im := range s.Images {
		k := c.For(im)
		if v := c.Vector(k); v[0] != float32(i) || v[1] != -1 {
			t.Fatalf("image %d has the condition %v", i, v)
		}
		if got := c.Captions[c.Draw(im, 0.99)]; got.Concept != im.Concept || got.Style != im.Style || got.Text != "" {
			t.Fatalf("image %d, %+v, draws %+v", i, im, got)
		}
	}
	wrong := errors.New("no such picture")
	if _, err := s.Given(2, func(int, []float32) error { return wrong }); err != wrong {
		t.Errorf("%v", err)
	}
}
