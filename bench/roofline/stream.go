package roofline

import (
	"sync"
	"time"

	"netfusion/kernels/memory"
)

// Stream reads memory that no cache holds. On a shared machine the rate of that changes from one second to the next, so what
// streams weights is timed in turns with it.
type Stream struct {
	memory []float32
	sums   []float32 // of each thread
}

// NewStream takes 1 GiB.
func NewStream(threads int) *Stream { return newStream(threads, sizes[DRAM]) }

func newStream(threads, bytes int) *Stream {
	s := &Stream{memory.Make[float32](bytes / 4), make([]float32, threads)}
	for i := range s.memory {
		s.memory[i] = 1 // memory never written to need not exist
	}
	return s
}

// Read reads all of it once, some 30 ms, all threads together, and returns the rate in bytes a second.
func (s *Stream) Read() float64 {
	share := len(s.memory) / len(s.sums) &^ 127
	var done sync.WaitGroup
	began := time.Now()
	for thread := range s.sums {
		done.Go(func() { s.sums[thread] += sum(s.memory[thread*share:][:share]) })
	}
	done.Wait()
	return float64(4*share*len(s.sums)) / time.Since(began).Seconds()
}
