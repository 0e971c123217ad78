package torchbin

import (
	"fmt"

	"netfusion/nn/safetensors"
)

// The values that a checkpoint's pickle can build: nil, bool, int64, float64, string, longInt, tuple, *list, *dict,
// *global, *storage, *tensor, and mark, which only ever lies on the stack.
type (
	mark    struct{}
	longInt string // two's complement little-endian, too long for an int64 (the legacy magic number is)
	tuple   []any
	list    struct{ items []any }

	// dict keeps the order of insertion, as Python's does. Integer keys become their decimal digits.
	dict struct {
		keys   []string
		values []any
		index  map[string]int
	}

	// global is a name that the pickle refers to, from the closed list.
	global struct {
		name   string
		dtype  safetensors.DType             // of a storage class
		reduce func(args tuple) (any, error) // of a callable
	}

	// storage is a run of elements in the file that tensors share. Its data is set once the pickle has been run.
	storage struct {
		key   string
		dtype safetensors.DType
		numel int // at most 2^59
		data  []byte
	}

	// tensor is a strided view of a storage; strides and offset count elements.
	tensor struct {
		storage        *storage
		offset         int
		shape, strides []int
	}
)

// size returns the storage's length in bytes.
func (s *storage) size() int { return s.numel * (s.dtype.Bits() / 8) }

func (d *dict) set(key string, v any) error {
	if _, dup := d.index[key]; dup {
		return fmt.Errorf("duplicate key %q", key)
	}
	if d.index == nil {
		d.index = map[string]int{}
	}
	d.index[key] = len(d.keys)
	d.keys = append(d.keys, key)
	d.values = append(d.values, v)
	return nil
}

func (d *dict) get(key string) any {
	if i, ok := d.index[key]; ok {
		return d.values[i]
	}
	return nil
}

// globals are all the names that a checkpoint may refer to.
var globals = func() map[string]*global {
	m := map[string]*global{}
	for _, g := range []*global{
		{name: "collections.OrderedDict", reduce: orderedDict},
		{name: "torch._utils._rebuild_tensor_v2", reduce: rebuildTensor},
		{name: "torch._utils._rebuild_parameter", reduce: rebuildParameter},
	} {
		m[g.name] = g
	}
	for name, d := range map[string]safetensors.DType{
		"Float": safetensors.F32, "Half": safetensors.F16, "BFloat16": safetensors.BF16, "Double": safetensors.F64,
		"Long": safetensors.I64, "Int": safetensors.I32, "Short": safetensors.I16, "Char": safetensors.I8,
		"Byte": safetensors.U8, "Bool": safetensors.BOOL,
	} {
		name = "torch." + name + "Storage"
		m[name] = &global{name: name, dtype: d}
	}
	return m
}()

// orderedDict makes an empty dictionary; its items follow as opcodes.
func orderedDict(args tuple) (any, error) {
	if len(args) != 0 {
		return nil, fmt.Errorf("takes no arguments, found %d", len(args))
	}
	return &dict{}, nil
}

// rebuildTensor takes (storage, offset, size, stride, requires_grad, backward_hooks[, metadata]).
func rebuildTensor(args tuple) (any, error) {
	if len(args) != 6 && len(args) != 7 {
		return nil, fmt.Errorf("takes 6 or 7 arguments, found %d", len(args))
	}
	s, ok := args[0].(*storage)
	if !ok {
		return nil, fmt.Errorf("wanted a storage, found %s", describe(args[0]))
	}
	offset, err := count(args[1])
	if err != nil {
		return nil, fmt.Errorf("offset: %w", err)
	}
	shape, err := counts(args[2])
	if err != nil {
		return nil, fmt.Errorf("shape: %w", err)
	}
	strides, err := counts(args[3])
	if err != nil {
		return nil, fmt.Errorf("strides: %w", err)
	}
	if len(shape) != len(strides) {
		return nil, fmt.Errorf("shape %v and strides %v differ in length", shape, strides)
	}
	return &tensor{storage: s, offset: offset, shape: shape, strides: strides}, nil
}

// rebuildParameter takes (tensor, requires_grad, backward_hooks) and is the tensor.
func rebuildParameter(args tuple) (any, error) {
	if len(args) != 3 {
		return nil, fmt.Errorf("takes 3 arguments, found %d", len(args))
	}
	t, ok := args[0].(*tensor)
	if !ok {
		return nil, fmt.Errorf("wanted a tensor, found %s", describe(args[0]))
	}
	return t, nil
}

// persistent resolves a persistent id: ("storage", class, key, location, numel[, None]).
func persistent(v any) (*storage, error) {
	id, ok := v.(tuple)
	if !ok || len(id) != 5 && len(id) != 6 {
		return nil, fmt.Errorf("persistent id is %s, wanted a tuple of 5 or 6", describe(v))
	}
	class, ok := id[1].(*global)
	if id[0] != "storage" || !ok || class.reduce != nil {
		return nil, fmt.Errorf("persistent id starts with %s, %s, wanted \"storage\" and its class", describe(id[0]), describe(id[1]))
	}
	key, ok := id[2].(string)
	if !ok {
		return nil, fmt.Errorf("storage key is %s, wanted a string", describe(id[2]))
	}
	numel, err := count(id[4])
	if err != nil {
		return nil, fmt.Errorf("storage %q: length: %w", key, err)
	}
	if len(id) == 6 && id[5] != nil {
		return nil, fmt.Errorf("storage %q: is a view of another one, which is not supported", key)
	}
	return &storage{key: key, dtype: class.dtype, numel: numel}, nil
}

// count returns v as a number of elements, which fits an int eightfold.
func count(v any) (int, error) {
	n, ok := v.(int64)
	if !ok || n < 0 || n > 1<<59 {
		return 0, fmt.Errorf("wanted an integer of 0 to 2^59, found %s", describe(v))
	}
	return int(n), nil
}

func counts(v any) ([]int, error) {
	t, ok := v.(tuple)
	if !ok {
		return nil, fmt.Errorf("wanted a tuple, found %s", describe(v))
	}
	if len(t) > maxRank {
		return nil, fmt.Errorf("%d dimensions, at most %d are supported", len(t), maxRank)
	}
	ns := make([]int, len(t))
	for i := range t {
		n, err := count(t[i])
		if err != nil {
			return nil, err
		}
		ns[i] = n
	}
	return ns, nil
}

// describe names a value for an error, in few words whatever its size.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool, int64, float64:
		return fmt.Sprint(v)
	case string:
		return fmt.Sprintf("%.40q", v)
	case longInt:
		return "a long integer"
	case tuple:
		return fmt.Sprintf("a tuple of %d", len(v))
	case *list:
		return fmt.Sprintf("a list of %d", len(v.items))
	case *dict:
		return fmt.Sprintf("a dictionary of %d", len(v.keys))
	case *global:
		return v.name
	case *storage:
		return "a storage"
	case *tensor:
		return "a tensor"
	default:
		return "a mark"
	}
}
