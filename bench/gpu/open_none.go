//go:build !cuda

package main

import (
	"errors"

	"netfusion/tensor"
)

var errNoCUDA = errors.New("built without CUDA; ./build.sh gpu builds it with")

func open() (tensor.Driver, int, error) { return nil, 0, errNoCUDA }

func used(tensor.Driver) (int, error) { return 0, errNoCUDA }
