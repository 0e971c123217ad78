package tensor

import (
	"errors"
	"fmt"
	"time"
)

// Queue is one caller's lane of a GPU, as a Device is one of the processor: its methods are the operations, and they are done in the
// order in which they are given. Operations are recorded: they are called by the function that Run or Capture is given,
// which calls it twice, once to count the memory that it takes and once in earnest. It must ask for the same both times,
// and shapes that do not fit panic the first time.
//
// The first failure sticks: later calls do nothing and return it. One goroutine at a time may use a Queue.
type Queue struct {
	g      *GPU
	stream Stream
	host   []byte    // pinned
	mirror DevicePtr // its place on the device
	staged int       // bytes of both that are in use
	slab   DevicePtr // what Take hands out
	size   int       // bytes of it
	used   int
	peak   int
	mode   queueMode
	owned  []DevicePtr
	args   []byte // of the launch under way
	maps   []TensorMap
	last   bool // what the recording gave to the stream last is a launch
	work   Work

	kept map[any]any
	err  error
}

type queueMode uint8

const (
	idle queueMode = iota
	counting
	recording
)

// NewQueue opens a Queue that can Stage so many bytes.
func (g *GPU) NewQueue(staging int) (*Queue, error) {
	stream, host, err := g.driver.OpenStream(staging)
	if err != nil {
		return nil, err
	}
	q := &Queue{g: g, stream: stream, host: host}
	if staging > 0 {
		if q.mirror = q.alloc(staging); q.err != nil {
			return nil, errors.Join(q.err, q.Close())
		}
	}
	return q, nil
}

// GPU is the device of q.
func (q *Queue) GPU() *GPU { return q.g }

// Err is the first failure.
func (q *Queue) Err() error { return q.err }

// Close waits for what is under way and frees the memory and the graphs of q. A lost device frees nothing, and that is no error.
func (q *Queue) Close() error {
	err := q.g.driver.CloseStream(q.stream)
	for _, p := range q.owned {
		if err == nil {
			err = q.g.driver.Free(p)
		}
	}
	if q.err == nil {
		q.err = errQueueClosed
	}
	if errors.Is(err, ErrLost) {
		return nil
	}
	return err
}

var errQueueClosed = errors.New("tensor: the Queue is closed")

// fail keeps the first error.
func (q *Queue) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

// alloc reserves device memory until Close: zeros, so that nothing ever depends on what was there before.
func (q *Queue) alloc(bytes int) DevicePtr {
	if q.err != nil {
		return 0
	}
	p, err := q.g.driver.Alloc(bytes)
	if err != nil {
		q.fail(err)
		return 0
	}
	q.owned = append(q.owned, p)
	zeros := make([]byte, min(bytes, loadStaging))
	for at := 0; at < bytes && err == nil; at += len(zeros) {
		err = q.g.driver.Upload(q.stream, p+DevicePtr(at), zeros[:min(len(zeros), bytes-at)])
	}
	if err == nil {
		err = q.g.driver.Synchronize(q.stream)
	}
	if err != nil {
		q.fail(err)
	}
	return p
}

// Keep reserves memory for n values, zeros, until Close: what is there from one Run or Replay to the next.
func Keep[T Value](q *Queue, n int) Array[T] {
	if n == 0 {
		return Array[T]{}
	}
	return Array[T]{q.alloc(n * sizeOf[T]()), n}
}

// KeepBuffer is Keep for a matrix whose rows products can read.
func (q *Queue) KeepBuffer(rows, cols int) Buffer {
	b := Buffer{Rows: rows, Cols: cols, Ld: roundUp(cols, F32.unit())}
	b.Ptr = Keep[float32](q, rows*b.Ld).Ptr
	return b
}

// Staged is values that are both in pinned memory of the host and on the device; Upload and Download copy them.
type Staged[T Value] struct {
	Host []T
	Array[T]
}

// Part views the values [i, j), on both sides.
func (s Staged[T]) Part(i, j int) Staged[T] { return Staged[T]{s.Host[i:j], s.Array.Slice(i, j)} }

// stagingUnit is the bytes of which each Staged begins at a multiple.
const stagingUnit = 16

