package ptx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"netfusion/tensor"
)

// Options says what device to be. The zero value is an sm_80 with 108 multiprocessors, 4 GiB and all checks.
type Options struct {
	Seed            uint64 // of the order in which blocks begin and warps take turns
	Favour          int    // a block's number, from 1 on: its warps mostly take turns before those of others
	Capability      int    // 80 for sm_80
	Multiprocessors int
	Memory          int   // bytes
	SharedPerBlock  int   // bytes
	Resident        int   // blocks of a launch under way at once; cooperative ones have all
	Instructions    int64 // lane-instructions that a launch may take
	Unchecked       bool  // look for bounds and alignment only
	Traffic         bool  // count what memory instructions move

	// Fail, which may not call the device, is asked before every call but Close, named as in tensor.Driver ("Alloc", "Launch", …; "Kernel" when a kernel
	// starts to run); the error that it returns is what the call, or the stream, reports. tensor.ErrLost loses the device.
	Fail func(call string) error
}

func (o Options) withDefaults() Options {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Capability, 80)
	set(&o.Multiprocessors, 108)
	set(&o.Memory, 4<<30)
	set(&o.SharedPerBlock, 163<<10)
	set(&o.Resident, 16)
	if o.Instructions == 0 {
		o.Instructions = 1 << 35
	}
	return o
}

// Device is a GPU that is not there. It implements tensor.Driver.
type Device struct {
	mu      sync.Mutex // held by every call: streams may belong to several goroutines
	options Options
	memory  memory
	used    int
	now     uint32 // the clock of cells
	rng     *rand.Rand
	lost    error

	functions []loaded
	streams   map[tensor.Stream]*stream
	opened    tensor.Stream
	retired   int64 // lane-instructions
	traffic   map[trafficKey]*Traffic
}

// loaded is an entry that was loaded, with the constants of its module.
type loaded struct {
	kernel    *kernel
	constants *region
}

// stream is a queue of work that has not been done.
type stream struct {
	work      []job
	err       error
	marks     [tensor.Marks]time.Duration
	marked    [tensor.Marks]bool
	graphs    [][]job
	capturing bool
}

// job is one piece of a stream's work.
type job func() error

var _ tensor.Driver = (*Device)(nil)

// Open returns a device.
func Open(o Options) *Device {
	return &Device{options: o.withDefaults(), rng: rand.New(rand.NewPCG(o.Seed, 0)), streams: map[tensor.Stream]*stream{},
		traffic: map[trafficKey]*Traffic{}}
}

// LaneInstructions is how many instructions the device has run, counting each thread's.
func (d *Device) LaneInstructions() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.retired
}

// Attributes describes the device that the Options ask for.
func (d *Device) Attributes() tensor.Attributes {
	return tensor.Attributes{Name: "PTX interpreter", Capability: d.options.Capability, Multiprocessors: d.options.Multiprocessors,
		SharedPerBlock: d.options.SharedPerBlock, SharedPerMulti: d.options.SharedPerBlock + 1<<10, L2: 40 << 20, Memory: d.options.Memory}
}

// enter is what every call begins with.
func (d *Device) enter(call string) error {
	if d.lost != nil {
		return fmt.Errorf("%s: %w", call, d.lost)
	}
	if d.options.Fail != nil {
		if err := d.options.Fail(call); err != nil {
			d.fails(err)
			return fmt.Errorf("%s: %w", call, err)
		}
	}
	return nil
}

// fails loses the device if err says so: after a fault nothing on it can be relied on.
func (d *Device) fails(err error) {
	var f *Fault
	if errors.As(err, &f) || errors.Is(err, tensor.ErrLost) {
		d.lost = fmt.Errorf("%w: %w", tensor.ErrLost, err)
	}
}

