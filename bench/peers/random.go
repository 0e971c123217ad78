package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
)

// random are numbers that all contestants of a case read in the same order.
type random []float32

// readRandom reads a file of little-endian float32.
func readRandom(path string) (random, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := make(random, len(data)/4)
	for i := range r {
		r[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return r, nil
}

// take returns the next n numbers.
func (r *random) take(n int) ([]float32, error) {
	if n > len(*r) {
		return nil, fmt.Errorf("a file of random numbers is %d too short", n-len(*r))
	}
	v := (*r)[:n:n]
	*r = (*r)[n:]
	return v, nil
}
