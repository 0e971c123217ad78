package main

import (
	"crypto/sha256"
	"fmt"

	"netfusion/kernels/activation"
	"netfusion/kernels/affine"
	"netfusion/kernels/attention"
	"netfusion/kernels/conv"
	"netfusion/kernels/coupling"
	"netfusion/kernels/dense"
	"netfusion/kernels/embedding"
	"netfusion/kernels/groupnorm"
	"netfusion/kernels/layernorm"
	"netfusion/kernels/matmul"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/quantize"
	"netfusion/kernels/random"
)

// family is a package of kernels.
type family struct{ name, ptx string }

var families = []family{
	{"activation", activation.PTX}, {"affine", affine.PTX}, {"attention", attention.PTX}, {"conv", conv.PTX}, {"coupling", coupling.PTX},
	{"dense", dense.PTX}, {"embedding", embedding.PTX}, {"groupnorm", groupnorm.PTX}, {"layernorm", layernorm.PTX},
	{"matmul", matmul.PTX}, {"optimizer", optimizer.PTX}, {"quantize", quantize.PTX}, {"random", random.PTX},
}

// sum is the SHA-256 of the PTX, by which results name it.
func (f family) sum() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(f.ptx))) }
