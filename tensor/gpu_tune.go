package tensor

import (
	"sync"
	"time"
)

// tuning is what the time of a product depends on.
type tuning struct {
	weights, rows Precision
	filter        ConvShape // of a convolution
	sizes         [3]int
}

// tuned is what was found to be fastest.
type tuned struct {
	mu   sync.Mutex
	best map[tuning]choice
}

// tuneLaunches is how many launches of a candidate are timed together: enough for the clock, and little beside building a graph.
const tuneLaunches = 16

// tune returns the fastest of all, if there are any, and of guess, at what record launches, which is measured the first time. That the sums of two
// kernels differ in their last bits is what it costs: two runs of a program may choose differently. Where measuring fails the guess is
// as good as any; what is wrong with the device will show.
func (g *GPU) tune(key tuning, guess choice, all []choice, record func(q *Queue, c choice)) choice {
	if len(all) == 0 {
		return guess
	}
	t := &g.tuned
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, known := t.best[key]; known {
		return c
	}
	if t.best == nil {
		t.best = map[tuning]choice{}
	}
	best := guess
	least, err := g.elapsed(guess, record)
	for _, c := range all {
		if c == guess || err != nil {
			continue
		}
		var d time.Duration
		if d, err = g.elapsed(c, record); err == nil && d < least {
			best, least = c, d
		}
	}
	t.best[key] = best
	return best
}

// elapsed is the time of tuneLaunches launches of c, the second time that they run.
func (g *GPU) elapsed(c choice, record func(q *Queue, c choice)) (time.Duration, error) {
	q, err := g.NewQueue(0)
	if err != nil {
		return 0, err
	}
	graph, err := q.Capture(func() {
		q.Mark(0)
		for range tuneLaunches {
			taken := q.Taken()
			record(q, c)
			q.Release(taken)
		}
		q.Mark(1)
	})
	if err == nil {
		q.Replay(graph)
		q.Replay(graph)
		err = q.Wait()
	}
	d := q.Elapsed(0, 1)
	if err == nil {
		err = q.Err()
	}
	if closed := q.Close(); err == nil {
		err = closed
	}
	return d, err
}
