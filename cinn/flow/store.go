package flow

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Tensors returns every tensor of the Flow in the order of use, for safetensors.Write. With half, matrices of the networks are
// stored as bf16; all else stays float32, a view of the Flow that is to be used before the Flow changes. A Flow from LoadPacked no
// longer has them.
func (f *Flow) Tensors(half bool) []safetensors.Tensor {
	if f.lean {
		panic("flow: a flow that was loaded for sessions cannot be stored")
	}
	var ts []safetensors.Tensor
	for _, b := range f.buffers {
		ts = append(ts, safetensors.ViewF32(b.name, b.shape, b.data))
	}
	for _, p := range f.params {
		v := f.values[p.Begin:][:p.Len]
		if half && p.Decay {
			ts = append(ts, safetensors.NewBF16(p.Name, p.Shape, v))
		} else {
			ts = append(ts, safetensors.ViewF32(p.Name, p.Shape, v))
		}
	}
	for i := range f.blocks {
		ts = append(ts, integers(permName(i), f.blocks[i].perm))
	}
	return ts
}

func permName(block int) string {
	return fmt.Sprintf("sub_layers.%d.shuffle.forward_shuffle_idx", block)
}

// integers stores v as I64, as PyTorch does with indices.
func integers(name string, v []int) safetensors.Tensor {
	data := make([]byte, 0, 8*len(v))
	for _, x := range v {
		data = binary.LittleEndian.AppendUint64(data, uint64(x))
	}
	return safetensors.Tensor{Name: name, DType: safetensors.I64, Shape: []int{len(v)}, Data: data}
}

// Load reads a Flow of the given Config. The caller checks w.Unused.
func Load(c Config, w nn.Weights) (*Flow, error) { return load(c, w, nil) }

// load reads a Flow, a lean one if pack is given, which gets its matrices.
func load(c Config, w nn.Weights, pack func(f *Flow, read reader)) (*Flow, error) {
	lean := pack != nil
	if err := c.Validate(); err != nil {
		w.Fail(err)
		return nil, w.Err()
	}
	// Tensors must be there before memory of their size is taken.
	if c.Dialect == NetFusion {
		w.Raw("linear.weight", c.Latent, c.inputs())
		w.Raw("linear.cholesky", c.Latent, c.Latent)
	} else {
		w.Raw("embedder.main.0.weight", c.EmbedWidth, c.inputs())
		w.Raw("sub_layers.0.norm_layer.loc", c.Latent)
	}
	if c.Classes > 0 {
		w.Raw("classes.weight", c.Classes, c.Class)
	}
	if w.Err() != nil {
		return nil, w.Err()
	}
	f, b := layout(c, 0, lean)
	for _, p := range b.params {
		if _, ok := w.Raw(p.Name, p.Shape...); !ok {
			return nil, w.Err()
		}
	}
	f.allocate(b)
	f.precision = w.Precision()
	for _, p := range f.params {
		if !lean || !p.Decay {
			w.F32Into(f.values[p.Begin:][:0:p.Len], p.Name, p.Shape...)
		}
	}
	for _, b := range f.buffers {
		copy(b.data, w.F32(b.name, b.shape...))
	}
	for i := range f.blocks {
		if t, ok := w.Raw(permName(i), c.Latent); ok {
			if err := permutation(f.blocks[i].perm, t); err != nil {
				w.Fail(err)
			}
		}
	}
	if err := w.Err(); err != nil {
		return nil, err
	}
	if err := f.check(); err != nil {
		w.Fail(err)
		return nil, w.Err()
	}
	if lean {
		pack(f, f.decoder(w))
	}
	f.Pack()
	return f, w.Err()
}

// decoder reads layers from w. After a failure, which w keeps, it reads zeros.
func (f *Flow) decoder(w nn.Weights) reader {
	var last *dense
	var m nn.Matrix
	return func(d *dense, dst []float32, i int) {
		if d != last {
			last, m = d, w.Matrix(d.name, d.out, d.in)
		}
		if w.Err() != nil {
			clear(dst)
			return
		}
		m.Read(dst, i)
		if err := finite(d.name, dst, i*d.in); err != nil {
			w.Fail(err)
		}
	}
}

