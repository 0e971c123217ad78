package pairs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"netfusion/nn/disk"
	"netfusion/nn/planes"
	"netfusion/nn/safetensors"
)

// The file is a safetensors container in its distribution form (nn/planes):
//
//	set.json     U8  [bytes]           the Set's own fields
//	image.index  I32 [n][3]            concept, style, class
//	latent.mean  F16 [n][Latent]       posterior of z
//	latent.std   F16 [n][Latent]
//	image.pixels U8  [n][Size][Size][3] 6 bits: v = round(level·255/63), black and white exact, others within 2 of 255
//
// Why plain RGB at 6 bits: 4,821 images of 32×32 then take 3.3 MB. Planes of red, green and blue take 3.9, planes of
// differences to green 4.1, those behind a predictor (up, average, median) 4.0 to 4.5: flat colours and edges repeat, and
// zstd finds repeats of whole pixels better than it codes residuals. 8 bits would take over 4 MB in any of these forms.
const (
	fileArch = "pairs"
	maxLevel = 63
)

// Write stores s at path, atomically. The same Set gives the same bytes.
func (s *Set) Write(path string) error {
	data, err := s.Encode()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return disk.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Encode returns the file of s.
func (s *Set) Encode() ([]byte, error) {
	about, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	n := len(s.Images)
	index := make([]byte, 0, 12*n)
	for _, im := range s.Images {
		for _, v := range [3]int{im.Concept, im.Style, im.Class} {
			index = binary.LittleEndian.AppendUint32(index, uint32(v))
		}
	}
	var raw, packed bytes.Buffer
	err = safetensors.Write(&raw, map[string]string{"arch": fileArch}, []safetensors.Tensor{
		{Name: "set.json", DType: safetensors.U8, Shape: []int{len(about)}, Data: about},
		{Name: "image.index", DType: safetensors.I32, Shape: []int{n, 3}, Data: index},
		safetensors.NewF16("latent.mean", []int{n, s.Latent}, s.Mean),
		safetensors.NewF16("latent.std", []int{n, s.Latent}, s.Std),
		{Name: "image.pixels", DType: safetensors.U8, Shape: []int{n, s.Size, s.Size, 3}, Data: s.levels()},
	})
	if err != nil {
		return nil, err
	}
	if err := planes.Compress(&packed, raw.Bytes()); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// level is the 6-bit form of a colour value, value the colour of a level.
func level(v uint8) uint8 { return uint8((int(v)*maxLevel + 127) / 255) }
func value(l uint8) uint8 { return uint8((int(l)*255 + maxLevel/2) / maxLevel) }

// levels are the pixels as they are stored.
func (s *Set) levels() []byte {
	out := make([]byte, len(s.Pixels))
	for i, v := range s.Pixels {
		out[i] = level(v)
	}
	return out
}

// Open reads the Set at path.
func Open(path string) (*Set, error) {
	data, unmap, err := disk.Map(path)
	if err != nil {
		return nil, err
	}
	defer unmap()
	return Parse(path, data)
}

// Parse reads a Set from a file in memory; name stands for it in errors. Nothing of data is kept.
func Parse(name string, data []byte) (*Set, error) {
	var raw bytes.Buffer
	if err := planes.Decompress(context.Background(), &raw, data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f, err := safetensors.Parse(name, raw.Bytes())
	if err != nil {
		return nil, err
	}
	s, err := decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func decode(f *safetensors.File) (*Set, error) {
	if arch := f.Metadata()["arch"]; arch != fileArch {
		return nil, fmt.Errorf("holds %q, want %q", arch, fileArch)
	}
	about, err := lookup(f, "set.json", safetensors.U8, -1)
	if err != nil {
		return nil, err
	}
	s := &Set{}
	if err := json.Unmarshal(about.Data, s); err != nil {
		return nil, fmt.Errorf("tensor \"set.json\": %w", err)
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	index, err := lookup(f, "image.index", safetensors.I32, -1, 3)
	if err != nil {
		return nil, err
	}
	n := index.Shape[0]
	if n > maxImages || n*s.Latent > maxBytes/4 || n*s.Size*s.Size*3 > maxBytes {
		return nil, fmt.Errorf("%d images of size %d with %d latents are more than we read", n, s.Size, s.Latent)
	}
	s.Images = make([]Image, n)
	for i := range s.Images {
		var v [3]int
		for k := range v {
			v[k] = int(int32(binary.LittleEndian.Uint32(index.Data[12*i+4*k:])))
		}
		s.Images[i] = Image{v[0], v[1], v[2]}
	}
	for _, l := range []struct {
		name string
		dst  *[]float32
	}{{"latent.mean", &s.Mean}, {"latent.std", &s.Std}} {
		t, err := lookup(f, l.name, safetensors.F16, n, s.Latent)
		if err != nil {
			return nil, err
		}
		*l.dst = make([]float32, n*s.Latent)
		if err := t.Float32(*l.dst); err != nil {
			return nil, err
		}
	}
	pixels, err := lookup(f, "image.pixels", safetensors.U8, n, s.Size, s.Size, 3)
	if err != nil {
		return nil, err
	}
	if err := s.setLevels(pixels.Data); err != nil {
		return nil, err
	}
	return s, s.validateImages()
}

// lookup finds the tensor name and checks its type and shape; -1 stands for any size.
func lookup(f *safetensors.File, name string, d safetensors.DType, shape ...int) (safetensors.Tensor, error) {
	t, ok := f.Lookup(name)
	if !ok {
		return t, fmt.Errorf("tensor %q is missing", name)
	}
	same := t.DType == d && len(t.Shape) == len(shape)
	for i := 0; same && i < len(shape); i++ {
		same = shape[i] < 0 || shape[i] == t.Shape[i]
	}
	if !same {
		return t, fmt.Errorf("tensor %q is %v %v, want %v %v", name, t.DType, t.Shape, d, shape)
	}
	return t, nil
}

func (s *Set) setLevels(levels []byte) error {
	s.Pixels = make([]uint8, len(levels))
	for i, l := range levels {
		if l > maxLevel {
			return fmt.Errorf("tensor \"image.pixels\": value %d is level %d, at most %d", i, l, maxLevel)
		}
		s.Pixels[i] = value(l)
	}
	return nil
}