// Load parses and decodes PTX.
func (d *Device) Load(name, src string, entries []tensor.Entry) ([]tensor.Function, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter("Load"); err != nil {
		return nil, err
	}
	refuse := func(err error) ([]tensor.Function, error) {
		return nil, fmt.Errorf("Load: %w: %w", tensor.ErrRefused, err)
	}
	m, err := parse(name, src)
	if err != nil {
		return refuse(err)
	}
	if m.version > 84 {
		return refuse(fmt.Errorf("%s: .version %d.%d, more than 8.4", name, m.version/10, m.version%10))
	}
	if m.target > d.options.Capability || m.exact && m.target != d.options.Capability {
		return refuse(fmt.Errorf("%s: .target sm_%d on a device of sm_%d", name, m.target, d.options.Capability))
	}
	constants, err := d.place(m)
	if err != nil {
		return nil, fmt.Errorf("Load: %s: %w", name, err)
	}
	var handles []tensor.Function
	for _, e := range entries {
		k, err := decode(m, e.Name)
		if err != nil {
			return refuse(err)
		}
		if k.allowed = e.DynamicShared; k.static+k.allowed > d.options.SharedPerBlock || k.allowed < 0 {
			return nil, fmt.Errorf("Load: %s: %s: %d bytes of shared memory, and %d dynamic, of %d", name, e.Name, k.static, k.allowed, d.options.SharedPerBlock)
		}
		d.functions = append(d.functions, loaded{k, constants})
		handles = append(handles, tensor.Function(len(d.functions)))
	}
	return handles, nil
}

// place gives a module's variables their memory and what it holds.
func (d *Device) place(m *module) (*region, error) {
	constants := &region{base: 1 << 10, what: "constant memory"}
	regions := map[*variable]*region{}
	for _, v := range m.variables {
		if v.space == ".const" {
			n := align(len(constants.data), v.align)
			v.address = constants.base + uint64(n)
			constants.data = append(constants.data, make([]byte, n+v.size-len(constants.data))...)
			continue
		}
		if d.used += v.size; d.used > d.options.Memory {
			return nil, fmt.Errorf("%s: %d bytes: %w", v.name, v.size, tensor.ErrOutOfMemory)
		}
		r := d.memory.alloc(v.size, !d.options.Unchecked, v.name)
		r.written(0, v.size) // without values: zeros
		v.address, regions[v] = r.base, r
	}
	for _, v := range m.variables {
		for at, name := range v.symbols {
			to := m.globals.vars[name]
			if to == nil || to.space != ".global" && to.space != ".const" {
				return nil, fmt.Errorf("%w: %s: no variable %s", tensor.ErrRefused, v.name, name)
			}
			p := to.address
			if to.space == ".const" {
				p += constantWindow
			}
			putWord(v.data[at:], 8, p)
		}
		if v.space == ".const" {
			copy(constants.data[v.address-constants.base:], v.data)
		} else {
			copy(regions[v].data, v.data)
		}
	}
	return constants, nil
}

// Alloc reserves memory, which a kernel has to write before it reads it.
func (d *Device) Alloc(bytes int) (tensor.DevicePtr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter("Alloc"); err != nil {
		return 0, err
	}
	if bytes <= 0 {
		return 0, fmt.Errorf("Alloc: %d bytes", bytes)
	}
	if bytes > min(d.options.Memory-d.used, 1<<31) {
		return 0, fmt.Errorf("Alloc: %d bytes, of %d in use: %w", bytes, d.used, tensor.ErrOutOfMemory)
	}
	d.used += bytes
	r := d.memory.alloc(bytes, !d.options.Unchecked, "an allocation")
	fill(r.data, 0xcd)
	return tensor.DevicePtr(r.base), nil
}

// Free gives memory back; its addresses are not used again.
func (d *Device) Free(p tensor.DevicePtr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter("Free"); err != nil || p == 0 {
		return err
	}
	r := d.memory.free(uint64(p))
	if r == nil {
		return fmt.Errorf("Free: %#x is no allocation", uint64(p))
	}
	d.used -= len(r.data)
	return nil
}

// OpenStream makes a queue.
func (d *Device) OpenStream(staging int) (tensor.Stream, []byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter("OpenStream"); err != nil {
		return 0, nil, err
	}
	if staging < 0 || staging > 1<<31 {
		return 0, nil, fmt.Errorf("OpenStream: %d bytes of staging memory", staging)
	}
	d.opened++
	d.streams[d.opened] = &stream{}
	return d.opened, make([]byte, staging), nil
}

func (d *Device) stream(call string, s tensor.Stream) (*stream, error) {
	if err := d.enter(call); err != nil {
		return nil, err
	}
	q := d.streams[s]
	if q == nil {
		return nil, fmt.Errorf("%s: no stream %d", call, s)
	}
	return q, nil
}

