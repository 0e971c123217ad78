package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"netfusion/cinn"
	"netfusion/experts/autoencoder"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/experts/program"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// fuseSource is the source expert of a new fusion.
type fuseSource struct {
	ingredient
	pictures bool // it reads pictures
	width    int
	side     int // of the map that it gives; 0 is a vector
	encode   func(ctx context.Context, dst []float32, l *listed) error
	close    func() error
}

// openPart opens an expert file, takes a part out of a pack, or converts a folder by convert.
func openPart(path, name string, convert func(dir string, s nn.Storage) (map[string]string, []safetensors.Tensor, error), s nn.Storage) (*ingredient, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return openIngredient(path, name)
	}
	meta, tensors, err := convert(path, s)
	if err != nil {
		return nil, err
	}
	return &ingredient{name: name, part: cinn.Part{Meta: meta, Tensors: tensors}}, nil
}

// source opens the expert that -source names; -layer chooses among its layers.
func (f *fuser) source(dev *tensor.Device) (*fuseSource, error) {
	if f.reads == "" {
		return &fuseSource{}, nil
	}
	pictures, err := f.readsPictures()
	if err != nil {
		return nil, err
	}
	if pictures {
		return f.layerSource(dev)
	}
	return f.textSource(dev)
}

// readsPictures tells whether the source is an image encoder. A folder or a pack may hold one beside the other: then -layer tells, for a
// text encoder's layers are numbers.
func (f *fuser) readsPictures() (bool, error) {
	_, err := strconv.Atoi(f.layer)
	number := err == nil
	info, err := os.Stat(f.reads)
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		_, err := os.Stat(filepath.Join(f.reads, "encoder.npz"))
		return err == nil, nil
	}
	file, err := cinn.OpenContainer(f.reads)
	if err != nil {
		return false, err
	}
	defer file.Close()
	switch arch := file.Metadata()["arch"]; arch {
	case cinn.Arch:
		return f.layer != "" && !number, nil
	default:
		return arch == autoencoder.Arch, nil
	}
}

func (f *fuser) textSource(dev *tensor.Device) (*fuseSource, error) {
	convert := func(dir string, s nn.Storage) (map[string]string, []safetensors.Tensor, error) {
		return bert.Convert(dir, bert.ConvertOptions{Storage: bert.Storage(s)})
	}
	in, err := openPart(f.reads, "source", convert, nn.Storage(f.dtype))
	if err != nil {
		return nil, err
	}
	s := &fuseSource{ingredient: *in}
	if f.layer != "" {
		if err := s.chooseLayer(f.reads, f.layer); err != nil {
			return nil, err
		}
	}
	m, err := bert.LoadExpert(nn.Memory(f.reads, s.part.Tensors), []byte(s.part.Meta["config"]), tensor.F32)
	if err != nil {
		return nil, err
	}
	session, err := m.NewSession(dev, bert.SessionOptions{Texts: 1})
	if err != nil {
		return nil, err
	}
	s.width = m.Width()
	s.encode = func(ctx context.Context, dst []float32, l *listed) error {
		if l.Text == "" {
			return fmt.Errorf(`no "text", which is what %s reads`, f.reads)
		}
		return session.Embed(ctx, dst, l.Text)
	}
	return s, nil
}

