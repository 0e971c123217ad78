//go:build !cuda || !cgo

package cinn

import "netfusion/tensor"

const noCUDA = `built without CUDA; "go build -tags cuda" builds with it, given its header and its driver's library`

// OpenGPU opens the first GPU, for who computes on it without a Model, as training does. What it returns is the caller's to close.
func OpenGPU() (*tensor.GPU, error) { return nil, ErrBackend }
