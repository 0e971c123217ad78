//go:build cuda && cgo

package cudadriver

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"

	"gorgonia.org/cu"

	"netfusion/tensor"
)

// function is an entry that was loaded.
type function struct {
	name    string
	f       cu.Function
	args    int // bytes
	threads int // the most of a block
	shared  int // the most bytes of dynamic shared memory
}

// alwaysShared is how much shared memory a function has without asking.
const alwaysShared = 48 << 10

// Load has the driver compile PTX, which keeps the result in a cache of the user's.
func (d *Device) Load(name, src string, entries []tensor.Entry) ([]tensor.Function, error) {
	if err := d.enter("Load"); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	call := "Load: " + name
	log := &cu.JITErrorLogBuffer{Buffer: make([]byte, 8<<10)}
	m, err := cu.LoadDataEx(src, log)
	if err != nil {
		err = d.failed(err, call)
		if errors.Is(err, tensor.ErrLost) || errors.Is(err, tensor.ErrOutOfMemory) {
			return nil, err
		}
		said, _, _ := bytes.Cut(log.Buffer, []byte{0})
		return nil, fmt.Errorf("%w: %w: %s", tensor.ErrRefused, err, bytes.TrimSpace(said))
	}
	functions := make([]function, len(entries))
	for i, e := range entries {
		if functions[i], err = d.find(m, e); err != nil {
			err = d.failed(err, call+": "+e.Name)
			return nil, errors.Join(err, code(m.Unload()))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.modules = append(d.modules, m)
	handles := make([]tensor.Function, len(entries))
	for i, f := range functions {
		d.functions = append(d.functions, f)
		handles[i] = tensor.Function(len(d.functions))
	}
	return handles, nil
}

// find looks up an entry of a module, and gives it the shared memory that its launches will ask for.
func (d *Device) find(m cu.Module, e tensor.Entry) (function, error) {
	f := function{name: e.Name}
	var err error
	if f.f, err = m.Function(e.Name); err != nil {
		return f, err
	}
	if f.args, err = argumentBytes(f.f); err != nil {
		return f, err
	}
	if f.threads, err = f.f.Attribute(cu.FnMaxThreadsPerBlock); err != nil {
		return f, err
	}
	static, err := f.f.Attribute(cu.SharedSizeBytes)
	if err != nil {
		return f, err
	}
	if e.DynamicShared < 0 || static+e.DynamicShared > d.attributes.SharedPerBlock {
		return f, fmt.Errorf("%d bytes of shared memory, and %d dynamic, of %d", static, e.DynamicShared, d.attributes.SharedPerBlock)
	}
	f.shared = max(alwaysShared-static, 0)
	if e.DynamicShared > f.shared {
		f.shared = e.DynamicShared
		err = allowShared(f.f, e.DynamicShared)
	}
	return f, err
}

// Launch gives a kernel to the stream.
func (d *Device) Launch(s tensor.Stream, f tensor.Function, l tensor.Launch) error {
	q, err := d.enterStream("Launch", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	d.mu.Lock()
	known := f > 0 && int(f) <= len(d.functions)
	var fn function
	if known {
		fn = d.functions[f-1]
	}
	d.mu.Unlock()
	if !known {
		return fmt.Errorf("Launch: no function %d", f)
	}
	args := l.Args
	if err = fn.check(l); err == nil {
		args, err = withMaps(&l)
	}
	if err == nil {
		grid, block := size(l.Grid), size(l.Block)
		err = launch(fn.f, q.s, &grid, &block, l.DynamicShared, l.Cooperative, l.Early, args)
	}
	if err != nil {
		return d.failed(err, fmt.Sprintf("Launch: %s: grid %v, block %v, %d bytes of shared memory", fn.name, l.Grid, l.Block, l.DynamicShared))
	}
	return nil
}

// check finds what the driver would take for another number, or say nothing of.
func (f *function) check(l tensor.Launch) error {
	threads := 1
	for i, most := range [3]int{1<<31 - 1, 65535, 65535} {
		if l.Grid[i] < 0 || l.Grid[i] > most || l.Block[i] < 0 || l.Block[i] > 1024 {
			return invalidValue
		}
		threads *= max(l.Block[i], 1)
	}
	switch {
	case threads > f.threads:
		return fmt.Errorf("%d threads, at most %d", threads, f.threads)
	case len(l.Args) != f.args:
		return fmt.Errorf("%d bytes of arguments, not %d", len(l.Args), f.args)
	case l.DynamicShared < 0 || l.DynamicShared > f.shared:
		return fmt.Errorf("at most %d bytes of dynamic shared memory", f.shared)
	}
	return nil
}
