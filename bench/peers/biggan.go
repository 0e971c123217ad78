package main

import (
	"path/filepath"

	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// bigganCase makes one image: model=FOLDER precision=P threads=N.
func bigganCase(a arguments) (func() ([]float32, error), error) {
	p, err := a.precision()
	if err != nil {
		return nil, err
	}
	dev, err := a.device()
	if err != nil {
		return nil, err
	}
	m, err := biggan.Open(filepath.Join(a["model"], "model.safetensors"), p)
	if err != nil {
		return nil, err
	}
	input, err := safetensors.Open(filepath.Join(a["model"], "input.safetensors"))
	if err != nil {
		return nil, err
	}
	defer input.Close()
	w := nn.Load(input)
	z, class := tensor.Of(1, m.ZDim, w.F32("z", 1, m.ZDim)), tensor.Of(1, m.ClassDim, w.F32("class", 1, m.ClassDim))
	if err := w.Err(); err != nil {
		return nil, err
	}
	s := m.NewSession(dev, 1)
	return func() ([]float32, error) {
		image, err := s.Generate(z, class, biggan.Truncation{})
		return image.Data, err
	}, nil
}
