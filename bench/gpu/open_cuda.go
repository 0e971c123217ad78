//go:build cuda

package main

import (
	"netfusion/tensor"
	"netfusion/tensor/cudadriver"
)

// open returns the first GPU, and the version of CUDA that its driver has.
func open() (tensor.Driver, int, error) {
	d, err := cudadriver.Open(0)
	if err != nil {
		return nil, 0, err
	}
	return d, cudadriver.Version(), nil
}

// used is how many bytes of a GPU's memory are in use.
func used(d tensor.Driver) (int, error) { return d.(*cudadriver.Device).Used() }
