package flow

import (
	"fmt"
	"slices"
	"strings"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/nn/torchbin"
)

// Convert reads a flow that the published code of the paper trained (net2net/modules/flow/flatflow.py, ConditionalFlatCouplingFlow with
// BatchNorm in its embedder): the state dict of the flow alone, or a whole checkpoint, whose experts are left where they are. The Config is
// that of the tensors' shapes. What a state dict does not say is taken as all of the paper's configurations have it: no activation between
// the blocks, and the embedded condition as it is in every block.
func Convert(path string) (*Flow, error) {
	file, err := torchbin.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return convert(file)
}

func convert(source nn.Source) (*Flow, error) {
	names := source.Names()
	first := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, firstNorm) })
	if first < 0 {
		return nil, fmt.Errorf("%s: no tensor is called %q: not a flow of net2net", source.Origin(), firstNorm)
	}
	s := published{nn.Under(source, strings.TrimSuffix(names[first], firstNorm))}
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	w := nn.Load(s)
	f, err := Load(c, w)
	if err != nil {
		return nil, err
	}
	if extra := w.Unused(); len(extra) > 0 {
		return nil, fmt.Errorf("%s: tensor %q is not part of such a flow", s.Origin(), extra[0])
	}
	if err := s.checkState(f); err != nil {
		return nil, err
	}
	return f, nil
}

const firstNorm = "sub_layers.0.norm_layer.loc"

// published is a flow's state dict with its tensors in our shapes, and without the bookkeeping.
type published struct{ nn.Source }

// Lookup finds a tensor; those of the ActNorms are [1][D][1][1] there.
func (s published) Lookup(name string) (safetensors.Tensor, bool) {
	t, ok := s.Source.Lookup(name)
	if strings.Contains(name, ".norm_layer.") && len(t.Shape) == 4 {
		t.Shape = []int{t.Elements()}
	}
	return t, ok
}

// Names leaves out what follows from the rest, and what only training needs.
func (s published) Names() []string {
	return slices.DeleteFunc(s.Source.Names(), func(name string) bool {
		return strings.HasSuffix(name, ".initialized") || strings.HasSuffix(name, ".backward_shuffle_idx") ||
			strings.HasSuffix(name, ".num_batches_tracked")
	})
}

// config reads the sizes off the shapes.
func (s published) config() (Config, error) {
	c := Config{Dialect: Net2Net, Clamp: 1}
	var err error
	matrix := func(name string) (out, in int) {
		t, ok := s.Lookup(name)
		if err == nil && (!ok || len(t.Shape) != 2) {
			err = fmt.Errorf("%s: tensor %q has shape %v, want a matrix", s.Origin(), name, t.Shape)
		}
		if err != nil {
			return 0, 0
		}
		return t.Shape[0], t.Shape[1]
	}
	count := func(format string, i, step int) (n int) {
		for ; ; n++ {
			if _, ok := s.Lookup(fmt.Sprintf(format, i+n*step)); !ok {
				return n
			}
		}
	}
	c.EmbedWidth, c.Cond = matrix("embedder.main.0.weight")
	c.EmbedDepth = count("embedder.main.%d.running_mean", 1, 3) - 1 // each hidden layer is Linear, BatchNorm, LeakyReLU
	c.Embed, _ = matrix(fmt.Sprintf("embedder.main.%d.weight", 3*(c.EmbedDepth+1)))
	c.Blocks = count("sub_layers.%d.norm_layer.loc", 0, 1)
	c.Hidden, _ = matrix("sub_layers.0.coupling.s.0.main.0.weight")
	c.Depth = count("sub_layers.0.coupling.s.0.main.%d.weight", 0, 2) - 2 // Linear, LeakyReLU; the first and the last are not counted
	if c.EmbedDepth < 0 && err == nil {
		err = fmt.Errorf("%s: tensor %q is missing: the embedder has no BatchNorm, which all of the paper's configurations have", s.Origin(), "embedder.main.1.running_mean")
	}
	t, _ := s.Lookup(firstNorm)
	c.Latent = t.Elements()
	return c, err
}

// checkState refuses a flow that was never trained, whose ActNorms would take their values from the first batch, and one whose
// permutations do not undo each other.
func (s published) checkState(f *Flow) error {
	for i, b := range f.blocks {
		name := fmt.Sprintf("sub_layers.%d.norm_layer.initialized", i)
		if t, ok := s.Lookup(name); ok && !slices.ContainsFunc(t.Data, func(b byte) bool { return b != 0 }) {
			return fmt.Errorf("%s: tensor %q is 0: this flow has not begun its training", s.Origin(), name)
		}
		name = fmt.Sprintf("sub_layers.%d.shuffle.backward_shuffle_idx", i)
		t, ok := s.Lookup(name)
		if !ok {
			continue
		}
		if !slices.Equal(t.Shape, []int{len(b.perm)}) {
			return fmt.Errorf("%s: tensor %q has shape %v, want %v", s.Origin(), name, t.Shape, []int{len(b.perm)})
		}
		back := make([]int, len(b.perm))
		if err := permutation(back, t); err != nil {
			return fmt.Errorf("%s: %w", s.Origin(), err)
		}
		for j, p := range b.perm {
			if back[p] != j {
				return fmt.Errorf("%s: tensor %q does not undo the block's permutation at %d", s.Origin(), name, p)
			}
		}
	}
	return nil
}
