package tensor_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"sync"
	"testing"

	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
)

// What a Device computes is what a Queue must compute: here on the interpreter, or, built with CUDA, on a GPU.

// A spy is a driver of which tests know what was launched. It says that it has so many multiprocessors, on which the choice of
// kernels depends. Spies share one device, on which each text is loaded once.
type spy struct {
	tensor.Driver
	multiprocessors int
}

var (
	shared   = sync.OnceValue(func() tensor.Driver { return Open("tensor") })
	loaded   = map[text][]tensor.Function{}
	entries  = map[function]string{}
	launched = map[string]bool{} // by entry
)

// Texts and what they hold, on one of the devices.
type (
	text struct {
		tensor.Driver
		src string
	}
	function struct {
		tensor.Driver
		tensor.Function
	}
)

func (s *spy) Attributes() tensor.Attributes {
	a := s.Driver.Attributes()
	a.Multiprocessors = s.multiprocessors
	return a
}

func (s *spy) Load(name, src string, of []tensor.Entry) ([]tensor.Function, error) {
	key := text{s.Driver, src}
	if functions := loaded[key]; functions != nil {
		return functions, nil
	}
	functions, err := s.Driver.Load(name, src, of)
	loaded[key] = functions
	for i, f := range functions {
		entries[function{s.Driver, f}] = of[i].Name
	}
	return functions, err
}

func (s *spy) Launch(stream tensor.Stream, f tensor.Function, l tensor.Launch) error {
	launched[entries[function{s.Driver, f}]] = true
	return s.Driver.Launch(stream, f, l)
}

// Close is for the tests to come.
func (s *spy) Close() error { return nil }

// TestMain sees to it that every row of the launch table has run, unless tests were left out.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && !testing.Short() && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		for _, f := range tensor.Families() {
			for _, e := range f.Entries() {
				if !launched[e.Name] {
					fmt.Printf("FAIL: no test launches %s by its row of the table\n", e.Name)
					code = 1
				}
			}
		}
	}
	os.Exit(code)
}

// device is a GPU for tests.
type device struct {
	multiprocessors int
	tf32            bool
}

// usual has as many multiprocessors as an A100, on which the small shapes of tests take small tiles.
var usual = device{multiprocessors: 108}

// A rig is a Queue and what a test does with it.
type rig struct {
	t testing.TB
	g *tensor.GPU
	*tensor.Queue
}

func newRig(t testing.TB, d device) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("the interpreter takes its time")
	}
	g, err := tensor.OpenGPU(&spy{shared(), d.multiprocessors}, tensor.GPUOptions{TF32: d.tf32})
	if err != nil {
		t.Fatal(err)
	}
	q, err := g.NewQueue(1 << 12)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t, g, q}
}

// put uploads x. What is behind the columns of a row, up to where the next can begin, is large and finite.
func (r *rig) put(x tensor.Tensor) tensor.Buffer {
	r.t.Helper()
	ld := (x.Cols + 3) / 4 * 4
	rows := make([]float32, x.Rows*ld)
	for i := range x.Rows {
		for j := range ld {
			rows[i*ld+j] = 1e30
		}
		copy(rows[i*ld:], x.Row(i))
	}
	return tensor.Buffer{Ptr: vector(r, rows).Ptr, Rows: x.Rows, Cols: x.Cols, Ld: ld}
}

// packed uploads x with its rows one right behind the other.
func (r *rig) packed(x tensor.Tensor) tensor.Buffer {
	return tensor.Matrix(vector(r, x.Data), x.Rows, x.Cols)
}

func vector[T tensor.Value](r *rig, v []T) tensor.Array[T] {
	r.t.Helper()
	a := tensor.Put(r.g, v)
	if err := r.g.Err(); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// fresh is memory for a result, in which nothing is right yet.
func (r *rig) fresh(rows, cols int) tensor.Buffer {
	return r.put(tensor.Of(rows, cols, Poison(rows*cols)))
}

// run runs what record calls.
func (r *rig) run(record func()) {
	r.t.Helper()
	if err := r.Run(record); err != nil {
		r.t.Fatal(err)
	}
}

// get downloads b.
func (r *rig) get(b tensor.Buffer) tensor.Tensor {
	r.t.Helper()
	all := make([]float32, (b.Rows-1)*b.Ld+b.Cols)
	if err := tensor.Get(r.Queue, all, tensor.Array[float32]{Ptr: b.Ptr, Len: len(all)}); err != nil {
		r.t.Fatal(err)
	}
	x := tensor.New(b.Rows, b.Cols)
	for i := range b.Rows {
		copy(x.Row(i), all[i*b.Ld:])
	}
	return x
}

// near reports the first value of b that is not within tolerance of want, relative to 1 or to the value.
func (r *rig) near(b tensor.Buffer, want tensor.Tensor, tolerance float64) {
	r.t.Helper()
	got := r.get(b)
	if got.Rows != want.Rows || got.Cols != want.Cols {
		r.t.Fatalf("[%d][%d], want [%d][%d]", got.Rows, got.Cols, want.Rows, want.Cols)
	}
	for i, w := range want.Data {
		g := got.Data[i]
		if d := math.Abs(float64(g) - float64(w)); !(d <= tolerance*math.Max(1, math.Abs(float64(w)))) {
			r.t.Fatalf("[%d][%d] = %v, want %v ± %v", i/want.Cols, i%want.Cols, g, w, tolerance)
		}
	}
}

func normals(rows, cols int, seed uint64) tensor.Tensor {
	return tensor.Of(rows, cols, Normals(seed, rows*cols, 1))
}

// cpu is the reference.
func cpu(t testing.TB) *tensor.Device {
	d := tensor.CPU(1)
	t.Cleanup(d.Close)
	return d
}

// The table has exactly the entries of the texts, and its blocks are what they are compiled for.
func TestTheLaunchTableIsThatOfTheKernels(t *testing.T) {
	entry := regexp.MustCompile(`\.entry (\w+)\([^)]*\)\s*(?:\.reqnctapercluster [\d, ]+\s*)?\.maxntid (\d+)`)
	for _, f := range tensor.Families() {
		rows := map[string]bool{}
		for _, e := range f.Entries() {
			rows[e.Name] = true
		}
		for _, m := range entry.FindAllStringSubmatch(f.Text, -1) {
			if !rows[m[1]] {
				t.Errorf("%s: no row for %s", f.Name, m[1])
				continue
			}
			delete(rows, m[1])
			if block := tensor.FormOf(m[1]).Block; fmt.Sprint(block) != m[2] {
				t.Errorf("%s: blocks of %d, compiled for %s", m[1], block, m[2])
			}
		}
		for name := range rows {
			t.Errorf("%s: no entry %s", f.Name, name)
		}
	}
}
