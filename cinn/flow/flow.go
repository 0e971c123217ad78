// Package flow is the conditional invertible network between two experts: z ↔ v given c, with exact log-likelihood, in both
// dialects of Config.Dialect (Rombach, Esser, Ommer 2020, "Network-to-Network Translation with Conditional Invertible Neural
// Networks"; the affine coupling is that of Dinh et al. 2017, ActNorm that of Kingma and Dhariwal 2018).
//
//	z ── linear layer ── block ── … ── block ── v ~ N(0, I)
//	          │             │             │
//	      u = [c ; ê] ── embedder ────────┘        c ── head ── p(class)
//
// A condition may be a map, as a picture is: then convolutions stand before the embedder, and the linear layer and the head read averages.
//
// A Flow is weights and is shared; a Session holds one caller's memory and computes densities and samples; a Gradient holds
// a trainer's memory and computes the gradient of the loss. GPUFlow, GPUSession and GPUGradient do the same on a GPU.
package flow

import (
	"fmt"
	"math"
	"sync"

	"netfusion/kernels/memory"
	"netfusion/tensor"
)

// Flow is the weights of a conditional flow. Sessions may share it as long as nobody changes it.
type Flow struct {
	Config Config

	params  []Param
	values  []float32 // the slab: every parameter, in the order of params; of a lean Flow the vectors only
	buffers []buffer

	precision tensor.Precision // of the products of Sessions
	lean      bool             // only for Sessions: its matrices are in the packed networks and nowhere else
	packing   sync.Mutex       // of the networks, at the first NewSession
	packed    bool

	mean, inverse []float32 // of the linear layer's condition u = [c ; ê]: its mean and 1/standard deviation, [pooled+Class]
	maps          maps      // of a condition that is a map
	linear        affine
	embedder      mlp
	blocks        []block

	head     mlp
	table    tensor.Tensor // [Classes][Class]
	tableT   tensor.Weight // the same, packed
	halfNorm []float32     // -|E_k|²/2, [Classes]
}

// New returns a Flow with fresh weights. The couplings of the NetFusion dialect start at zero, so that until it is trained it
// is its linear layer, which Fit computes.
func New(c Config, seed uint64) (*Flow, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	f, b := layout(c, seed, false)
	f.allocate(b)
	f.maps.initialise(f.values, seed)
	f.embedder.initialise(f.values, seed)
	for i := range f.blocks {
		bl := &f.blocks[i]
		for j := range c.Latent {
			f.values[bl.scale+j] = 1
		}
		for _, nets := range bl.nets {
			for k := range nets {
				nets[k].initialise(f.values, seed)
				if c.Dialect == NetFusion {
					nets[k].last().zero(f.values)
				}
			}
		}
	}
	if c.Classes > 0 {
		f.head.initialise(f.values, seed)
		f.head.last().zero(f.values)
	}
	f.Pack()
	return f, nil
}

// layout names the tensors of c without allocating the parameters.
func layout(c Config, seed uint64, lean bool) (*Flow, *builder) {
	f, b := &Flow{Config: c, lean: lean}, &builder{lean: lean}
	u := c.inputs()
	f.mean, f.inverse = constant(u, 0), constant(u, 1)
	if c.Dialect == NetFusion {
		f.linear = affine{a: constant(c.Latent*u, 0), b: constant(c.Latent, 0), l: constant(c.Latent*c.Latent, 0)}
		for i := range c.Latent {
			f.linear.l[i*c.Latent+i] = 1
		}
		b.buffers = []buffer{
			{"condition.mean", []int{u}, f.mean}, {"condition.inverse_std", []int{u}, f.inverse},
			{"linear.weight", []int{c.Latent, u}, f.linear.a}, {"linear.bias", []int{c.Latent}, f.linear.b},
			{"linear.cholesky", []int{c.Latent, c.Latent}, f.linear.l},
		}
	}
	f.maps = newMaps(b, c)
	f.embedder = newMLP(b, "embedder", c.features()+c.Class, c.EmbedWidth, c.EmbedDepth+1, c.Embed, c.norm())
	for i := range c.Blocks {
		f.blocks = append(f.blocks, newBlock(b, c, i, seed))
	}
	if c.Classes > 0 {
		hidden := 0
		if c.HeadHidden > 0 {
			hidden = 1
		}
		f.head = newMLP(b, "head", c.pooled(), c.HeadHidden, hidden, c.Classes, layerNorm)
		f.table = tensor.Of(c.Classes, c.Class, b.buffer("classes.weight", 0, c.Classes, c.Class))
	}
	return f, b
}

func (f *Flow) allocate(b *builder) {
	f.params, f.buffers = b.params, b.buffers
	f.values = memory.Make[float32](b.size)
}

func constant(n int, v float32) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = v
	}
	return s
}

// Params lists the trainable tensors in the order of the slab.
func (f *Flow) Params() []Param { return f.params }

// Values is the slab of all parameters. Whoever writes to it calls Pack before the next use. A Flow from LoadPacked has none.
func (f *Flow) Values() []float32 {
	if f.lean {
		return nil
	}
	return f.values
}

