// Package drivertest holds the tests that every tensor.Driver has to pass, the interpreter as well as a GPU's: what host
// code was tested with one holds for the other.
package drivertest

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"

	"netfusion/tensor"
)

//go:embed kernels.ptx
var kernels string

// Entries of kernels.ptx, see there.
const (
	add = iota
	turn
	meet
	stray
)

var entries = []tensor.Entry{{Name: "add"}, {Name: "turn", DynamicShared: turned}, {Name: "meet"}, {Name: "stray"}}

// turned is more dynamic shared memory than a launch can have without asking for it when the entry is loaded.
const turned = 64 << 10

// Run tests the drivers that open returns.
func Run(t *testing.T, open func() tensor.Driver) {
	for _, x := range []struct {
		name string
		test func(r *rig)
	}{
		{"Attributes", attributes}, {"CopyAndLaunch", copyAndLaunch}, {"DynamicShared", dynamicShared}, {"Cooperative", cooperative},
		{"Graphs", graphs}, {"Marks", marks}, {"Streams", streams}, {"Refusals", refusals}, {"WrongUse", wrongUse}, {"Fault", fault},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := &rig{T: t, Driver: open()}
			var err error
			r.f, err = r.Load("kernels.ptx", kernels, entries)
			r.ok(err)
			r.s, r.staging, err = r.OpenStream(1 << 10)
			r.ok(err)
			x.test(r)
			r.ok(r.Close())
		})
	}
}

// rig is a driver with the kernels loaded and one stream.
type rig struct {
	*testing.T
	tensor.Driver
	f       []tensor.Function
	s       tensor.Stream
	staging []byte
}

func (r *rig) ok(errs ...error) {
	r.Helper()
	if err := errors.Join(errs...); err != nil {
		r.Fatal(err)
	}
}

// alloc returns words of device memory.
func (r *rig) alloc(words int) tensor.DevicePtr {
	r.Helper()
	p, err := r.Alloc(4 * words)
	r.ok(err)
	return p
}

// addTo launches add: the first n words at p grow by v.
func (r *rig) addTo(s tensor.Stream, p tensor.DevicePtr, v, n int) error {
	return r.Launch(s, r.f[add], tensor.Launch{Grid: [3]int{(n + 63) / 64}, Block: [3]int{64}, Args: args(p, v, n)})
}

func args(p tensor.DevicePtr, v ...int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(p))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, uint32(x))
	}
	return b
}

// put and get are 32-bit words of host memory.
func put(b []byte, i, v int)  { binary.LittleEndian.PutUint32(b[4*i:], uint32(v)) }
func get(b []byte, i int) int { return int(binary.LittleEndian.Uint32(b[4*i:])) }
func fill(b []byte, v func(i int) int) {
	for i := range len(b) / 4 {
		put(b, i, v(i))
	}
}

func attributes(r *rig) {
	a := r.Attributes()
	if a.Name == "" || a.Capability < 80 || a.Multiprocessors < 1 || a.SharedPerBlock < 99<<10 || a.SharedPerMulti < a.SharedPerBlock || a.L2 < 1<<20 || a.Memory < 1<<30 {
		r.Errorf("%+v", a)
	}
}

func copyAndLaunch(r *rig) {
	const n = 1000
	up, down := make([]byte, 4*n), make([]byte, 4*n)
	fill(up, func(i int) int { return i })
	p := r.alloc(n)
	if p%256 != 0 {
		r.Errorf("an allocation at %#x", uint64(p))
	}
	r.ok(r.Upload(r.s, p, up), r.addTo(r.s, p, 5, n-1), r.addTo(r.s, p+4, 7, n-1), r.Download(r.s, down, p), r.Synchronize(r.s))
	for i := range n {
		want := i
		if i < n-1 {
			want += 5
		}
		if i > 0 {
			want += 7
		}
		if get(down, i) != want {
			r.Fatalf("word %d: %d, want %d", i, get(down, i), want)
		}
	}
	r.ok(r.Upload(r.s, p, nil), r.Download(r.s, nil, p), r.Synchronize(r.s), r.Free(p), r.Free(0))
}

