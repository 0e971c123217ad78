package tensor_test

import (
	"slices"
	"strings"
	"testing"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
	"netfusion/tensor/ptx"
)

// early notes which launches may begin early.
type early struct {
	tensor.Driver
	launches []bool
}

func (d *early) Launch(s tensor.Stream, f tensor.Function, l tensor.Launch) error {
	d.launches = append(d.launches, l.Early)
	return d.Driver.Launch(s, f, l)
}

// Every launch that follows another may begin early, which the interpreter allows only to kernels that wait first; what is computed is
// the same.
func TestOverlap(t *testing.T) {
	if testing.Short() {
		t.Skip("the interpreter takes its time")
	}
	const rows, n = 3, 40
	x, w, gamma := kerneltest.Normals(1, rows*n, 1), kerneltest.Normals(2, n*n, 0.1), kerneltest.Normals(3, n, 1)
	var want []float32
	for _, c := range []struct {
		capability int
		overlap    bool
		early      []bool
	}{
		{90, false, []bool{false, false, false}}, {80, true, []bool{false, false, false}}, {90, true, []bool{false, true, false}},
	} {
		d := &early{Driver: ptx.Open(ptx.Options{Capability: c.capability})}
		g, err := tensor.OpenGPU(d, tensor.GPUOptions{Overlap: c.overlap})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		q, err := g.NewQueue(1 << 12)
		if err != nil {
			t.Fatal(err)
		}
		weight, scale := g.NewWeight(tensor.F32, w, n, n), tensor.Put(g, gamma)
		in, out := tensor.Stage[float32](q, rows*n), tensor.Stage[float32](q, rows*n)
		copy(in.Host, x)
		graph, err := q.Capture(func() {
			q.Upload(in)
			y, to := q.TakePacked(rows, n), tensor.Matrix(out.Array, rows, n)
			q.MatMul(y, tensor.Matrix(in.Array, rows, n), weight, tensor.GPUEpilogue{})
			q.LayerNorm(y, y, tensor.Buffer{}, scale, scale, 1e-5, matmul.None)
			q.Mark(0)
			q.Copy(to, y)
			q.Download(out)
		})
		if err != nil {
			t.Fatal(err)
		}
		q.Replay(graph)
		if err := q.Wait(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(d.launches, c.early) {
			t.Errorf("capability %d, overlap %v: early %v, want %v", c.capability, c.overlap, d.launches, c.early)
		}
		if want == nil {
			want = slices.Clone(out.Host)
		}
		kerneltest.Equal(t, out.Host, want)
	}
}

// A kernel that does not wait cannot be launched early.
func TestAnEarlyLaunchWaits(t *testing.T) {
	d := ptx.Open(ptx.Options{Capability: 90})
	for body, want := range map[string]string{
		"griddepcontrol.wait; ret;":                                                   "",
		"griddepcontrol.launch_dependents; ret;":                                      "does not wait",
		"mov.u32 %r1, 1; griddepcontrol.wait; ret;":                                   "does not wait",
		"@%p1 griddepcontrol.wait; griddepcontrol.wait;":                              "",
		"@%p1 griddepcontrol.wait; mov.u32 %r1, 1; ret;":                              "does not wait",
		"griddepcontrol.launch_dependents; griddepcontrol.wait; mov.u32 %r1, 1; ret;": "",
	} {
		f, err := d.Load("k", ".version 8.0\n.target sm_90\n.entry k() { .reg .pred %p<2>; .reg .b32 %r<2>; "+body+" }", []tensor.Entry{{Name: "k"}})
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := d.OpenStream(0)
		if err != nil {
			t.Fatal(err)
		}
		err = d.Launch(s, f[0], tensor.Launch{Early: true})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
