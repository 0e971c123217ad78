package tensor

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// GPU is a device that a Driver reaches, with the kernels that are loaded on it and the weights of models. Many goroutines
// share it; what one caller computes is the affair of its own Queue:
//
//	g, err := tensor.OpenGPU(driver, tensor.GPUOptions{})
//	w := g.NewWeight(tensor.BF16, values, n, k)                  // at loading; g.Err() tells whether all of it went well
//	q, err := g.NewQueue(1 << 16)
//	in, out := tensor.Stage[float32](q, k), tensor.Stage[float32](q, n)
//	graph, err := q.Capture(func() {
//		q.Upload(in)
//		y := q.Take(1, n)
//		q.MatMul(y, tensor.Matrix(in.Array, 1, k), w, tensor.GPUEpilogue{})
//		…
//	})
//	copy(in.Host, x)
//	q.Replay(graph)
//	err = q.Wait()
type GPU struct {
	driver     Driver
	options    GPUOptions
	attributes Attributes
	functions  map[string]Function // by entry
	waiting    []Family            // to be loaded when they are first used

	mu            sync.Mutex // guards what follows: loading
	lateFunctions map[string]Function
	stream        Stream
	staging       []byte
	err           error

	tuned tuned
}

// GPUOptions say how a GPU computes. The zero value is exact.
type GPUOptions struct {
	TF32     bool // products of float32 are rounded to tf32 on their way into tensor cores: 10 bits of mantissa
	Tune     bool // which of several kernels computes a product is measured, once for every shape, not guessed: see tune
	Overlap  bool // a launch may begin while the one before it ends, where the device can: see overlapping
	Apart    bool // every operation is a launch of its own, none part of a Program
	Unproven bool // kernels for one generation of GPUs run there even if no results file shows that they did: see Proven
}

// loadStaging is how much is uploaded at a time while weights are loaded.
const loadStaging = 1 << 20

// OpenGPU loads the kernels on d, which the GPU owns from then on, even if it fails. A device that is older than what the
// kernels are compiled for is ErrRefused.
func OpenGPU(d Driver, o GPUOptions) (*GPU, error) {
	g := &GPU{driver: d, options: o, attributes: d.Attributes(), functions: map[string]Function{}}
	if err := g.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("GPU %s: %w", g.attributes.Name, err), d.Close())
	}
	return g, nil
}

func (g *GPU) open() (err error) {
	const oldest = 80 // what every sm80.ptx is compiled for
	if a := &g.attributes; a.Capability < oldest {
		return fmt.Errorf("compute capability %d.%d, want at least %d.%d: %w", a.Capability/10, a.Capability%10, oldest/10, oldest%10, ErrRefused)
	}
	for _, f := range Families() {
		if f.Late {
			g.waiting = append(g.waiting, f)
			continue
		}
		if f.Hopper && !g.trusts(f) {
			continue
		}
		if err := g.load(f); err != nil {
			return err
		}
	}
	g.stream, g.staging, err = g.driver.OpenStream(loadStaging)
	return err
}

// trusts tells whether f, which is for compute capability 9.0, is to run.
func (g *GPU) trusts(f Family) bool {
	_, proven := Proven(f.Text)
	return g.attributes.Capability == 90 && (proven || g.options.Unproven)
}

// has tells whether an entry was loaded.
func (g *GPU) has(entry string) bool { _, ok := g.functions[entry]; return ok }

// load compiles one family's text for the device.
func (g *GPU) load(f Family) error {
	entries := f.Entries()
	text := f.Text
	if g.overlaps() {
		text = overlapping(text)
	}
	functions, err := g.driver.Load(f.Name, text, entries)
	if err != nil {
		return err
	}
	for i, e := range entries {
		g.functions[e.Name] = functions[i]
	}
	return nil
}

// Attributes describes the device.
func (g *GPU) Attributes() Attributes { return g.attributes }

// Err is the first failure of loading: of Alloc, Put and the New functions, whose results are useless after it.
func (g *GPU) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Close frees the device's memory, that of all Queues and models included.
func (g *GPU) Close() error { return g.driver.Close() }

// fail keeps the first error of loading.
func (g *GPU) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
}

// alloc reserves bytes until Close.
func (g *GPU) alloc(bytes int) DevicePtr {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil || bytes == 0 {
		return 0
	}
	var p DevicePtr
	p, g.err = g.driver.Alloc(bytes)
	return p
}

// upload copies src to the device, and waits for it.
func (g *GPU) upload(p DevicePtr, src []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(src) > 0 && g.err == nil {
		n := copy(g.staging, src)
		if g.err = g.driver.Upload(g.stream, p, g.staging[:n]); g.err == nil {
			g.err = g.driver.Synchronize(g.stream)
		}
		src, p = src[n:], p+DevicePtr(n)
	}
}

// Put copies values to memory of their own, until Close.
func Put[T Value](g *GPU, values []T) Array[T] {
	a := Array[T]{g.alloc(len(values) * sizeOf[T]()), len(values)}
	g.upload(a.Ptr, bytesOf(values))
	return a
}

// Alloc reserves memory for n values, zeros, until Close.
func Alloc[T Value](g *GPU, n int) Array[T] {
	a := Array[T]{g.alloc(n * sizeOf[T]()), n}
	zeros := make([]byte, min(n*sizeOf[T](), loadStaging))
	for at := 0; at < n*sizeOf[T](); at += len(zeros) {
		g.upload(a.Ptr+DevicePtr(at), zeros[:min(len(zeros), n*sizeOf[T]()-at)])
	}
	return a
}

// Value is what lies in a GPU's memory.
type Value interface {
	~int8 | ~uint8 | ~uint16 | ~int32 | ~uint32 | ~uint64 | ~float32 | ~float64
}

func sizeOf[T Value]() int { return int(unsafe.Sizeof(*new(T))) }

// bytesOf views values, sliceOf the other way.
func bytesOf[T Value](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*sizeOf[T]())
}

func sliceOf[T Value](b []byte, n int) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}
