//go:build darwin

package main

import "golang.org/x/sys/unix"

// freeMemory is how many bytes the machine has, for macOS gives to programs what it has. 0 is not known.
func freeMemory() int {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int(n)
}
