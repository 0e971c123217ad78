package main

import (
	"errors"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// matmulCase multiplies x [m][k] by weights [n][k]: data=FILE m=M n=N k=K copies=C precision=P threads=N. Successive calls go
// through C copies of the weights, so that with enough of them each call reads its weights from memory.
func matmulCase(a arguments) (func() ([]float32, error), error) {
	p, err := a.precision()
	if err != nil {
		return nil, err
	}
	dev, err := a.device()
	if err != nil {
		return nil, err
	}
	s, err := a.numbers("m", "n", "k", "copies")
	if err != nil {
		return nil, err
	}
	m, n, k := s[0], s[1], s[2]
	data, err := readRandom(a["data"])
	if err != nil {
		return nil, err
	}
	w, errW := data.take(n * k)
	x, errX := data.take(m * k)
	if err := errors.Join(errW, errX); err != nil {
		return nil, err
	}
	weights := make([]tensor.Weight, s[3])
	for i := range weights {
		weights[i] = tensor.NewWeightIn(p, w, n, k)
	}
	weights[0].Reserve(dev, m)
	dst, in, next := tensor.New(m, n), tensor.Of(m, k, x), 0
	return func() ([]float32, error) {
		dev.MatMul(dst, in, weights[next], matmul.Epilogue{})
		next = (next + 1) % len(weights)
		return dst.Data, nil
	}, nil
}
