package tensor

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Job is one operation cut into tiles. Tile i writes only its own part of the result, so which worker runs it
// cannot change a bit of it.
type Job interface{ Tile(i int) }

// Pool is a fixed set of workers that share the tiles of one Job at a time. The caller of Run is one of them. The
// others look out for the next Job for a moment, since the operations of a network follow each other within
// microseconds, and then park. A Pool serves one caller at a time.
type Pool struct {
	helpers []helper
	watch   time.Duration // how long a helper looks out before it parks

	// A Job is open while epoch is odd: Run stores the fields below, then opens it; when all tiles are taken it closes
	// the Job and waits until no helper is inside.
	epoch  atomic.Uint32
	inside atomic.Int32
	next   atomic.Int64
	job    Job
	tiles  int64
}

// helper is a worker beside the caller.
type helper struct {
	parked atomic.Bool
	wake   chan struct{}
}

// NewPool starts workers-1 goroutines; workers <= 0 means GOMAXPROCS. Close ends them.
func NewPool(workers int) *Pool {
	processors := runtime.GOMAXPROCS(0)
	if workers <= 0 {
		workers = processors
	}
	p := &Pool{helpers: make([]helper, workers-1)}
	if workers <= processors {
		p.watch = 50 * time.Microsecond
	}
	for i := range p.helpers {
		h := &p.helpers[i]
		h.wake = make(chan struct{}, 1)
		go p.help(h)
	}
	return p
}

// Workers is how many goroutines share a Job, the caller included.
func (p *Pool) Workers() int { return len(p.helpers) + 1 }

// Run runs tiles 0..n-1 of j and returns when all are done.
func (p *Pool) Run(j Job, n int) {
	if n < 2 || len(p.helpers) == 0 {
		for i := range n {
			j.Tile(i)
		}
		return
	}
	p.job, p.tiles = j, int64(n)
	p.next.Store(0)
	p.epoch.Add(1)
	for i := range p.helpers[:min(n-1, len(p.helpers))] {
		if h := &p.helpers[i]; h.parked.CompareAndSwap(true, false) {
			h.wake <- struct{}{}
		}
	}
	p.share()
	p.epoch.Add(1)
	for spins := 0; p.inside.Load() != 0; spins++ {
		if spins > 1000 {
			runtime.Gosched()
		}
	}
	p.job = nil
}

// Close ends the workers. The Pool must be idle.
func (p *Pool) Close() {
	for i := range p.helpers {
		close(p.helpers[i].wake)
	}
	p.helpers = nil
}

func (p *Pool) help(h *helper) {
	done := uint32(0) // the last Job that this helper saw
	for {
		e, ok := p.await(h, done)
		if !ok {
			return
		}
		done = e
		// Run waits for whoever is inside while the Job is open; who comes later turns round.
		p.inside.Add(1)
		if p.epoch.Load() == e {
			p.share()
		}
		p.inside.Add(-1)
	}
}

// await returns the next open Job after done, or false when the Pool is closed.
func (p *Pool) await(h *helper, done uint32) (uint32, bool) {
	open := func() (uint32, bool) {
		e := p.epoch.Load()
		return e, e&1 == 1 && e != done
	}
	for begin, spins := time.Now(), 0; p.watch > 0; spins++ {
		if e, ok := open(); ok {
			return e, true
		}
		if spins&63 == 63 && time.Since(begin) > p.watch {
			break
		}
	}
	for {
		h.parked.Store(true)
		if e, ok := open(); ok && h.parked.CompareAndSwap(true, false) {
			return e, true
		}
		if _, alive := <-h.wake; !alive {
			return 0, false
		}
		if e, ok := open(); ok {
			return e, true
		}
	}
}

func (p *Pool) share() {
	for i := p.next.Add(1) - 1; i < p.tiles; i = p.next.Add(1) - 1 {
		p.job.Tile(int(i))
	}
}