// CloseStream does what is left to do, and forgets the stream.
func (d *Device) CloseStream(s tensor.Stream) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, err := d.stream("CloseStream", s)
	if err != nil {
		return err
	}
	err = d.finish(q)
	delete(d.streams, s)
	if err != nil {
		return fmt.Errorf("CloseStream: %w", err)
	}
	return nil
}

// span finds bytes of device memory for a copy.
func (d *Device) span(p tensor.DevicePtr, bytes int) (*region, int, error) {
	r := d.memory.find(uint64(p), bytes)
	if r == nil {
		return nil, 0, fmt.Errorf("%d bytes at %#x are not allocated", bytes, uint64(p))
	}
	return r, int(uint64(p) - r.base), nil
}

// Upload queues a copy to the device.
func (d *Device) Upload(s tensor.Stream, dst tensor.DevicePtr, src []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.enqueue("Upload", s, len(src) == 0, func() error {
		r, at, err := d.span(dst, len(src))
		if err != nil {
			return fmt.Errorf("Upload: %w", err)
		}
		copy(r.data[at:], src)
		r.written(at, at+len(src))
		return nil
	})
}

// Download queues a copy to the host.
func (d *Device) Download(s tensor.Stream, dst []byte, src tensor.DevicePtr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.enqueue("Download", s, len(dst) == 0, func() error {
		r, at, err := d.span(src, len(dst))
		if err != nil {
			return fmt.Errorf("Download: %w", err)
		}
		copy(dst, r.data[at:])
		return nil
	})
}

func (d *Device) enqueue(call string, s tensor.Stream, empty bool, j job) error {
	q, err := d.stream(call, s)
	if err != nil || empty {
		return err
	}
	q.work = append(q.work, j)
	return nil
}

// Launch queues a kernel.
func (d *Device) Launch(s tensor.Stream, f tensor.Function, l tensor.Launch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, err := d.stream("Launch", s)
	if err != nil {
		return err
	}
	if f == 0 || int(f) > len(d.functions) {
		return fmt.Errorf("Launch: no function %d", f)
	}
	fn := d.functions[f-1]
	k := fn.kernel
	fail := func(format string, args ...any) error {
		return fmt.Errorf("Launch: %s: "+format, append([]any{k.name}, args...)...)
	}
	limits := [2][3]int{{1<<31 - 1, 65535, 65535}, {1024, 1024, 64}}
	product := [2]int{1, 1}
	for j := range 3 {
		l.Grid[j], l.Block[j] = orOne(l.Grid[j]), orOne(l.Block[j])
	}
	for i, v := range [2][3]int{l.Grid, l.Block} {
		for j := range v {
			if v[j] < 0 || v[j] > limits[i][j] {
				return fail("grid %v, block %v", l.Grid, l.Block)
			}
			product[i] *= v[j]
		}
	}
	blocks, threads := product[0], product[1]
	for i, n := range k.size {
		if n > 0 && l.Grid[i]%n != 0 {
			return fail("grid %v of clusters %v", l.Grid, k.size)
		}
	}
	if threads > k.threads || blocks > 1<<20 {
		return fail("grid %v, block %v of at most %d threads", l.Grid, l.Block, k.threads)
	}
	if len(l.Args) != k.args {
		return fail("%d bytes of arguments, not %d", len(l.Args), k.args)
	}
	if l.DynamicShared < 0 || l.DynamicShared > max(k.allowed, 48<<10-k.static) {
		return fail("%d bytes of dynamic shared memory, of which it was loaded with %d", l.DynamicShared, k.allowed)
	}
	if l.Early && !k.waits {
		return fail("an early launch of a kernel that does not wait for those before it")
	}
	resident := d.options.Resident
	if l.Cooperative {
		// As many blocks as the multiprocessors have room for.
		perMulti := min(2048/align(threads, warpSize), 32)
		if used := k.static + l.DynamicShared; used > 0 {
			perMulti = min(perMulti, (d.options.SharedPerBlock+1<<10)/(used+1<<10))
		}
		if resident = blocks; blocks > perMulti*d.options.Multiprocessors {
			return fail("%d blocks cannot run at once, %d can", blocks, perMulti*d.options.Multiprocessors)
		}
	}
	g := &launch{k: k, grid: l.Grid, block: l.Block, dynamic: l.DynamicShared, constants: fn.constants}
	args := append([]byte(nil), l.Args...)
	for i := range l.Maps {
		if err := encodeMap(args, &l.Maps[i]); err != nil {
			return fail("%w", err)
		}
	}
	q.work = append(q.work, func() error {
		if err := d.enter("Kernel"); err != nil {
			return err
		}
		run := *g
		run.dev, run.rng = d, rand.New(rand.NewPCG(d.rng.Uint64(), 1))
		run.args = region{data: args, what: "the arguments"}
		if run.perBlock = (threads + warpSize - 1) / warpSize; k.copies {
			run.perBlock++
		}
		run.warps = blocks * run.perBlock
		err := run.run(resident)
		d.retired += run.steps
		return err
	})
	return nil
}

