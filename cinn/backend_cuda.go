//go:build cuda && cgo

package cinn

import (
	"fmt"

	"netfusion/tensor"
	"netfusion/tensor/cudadriver"
)

const noCUDA = `no GPU that can be used`

// OpenGPU opens the first GPU, for who computes on it without a Model, as training does. What it returns is the caller's to close.
func OpenGPU() (*tensor.GPU, error) {
	d, err := cudadriver.Open(0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackend, err)
	}
	g, err := tensor.OpenGPU(d, tensor.GPUOptions{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBackend, err)
	}
	return g, nil
}
