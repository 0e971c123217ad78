package conv

import _ "embed"

// PTX holds the GPU form: the entries of conv.cu, where their contracts are, compiled for compute capability 8.0 and later.
//
//go:embed sm80.ptx
var PTX string

// HopperPTX holds the entries of hopper.cu, for compute capability 9.0.
//
//go:embed sm90a.ptx
var HopperPTX string
