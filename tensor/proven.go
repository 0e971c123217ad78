package tensor

import (
	"crypto/sha256"
	"encoding/hex"
)

//go:generate go run netfusion/bench/gpu/proven -results ../bench/results -o proven_table.go

// Proven tells which file of bench/results shows that a PTX text has passed its tests on a GPU that it is for. What needs one
// generation of GPUs is used only then; elsewhere, and until then, what every GPU can run is used, which the tests run everywhere.
func Proven(ptx string) (file string, ok bool) {
	sum := sha256.Sum256([]byte(ptx))
	file, ok = proven[hex.EncodeToString(sum[:])]
	return file, ok
}