func dynamicShared(r *rig) {
	const n = turned / 4 / 1024 // words of each thread
	b := make([]byte, turned)
	fill(b, func(i int) int { return 3 * i })
	p := r.alloc(turned / 4)
	r.ok(r.Upload(r.s, p, b), r.Launch(r.s, r.f[turn], tensor.Launch{Block: [3]int{1024}, DynamicShared: turned, Args: args(p, n)}),
		r.Download(r.s, b, p), r.Synchronize(r.s))
	for i := range turned / 4 {
		if want := 3 * (turned/4 - 1 - i); get(b, i) != want {
			r.Fatalf("word %d: %d, want %d", i, get(b, i), want)
		}
	}
}

func cooperative(r *rig) {
	blocks := r.Attributes().Multiprocessors
	b := make([]byte, 4*(blocks+1))
	p := r.alloc(blocks + 1)
	l := tensor.Launch{Grid: [3]int{blocks}, Block: [3]int{32}, Cooperative: true, Args: args(p, blocks)}
	r.ok(r.Upload(r.s, p, b), r.Launch(r.s, r.f[meet], l), r.Download(r.s, b, p), r.Synchronize(r.s))
	for i := range blocks {
		if get(b, i+1) != blocks {
			r.Fatalf("block %d met %d blocks of %d", i, get(b, i+1), blocks)
		}
	}
	if l.Grid[0] *= 1 << 10; r.Launch(r.s, r.f[meet], l) == nil {
		r.Error("more blocks than can run at once")
	}
}

func graphs(r *rig) {
	p := r.alloc(16)
	in, out := r.staging[:64], r.staging[64:128]
	g, err := r.Capture(r.s, func() error {
		return errors.Join(r.Upload(r.s, p, in), r.Mark(r.s, 0), r.addTo(r.s, p, 1, 16), r.addTo(r.s, p, 2, 8), r.Mark(r.s, 1), r.Download(r.s, out, p))
	})
	r.ok(err)
	for round := range 3 {
		fill(in, func(i int) int { return 100*round + i })
		r.ok(r.Replay(r.s, g), r.Synchronize(r.s))
		for i := range 16 {
			if want := 100*round + i + 1 + 2*(1-i/8); get(out, i) != want {
				r.Fatalf("round %d, word %d: %d, want %d", round, i, get(out, i), want)
			}
		}
		if d, err := r.Elapsed(r.s, 0, 1); err != nil || d < 0 {
			r.Fatal(d, err)
		}
	}
	failed := errors.New("the caller's own")
	if _, err := r.Capture(r.s, func() error { return failed }); !errors.Is(err, failed) {
		r.Errorf("a capture that fails: %v", err)
	}
	r.ok(r.addTo(r.s, p, 1, 16), r.Synchronize(r.s)) // the stream is as it was
	if r.Replay(r.s, g+100) == nil {
		r.Error("a graph that is not there")
	}
	r.ok(r.CloseStream(r.s))
	if r.Replay(r.s, g) == nil {
		r.Error("a stream that is closed")
	}
}

func marks(r *rig) {
	p := r.alloc(16)
	r.ok(r.Upload(r.s, p, r.staging[:64]), r.Mark(r.s, 0), r.addTo(r.s, p, 1, 16), r.Mark(r.s, tensor.Marks-1), r.addTo(r.s, p, 1, 16), r.Mark(r.s, 2))
	part, err := r.Elapsed(r.s, 0, tensor.Marks-1)
	r.ok(err)
	whole, err := r.Elapsed(r.s, 0, 2)
	r.ok(err)
	if part < 0 || whole < part {
		r.Errorf("%v of %v", part, whole)
	}
	if r.Mark(r.s, tensor.Marks) == nil || r.Mark(r.s, -1) == nil {
		r.Error("marks that are not there")
	}
	if _, err := r.Elapsed(r.s, 0, 5); err == nil {
		r.Error("a mark that was not set")
	}
}

