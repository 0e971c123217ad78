// Package kerneltest runs GPU kernels in tests: slices in, slices out, on a tensor.Driver. The tests of kernels/<family> use it.
package kerneltest

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"netfusion/tensor"
)

// Null is an argument for a pointer that the kernel may do without.
var Null = []byte(nil)

// A Kernel is one entry of a PTX text, loaded for one test.
type Kernel struct {
	t      testing.TB
	driver tensor.Driver
	stream tensor.Stream
	entry  tensor.Entry
	f      tensor.Function
}

var ran = map[string]bool{} // entries

// Load loads entry from a family's PTX text.
func Load(t testing.TB, text, entry string) *Kernel {
	t.Helper()
	return LoadShared(t, text, entry, 0)
}

// LoadShared is Load for an entry whose blocks have so many bytes of dynamic shared memory. A text for another GPU than is there
// skips the test.
func LoadShared(t testing.TB, text, entry string, bytes int) *Kernel {
	t.Helper()
	ran[entry] = true
	return load(t, device(t, text, seedOf(t.Name()+entry)), text, tensor.Entry{Name: entry, DynamicShared: bytes})
}

// Open opens a device, whose order of doing things depends on name where it is free.
func Open(name string) tensor.Driver { return open(seedOf(name)) }

// OpenFor is Open for a device that can run text; without one it skips the test.
func OpenFor(t testing.TB, text string) tensor.Driver {
	t.Helper()
	return device(t, text, seedOf(t.Name()))
}

func seedOf(name string) uint64 {
	seed := fnv.New64()
	seed.Write([]byte(name))
	return seed.Sum64()
}

// isHopper tells whether a text is for compute capability 9.0 alone.
func isHopper(text string) bool { return strings.Contains(text, "\n.target sm_90a\n") }

// load is Load on a driver, which is used for nothing else unless it is a GPU's.
func load(t testing.TB, driver tensor.Driver, text string, e tensor.Entry) *Kernel {
	t.Helper()
	k := &Kernel{t: t, driver: driver, entry: e}
	var err error
	if k.f, err = function(driver, text, e); err == nil {
		k.stream, _, err = driver.OpenStream(0)
	}
	if err != nil {
		t.Fatalf("%s: %v", e.Name, err)
	}
	t.Cleanup(func() { release(k) })
	return k
}

// Main is for the TestMain of a family: unless tests were left out, every entry of its PTX texts must have run.
func Main(m *testing.M, texts ...string) {
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		for _, entry := range entries.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
			if !ran[entry[1]] {
				fmt.Printf("FAIL: no test runs the entry %s\n", entry[1])
				code = 1
			}
		}
	}
	os.Exit(code)
}

var entries = regexp.MustCompile(`\.entry (\w+)`)

// Map is an argument that describes the memory of a slice to the tensor memory accelerator: see tensor.TensorMap.
type Map struct {
	Of            any
	Element       int
	Dims, Strides []int
	Box           []int
	Swizzle       int
}

// Size is a grid or a block; what is missing is 1.
type Size = [3]int

// Run launches the kernel and waits for it. Arguments are, in the order of the kernel's parameters, slices, int (32 bits wide for
// the kernel), uint32, float32 and Map. A slice becomes device memory of exactly its size and content, and has what the
// kernel left there afterwards; the same slice twice is the same memory, and an empty one a null pointer.
func (k *Kernel) Run(grid, block Size, args ...any) {
	k.t.Helper()
	if err := k.Try(grid, block, args...); err != nil {
		k.t.Fatal(err)
	}
}

