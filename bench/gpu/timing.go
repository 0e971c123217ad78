package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"netfusion/tensor"
)

// timing is how long one launch takes.
type timing struct {
	entry, shape string
	seconds      float64
	bytes, flops float64 // that it moves at least, and does
}

// bandwidth is in bytes per second.
func (t *timing) bandwidth() float64 { return t.bytes / t.seconds }

// launch is a kernel's launch that is timed, over an extent that its row of the launch table tells the meaning of. Arguments are int,
// float32, memory, boxes and []int32, in the order of the parameters.
type launch struct {
	entry, shape string
	extent       [3]int
	args         []any
	flops        float64
}

// memory is an argument: device memory, other for each copy of a launch. No bytes are a null pointer.
type memory struct {
	bytes int
	fill  func(r *rand.Rand) uint32 // a word of it
}

var null = memory{}

// boxes is an argument: a tensor map of bfloat16, as the hopper.cu of its family wants it.
type boxes struct {
	memory
	dims, box []int
}

// describe is the map of a dense tensor at p.
func (b *boxes) describe(at int, p tensor.DevicePtr) tensor.TensorMap {
	m := tensor.TensorMap{At: at, Ptr: p, Element: 2, Dims: b.dims, Box: b.box, Swizzle: 128}
	for i, stride := 0, 2; i < len(b.dims)-1; i++ {
		stride *= b.dims[i]
		m.Strides = append(m.Strides, stride)
	}
	return m
}

// uniform is a word of a float32 in [-1, 1), pair one of two bfloat16.
func uniform(r *rand.Rand) uint32 { return math.Float32bits(2*r.Float32() - 1) }
func pair(r *rand.Rand) uint32    { return uniform(r)&0xffff0000 | uniform(r)>>16 }
func zero(*rand.Rand) uint32      { return 0 }

// Memory of n values: what is read, and out for what is only written.
func f32(n int) memory    { return memory{4 * n, uniform} }
func bf16(n int) memory   { return memory{2 * n, pair} }
func octets(n int) memory { return memory{n, (*rand.Rand).Uint32} }
func zeros(n int) memory  { return memory{4 * n, zero} }
func out(n int) memory    { return memory{4 * n, zero} }

// bytes is what the launch moves if it touches all its memory once.
func (l *launch) bytes() (n int) {
	for _, a := range l.args {
		switch m := a.(type) {
		case memory:
			n += m.bytes
		case boxes:
			n += m.bytes
		}
	}
	return n
}

// timer times launches on a device.
type timer struct {
	suite
	d      tensor.Driver
	stream tensor.Stream
	loaded map[string]tensor.Function // by entry
}

// time times the launches of a suite.
func (s suite) time(d tensor.Driver) ([]timing, error) {
	stream, _, err := d.OpenStream(0)
	if err != nil {
		return nil, err
	}
	t := &timer{suite: s, d: d, stream: stream, loaded: map[string]tensor.Function{}}
	launches := s.launches(d.Attributes())
	for _, f := range tensor.Families() {
		if runs(f, d.Attributes()) {
			if err := t.load(f, launches); err != nil {
				return nil, err
			}
		}
	}
	var all []timing
	for _, l := range launches {
		one, err := t.one(&l)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", l.entry, l.shape, err)
		}
		fmt.Printf("%-24s %-40s %10.2f µs\n", one.entry, one.shape, 1e6*one.seconds)
		all = append(all, one)
	}
	return all, d.CloseStream(stream)
}

// load loads what the launches need of a family, all at once, since a driver compiles the whole text each time.
func (t *timer) load(f tensor.Family, launches []launch) error {
	var entries []tensor.Entry
	for _, e := range f.Entries() {
		if slices.ContainsFunc(launches, func(l launch) bool { return l.entry == e.Name }) {
			entries = append(entries, e)
		}
	}
	functions, err := t.d.Load(file(f), f.Text, entries)
	for i, function := range functions {
		t.loaded[entries[i].Name] = function
	}
	return err
}

