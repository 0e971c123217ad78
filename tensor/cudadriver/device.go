//go:build cuda && cgo

package cudadriver

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"

	"gorgonia.org/cu"

	"netfusion/tensor"
)

// Device is an NVIDIA GPU. It implements tensor.Driver.
type Device struct {
	gpu        cu.Device
	context    cu.CUContext // the device's primary one, which other Devices of the process and other libraries share
	attributes tensor.Attributes

	mu        sync.Mutex // guards what follows; not held while the driver is called
	lost      error      // what later calls return, once the device is lost or closed
	modules   []cu.Module
	functions []function
	memory    map[tensor.DevicePtr]int // bytes
	streams   map[tensor.Stream]*stream
	opened    tensor.Stream // the latest
}

var _ tensor.Driver = (*Device)(nil)

// Devices is how many GPUs there are.
func Devices() (int, error) {
	n, err := cu.NumDevices()
	return n, code(err)
}

// Version is the newest CUDA version that the driver knows: 12040 for 12.4.
func Version() int { return cu.Version() }

// Open makes ready the GPU that the driver numbers so.
func Open(number int) (*Device, error) {
	d := &Device{memory: map[tensor.DevicePtr]int{}, streams: map[tensor.Stream]*stream{}}
	var err error
	if d.gpu, err = cu.GetDevice(number); err != nil {
		return nil, fmt.Errorf("Open: GPU %d: %w", number, code(err))
	}
	if err := d.describe(); err != nil {
		return nil, fmt.Errorf("Open: GPU %d: %w", number, err)
	}
	if d.context, err = d.gpu.RetainPrimaryCtx(); err != nil {
		return nil, fmt.Errorf("Open: GPU %d, %s: %w", number, d.attributes.Name, code(err))
	}
	return d, nil
}

// describe fills in the attributes.
func (d *Device) describe() error {
	a := &d.attributes
	var err error
	if a.Name, err = d.gpu.Name(); err != nil {
		return code(err)
	}
	memory, err := d.gpu.TotalMem()
	if err != nil {
		return code(err)
	}
	a.Memory = int(memory)
	var major, minor int
	for _, x := range []struct {
		to   *int
		what cu.DeviceAttribute
	}{
		{&major, cu.ComputeCapabilityMajor}, {&minor, cu.ComputeCapabilityMinor}, {&a.Multiprocessors, cu.MultiprocessorCount},
		{&a.SharedPerBlock, sharedPerBlockOptIn}, {&a.SharedPerMulti, cu.MaxSharedMemoryPerMultiprocessor}, {&a.L2, cu.L2CacheSize},
	} {
		if *x.to, err = d.gpu.Attribute(x.what); err != nil {
			return fmt.Errorf("attribute %d: %w", int(x.what), code(err))
		}
	}
	a.Capability = 10*major + minor
	return nil
}

// Attributes describes the device.
func (d *Device) Attributes() tensor.Attributes { return d.attributes }

// Used is how many bytes of the device's memory are in use, by whomever.
func (d *Device) Used() (int, error) {
	if err := d.enter("Used"); err != nil {
		return 0, err
	}
	defer runtime.UnlockOSThread()
	free, total, err := cu.MemInfo()
	if err != nil {
		return 0, d.failed(err, "Used")
	}
	return int(total - free), nil
}

// code makes a result of an error of cu.
func code(err error) error {
	if err == nil {
		return nil
	}
	if v := reflect.ValueOf(err); v.CanInt() {
		return result(v.Int())
	}
	return err
}

// enter is what every call begins with: it makes the device's context that of the thread. If it returns nil, the caller unlocks
// the thread at its end.
func (d *Device) enter(call string) error {
	d.mu.Lock()
	lost := d.lost
	d.mu.Unlock()
	if lost != nil {
		return fmt.Errorf("%s: %w", call, lost)
	}
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		runtime.UnlockOSThread()
		return d.failed(err, call)
	}
	return nil
}

// failed says which call failed, about what, and loses the device if err says so.
func (d *Device) failed(err error, call string) error {
	var r result
	if errors.As(code(err), &r) {
		switch err = r; {
		case r.lost():
			err = fmt.Errorf("%w: %w", tensor.ErrLost, r)
			d.mu.Lock()
			if d.lost == nil {
				d.lost = fmt.Errorf("%w (in %s)", err, call)
			}
			d.mu.Unlock()
		case r == outOfMemory:
			err = fmt.Errorf("%w: %w", tensor.ErrOutOfMemory, r)
		}
	}
	return fmt.Errorf("%s: %w", call, err)
}

// Alloc reserves memory.
func (d *Device) Alloc(bytes int) (tensor.DevicePtr, error) {
	if err := d.enter("Alloc"); err != nil {
		return 0, err
	}
	defer runtime.UnlockOSThread()
	call := fmt.Sprintf("Alloc: %d bytes", bytes)
	if bytes <= 0 {
		return 0, errors.New(call)
	}
	if bytes > d.attributes.Memory {
		return 0, fmt.Errorf("%s of %d: %w", call, d.attributes.Memory, tensor.ErrOutOfMemory)
	}
	p, err := cu.MemAlloc(int64(bytes))
	if err != nil {
		return 0, d.failed(err, call)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory[tensor.DevicePtr(p)] = bytes
	return tensor.DevicePtr(p), nil
}

// Free gives memory back.
func (d *Device) Free(p tensor.DevicePtr) error {
	if err := d.enter("Free"); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if p == 0 {
		return nil
	}
	d.mu.Lock()
	bytes, known := d.memory[p]
	delete(d.memory, p)
	d.mu.Unlock()
	if !known {
		return fmt.Errorf("Free: %#x is no allocation", uint64(p))
	}
	if err := cu.MemFree(cu.DevicePtr(p)); err != nil {
		return d.failed(err, fmt.Sprintf("Free: %d bytes at %#x", bytes, uint64(p)))
	}
	return nil
}

// Close frees everything, in this order because a stream's work uses the rest. A device that is lost frees what it had itself,
// when the process ends.
func (d *Device) Close() error {
	d.mu.Lock()
	lost, streams := d.lost, d.streams
	d.mu.Unlock()
	if lost != nil {
		return nil
	}
	var errs []error
	for s := range streams {
		errs = append(errs, d.CloseStream(s))
	}
	if err := d.enter("Close"); err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer runtime.UnlockOSThread()
	for p := range d.memory {
		errs = append(errs, code(cu.MemFree(cu.DevicePtr(p))))
	}
	for _, m := range d.modules {
		errs = append(errs, code(m.Unload()))
	}
	errs = append(errs, code(d.gpu.ReleasePrimaryCtx()))
	d.mu.Lock()
	d.lost = errClosed
	d.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	return nil
}

var errClosed = errors.New("the device is closed")
