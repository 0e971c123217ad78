//go:build linux

package memory

import (
	"syscall"
	"unsafe"
)

const page = 2 << 20 // the large pages of amd64, and those of arm64 whose small ones have 4 KiB

// large asks for large pages where s lies, before they are written to. It widens s to whole pages, since what lies beside it on the
// heap does not mind, and it is no more than a wish: an error changes nothing.
func large[T any](s []T) {
	size := uintptr(len(s)) * unsafe.Sizeof(*new(T))
	if size < page/4 {
		return
	}
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	end := (begin + size + page - 1) &^ (page - 1)
	begin &^= page - 1
	syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, syscall.MADV_HUGEPAGE)
}
