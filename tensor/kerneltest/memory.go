package kerneltest

import (
	"testing"

	"netfusion/tensor"
)

// LoadOn is Load on a driver that the test opened for this alone.
func LoadOn(t testing.TB, driver tensor.Driver, text, entry string) *Kernel {
	t.Helper()
	return load(t, driver, text, tensor.Entry{Name: entry})
}

// Put copies a slice, as Run takes them, to memory of the device that is there until the test ends, and returns its address.
func (k *Kernel) Put(slice any) tensor.DevicePtr {
	k.t.Helper()
	b := bytesOf(slice)
	p, err := k.driver.Alloc(len(b))
	if err == nil {
		err = k.driver.Upload(k.stream, p, b)
	}
	if err == nil {
		err = k.driver.Synchronize(k.stream)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

// Get copies memory of the device to a slice.
func (k *Kernel) Get(slice any, p tensor.DevicePtr) {
	k.t.Helper()
	err := k.driver.Download(k.stream, bytesOf(slice), p)
	if err == nil {
		err = k.driver.Synchronize(k.stream)
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// Launch runs the kernel and returns what went wrong.
func (k *Kernel) Launch(l tensor.Launch) error {
	if err := k.driver.Launch(k.stream, k.f, l); err != nil {
		return err
	}
	return k.driver.Synchronize(k.stream)
}