// chooseLayer makes the states behind layer number so much stand for a text.
func (s *fuseSource) chooseLayer(path, layer string) error {
	c, err := bert.ParseConfig([]byte(s.part.Meta["config"]))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if c.Representation.Layer, err = strconv.Atoi(layer); err != nil {
		return usagef("-layer %s: %s is a text encoder, want a number from 0 to %d", layer, path, c.Layers)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	s.part.Meta["config"] = string(text)
	if _, err := bert.ParseConfig(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// fuseSide is what the map of a layer is averaged down to, so that pairs of it fit into memory.
const fuseSide = 8

func (f *fuser) layerSource(dev *tensor.Device) (*fuseSource, error) {
	in, err := openPart(f.reads, "encoder", autoencoder.Convert, nn.Storage(f.dtype))
	if err != nil {
		return nil, err
	}
	c := autoencoder.LayerConfig{Kind: autoencoder.LayerKind, Layer: f.layer}
	if c.Layer == "" {
		c.Layer = "head"
	}
	if err := json.Unmarshal([]byte(in.part.Meta["config"]), &c.Encoder); err != nil {
		return nil, fmt.Errorf("%s: %w", f.reads, err)
	}
	layer, err := loadLayer(f.reads, c, in.part.Tensors, fuseSide)
	if err != nil {
		return nil, err
	}
	s := &fuseSource{ingredient: *in, pictures: true, width: layer.Width()}
	s.name = "source"
	if layer.Side > 1 {
		s.side = layer.Side
	}
	licence := in.part.Meta["licence"]
	if s.part, err = sourcePart(layer.LayerConfig, in.part.Tensors); err != nil {
		return nil, err
	}
	s.part.Meta["licence"] = licence
	session := layer.NewSession(dev)
	s.encode = func(ctx context.Context, dst []float32, l *listed) error {
		if l.From == "" {
			return fmt.Errorf(`no "from", the file of a picture, which is what %s reads`, f.reads)
		}
		m, err := openPhoto(l.From, c.Encoder.Resolution)
		if err != nil {
			return err
		}
		if err := session.Encode(dst, m); err != nil {
			return err
		}
		return ctx.Err()
	}
	return s, nil
}

// loadLayer loads a layer, averaged down to at most side×side.
func loadLayer(path string, c autoencoder.LayerConfig, tensors []safetensors.Tensor, side int) (*autoencoder.Layer, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	layer, err := autoencoder.LoadLayer(nn.Memory(path, tensors), config)
	if err != nil {
		return nil, err
	}
	for layer.Side > side && layer.Side%2 == 0 {
		layer.Side /= 2
	}
	return layer, nil
}

// programSource asks a program of the user's. Its first answer tells the width.
func (f *fuser) programSource(ctx context.Context, list []listed, log io.Writer) (*fuseSource, error) {
	argv, err := program.Split(f.program)
	if err != nil {
		return nil, usageError(err.Error())
	}
	p, err := program.Start(ctx, argv, log)
	if err != nil {
		return nil, err
	}
	first, err := askProgram(ctx, p, list[0].Text, list[0].From)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("%s, line %d: %w", f.pairs, list[0].Line, err)
	}
	s := vectorSource(len(first))
	s.close = p.Close
	s.encode = func(ctx context.Context, dst []float32, l *listed) error {
		v, err := askProgram(ctx, p, l.Text, l.From)
		if err == nil && len(v) != len(dst) {
			err = fmt.Errorf("%s: a vector of %d numbers, want %d as in the first answer", argv[0], len(v), len(dst))
		}
		copy(dst, v)
		return err
	}
	return s, nil
}

// askProgram asks p for the vector of a text, or of the picture in a file.
func askProgram(ctx context.Context, p *program.Program, text, file string) ([]float32, error) {
	question := program.Message{Text: text}
	if file != "" {
		m, err := openPhoto(file, programSide)
		if err != nil {
			return nil, err
		}
		var picture bytes.Buffer
		if err := png.Encode(&picture, m); err != nil {
			return nil, err
		}
		question = program.Message{Image: picture.Bytes()}
	}
	answer, err := p.Ask(ctx, question)
	if err == nil && len(answer.Vector) == 0 {
		err = errors.New("the program's answer has no vector")
	}
	return answer.Vector, err
}

// programSide is the side of a picture that a program is asked about.
const programSide = 256

// vectorSource stands for an expert that the pack will not hold.
func vectorSource(width int) *fuseSource {
	s := &fuseSource{width: width}
	s.name = "source"
	s.part, _ = sourcePart(cinn.VectorConfig{Kind: cinn.Vector, Dimension: width}, nil) // of two fields: it cannot fail
	return s
}

// target opens the generator.
func (f *fuser) target() (*ingredient, *biggan.Model, error) {
	in, err := openPart(f.draws, "target", biggan.Convert, nn.Storage(f.dtype))
	if err != nil {
		return nil, nil, err
	}
	c, err := biggan.ParseConfig(f.draws, []byte(in.part.Meta["config"]))
	if err != nil {
		return nil, nil, err
	}
	m, err := biggan.Load(nn.Memory(f.draws, in.part.Tensors), c, tensor.F32)
	return in, m, err
}

// encoder opens the image encoder of the generator, if there is one: that which -encoder names, or the one beside the generator.
func (f *fuser) encoder(target *biggan.Model) (*ingredient, *autoencoder.Model, error) {
	path := f.encodes
	if path == "" {
		path = f.draws
	}
	in, err := openPart(path, "encoder", autoencoder.Convert, nn.Storage(f.dtype))
	if err == nil && in.part.Meta["arch"] != autoencoder.Arch {
		err = fmt.Errorf("%s: %q is no image encoder", path, in.part.Meta["arch"])
	}
	if err != nil {
		if f.encodes == "" {
			return nil, nil, nil // there need not be one
		}
		return nil, nil, err
	}
	m, err := autoencoder.LoadExpert(nn.Memory(path, in.part.Tensors), in.part.Meta)
	if err != nil {
		return nil, nil, err
	}
	if m.Latent != target.ZDim || m.Resolution != target.Resolution {
		return nil, nil, fmt.Errorf("%s: gives %d dimensions of %d pixels, the generator in %s wants %d and %d", path, m.Latent, m.Resolution,
			f.draws, target.ZDim, target.Resolution)
	}
	return in, m, nil
}

// called is the name of an expert: what the pack that it is from says, or that of its file or folder.
func called(in string, path string) string {
	if in != "" {
		return in
	}
	return stem(strings.TrimRight(path, `/\`))
}

// openPhoto reads the picture at path as an image expert wants it, side×side pixels.
func openPhoto(path string, side int) (*image.NRGBA, error) {
	src, err := decodePicture(path)
	if err != nil {
		return nil, err
	}
	return cinn.Fit(src, image.Pt(side, side)), nil
}
