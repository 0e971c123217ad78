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
	path := filepath.Join(data, "emoji64.npz")
	images, err := openImages(path)
	if err == nil {
		err = s.importPixels(images, keys)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ImageEncoder is the expert that turns images into latents: Encode writes the posterior of a square picture of any size,
// [side][side][3], to mean and std, both [Latent].
type ImageEncoder struct {
	Name   string
	Latent int
	Encode func(mean, std []float32, picture []uint8) error
}

// Encode makes a Set from all of the emoji data in the folder data, whose latents e computes. report, which may be nil, is
// told how many images are done.
func Encode(data string, e ImageEncoder, report func(done, total int)) (*Set, error) {
	s := &Set{Size: pictureSize, Source: "emoji data set; latents by " + e.Name, Latent: e.Latent}
	if err := s.importConcepts(filepath.Join(data, "emoji.json")); err != nil {
		return nil, err
	}
	path := filepath.Join(data, "emoji64.npz")
	images, err := openImages(path)
	if err == nil {
		err = s.encode(images, e, report)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func (s *Set) encode(images *images, e ImageEncoder, report func(done, total int)) error {
	n := len(images.keys)
	s.Mean, s.Std = make([]float32, n*s.Latent), make([]float32, n*s.Latent)
	if err := s.validate(); err != nil {
		return err
	}
	if err := s.setImages(images.keys, images.class); err != nil {
		return err
	}
	for i := range n {
		mean, std := s.Z(i)
		if err := e.Encode(mean, std, images.picture(i)); err != nil {
			return fmt.Errorf("image %d: %w", i, err)
		}
		if report != nil {
			report(i+1, n)
		}
	}
	if err := s.validateImages(); err != nil {
		return err
	}
	return s.importPixels(images, images.keys)
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
	keys, class, err := imageKeys(arrays, shape[0])
	if err != nil {
		return nil, err
	}
	if err := s.setImages(keys, class); err != nil {
		return nil, err
	}
	return keys, s.validateImages()
}

// setImages fills Styles and Images.
func (s *Set) setImages(keys []key, class []int) error {
	style := make([]int, len(keys))
	for i, k := range keys {
		style[i] = k.style
	}
	index := map[int]int{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(style))) {
		st, ok := emojiStyles[id]
		if !ok {
			return fmt.Errorf("array style holds %d, which is unknown", id)
		}
		index[id] = len(s.Styles)
		s.Styles = append(s.Styles, st)
	}
	for i, k := range keys {
		s.Images = append(s.Images, Image{k.concept, index[k.style], class[i]})
	}
	return nil
}

// images is emoji64.npz.
type images struct {
	side   int
	pixels []uint8 // [n][side][side][3]
	keys   []key
	class  []int
}

func (m *images) picture(i int) []uint8 {
	n := m.side * m.side * 3
	return m.pixels[i*n:][:n:n]
}

func openImages(path string) (*images, error) {
	arrays, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	pixels := arrays["image"]
	if pixels.Type != "u1" || len(pixels.Shape) != 4 || pixels.Shape[1] != pixels.Shape[2] || pixels.Shape[3] != 3 ||
		pixels.Shape[1] == 0 || pixels.Shape[1]%pictureSize != 0 {
		return nil, fmt.Errorf("array image is %s %v, want u1 [n][side][side][3] with a side that is a multiple of %d", pixels.Type, pixels.Shape, pictureSize)
	}
	m := &images{side: pixels.Shape[1], pixels: pixels.Data}
	m.keys, m.class, err = imageKeys(arrays, pixels.Shape[0])
	return m, err
}

// importPixels fills Pixels with the pictures of the Set's images, which have these keys.
func (s *Set) importPixels(images *images, keys []key) error {
	row := make(map[key]int, len(images.keys))
	for i, k := range images.keys {
		row[k] = i
	}
	s.Pixels = make([]uint8, len(keys)*s.Size*s.Size*3)
	for i, k := range keys {
		r, ok := row[k]
		if !ok || images.class[r] != s.Images[i].Class {
			return fmt.Errorf("no image of emoji %d in style %d with label %d", k.concept, k.style, s.Images[i].Class)
		}
		shrink(s.Picture(i), images.picture(r), s.Size, images.side/s.Size)
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

// imageKeys reads what each of n images is: its key and its class.
func imageKeys(arrays map[string]npz.Array, n int) (keys []key, class []int, err error) {
	rows, err := columns(arrays, n, "emoji", "style", "label")
	if err != nil {
		return nil, nil, err
	}
	keys = make([]key, n)
	for i := range keys {
		keys[i] = key{rows[0][i], rows[1][i]}
	}
	return keys, rows[2], nil
}
