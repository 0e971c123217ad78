//go:build !linux

package main

// pinned runs work where the system puts it.
func pinned(_ int, work func()) { work() }
