//go:build cuda

package kerneltest

import (
	"sync"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/cudadriver"
)

// first stays open, so that the GPU's context is made only once in a process.
var first = sync.OnceValue(openFirst)

func openFirst() *cudadriver.Device {
	d, err := cudadriver.Open(0)
	if err != nil {
		panic(err)
	}
	return d
}

// open returns the first GPU.
func open(uint64) tensor.Driver {
	first()
	return openFirst()
}

// Needs is left to the interpreter: what a GPU does without a barrier is undefined.
func Needs(t *testing.T, _, _ string, _ func(k *Kernel) error) {
	t.Skip("faults are planted in the interpreter")
}
