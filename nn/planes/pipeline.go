package planes

import (
	"context"
	"runtime"
)

// pipeline runs work(0) … work(n-1) on a few goroutines, each with a state of its own, and calls emit with the results
// in order. No more than a few results wait at any time. It ends at the first error, of work in its turn or of emit,
// or when ctx does, and leaves no goroutine behind.
func pipeline[S any](ctx context.Context, n int, state func() (S, error), work func(S, int) ([]byte, error), emit func(int, []byte) error) error {
	type result struct {
		data []byte
		err  error
	}
	type job struct {
		i    int
		done chan<- result
	}
	workers := min(runtime.GOMAXPROCS(0), n)
	jobs := make(chan job)
	exited := make(chan struct{})
	for range workers {
		go func() {
			defer func() { exited <- struct{}{} }()
			s, err := state()
			for j := range jobs {
				r := result{err: err}
				if err == nil {
					r.data, r.err = work(s, j.i)
				}
				j.done <- r
			}
		}()
	}
	defer func() {
		close(jobs)
		for range workers {
			<-exited
		}
	}()
	waiting := make([]chan result, 0, workers+1) // results in order; each channel has room, so workers never block
	for next, i := 0, 0; i < n; i++ {
		for next < n && len(waiting) < cap(waiting) {
			done := make(chan result, 1)
			jobs <- job{next, done}
			waiting = append(waiting, done)
			next++
		}
		r := <-waiting[0]
		copy(waiting, waiting[1:])
		waiting = waiting[:len(waiting)-1]
		if r.err != nil {
			return r.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := emit(i, r.data); err != nil {
			return err
		}
	}
	return ctx.Err()
}
