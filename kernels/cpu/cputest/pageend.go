//go:build !linux

package cputest

import "testing"

// AtPageEnd returns n zeros. (On Linux they end at memory which may not be touched.)
func AtPageEnd(t testing.TB, n int) []float32 { return make([]float32, n) }
