package kerneltest

import (
	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// open returns the interpreter with all its checks on; seed is that of the order in which blocks and warps take turns.
func open(seed uint64) tensor.Driver { return ptx.Open(ptx.Options{Seed: seed}) }
