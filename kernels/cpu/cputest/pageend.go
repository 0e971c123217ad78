//go:build !linux

package cputest

import "testing"

// AtPageEnd returns n zeros. (On Linux they end at memory which may not be touched.)
func AtPageEnd[T any](t testing.TB, n int) []T { return make([]T, n) }

// AtPageStart returns n zeros. (On Linux they begin right after memory which may not be touched.)
func AtPageStart[T any](t testing.TB, n int) []T { return make([]T, n) }
