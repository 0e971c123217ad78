package cinn

import "netfusion/tensor"

// OpenOn is Open on the GPU that gpu opens.
func OpenOn(path string, o Options, gpu func() (*tensor.GPU, error)) (*Model, error) {
	f, err := OpenContainer(path)
	if err != nil {
		return nil, err
	}
	o.Backend = CUDA
	return openOn(f, o, gpu)
}
