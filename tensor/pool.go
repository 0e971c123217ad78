package tensor

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Job is one operation cut into tiles. Tile i writes only its own part of the result, so which worker runs it
// cannot change a bit of it.
type Job interface{ Tile(i int) }

// Pool is a fixed set of workers that share the tiles of one Job at a time. The caller of Run is one of them;
// the others park between Jobs. A Pool serves one caller at a time.
type Pool struct {
	workers int
	wake    []chan struct{} // one per helper
	idle    sync.WaitGroup
	job     Job
	tiles   int64
	next    atomic.Int64
}

// NewPool starts workers-1 parked goroutines; workers <= 0 means GOMAXPROCS. Close ends them.
func NewPool(workers int) *Pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{workers: workers, wake: make([]chan struct{}, workers-1)}
	for i := range p.wake {
		p.wake[i] = make(chan struct{}, 1)
		go p.work(p.wake[i])
	}
	return p
}

// Workers is how many goroutines share a Job, the caller included.
func (p *Pool) Workers() int { return p.workers }

// Run runs tiles 0..n-1 of j and returns when all are done.
func (p *Pool) Run(j Job, n int) {
	helpers := min(n, p.workers) - 1
	if helpers <= 0 {
		for i := range n {
			j.Tile(i)
		}
		return
	}
	p.job, p.tiles = j, int64(n)
	p.next.Store(0)
	p.idle.Add(helpers)
	for _, w := range p.wake[:helpers] {
		w <- struct{}{}
	}
	p.share()
	p.idle.Wait()
	p.job = nil
}

// Close ends the workers. The Pool must be idle.
func (p *Pool) Close() {
	for _, w := range p.wake {
		close(w)
	}
	p.wake, p.workers = nil, 1
}

func (p *Pool) work(wake chan struct{}) {
	for range wake {
		p.share()
		p.idle.Done()
	}
}

func (p *Pool) share() {
	for i := p.next.Add(1) - 1; i < p.tiles; i = p.next.Add(1) - 1 {
		p.job.Tile(int(i))
	}
}