// HeadBegin is where the class head's parameters begin in Values: they are the last, and their loss is a term of its own.
func (f *Flow) HeadBegin() int {
	if f.Config.Classes == 0 {
		return len(f.values)
	}
	return f.head.layers[0].w
}

// NullCondition is the mean of the training conditions, [Cond], which guidance and condition dropout take for no text at all;
// 0 until Fit. It must not be written to.
func (f *Flow) NullCondition() []float32 {
	if f.Config.Side > 0 {
		return f.maps.mean
	}
	return f.mean[:f.Config.Cond]
}

// layers calls each with every linear layer.
func (f *Flow) layers(each func(*dense)) {
	visit := func(n *mlp) {
		for i := range n.layers {
			each(&n.layers[i])
		}
	}
	for i := range f.maps.convolutions {
		each(&f.maps.convolutions[i].dense)
	}
	visit(&f.embedder)
	for i := range f.blocks {
		for _, nets := range f.blocks[i].nets {
			for k := range nets {
				visit(&nets[k])
			}
		}
	}
	visit(&f.head)
}

// networks calls each with every packed network.
func (f *Flow) networks(each func(*network)) {
	each(&f.embedder.packed)
	for i := range f.blocks {
		for k := range f.blocks[i].packed {
			each(&f.blocks[i].packed[k])
		}
	}
	if f.Config.Classes > 0 {
		each(&f.head.packed)
	}
}

// packNetworks fills the packed networks. The class head stays float32: it is small, and a rounded logit may pick another class.
func (f *Flow) packNetworks(read reader) {
	f.maps.pack(f.precision, f.values, read)
	f.embedder.packed.pack(f.precision, f.values, read, f.embedder)
	for i := range f.blocks {
		for k, nets := range f.blocks[i].nets {
			f.blocks[i].packed[k].pack(f.precision, f.values, read, nets...)
		}
	}
	if f.Config.Classes > 0 {
		f.head.packed.pack(tensor.F32, f.values, read, f.head)
	}
	f.chain()
	f.packed = true
}

// chain tells each packed network which is run after it.
func (f *Flow) chain() {
	var order []*network // from z to v
	for i := range f.blocks {
		order = append(order, &f.blocks[i].packed[0], &f.blocks[i].packed[1])
	}
	at := func(i int) *network {
		if i < 0 || i >= len(order) {
			return nil
		}
		return order[i]
	}
	f.embedder.packed.then(at(0), at(len(order)-1))
	for i, n := range order {
		n.then(at(i+1), at(i-1))
	}
	if f.Config.Classes > 0 {
		f.head.packed.then(nil, nil)
	}
}

// view reads a layer from the slab.
func (f *Flow) view(d *dense, dst []float32, i int) { copy(dst, f.values[d.w+i*d.in:]) }

// use packs the networks for a first Session.
func (f *Flow) use() {
	f.packing.Lock()
	defer f.packing.Unlock()
	if !f.packed {
		f.packNetworks(f.view)
	}
}

// Pack brings everything that is derived from the values and the buffers up to date.
func (f *Flow) Pack() {
	if f.packed && !f.lean {
		f.packNetworks(f.view)
	}
	f.linear.pack()
	f.packClasses()
}

// CopyBuffers copies what is stored but not trained (statistics, the linear layer, classes, permutations) from a Flow of the
// same Config, and packs.
func (f *Flow) CopyBuffers(from *Flow) error {
	if f.Config != from.Config {
		return fmt.Errorf("flow: configs differ: %+v and %+v", f.Config, from.Config)
	}
	for i := range f.buffers {
		copy(f.buffers[i].data, from.buffers[i].data)
	}
	for i := range f.blocks {
		copy(f.blocks[i].perm, from.blocks[i].perm)
	}
	f.Pack()
	return nil
}

func (l *affine) pack() {
	if l.l == nil {
		return
	}
	n := len(l.b)
	u := len(l.a) / n
	white, wa := l.invert()
	l.white, l.unwhite = tensor.NewWeight(white, n, n), tensor.NewWeight(l.l, n, n)
	l.whiteA, l.predict = tensor.NewWeight(wa, n, u), tensor.NewWeight(l.a, n, u)
}

// invert derives L⁻¹ [Latent][Latent], -L⁻¹A [Latent][Cond+Class], whiteB and logdet, in float64.
func (l *affine) invert() (white, wa []float32) {
	n := len(l.b)
	u := len(l.a) / n
	low := make([]float64, n*n)
	var logdet float64
	for i := range n {
		for j := range i + 1 {
			low[i*n+j] = float64(l.l[i*n+j])
		}
		logdet -= math.Log(low[i*n+i])
	}
	inv := invertLower(low, n)
	white, wa = make([]float32, n*n), make([]float32, n*u)
	l.whiteB, l.logdet = make([]float32, n), float32(logdet)
	row := make([]float64, u)
	for i := range n {
		clear(row)
		var b float64
		for j := range i + 1 {
			w := inv[i*n+j]
			white[i*n+j] = float32(w)
			b -= float64(w * float64(l.b[j]))
			for k, v := range l.a[j*u : (j+1)*u] {
				row[k] -= float64(w * float64(v))
			}
		}
		l.whiteB[i] = float32(b)
		for k, v := range row {
			wa[i*u+k] = float32(v)
		}
	}
	return white, wa
}