func orOne(n int) int {
	if n == 0 {
		return 1
	}
	return n
}

// finish does the work of a queue.
func (d *Device) finish(q *stream) error {
	work := q.work
	q.work = nil
	for _, j := range work {
		if q.err == nil {
			if q.err = j(); q.err != nil {
				d.fails(q.err)
			}
		}
	}
	err := q.err
	q.err = nil
	return err
}

// Synchronize does the stream's work.
func (d *Device) Synchronize(s tensor.Stream) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, err := d.stream("Synchronize", s)
	if err != nil {
		return err
	}
	if q.capturing {
		return errors.New("Synchronize: the stream is being captured")
	}
	if err := d.finish(q); err != nil {
		return fmt.Errorf("Synchronize: %w", err)
	}
	return nil
}

// Mark notes the device's time, which goes by at a nanosecond per thousand lane-instructions.
func (d *Device) Mark(s tensor.Stream, mark int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, err := d.stream("Mark", s)
	if err != nil {
		return err
	}
	if mark < 0 || mark >= tensor.Marks {
		return fmt.Errorf("Mark: %d", mark)
	}
	q.work = append(q.work, func() error {
		q.marks[mark], q.marked[mark] = time.Duration(d.retired/1000), true
		return nil
	})
	return nil
}

// Elapsed does the stream's work and compares two marks.
func (d *Device) Elapsed(s tensor.Stream, from, to int) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, err := d.stream("Elapsed", s)
	if err != nil {
		return 0, err
	}
	if q.capturing {
		return 0, errors.New("Elapsed: the stream is being captured")
	}
	if err := d.finish(q); err != nil {
		return 0, fmt.Errorf("Elapsed: %w", err)
	}
	for _, m := range []int{from, to} {
		if m < 0 || m >= tensor.Marks || !q.marked[m] {
			return 0, fmt.Errorf("Elapsed: mark %d was not set", m)
		}
	}
	return q.marks[to] - q.marks[from], nil
}

// Capture collects the work that record queues.
func (d *Device) Capture(s tensor.Stream, record func() error) (tensor.Graph, error) {
	q, before, err := d.beginCapture(s)
	if err != nil {
		return 0, err
	}
	err = record()
	d.mu.Lock()
	defer d.mu.Unlock()
	recorded := q.work
	q.work, q.capturing = before, false
	if err != nil {
		return 0, fmt.Errorf("Capture: %w", err)
	}
	q.graphs = append(q.graphs, recorded)
	return tensor.Graph(len(q.graphs)), nil
}

// beginCapture sets the work aside that is queued already.
func (d *Device) beginCapture(s tensor.Stream) (q *stream, before []job, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q, err = d.stream("Capture", s); err != nil {
		return nil, nil, err
	}
	if q.capturing {
		return nil, nil, errors.New("Capture: the stream is being captured")
	}
	before = q.work
	q.work, q.capturing = nil, true
	return q, before, nil
}

// Replay queues the work of a graph.
func (d *Device) Replay(s tensor.Stream, g tensor.Graph) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, err := d.stream("Replay", s)
	if err != nil {
		return err
	}
	if g == 0 || int(g) > len(q.graphs) {
		return fmt.Errorf("Replay: no graph %d of stream %d", g, s)
	}
	q.work = append(q.work, q.graphs[g-1]...)
	return nil
}

// Close frees everything.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory, d.streams, d.functions = memory{}, nil, nil
	d.lost = errors.New("the device is closed")
	return nil
}
