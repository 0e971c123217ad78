package flow

import (
	"math"

	"netfusion/kernels/random"
)

// Param is a named trainable tensor, a view of the Flow's slab.
type Param struct {
	Name  string
	Shape []int
	Begin int // its place in Values: [Begin, Begin+Len); of no meaning for a matrix of a lean Flow
	Len   int
	Decay bool // a matrix, which weight decay may shrink
}

// buffer is a named tensor that is stored but not trained.
type buffer struct {
	name  string
	shape []int
	data  []float32
}

// builder collects the parameters and the buffers of a Flow while its networks are laid out.
type builder struct {
	params  []Param
	size    int
	buffers []buffer
	nets    int
	lean    bool // matrices get no place
}

func (b *builder) param(name string, shape ...int) (begin int) {
	n := 1
	for _, s := range shape {
		n *= s
	}
	begin = b.size
	matrix := len(shape) == 2
	b.params = append(b.params, Param{name, shape, begin, n, matrix})
	if !matrix || !b.lean {
		b.size += n
	}
	return begin
}

func (b *builder) buffer(name string, fill float32, shape ...int) []float32 {
	n := 1
	for _, s := range shape {
		n *= s
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = fill
	}
	b.buffers = append(b.buffers, buffer{name, shape, data})
	return data
}

// Streams of the noise generator. Those from dropoutStream on belong to dropout masks.
const (
	noiseStream   = 1 // of samples: dimensions [0, Latent) are v, then the class noise
	classStream   = 2 // of samples: dimension 0 picks the class
	initStream    = 3 // of initial weights: one sample number per network and layer
	shuffleStream = 4 // of permutations: one sample number per block
	blurStream    = 5 // of noise on the text while training
	dropoutStream = 1 << 16
)

// initialise draws the weight and the bias of a layer from ±1/√in, PyTorch's default.
func (d *dense) initialise(values []float32, seed, layer uint64) {
	bound := float32(1 / math.Sqrt(float64(d.in)))
	w := values[d.w:][:d.in*d.out]
	random.Uniform(w, seed, initStream, layer, 0)
	b := values[d.b:][:d.out]
	random.Uniform(b, seed, initStream, layer, len(w))
	for _, v := range [2][]float32{w, b} {
		for i := range v {
			v[i] = (2*v[i] - 1) * bound
		}
	}
}

// zero makes a layer ignore its input.
func (d *dense) zero(values []float32) {
	clear(values[d.w:][:d.in*d.out])
	clear(values[d.b:][:d.out])
}

// shuffle returns the fixed permutation behind block i (Fisher and Yates).
func shuffle(n int, seed uint64, i int) []int {
	perm, words := make([]int, n), make([]uint32, n)
	random.Words(words, seed, shuffleStream, uint64(i), 0)
	for j := range perm {
		perm[j] = j
	}
	for j := n - 1; j > 0; j-- {
		k := int(uint64(words[j]) * uint64(j+1) >> 32)
		perm[j], perm[k] = perm[k], perm[j]
	}
	return perm
}