// Try is Run, and returns what went wrong. The kernel cannot be used after an error.
func (k *Kernel) Try(grid, block Size, args ...any) error {
	var packed []byte
	put := func(v uint64, size int) {
		for len(packed)%size != 0 {
			packed = append(packed, 0)
		}
		packed = binary.LittleEndian.AppendUint64(packed, v)[:len(packed)+size]
	}
	memory := map[*byte]tensor.DevicePtr{}
	place := func(arg any) (tensor.DevicePtr, error) {
		b := bytesOf(arg)
		p, known := memory[unsafe.SliceData(b)]
		if len(b) == 0 || known {
			return p, nil
		}
		p, err := k.driver.Alloc(len(b))
		if err == nil {
			memory[unsafe.SliceData(b)] = p
			err = k.driver.Upload(k.stream, p, b)
		}
		return p, err
	}
	var maps []tensor.TensorMap
	for _, arg := range args {
		switch v := arg.(type) {
		case Map:
			p, err := place(v.Of)
			if err != nil {
				return err
			}
			packed = append(packed, make([]byte, -len(packed)&63)...)
			maps = append(maps, tensor.TensorMap{At: len(packed), Ptr: p, Element: v.Element, Dims: v.Dims, Strides: v.Strides, Box: v.Box, Swizzle: v.Swizzle})
			packed = append(packed, make([]byte, tensor.TensorMapBytes)...)
		case int:
			put(uint64(uint32(v)), 4)
		case uint32:
			put(uint64(v), 4)
		case float32:
			put(uint64(math.Float32bits(v)), 4)
		default:
			p, err := place(arg)
			if err != nil {
				return err
			}
			put(uint64(p), 8)
		}
	}
	l := tensor.Launch{Grid: grid, Block: block, DynamicShared: k.entry.DynamicShared, Args: packed, Maps: maps}
	if err := k.driver.Launch(k.stream, k.f, l); err != nil {
		return err
	}
	for _, arg := range args {
		switch arg.(type) {
		case int, uint32, float32, Map:
			continue
		}
		b := bytesOf(arg)
		if p := memory[unsafe.SliceData(b)]; p != 0 {
			if err := k.driver.Download(k.stream, b, p); err != nil {
				return err
			}
		}
	}
	if err := k.driver.Synchronize(k.stream); err != nil {
		return err
	}
	for _, p := range memory {
		if err := k.driver.Free(p); err != nil {
			return err
		}
	}
	return nil
}

// bytesOf returns the memory of a slice.
func bytesOf(arg any) []byte {
	switch v := arg.(type) {
	case []byte:
		return v
	case []int8:
		return raw(v)
	case []uint16:
		return raw(v)
	case []int32:
		return raw(v)
	case []uint32:
		return raw(v)
	case []uint64:
		return raw(v)
	case []float32:
		return raw(v)
	case []float64:
		return raw(v)
	}
	panic(fmt.Sprintf("kerneltest: argument of type %T", arg))
}

func raw[T any](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

// Normals returns n normal numbers, the same for the same seed.
func Normals(seed uint64, n int, std float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(std * r.NormFloat64())
	}
	return s
}

// Poison returns n NaN of a kind that no computation makes: what a kernel must write, or must leave alone.
func Poison(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = poison
	}
	return s
}

var poison = math.Float32frombits(0x7fc0beef)

// Poisoned tells whether v is of Poison.
func Poisoned(v float32) bool { return math.Float32bits(v) == math.Float32bits(poison) }

// Equal reports the first value that differs in more than the sign of zero or the bits of a NaN.
func Equal(t testing.TB, got, want []float32) {
	t.Helper()
	for i, w := range want {
		if g := got[i]; g != w && (g == g || w == w) {
			t.Fatalf("[%d] = %v, want the bits of %v", i, g, w)
		}
	}
}

// Near reports the first value that is further from what is wanted than it may be.
func Near(t testing.TB, got []float32, want func(i int) (value, tolerance float64)) {
	t.Helper()
	for i, g := range got {
		v, tolerance := want(i)
		if g64 := float64(g); !(math.Abs(g64-v) <= tolerance) && g64 != v && (g == g || v == v) {
			t.Fatalf("[%d] = %v, want %v ± %v", i, g, v, tolerance)
		}
	}
}

// Up is the number of blocks of size that cover n.
func Up(n, size int) int { return (n + size - 1) / size }
