package main

import (
	"crypto/sha256"
	"fmt"

	"netfusion/tensor"
)

// file is a text's, by which results and the table of registers name it.
func file(f tensor.Family) string {
	if f.Hopper {
		return f.Name + "/sm90a.ptx"
	}
	return f.Name + "/sm80.ptx"
}

// sum is the SHA-256 of a text, by which results name it, too.
func sum(f tensor.Family) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(f.Text))) }

// runs tells whether a device can run a text.
func runs(f tensor.Family, a tensor.Attributes) bool { return !f.Hopper || a.Capability == 90 }
