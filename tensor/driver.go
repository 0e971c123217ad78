package tensor

import (
	"errors"
	"time"
)

// Driver is what the host code of the GPU path needs of a GPU, and no more: loading PTX, memory, streams, launches and
// graphs, each a call of CUDA's driver API. tensor/cudadriver implements it on a device; tensor/ptx runs the same PTX
// in plain Go, for tests.
//
// One goroutine at a time may call a stream's methods; Drivers serve many streams at once. Work given to a stream is
// done in order, at some time before Synchronize returns, and reports its failure there at the latest: a kernel that
// faults loses the device, and every later call returns an error that is ErrLost. Errors name the call and what it was
// about (the module, the entry, the sizes).
type Driver interface {
	// Attributes describes the device.
	Attributes() Attributes
	// Load compiles the PTX text src, called name in errors, and returns a handle for each of entries. A text that the
	// device cannot run is ErrRefused. What is loaded stays so until Close.
	Load(name, src string, entries []Entry) ([]Function, error)

	// Alloc returns bytes of device memory, aligned to 256, with no particular content; no room is ErrOutOfMemory.
	Alloc(bytes int) (DevicePtr, error)
	// Free gives back what Alloc returned; no work that uses it may be outstanding. 0 is allowed.
	Free(p DevicePtr) error

	// OpenStream returns a queue of work and staging bytes of pinned host memory, through which its copies are fastest.
	OpenStream(staging int) (Stream, []byte, error)
	// CloseStream waits for the stream's work and frees the stream, its staging memory and its graphs.
	CloseStream(s Stream) error
	// Upload copies src to the device. src must stay as it is until the stream is synchronised.
	Upload(s Stream, dst DevicePtr, src []byte) error
	// Download copies from the device; dst holds the data once the stream is synchronised.
	Download(s Stream, dst []byte, src DevicePtr) error
	// Launch runs f. Its arguments are copied before Launch returns, whatever they point to is not.
	Launch(s Stream, f Function, l Launch) error
	// Synchronize waits until all work of the stream is done, and returns the first error among it.
	Synchronize(s Stream) error

	// Mark notes the time at which the stream arrives here, as its mark 0 <= mark < Marks.
	Mark(s Stream, mark int) error
	// Elapsed waits for two marks of the stream, and returns the time from one to the other.
	Elapsed(s Stream, from, to int) (time.Duration, error)

	// Capture calls record, and makes the work that it gives to the stream a Graph instead of doing it. record may use
	// Upload and Download (of staging memory), Launch and Mark.
	Capture(s Stream, record func() error) (Graph, error)
	// Replay does the work of a Graph that was captured on the stream: one call for any number of launches.
	Replay(s Stream, g Graph) error

	// Close frees everything. The Driver and its handles are useless afterwards.
	Close() error
}

// Attributes describes a GPU.
type Attributes struct {
	Name            string // as its maker calls it
	Capability      int    // compute capability: 80 for 8.0
	Multiprocessors int
	SharedPerBlock  int // bytes of shared memory that one block can have, static and dynamic together
	SharedPerMulti  int // bytes of shared memory of a multiprocessor
	L2              int // bytes
	Memory          int // bytes
}

// Entry names a kernel of a PTX text.
type Entry struct {
	Name          string
	DynamicShared int // the most bytes of dynamic shared memory that a Launch of it will ask for
}

// Launch says how to run a kernel.
type Launch struct {
	Grid, Block   [3]int // in blocks, and in threads; a zero means 1
	DynamicShared int    // bytes
	Cooperative   bool   // all blocks run at once, so that they may wait for each other
	Early         bool   // may begin before the launch before it has ended: the kernel itself waits for that, by griddepcontrol.wait
	// Args are the kernel's parameters in order, each at the next offset that is a multiple of its size (a struct: of its
	// alignment), little-endian.
	Args []byte
	// Maps are the parameters among Args that describe tensors, in a form that only the Driver knows: it fills them in.
	Maps []TensorMap
}

// Handles, valid for the Driver that gave them. A DevicePtr may be added to, and be a kernel's argument.
type (
	DevicePtr uint64
	Function  uint32
	Stream    uint32
	Graph     uint32
)

// Marks is how many marks a stream has.
const Marks = 16

// What the errors of a Driver are, besides wrong use.
var (
	ErrOutOfMemory = errors.New("out of device memory")
	ErrLost        = errors.New("the device is lost")
	ErrRefused     = errors.New("the device cannot run this PTX")
)
