//go:build cuda

package kerneltest

import (
	"sync"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/cudadriver"
)

// first is the GPU for all tests: it stays open, with the kernels that were compiled for it.
var first = sync.OnceValue(openFirst)

func openFirst() *cudadriver.Device {
	d, err := cudadriver.Open(0)
	if err != nil {
		panic(err)
	}
	return d
}

// open returns the first GPU.
func open(uint64) tensor.Driver {
	first() // keeps the context
	return openFirst()
}

// device returns the first GPU if it can run the text.
func device(t testing.TB, text string, _ uint64) tensor.Driver {
	t.Helper()
	if c := first().Attributes().Capability; isHopper(text) && c != 90 {
		t.Skipf("for compute capability 9.0, not %d.%d", c/10, c%10)
	}
	return first()
}

// compiled are the kernels of the first GPU: a driver compiles a whole text each time that something of it is loaded.
var compiled = map[compiledKey]tensor.Function{}

type compiledKey struct {
	text  string
	entry tensor.Entry
}

func function(d tensor.Driver, text string, e tensor.Entry) (tensor.Function, error) {
	if d != tensor.Driver(first()) {
		f, err := d.Load(e.Name, text, []tensor.Entry{e})
		if err != nil {
			return 0, err
		}
		return f[0], nil
	}
	key := compiledKey{text, e}
	if f, ok := compiled[key]; ok {
		return f, nil
	}
	all := []tensor.Entry{e}
	if e.DynamicShared == 0 {
		all = nil
		for _, name := range entries.FindAllStringSubmatch(text, -1) {
			all = append(all, tensor.Entry{Name: name[1]})
		}
	}
	functions, err := d.Load(e.Name, text, all)
	if err != nil {
		return 0, err
	}
	for i, f := range functions {
		compiled[compiledKey{text, all[i]}] = f
	}
	return compiled[key], nil
}

func release(k *Kernel) { k.driver.CloseStream(k.stream) }

// Needs is left to the interpreter: what a GPU does without a barrier is undefined.
func Needs(t *testing.T, _, _ string, _ func(k *Kernel) error) {
	t.Skip("faults are planted in the interpreter")
}

// NeedsShared is left to it, too.
func NeedsShared(t *testing.T, text, entry string, _ int, run func(k *Kernel) error) {
	Needs(t, text, entry, run)
}

// Traffic is left to the interpreter, which counts it.
func Traffic(t testing.TB, _, _ string, _ float64, _ func(k *Kernel)) {
	t.Helper()
	t.Skip("traffic is counted in the interpreter")
}

// TrafficShared is left to it, too.
func TrafficShared(t testing.TB, text, entry string, _ int, most float64, run func(k *Kernel)) {
	t.Helper()
	Traffic(t, text, entry, most, run)
}
