package flow

import "fmt"

// dense is one linear layer: where its parameters lie.
type dense struct {
	name    string // of the weight
	in, out int
	w, b    int // offsets of the weight [out][in] and the bias [out]
	strip   int // where a Gradient's sums of squares of this layer begin
}

// mlp is linear layers with LeakyReLU between them: the subnets of the couplings, the embedder and the class head. A
// normalisation may stand before each LeakyReLU, and dropout, in training, after it.
type mlp struct {
	layers []dense
	norms  []norm // one per hidden layer, or none
	id     uint32 // tells dropout masks apart
	packed network
}

type normKind uint8

const (
	noNorm normKind = iota
	layerNorm
	batchNorm
)

// newMLP lays out in → width → … → width → out with hidden layers of the given width. Names count the members of a
// torch Sequential: main.0, main.1, …
func newMLP(b *builder, name string, in, width, hidden, out int, kind normKind) mlp {
	n := mlp{id: uint32(b.nets)}
	b.nets++
	at := 0
	add := func(in, out int) {
		prefix := fmt.Sprintf("%s.main.%d.", name, at)
		n.layers = append(n.layers, dense{
			name: prefix + "weight", in: in, out: out, w: b.param(prefix+"weight", out, in), b: b.param(prefix+"bias", out),
		})
		at++
	}
	for range hidden {
		add(in, width)
		if kind != noNorm {
			n.norms = append(n.norms, newNorm(b, fmt.Sprintf("%s.main.%d.", name, at), width, kind))
			at++
		}
		at++ // the LeakyReLU
		in = width
	}
	add(in, out)
	return n
}

func (n *mlp) initialise(values []float32, seed uint64) {
	for i := range n.layers {
		n.layers[i].initialise(values, seed, uint64(n.id)<<8|uint64(i))
	}
	for i := range n.norms {
		g := values[n.norms[i].gamma:][:n.norms[i].n]
		for j := range g {
			g[j] = 1
		}
	}
}

// last is the output layer.
func (n *mlp) last() *dense { return &n.layers[len(n.layers)-1] }