// check refuses values with which the flow is not invertible.
func (f *Flow) check() error {
	n := f.Config.Latent
	for i := range len(f.linear.b) {
		if d := f.linear.l[i*n+i]; !(d > 0 && d < math.MaxFloat32) {
			return fmt.Errorf("tensor %q has %v on its diagonal, want a positive number", "linear.cholesky", d)
		}
	}
	for _, b := range f.buffers {
		if err := finite(b.name, b.data, 0); err != nil {
			return err
		}
	}
	for _, p := range f.params {
		if f.lean && p.Decay {
			continue // read, and checked, where it is packed
		}
		if err := finite(p.Name, f.values[p.Begin:][:p.Len], 0); err != nil {
			return err
		}
	}
	for i := range f.blocks {
		for j, v := range f.values[f.blocks[i].scale:][:n] {
			if v == 0 {
				return fmt.Errorf("tensor %q is zero at %d", fmt.Sprintf("sub_layers.%d.norm_layer.scale", i), j)
			}
		}
	}
	return nil
}

// finite refuses infinities and NaNs among the values v from begin on of a tensor.
func finite(name string, v []float32, begin int) error {
	for i, x := range v {
		if x-x != 0 {
			return fmt.Errorf("tensor %q has %v at %d", name, x, begin+i)
		}
	}
	return nil
}

func permutation(dst []int, t safetensors.Tensor) error {
	if t.DType != safetensors.I64 {
		return fmt.Errorf("tensor %q is %v, want I64", t.Name, t.DType)
	}
	seen := make([]bool, len(dst))
	for i := range dst {
		v := binary.LittleEndian.Uint64(t.Data[8*i:])
		if v >= uint64(len(dst)) || seen[v] {
			return fmt.Errorf("tensor %q is not a permutation of 0 to %d", t.Name, len(dst)-1)
		}
		seen[v] = true
		dst[i] = int(v)
	}
	return nil
}

// configKey is where a flow file's metadata holds its Config.
const configKey = "flow.config"

// Meta is the metadata of a file with the Flow's Tensors.
func (f *Flow) Meta() map[string]string {
	config, err := json.Marshal(f.Config)
	if err != nil {
		panic(err) // numbers and strings, all finite
	}
	return map[string]string{"arch": "flow", configKey: string(config)}
}

// Save writes the Flow to a file of its own.
func (f *Flow) Save(path string, half bool) error {
	return safetensors.WriteFile(path, f.Meta(), f.Tensors(half))
}

// Open reads a file that Save wrote.
func Open(path string) (*Flow, error) { return open(path, LoadExpert) }

// OpenPacked is Open for a Flow that only Sessions use; see LoadPacked.
func OpenPacked(path string, p tensor.Precision) (*Flow, error) {
	return open(path, func(source nn.Source, config []byte) (*Flow, error) { return LoadPacked(source, config, p) })
}

func open(path string, load func(source nn.Source, config []byte) (*Flow, error)) (*Flow, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return load(file, []byte(file.Metadata()[configKey]))
}

// LoadExpert reads the Flow that is all of source, with its Config as JSON.
func LoadExpert(source nn.Source, config []byte) (*Flow, error) {
	return loadExpert(source, config, tensor.F32, nil)
}

// LoadPacked is LoadExpert for a Flow that only Sessions use, which multiply in precision p. It is in memory once, in that
// precision, and can be neither trained nor stored.
func LoadPacked(source nn.Source, config []byte, p tensor.Precision) (*Flow, error) {
	return loadExpert(source, config, p, (*Flow).packNetworks)
}

func loadExpert(source nn.Source, config []byte, p tensor.Precision, pack func(f *Flow, read reader)) (*Flow, error) {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("%s: flow config: %w", source.Origin(), err)
	}
	w := nn.Load(source).As(p)
	f, err := load(c, w, pack)
	if err != nil {
		return nil, err
	}
	if extra := w.Unused(); len(extra) > 0 {
		return nil, fmt.Errorf("%s: tensor %q is not part of this flow", source.Origin(), extra[0])
	}
	return f, nil
}
