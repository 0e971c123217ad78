package pairs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"netfusion/nn/npz"
)

// emojiStyles are the styles of the emoji data set by their number there.
var emojiStyles = map[int]Style{
	0: {"Noto", []string{"%s in the Noto style", "Noto %s"}},
	3: {"Fluent 3D", []string{"%s in the Fluent 3D style", "3D %s"}},
	4: {"Fluent flat", []string{"%s in the Fluent flat style", "flat %s"}},
}

// pictureSize is the side of the pictures that a Set keeps, whatever the size of the data's.
const pictureSize = 32

// Import makes a Set from the emoji data in the folder data (emoji.json, emoji64.npz) and the latents that the expert in
// the folder expert (latents.npz) gave to some or all of its images.
func Import(data, expert string) (*Set, error) {
	s := &Set{Size: pictureSize, Source: "emoji data set; latents of " + filepath.Base(expert)}
	if err := s.importConcepts(filepath.Join(data, "emoji.json")); err != nil {
		return nil, err
	}
	latents := filepath.Join(expert, "latents.npz")
	keys, err := s.importLatents(latents)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", latents, err)
	}
	images := filepath.Join(data, "emoji64.npz")
	if err := s.importPixels(images, keys); err != nil {
		return nil, fmt.Errorf("%s: %w", images, err)
	}
	return s, nil
}

func (s *Set) importConcepts(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var file struct {
		Classes  []string
		Captions []Concept
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s.Classes, s.Concepts = file.Classes, file.Captions
	return nil
}

// key is what tells the images of the data set apart.
type key struct{ concept, style int }

// importLatents fills all but the pixels, and returns the key of every image.
func (s *Set) importLatents(path string) ([]key, error) {
	arrays, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	mean, err := floats(arrays, "mean")
	if err != nil {
		return nil, err
	}
	if s.Std, err = floats(arrays, "std"); err != nil {
		return nil, err
	}
	shape := arrays["mean"].Shape
	if len(shape) != 2 || !slices.Equal(shape, arrays["std"].Shape) {
		return nil, fmt.Errorf("arrays mean %v and std %v, want the same [n][latent]", shape, arrays["std"].Shape)
	}
	s.Mean, s.Latent = mean, shape[1]
	if err := s.validate(); err != nil {
		return nil, err
	}
	rows, err := columns(arrays, shape[0], "emoji", "style", "label")
	if err != nil {
		return nil, err
	}
	concept, style, class := rows[0], rows[1], rows[2]
	index := map[int]int{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(style))) {
		st, ok := emojiStyles[id]
		if !ok {
			return nil, fmt.Errorf("array style holds %d, which is unknown", id)
		}
		index[id] = len(s.Styles)
		s.Styles = append(s.Styles, st)
	}
	keys := make([]key, shape[0])
	for i := range keys {
		keys[i] = key{concept[i], style[i]}
		s.Images = append(s.Images, Image{concept[i], index[style[i]], class[i]})
	}
	return keys, s.validateImages()
}

func (s *Set) importPixels(path string, keys []key) error {
	arrays, err := npz.Open(path)
	if err != nil {
		return err
	}
	pixels := arrays["image"]
	if pixels.Type != "u1" || len(pixels.Shape) != 4 || pixels.Shape[1] != pixels.Shape[2] || pixels.Shape[3] != 3 ||
		pixels.Shape[1] == 0 || pixels.Shape[1]%s.Size != 0 {
		return fmt.Errorf("array image is %s %v, want u1 [n][side][side][3] with a side that is a multiple of %d", pixels.Type, pixels.Shape, s.Size)
	}
	rows, err := columns(arrays, pixels.Shape[0], "emoji", "style", "label")
	if err != nil {
		return err
	}
	row := make(map[key]int, len(rows[0]))
	for i := range rows[0] {
		row[key{rows[0][i], rows[1][i]}] = i
	}
	side := pixels.Shape[1]
	s.Pixels = make([]uint8, len(keys)*s.Size*s.Size*3)
	for i, k := range keys {
		r, ok := row[k]
		if !ok || rows[2][r] != s.Images[i].Class {
			return fmt.Errorf("no image of emoji %d in style %d with label %d", k.concept, k.style, s.Images[i].Class)
		}
		shrink(s.Picture(i), pixels.Data[r*side*side*3:][:side*side*3], s.Size, side/s.Size)
	}
	return nil
}

// shrink averages squares of factor×factor pixels and rounds to the levels that the file keeps: dst [size][size][3].
func shrink(dst, src []uint8, size, factor int) {
	area := factor * factor
	for y := range size {
		for x := range size {
			for c := range 3 {
				sum := area / 2
				for dy := range factor {
					for dx := range factor {
						sum += int(src[((y*factor+dy)*size*factor+x*factor+dx)*3+c])
					}
				}
				dst[(y*size+x)*3+c] = value(level(uint8(sum / area)))
			}
		}
	}
}

func floats(arrays map[string]npz.Array, name string) ([]float32, error) {
	a, ok := arrays[name]
	if !ok {
		return nil, fmt.Errorf("array %s is missing", name)
	}
	v, err := a.Float32s()
	if err != nil {
		return nil, fmt.Errorf("array %s: %w", name, err)
	}
	return v, nil
}

// columns reads integer arrays of n elements each.
func columns(arrays map[string]npz.Array, n int, names ...string) ([][]int, error) {
	var all [][]int
	for _, name := range names {
		a, ok := arrays[name]
		if !ok || len(a.Shape) != 1 || a.Shape[0] != n {
			return nil, fmt.Errorf("array %s has shape %v, want [%d]", name, a.Shape, n)
		}
		v, err := a.Ints()
		if err != nil {
			return nil, fmt.Errorf("array %s: %w", name, err)
		}
		all = append(all, v)
	}
	return all, nil
}
