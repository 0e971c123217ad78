// Command flows writes the numbers that compare.py tries other designs of the flow on. First the pairs of the fusion that ships, with two
// conditions of each image: what its text expert makes of the name, and the picture itself at 8×8. Then draws of its generator, of which there
// are as many as one likes: z, and the picture at 8×8.
//
// usage: go run ./bench/flows FILE DRAWS
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"os"
	"strconv"

	"netfusion/cinn"
	"netfusion/cinn/pack"
	"netfusion/cinn/pairs"
	"netfusion/experts/biggan"
	"netfusion/kernels/random"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

func main() {
	var draws int
	var err error
	if len(os.Args) == 3 {
		draws, err = strconv.Atoi(os.Args[2])
	}
	if len(os.Args) != 3 || err != nil || draws < 1 {
		fmt.Fprintln(os.Stderr, "usage: go run ./bench/flows FILE DRAWS")
		os.Exit(2)
	}
	if err := export(os.Args[1], draws); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func export(path string, draws int) error {
	set, err := pairs.Open("cinn/pairs/emoji.pairs")
	if err != nil {
		return err
	}
	names, width, err := embed(set)
	if err != nil {
		return err
	}
	z, seen, err := generate(draws)
	if err != nil {
		return err
	}
	n := len(set.Images)
	text, small := make([]float32, 0, n*width), make([]float32, 0, n*3*thumb*thumb)
	var index []byte // split and concept of each image
	for i, im := range set.Images {
		text = append(text, names[im.Concept*width:][:width]...)
		small = append(small, thumbnail(set.Picture(i), set.Size)...)
		index = binary.LittleEndian.AppendUint32(index, uint32(pairs.SplitOf(set.Concepts[im.Concept].Name)))
		index = binary.LittleEndian.AppendUint32(index, uint32(im.Concept))
	}
	return safetensors.WriteFile(path, map[string]string{"arch": "flows"}, []safetensors.Tensor{
		{Name: "index", DType: safetensors.I32, Shape: []int{n, 2}, Data: index},
		safetensors.NewF32("text", []int{n, width}, text),
		safetensors.NewF32("picture", []int{n, 3 * thumb * thumb}, small),
		safetensors.NewF32("mean", []int{n, set.Latent}, set.Mean),
		safetensors.NewF32("std", []int{n, set.Latent}, set.Std),
		safetensors.NewF32("draws.z", []int{draws, len(z) / draws}, z),
		safetensors.NewF32("draws.picture", []int{draws, 3 * thumb * thumb}, seen),
	})
}

// embed returns the embeddings of the concepts' names, [concepts][width].
func embed(set *pairs.Set) (vectors []float32, width int, err error) {
	model, err := pack.Open(cinn.Options{})
	if err != nil {
		return nil, 0, err
	}
	defer model.Close()
	s, err := model.NewSession()
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	width = model.Info().Condition
	vectors = make([]float32, len(set.Concepts)*width)
	for i, c := range set.Concepts {
		if err := s.Embed(context.Background(), vectors[i*width:][:width], c.Name); err != nil {
			return nil, 0, err
		}
	}
	return vectors, width, nil
}

// generate draws z from N(0, I) and a class from all, and returns the z [draws][…] and the pictures at 8×8.
func generate(draws int) (zs, seen []float32, err error) {
	file, err := cinn.OpenContainer("cinn/pack/emoji.pack")
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	config, err := biggan.ParseConfig(file.Origin(), []byte(file.Metadata()["target.config"]))
	if err != nil {
		return nil, nil, err
	}
	model, err := biggan.Load(nn.Under(file, "target."), config, tensor.F32)
	if err != nil {
		return nil, nil, err
	}
	dev := tensor.CPU(0)
	defer dev.Close()
	s := model.NewSession(dev, 1)
	z, class := tensor.New(1, model.ZDim), tensor.New(1, model.ClassDim)
	img := image.NewNRGBA(image.Rect(0, 0, model.Resolution, model.Resolution))
	rgb := make([]uint8, 3*model.Resolution*model.Resolution)
	for i := range draws {
		random.Normal(z.Data, 1, 0, uint64(i), 0)
		k := random.Philox([4]uint32{uint32(i), 0, 0, 1}, [2]uint32{1, 0})[0]
		copy(class.Data, model.Class(int(k%uint32(model.Classes))))
		pixels, err := s.Generate(z, class, biggan.Truncation{Value: 1})
		if err != nil {
			return nil, nil, err
		}
		biggan.Draw(img, pixels.Data)
		for p := range len(rgb) / 3 {
			copy(rgb[3*p:3*p+3], img.Pix[4*p:])
		}
		zs = append(zs, z.Data...)
		seen = append(seen, thumbnail(rgb, model.Resolution)...)
	}
	return zs, seen, nil
}

const thumb = 8

// thumbnail is the mean of each of 8×8 squares of pixels [size][size][3], in [-1, 1].
func thumbnail(pixels []uint8, size int) []float32 {
	side := size / thumb
	out := make([]float32, 3*thumb*thumb)
	for y := range side * thumb {
		for x := range side * thumb {
			for c := range 3 {
				out[(y/side*thumb+x/side)*3+c] += float32(pixels[(y*size+x)*3+c])
			}
		}
	}
	for i, v := range out {
		out[i] = v/float32(side*side)/127.5 - 1
	}
	return out
}
