package main

import (
	"errors"

	"netfusion/tensor"
)

// convCase is a 3×3 convolution of one map x [size][size][in]: data=FILE in=C out=C size=S precision=P threads=N. The filter is
// [out][3][3][in].
func convCase(a arguments) (func() ([]float32, error), error) {
	p, err := a.precision()
	if err != nil {
		return nil, err
	}
	dev, err := a.device()
	if err != nil {
		return nil, err
	}
	s, err := a.numbers("in", "out", "size")
	if err != nil {
		return nil, err
	}
	in, out, size := s[0], s[1], s[2]
	data, err := readRandom(a["data"])
	if err != nil {
		return nil, err
	}
	w, errW := data.take(out * 9 * in)
	x, errX := data.take(size * size * in)
	if err := errors.Join(errW, errX); err != nil {
		return nil, err
	}
	f := tensor.NewFilter(p, w, tensor.ConvShape{Out: out, In: in, Size: 3, Stride: 1, H: size, W: size})
	dev.Reserve(f.Scratch(size, size))
	dst, source := tensor.New(size*size, out), tensor.Of(size*size, in, x)
	return func() ([]float32, error) {
		dev.Conv(dst, source, size, size, &f, tensor.ConvEpilogue{})
		return dst.Data, nil
	}, nil
}
