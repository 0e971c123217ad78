//go:build cuda && cgo

package cudadriver_test

import (
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/cudadriver"
	"netfusion/tensor/drivertest"
)

func open(t *testing.T) *cudadriver.Device {
	d, err := cudadriver.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTensorMap(t *testing.T) {
	d := open(t)
	defer d.Close()
	if d.Attributes().Capability < 90 {
		t.Skip("no tensor memory accelerator")
	}
	p, err := d.Alloc(64 * 64 * 2)
	if err != nil {
		t.Fatal(err)
	}
	m := cudadriver.TensorMap{Type: cudadriver.TensorBFloat16, Dims: []uint64{64, 64}, Strides: []uint64{128}, Box: []uint32{64, 8}, Swizzle: 128}
	if b, err := d.Encode(p, m); err != nil || b == [128]byte{} {
		t.Errorf("%v, or nothing", err)
	}
	m.Strides[0] = 100
	if _, err := d.Encode(p, m); err == nil {
		t.Error("rows that are not aligned")
	}
	m.Strides = nil
	if _, err := d.Encode(p, m); err == nil {
		t.Error("no strides")
	}
}

// TestDriver comes last: a device that a test has lost stays lost to the process.
func TestDriver(t *testing.T) {
	drivertest.Run(t, func() tensor.Driver { return open(t) })
}
