//go:build linux

package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// pinned runs work on a thread of its own that stays on the n-th of the processors that this process may use.
func pinned(n int, work func()) {
	runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
	var all, one unix.CPUSet
	if unix.SchedGetaffinity(0, &all) == nil {
		for cpu := range 64 * len(all) {
			if all.IsSet(cpu) {
				if n--; n < 0 {
					one.Set(cpu)
					break
				}
			}
		}
		unix.SchedSetaffinity(0, &one) // without it the loop is only less sharp
	}
	work()
}