// Stage reserves n values of the staging memory that q was opened with.
func Stage[T Value](q *Queue, n int) Staged[T] {
	begin := q.staged
	q.staged += roundUp(n*sizeOf[T](), stagingUnit)
	if q.staged > len(q.host) {
		panic("tensor: more staged than the Queue was opened with")
	}
	if n == 0 {
		return Staged[T]{}
	}
	return Staged[T]{sliceOf[T](q.host[begin:], n), Array[T]{q.mirror + DevicePtr(begin), n}}
}

// Take returns a matrix whose rows products can read, with no particular content. It is there until what is being recorded ends,
// or until Release.
func (q *Queue) Take(rows, cols int) Buffer { return q.TakeIn(F32, rows, cols) }

// TakeIn is Take in another precision.
func (q *Queue) TakeIn(p Precision, rows, cols int) Buffer {
	b := Buffer{Rows: rows, Cols: cols, Ld: roundUp(cols, p.unit()), Precision: p}
	b.Ptr = TakeArray[uint8](q, rows*b.Ld*p.bytes()).Ptr
	if p == Int8 {
		b.scale, b.zero = TakeArray[float32](q, rows), TakeArray[int32](q, rows)
	}
	return b
}

// TakePacked is Take with the rows one right behind the other, as some operations want them.
func (q *Queue) TakePacked(rows, cols int) Buffer {
	return Matrix(TakeArray[float32](q, rows*cols), rows, cols)
}

// TakeArray is Take for n values.
func TakeArray[T Value](q *Queue, n int) Array[T] {
	const unit = 256 // bytes; more than any kernel wants
	q.within()
	begin := q.used
	q.used += roundUp(n*sizeOf[T](), unit)
	q.peak = max(q.peak, q.used)
	if q.mode == recording && q.used > q.size {
		panic("tensor: more memory than the first time")
	}
	return Array[T]{q.slab + DevicePtr(begin), n}
}

// Taken and Release give memory back: Release(t) frees all that was taken since Taken returned t. Operations are done in order, so
// later ones may have it at once.
func (q *Queue) Taken() int     { return q.used }
func (q *Queue) Release(to int) { q.used = to }

// Mark notes the time, as mark 0 <= mark < Marks.
func (q *Queue) Mark(mark int) {
	if !q.recording() {
		return
	}
	q.last = false
	if err := q.g.driver.Mark(q.stream, mark); err != nil {
		q.fail(err)
	}
}

// recording tells whether an operation is to be done.
func (q *Queue) recording() bool {
	q.within()
	return q.mode == recording && q.err == nil
}

func (q *Queue) within() {
	if q.mode == idle {
		panic("tensor: an operation outside Run and Capture")
	}
}

// count runs record to know what memory it takes, and sees to it that there is as much.
func (q *Queue) count(record func()) {
	slab := q.slab
	q.work = Work{}
	q.mode, q.used, q.peak, q.slab = counting, 0, 0, 1<<40 // no address of this is used
	defer func() { q.mode, q.used, q.slab = idle, 0, slab }()
	record()
	if q.peak > q.size {
		// Graphs that were captured keep the old one.
		if slab = q.alloc(q.peak); q.err == nil {
			q.size = q.peak
		}
	}
}

// earnest runs record for what it does.
func (q *Queue) earnest(record func()) error {
	q.mode, q.last = recording, false
	defer func() { q.mode, q.used = idle, 0 }()
	record()
	return q.err
}

// Run does what record calls, and waits for it.
func (q *Queue) Run(record func()) error {
	if q.err == nil {
		q.count(record)
	}
	if q.err == nil {
		q.earnest(record)
	}
	return q.Wait()
}

// Capture makes a Graph of what record calls.
func (q *Queue) Capture(record func()) (Graph, error) {
	if q.err == nil {
		q.count(record)
	}
	if q.err != nil {
		return 0, q.err
	}
	g, err := q.g.driver.Capture(q.stream, func() error { return q.earnest(record) })
	if err != nil {
		q.fail(err)
	}
	return g, q.err
}

// Replay does the work of g; Wait tells when it is done, and whether it went well.
func (q *Queue) Replay(g Graph) {
	if q.err == nil {
		if err := q.g.driver.Replay(q.stream, g); err != nil {
			q.fail(err)
		}
	}
}

