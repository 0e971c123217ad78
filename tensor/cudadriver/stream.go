//go:build cuda && cgo

package cudadriver

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"gorgonia.org/cu"

	"netfusion/tensor"
)

// stream is a queue of the device's. One goroutine at a time uses it.
type stream struct {
	s         cu.Stream
	staging   []byte         // pinned
	pinned    runtime.Pinner // Go memory that copies use until the stream is synchronised
	events    [tensor.Marks]cu.Event
	marked    marks // which events were recorded
	capturing bool
	recorded  marks // by the capture under way
	graphs    []captured
}

// captured is a graph and the marks that it sets.
type captured struct {
	graph
	marks
}

// marks is a set of marks.
type marks uint16

const _ = uint(16 - tensor.Marks)

// OpenStream makes a queue, its events, and its pinned memory.
func (d *Device) OpenStream(staging int) (tensor.Stream, []byte, error) {
	if err := d.enter("OpenStream"); err != nil {
		return 0, nil, err
	}
	defer runtime.UnlockOSThread()
	call := fmt.Sprintf("OpenStream: %d bytes of staging memory", staging)
	if staging < 0 {
		return 0, nil, errors.New(call)
	}
	q := &stream{}
	if err := q.open(staging); err != nil {
		return 0, nil, errors.Join(d.failed(err, call), q.close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	d.streams[d.opened] = q
	return d.opened, q.staging, nil
}

func (q *stream) open(staging int) (err error) {
	if q.s, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return err
	}
	for i := range q.events {
		if q.events[i], err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return err
		}
	}
	if staging > 0 {
		q.staging, err = hostAlloc(staging)
	}
	return err
}

// close frees what open made of it.
func (q *stream) close() error {
	var errs []error
	for _, g := range q.graphs {
		errs = append(errs, g.destroy())
	}
	for i := range q.events {
		if q.events[i] != (cu.Event{}) {
			errs = append(errs, code(cu.DestroyEvent(&q.events[i])))
		}
	}
	if q.staging != nil {
		errs = append(errs, code(cu.MemFreeHost(unsafe.Pointer(&q.staging[0]))))
	}
	if q.s != (cu.Stream{}) {
		errs = append(errs, code(q.s.Destroy()))
	}
	q.pinned.Unpin()
	return errors.Join(errs...)
}

// enterStream is enter for the calls of a stream.
func (d *Device) enterStream(call string, s tensor.Stream) (*stream, error) {
	d.mu.Lock()
	q := d.streams[s]
	d.mu.Unlock()
	if err := d.enter(call); err != nil {
		return nil, err
	}
	if q == nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("%s: no stream %d", call, s)
	}
	return q, nil
}

// CloseStream waits for the stream and frees what belongs to it.
func (d *Device) CloseStream(s tensor.Stream) error {
	q, err := d.enterStream("CloseStream", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	d.mu.Lock()
	delete(d.streams, s)
	d.mu.Unlock()
	if err := errors.Join(code(q.s.Synchronize()), q.close()); err != nil {
		return d.failed(err, fmt.Sprintf("CloseStream: %d", s))
	}
	return nil
}

// keep holds Go memory in its place until the stream is synchronised: the driver may go on reading it, or writing, after the copy
// returned. Staging memory stays anyway, and only that can be part of a graph.
func (q *stream) keep(b []byte) error {
	p, from := uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(unsafe.SliceData(q.staging)))
	if p >= from && p+uintptr(len(b)) <= from+uintptr(len(q.staging)) {
		return nil
	}
	if q.capturing {
		return errors.New("a capture copies staging memory only")
	}
	q.pinned.Pin(&b[0])
	return nil
}

