//go:build linux || darwin

package disk

import (
	"errors"
	"os"
	"syscall"
)

// Lock keeps other processes from locking f until it is closed, or its owner dies; ErrLocked if one has. Where files cannot be
// locked, it does nothing.
func Lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return nil // a file system without locks is no reason to fail
}
