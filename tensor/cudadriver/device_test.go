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

// TestDriver comes last: a device that a test has lost stays lost to the process.
func TestDriver(t *testing.T) {
	drivertest.Run(t, func() tensor.Driver { return open(t) })
}
