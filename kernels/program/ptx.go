package program

import _ "embed"

// PTX holds the GPU form: the entries of program.cu, where their contracts are, compiled for compute capability 8.0 and later.
//
//go:embed sm80.ptx
var PTX string