// Upload copies to the device.
func (d *Device) Upload(s tensor.Stream, dst tensor.DevicePtr, src []byte) error {
	q, err := d.enterStream("Upload", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if len(src) == 0 {
		return nil
	}
	if err = q.keep(src); err == nil {
		err = cu.MemcpyHtoDAsync(cu.DevicePtr(dst), unsafe.Pointer(&src[0]), int64(len(src)), q.s)
	}
	if err != nil {
		return d.failed(err, fmt.Sprintf("Upload: %d bytes to %#x", len(src), uint64(dst)))
	}
	return nil
}

// Download copies to the host.
func (d *Device) Download(s tensor.Stream, dst []byte, src tensor.DevicePtr) error {
	q, err := d.enterStream("Download", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if len(dst) == 0 {
		return nil
	}
	if err = q.keep(dst); err == nil {
		err = cu.MemcpyDtoHAsync(unsafe.Pointer(&dst[0]), cu.DevicePtr(src), int64(len(dst)), q.s)
	}
	if err != nil {
		return d.failed(err, fmt.Sprintf("Download: %d bytes from %#x", len(dst), uint64(src)))
	}
	return nil
}

// errCapturing: waiting for a stream would spoil its capture.
var errCapturing = errors.New("the stream is being captured")

// Synchronize waits for the stream.
func (d *Device) Synchronize(s tensor.Stream) error {
	q, err := d.enterStream("Synchronize", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err = errCapturing; !q.capturing {
		err = q.s.Synchronize()
		q.pinned.Unpin()
	}
	if err != nil {
		return d.failed(err, fmt.Sprintf("Synchronize: stream %d", s))
	}
	return nil
}

// Mark records an event.
func (d *Device) Mark(s tensor.Stream, mark int) error {
	q, err := d.enterStream("Mark", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if mark < 0 || mark >= tensor.Marks {
		return fmt.Errorf("Mark: %d", mark)
	}
	if q.capturing {
		q.recorded |= 1 << mark
		err = recordInCapture(q.events[mark], q.s)
	} else {
		q.marked |= 1 << mark
		err = q.events[mark].Record(q.s)
	}
	if err != nil {
		return d.failed(err, fmt.Sprintf("Mark: %d", mark))
	}
	return nil
}

// Elapsed waits for two events.
func (d *Device) Elapsed(s tensor.Stream, from, to int) (time.Duration, error) {
	q, err := d.enterStream("Elapsed", s)
	if err != nil {
		return 0, err
	}
	defer runtime.UnlockOSThread()
	if q.capturing {
		return 0, fmt.Errorf("Elapsed: %w", errCapturing)
	}
	for _, m := range []int{from, to} {
		if m < 0 || m >= tensor.Marks || q.marked>>m&1 == 0 {
			return 0, fmt.Errorf("Elapsed: mark %d was not set", m)
		}
		if err := q.events[m].Synchronize(); err != nil {
			return 0, d.failed(err, fmt.Sprintf("Elapsed: mark %d", m))
		}
	}
	ms, err := q.events[from].Elapsed(q.events[to])
	if err != nil {
		return 0, d.failed(err, fmt.Sprintf("Elapsed: marks %d and %d", from, to))
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}

// Capture makes a graph of the work that record gives to the stream. It keeps its thread, on which alone the capture forbids what
// does not belong in a graph.
func (d *Device) Capture(s tensor.Stream, record func() error) (tensor.Graph, error) {
	q, err := d.enterStream("Capture", s)
	if err != nil {
		return 0, err
	}
	defer runtime.UnlockOSThread()
	if q.capturing {
		return 0, fmt.Errorf("Capture: %w", errCapturing)
	}
	if err := beginCapture(q.s); err != nil {
		return 0, d.failed(err, "Capture")
	}
	q.capturing, q.recorded = true, 0
	err = record()
	q.capturing = false
	if err != nil {
		dropCapture(q.s)
		return 0, fmt.Errorf("Capture: %w", err)
	}
	g, err := endCapture(q.s)
	if err != nil {
		return 0, d.failed(err, "Capture")
	}
	q.graphs = append(q.graphs, captured{g, q.recorded})
	return tensor.Graph(len(q.graphs)), nil
}

// Replay launches a graph.
func (d *Device) Replay(s tensor.Stream, g tensor.Graph) error {
	q, err := d.enterStream("Replay", s)
	if err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if g == 0 || int(g) > len(q.graphs) {
		return fmt.Errorf("Replay: no graph %d of stream %d", g, s)
	}
	c := q.graphs[g-1]
	q.marked |= c.marks
	if err := c.launch(q.s); err != nil {
		return d.failed(err, fmt.Sprintf("Replay: graph %d of stream %d", g, s))
	}
	return nil
}
