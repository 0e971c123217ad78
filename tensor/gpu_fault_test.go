package tensor_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// A GPU that cannot be opened says why, and leaves nothing open.
func TestOpenGPUSaysWhatIsWrong(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		options ptx.Options
		is      error
		says    string
	}{
		{ptx.Options{Capability: 75}, tensor.ErrRefused, "compute capability 7.5, want at least 8.0"},
		{ptx.Options{Fail: failing("Load", fmt.Errorf("%w: ptxas", tensor.ErrRefused))}, tensor.ErrRefused, "ptxas"},
		{ptx.Options{Fail: failing("Load", tensor.ErrLost)}, tensor.ErrLost, "Load"},
		{ptx.Options{Fail: failing("OpenStream", broken)}, broken, "OpenStream"},
	} {
		d := ptx.Open(c.options)
		_, err := tensor.OpenGPU(d, tensor.GPUOptions{})
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "PTX interpreter") {
			t.Errorf("%v", err)
		}
		if _, err := d.Alloc(1); err == nil {
			t.Errorf("%s: the driver is still open", c.says)
		}
	}
}

// failing fails every call of that name.
func failing(call string, err error) func(string) error {
	return func(c string) error {
		if c == call {
			return err
		}
		return nil
	}
}

// faults is a GPU whose calls fail on demand.
type faults struct {
	*tensor.GPU
	call string
	err  error
}

func openFaults(t *testing.T) *faults {
	t.Helper()
	f := new(faults)
	var err error
	f.GPU, err = tensor.OpenGPU(ptx.Open(ptx.Options{Memory: 1 << 24, Fail: func(call string) error {
		if call == f.call {
			return f.err
		}
		return nil
	}}), tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The first failure of a Queue sticks. Other Queues go on, unless the device is lost.
func TestAQueueThatFailedSaysSoFromThenOn(t *testing.T) {
	f := openFaults(t)
	for _, c := range []struct {
		call string
		err  error
	}{
		{"Launch", errors.New("refused")}, {"Kernel", errors.New("refused")}, {"Synchronize", errors.New("refused")},
		{"Capture", errors.New("refused")}, {"Replay", errors.New("refused")}, {"Upload", errors.New("refused")},
		{"Download", errors.New("refused")}, {"Mark", errors.New("refused")}, {"Elapsed", errors.New("refused")},
		{"Alloc", tensor.ErrOutOfMemory}, {"Kernel", tensor.ErrLost},
	} {
		q, err := f.NewQueue(64)
		if err != nil {
			t.Fatal(err)
		}
		other, err := f.NewQueue(64)
		if err != nil {
			t.Fatal(err)
		}
		in := tensor.Stage[float32](q, 8)
		work := func(q *tensor.Queue, in tensor.Staged[float32]) error {
			graph, _ := q.Capture(func() {
				q.Mark(0)
				q.Upload(in)
				x := q.Take(1, 8)
				q.Tanh(x, tensor.Matrix(in.Array, 1, 8))
				q.Copy(tensor.Matrix(in.Array, 1, 8), x)
				q.Download(in)
				q.Mark(1)
			})
			q.Replay(graph)
			q.Wait()
			q.Elapsed(0, 1)
			return q.Err()
		}
		f.call, f.err = c.call, c.err
		err = work(q, in)
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.call) && c.call != "Kernel" {
			t.Errorf("%s: %v", c.call, err)
		}
		f.call = ""
		if again := work(q, in); again != err {
			t.Errorf("%s: %v, and then %v", c.call, err, again)
		}
		if again := q.Run(func() { t.Error("ran") }); again != err {
			t.Errorf("%s: %v, and then %v", c.call, err, again)
		}
		if err := work(other, tensor.Stage[float32](other, 8)); errors.Is(c.err, tensor.ErrLost) != (err != nil) {
			t.Errorf("%s: the other Queue: %v", c.call, err)
		}
		if err := errors.Join(q.Close(), other.Close()); err != nil {
			t.Errorf("%s: %v", c.call, err)
		}
	}
	if _, err := f.NewQueue(64); !errors.Is(err, tensor.ErrLost) {
		t.Errorf("a Queue of a lost device: %v", err)
	}
}

// A model that does not fit is an error of loading, and a Queue that does not fit its own.
func TestOutOfMemory(t *testing.T) {
	f := openFaults(t)
	if _, err := f.NewQueue(1 << 25); !errors.Is(err, tensor.ErrOutOfMemory) {
		t.Errorf("staging: %v", err)
	}
	q, err := f.NewQueue(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Capture(func() { q.Take(1<<12, 1<<12) }); !errors.Is(err, tensor.ErrOutOfMemory) {
		t.Errorf("activations: %v", err)
	}
	tensor.Alloc[float32](f.GPU, 1<<23)
	if err := f.Err(); !errors.Is(err, tensor.ErrOutOfMemory) {
		t.Errorf("weights: %v", err)
	}
}

// Graphs of one Queue share its memory, that of a smaller one is that of a larger, and a Queue leaves nothing behind.
func TestQueuesGiveTheirMemoryBack(t *testing.T) {
	f := openFaults(t)
	for range 20 { // of a device that has room for two
		q, err := f.NewQueue(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		for _, rows := range []int{1000, 10, 900} {
			if _, err := q.Capture(func() { q.Tanh(q.Take(rows, 1000), q.Take(rows, 1000)) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if err := q.Run(func() {}); err == nil {
			t.Error("a closed Queue runs")
		}
	}
}

// Neighbours in the staging memory are one copy.
func TestUploadJoinsNeighbours(t *testing.T) {
	copies := 0
	d := ptx.Open(ptx.Options{Fail: func(call string) error {
		if call == "Upload" || call == "Download" {
			copies++
		}
		return nil
	}})
	g, err := tensor.OpenGPU(d, tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	q, err := g.NewQueue(1 << 10)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := tensor.Stage[int32](q, 3), tensor.Stage[uint64](q, 2), tensor.Stage[float32](q, 5)
	copies = 0
	for i := range a.Host {
		a.Host[i] = int32(i)
	}
	if err := q.Run(func() { q.Upload(a, b, c) }); err != nil || copies != 1 {
		t.Errorf("%d copies, %v", copies, err)
	}
	clear(a.Host)
	if err := q.Run(func() { q.Download(a, c) }); err != nil || copies != 3 || a.Host[2] != 2 {
		t.Errorf("%d copies, %v, %v", copies, a.Host, err)
	}
}
