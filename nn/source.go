package nn

import (
	"strings"

	"netfusion/nn/safetensors"
)

// Source is where weights come from: a safetensors file or a converted checkpoint. The data of each tensor is as long as
// its shape and type say.
type Source interface {
	Lookup(name string) (safetensors.Tensor, bool)
	Names() []string // in the order of the file
	Origin() string  // the file's name, for messages
}

// Under views the tensors of s whose names begin with prefix, without it: one expert of a pack.
func Under(s Source, prefix string) Source { return under{s, prefix} }

type under struct {
	source Source
	prefix string
}

func (u under) Lookup(name string) (safetensors.Tensor, bool) {
	t, ok := u.source.Lookup(u.prefix + name)
	t.Name = name
	return t, ok
}

func (u under) Names() []string {
	var names []string
	for _, n := range u.source.Names() {
		if rest, ok := strings.CutPrefix(n, u.prefix); ok {
			names = append(names, rest)
		}
	}
	return names
}

func (u under) Origin() string { return u.source.Origin() }
