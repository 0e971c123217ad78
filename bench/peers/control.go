package main

import "sync"

// spins is how long the control loop is: some milliseconds.
const spins = 2 << 20

// controlCase takes the same time on every free core: threads=N. Where it takes longer, somebody else had a core. Each thread stays
// on its core: two that the system wakes on one, the other being idle, would look like that too.
func controlCase(a arguments) (func() ([]float32, error), error) {
	n, err := a.numbers("threads")
	if err != nil {
		return nil, err
	}
	return func() ([]float32, error) {
		var all sync.WaitGroup
		for i := range n[0] {
			all.Go(func() { pinned(i, func() { spin(spins) }) })
		}
		all.Wait()
		return nil, nil
	}, nil
}

// spin is a chain of dependent operations, so it takes a fixed number of cycles.
//
//go:noinline
func spin(n int) uint64 {
	x := uint64(1)
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}