// Wait waits until all is done, and returns the first failure.
func (q *Queue) Wait() error {
	if q.err == nil {
		if err := q.g.driver.Synchronize(q.stream); err != nil {
			q.fail(err)
		}
	}
	return q.err
}

// Get copies a to dst, and waits for it: for what is looked at now and then.
func Get[T Value](q *Queue, dst []T, a Array[T]) error {
	return copied(q, q.g.driver.Download, dst, a)
}

// Set copies src to a, and waits for it.
func Set[T Value](q *Queue, a Array[T], src []T) error {
	upload := func(s Stream, src []byte, p DevicePtr) error { return q.g.driver.Upload(s, p, src) }
	return copied(q, upload, src, a)
}

func copied[T Value](q *Queue, move func(s Stream, host []byte, p DevicePtr) error, host []T, a Array[T]) error {
	if len(host) != a.Len {
		panic("tensor: lengths differ")
	}
	if q.err == nil && a.Len > 0 {
		if err := move(q.stream, bytesOf(host), a.Ptr); err != nil {
			q.fail(err)
		}
	}
	return q.Wait()
}

// Elapsed is the time between two marks, once there was a Wait.
func (q *Queue) Elapsed(from, to int) time.Duration {
	if q.err != nil {
		return 0
	}
	d, err := q.g.driver.Elapsed(q.stream, from, to)
	if err != nil {
		q.fail(err)
	}
	return d
}

// staged is what Upload and Download take.
type staged interface{ bytes() (p DevicePtr, n int) }

func (s Staged[T]) bytes() (DevicePtr, int) { return s.Ptr, s.Len * sizeOf[T]() }

// Upload copies Staged values to the device. Neighbours, in the order of their Stage, are one copy.
func (q *Queue) Upload(values ...staged) {
	q.move(values, func(begin, end int) error {
		return q.g.driver.Upload(q.stream, q.mirror+DevicePtr(begin), q.host[begin:end])
	})
}

// Download copies Staged values to the host, as Upload does.
func (q *Queue) Download(values ...staged) {
	q.move(values, func(begin, end int) error {
		return q.g.driver.Download(q.stream, q.host[begin:end], q.mirror+DevicePtr(begin))
	})
}

// move copies the parts of the staging memory that values are.
func (q *Queue) move(values []staged, part func(begin, end int) error) {
	if !q.recording() {
		return
	}
	q.last = false
	var begin, end int
	flush := func() {
		if end > begin && q.err == nil {
			if err := part(begin, end); err != nil {
				q.fail(err)
			}
		}
	}
	for _, v := range values {
		p, n := v.bytes()
		at := int(p - q.mirror)
		switch {
		case n == 0:
			continue
		case end > begin && at == roundUp(end, stagingUnit):
			end = at + n
			continue
		}
		flush()
		begin, end = at, at+n
	}
	flush()
}

// launch runs an entry over an extent: see Form.
func (q *Queue) launch(entry string, extent [3]int, args ...any) {
	f := FormOf(entry)
	q.args, q.maps = q.args[:0], q.maps[:0]
	for _, arg := range args {
		if m, ok := arg.(TensorMap); ok {
			m.At = roundUp(len(q.args), 64)
			q.maps = append(q.maps, m)
			q.args = append(q.args, make([]byte, m.At-len(q.args)+TensorMapBytes)...)
			continue
		}
		q.args = AppendArgs(q.args, arg)
	}
	if extent[0] == 0 || extent[1] == 0 || extent[2] == 0 {
		return
	}
	if q.mode == counting {
		q.work.Launches++
	}
	if !q.recording() {
		return
	}
	l := Launch{Grid: f.Grid(extent), Block: [3]int{f.Block}, Cooperative: f.Cooperative, DynamicShared: f.Shared, Args: q.args, Maps: q.maps,
		Early: q.last && q.g.overlaps()}
	q.last = true
	if err := q.g.driver.Launch(q.stream, q.g.functions[entry], l); err != nil {
		q.fail(fmt.Errorf("%s: %w", entry, err))
	}
}
