//go:build linux

package cputest

import (
	"syscall"
	"testing"
	"unsafe"
)

// AtPageEnd returns n zeros that end at memory which may not be touched, so that a kernel that reads or
// writes beyond its operands faults. The slice is valid until the test ends.
func AtPageEnd(t testing.TB, n int) []float32 {
	t.Helper()
	page := syscall.Getpagesize()
	size := (4*n+page-1)/page*page + page
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	if err := syscall.Mprotect(mem[size-page:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&mem[0])), (size-page)/4)[(size-page)/4-n:]
}
