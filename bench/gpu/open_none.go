//go:build !cuda

package main

import (
	"errors"

	"netfusion/tensor"
)

func open() (tensor.Driver, int, error) {
	return nil, 0, errors.New("built without CUDA; ./build.sh gpu builds it with")
}