// one captures a graph of launches whose operands together are larger than the L2 cache, so that each comes from memory, and
// takes the median of its runs.
func (t *timer) one(l *launch) (timing, error) {
	copies := min(max(3*t.d.Attributes().L2/l.bytes(), 1), t.copies)
	count := up(t.fewest, copies) * copies
	form := tensor.FormOf(l.entry)
	all := make([]tensor.Launch, copies)
	var used []tensor.DevicePtr
	defer func() {
		for _, p := range used {
			t.d.Free(p)
		}
	}()
	for i := range all {
		args, maps, err := t.pack(l.args, &used)
		if err != nil {
			return timing{}, err
		}
		all[i] = tensor.Launch{Grid: form.Grid(l.extent), Block: [3]int{form.Block}, DynamicShared: form.Shared, Args: args, Maps: maps}
	}
	graph, err := t.d.Capture(t.stream, func() error {
		if err := t.d.Mark(t.stream, 0); err != nil {
			return err
		}
		for i := range count {
			if err := t.d.Launch(t.stream, t.loaded[l.entry], all[i%copies]); err != nil {
				return err
			}
		}
		return t.d.Mark(t.stream, 1)
	})
	if err != nil {
		return timing{}, err
	}
	var seconds []float64
	for range t.repeats + 1 {
		if err := t.d.Replay(t.stream, graph); err != nil {
			return timing{}, err
		}
		elapsed, err := t.d.Elapsed(t.stream, 0, 1)
		if err != nil {
			return timing{}, err
		}
		seconds = append(seconds, elapsed.Seconds()/float64(count))
	}
	seconds = seconds[1:] // the first warms up
	slices.Sort(seconds)
	return timing{l.entry, l.shape, seconds[t.repeats/2], float64(l.bytes()), l.flops}, nil
}

// pack allocates a launch's memory, noted in used, and lays out its arguments.
func (t *timer) pack(args []any, used *[]tensor.DevicePtr) (b []byte, maps []tensor.TensorMap, err error) {
	for _, arg := range args {
		switch v := arg.(type) {
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		case float32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		case boxes:
			p, err := t.place(v.memory, used)
			if err != nil {
				return nil, nil, err
			}
			b = append(b, make([]byte, -len(b)&63)...)
			maps = append(maps, v.describe(len(b), p))
			b = append(b, make([]byte, tensor.TensorMapBytes)...)
		case memory, []int32:
			p, err := t.place(v, used)
			if err != nil {
				return nil, nil, err
			}
			for len(b)%8 != 0 {
				b = append(b, 0)
			}
			b = binary.LittleEndian.AppendUint64(b, uint64(p))
		default:
			panic(fmt.Sprintf("argument of type %T", arg))
		}
	}
	return b, maps, nil
}

// place makes device memory of an argument: the words of a slice, or random ones, a megabyte again and again.
func (t *timer) place(arg any, used *[]tensor.DevicePtr) (tensor.DevicePtr, error) {
	var content []byte
	var size int
	switch v := arg.(type) {
	case []int32:
		size = 4 * len(v)
		for _, w := range v {
			content = binary.LittleEndian.AppendUint32(content, uint32(w))
		}
	case memory:
		size = v.bytes
		r := rand.New(rand.NewPCG(1, 1))
		for range min((size+3)/4, 1<<18) {
			content = binary.LittleEndian.AppendUint32(content, v.fill(r))
		}
	}
	if size == 0 {
		return 0, nil
	}
	p, err := t.d.Alloc(size)
	if err != nil {
		return 0, err
	}
	*used = append(*used, p)
	for at := 0; at < size; at += len(content) {
		if err := t.d.Upload(t.stream, p+tensor.DevicePtr(at), content[:min(len(content), size-at)]); err != nil {
			return 0, err
		}
	}
	return p, t.d.Synchronize(t.stream)
}
