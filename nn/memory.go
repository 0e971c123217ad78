package nn

import "netfusion/nn/safetensors"

// Memory is a Source of tensors that are in memory, such as a converted checkpoint; origin stands for them in messages.
func Memory(origin string, tensors []safetensors.Tensor) Source {
	m := memory{origin, tensors, make(map[string]int, len(tensors))}
	for i, t := range tensors {
		m.index[t.Name] = i
	}
	return m
}

type memory struct {
	origin  string
	tensors []safetensors.Tensor
	index   map[string]int
}

func (m memory) Lookup(name string) (safetensors.Tensor, bool) {
	i, ok := m.index[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	return m.tensors[i], true
}

func (m memory) Names() []string {
	names := make([]string, len(m.tensors))
	for i, t := range m.tensors {
		names[i] = t.Name
	}
	return names
}

func (m memory) Origin() string { return m.origin }