// streams has goroutines with a stream of their own each.
func streams(r *rig) {
	var wait sync.WaitGroup
	for n := range 4 {
		wait.Go(func() {
			s, staging, err := r.OpenStream(256)
			p, err2 := r.Alloc(256)
			if err := errors.Join(err, err2); err != nil {
				r.Error(err)
				return
			}
			fill(staging, func(i int) int { return i })
			err = r.Upload(s, p, staging)
			for range 10 {
				err = errors.Join(err, r.addTo(s, p, n, 64))
			}
			if err := errors.Join(err, r.Download(s, staging, p), r.Synchronize(s)); err != nil {
				r.Error(err)
			}
			for i := range 64 {
				if want := i + 10*n; get(staging, i) != want {
					r.Errorf("stream %d, word %d: %d, want %d", s, i, get(staging, i), want)
					break
				}
			}
			if err := errors.Join(r.CloseStream(s), r.Free(p)); err != nil {
				r.Error(err)
			}
		})
	}
	wait.Wait()
}

func refusals(r *rig) {
	if _, err := r.Alloc(1 << 60); !errors.Is(err, tensor.ErrOutOfMemory) {
		r.Errorf("2⁶⁰ bytes: %v", err)
	}
	for what, src := range map[string]string{
		"no PTX":                 "what is this?",
		"an unknown opcode":      strings.Replace(kernels, "red.global", "rod.global", 1),
		"a target of the future": strings.Replace(kernels, "sm_80", "sm_999", 1),
	} {
		if _, err := r.Load("broken.ptx", src, entries); !errors.Is(err, tensor.ErrRefused) || !strings.Contains(err.Error(), "broken.ptx") {
			r.Errorf("%s: %v", what, err)
		}
	}
	if _, err := r.Load("kernels.ptx", kernels, []tensor.Entry{{Name: "nothing"}}); err == nil || !strings.Contains(err.Error(), "nothing") {
		r.Errorf("an entry that is not there: %v", err)
	}
	if _, err := r.Load("kernels.ptx", kernels, []tensor.Entry{{Name: "turn", DynamicShared: 1 << 20}}); err == nil || !strings.Contains(err.Error(), "turn") {
		r.Errorf("a megabyte of shared memory: %v", err)
	}
	r.ok(r.addTo(r.s, r.alloc(1), 1, 0), r.Synchronize(r.s)) // none of this hurt
}

func wrongUse(r *rig) {
	p := r.alloc(64)
	try := func(what string, l tensor.Launch) {
		l.Args = args(p, 0, 0)
		if err := r.Launch(r.s, r.f[add], l); err == nil || !strings.Contains(err.Error(), "add") {
			r.Errorf("%s: %v", what, err)
		}
	}
	try("a large block", tensor.Launch{Block: [3]int{2048}})
	try("a flat block", tensor.Launch{Block: [3]int{1, -1}})
	try("a high grid", tensor.Launch{Grid: [3]int{1, 1 << 17}})
	try("more shared memory than was asked for", tensor.Launch{DynamicShared: turned})
	try("a tensor map beyond the arguments", tensor.Launch{Maps: []tensor.TensorMap{{At: 64, Ptr: p, Element: 2, Dims: []int{8}, Box: []int{8}}}})
	if r.Free(p+4) == nil {
		r.Error("Free of what Alloc did not return")
	}
	if r.Launch(r.s, 1000, tensor.Launch{}) == nil || r.Synchronize(r.s+100) == nil {
		r.Error("handles that are not there")
	}
	r.ok(r.addTo(r.s, p, 0, 0), r.Synchronize(r.s))
}

// fault: a kernel that faults loses the device.
func fault(r *rig) {
	p := r.alloc(64)
	err := r.Launch(r.s, r.f[stray], tensor.Launch{Args: args(p)})
	if err = errors.Join(err, r.Synchronize(r.s)); err == nil {
		r.Fatal("a store to nowhere went unnoticed")
	}
	if _, err := r.Alloc(4); !errors.Is(err, tensor.ErrLost) {
		r.Errorf("Alloc afterwards: %v", err)
	}
	if err := r.Synchronize(r.s); !errors.Is(err, tensor.ErrLost) {
		r.Errorf("Synchronize afterwards: %v", err)
	}
}
