//go:build linux

package cputest

import (
	"syscall"
	"testing"
	"unsafe"
)

// AtPageEnd returns n zeros that end at memory which may not be touched, so that a kernel that reads or
// writes beyond its operands faults. The slice is valid until the test ends.
func AtPageEnd[T any](t testing.TB, n int) []T {
	t.Helper()
	mem := fenced[T](t, n)
	return mem[len(mem)-n:]
}

// AtPageStart returns n zeros that begin right after memory which may not be touched.
func AtPageStart[T any](t testing.TB, n int) []T {
	t.Helper()
	return fenced[T](t, n)[:n:n]
}

// fenced returns whole pages that hold n values, between two pages that may not be touched.
func fenced[T any](t testing.TB, n int) []T {
	t.Helper()
	page := syscall.Getpagesize()
	size := int(unsafe.Sizeof(*new(T)))
	bytes := max(1, (n*size+page-1)/page) * page
	mem, err := syscall.Mmap(-1, 0, page+bytes+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	for _, fence := range [][]byte{mem[:page], mem[page+bytes:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[page])), bytes/size)
}
