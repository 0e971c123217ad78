// Program kernels is only built, by a test: it opens a GPU, and so carries the kernels.
package main

import (
	"os"

	"netfusion/tensor"
)

func main() {
	var d tensor.Driver
	if _, err := tensor.OpenGPU(d, tensor.GPUOptions{}); err != nil {
		os.Exit(1)
	}
}
