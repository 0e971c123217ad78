package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
	"netfusion/tensor/ptx"
)

// gpuOptions are a few small steps with everything that a run can have.
func gpuOptions() Options {
	o := toyOptions()
	o.Steps, o.Batch, o.Warmup, o.Validate, o.Draws, o.Clip, o.Rate, o.EMA = 3, 8, 2, 2, 1, 3, 5e-3, 0.9
	return o
}

// hosted is Data that a GPU does not know of: its batches come from the host.
type hosted struct{ *Data }

// gpuTrainer returns a run on driver.
func gpuTrainer(t *testing.T, driver tensor.Driver, dialect string, o Options, train Source) *Trainer {
	t.Helper()
	if testing.Short() {
		t.Skip("the interpreter takes long")
	}
	dev := tensor.CPU(1)
	t.Cleanup(dev.Close)
	tr, err := New(toyFlow(t, toy(30, 1), dialect), train, toy(5, 2), o, dev)
	if err != nil {
		t.Fatal(err)
	}
	useGPU(t, tr, driver)
	return tr
}

func useGPU(t *testing.T, tr *Trainer, driver tensor.Driver) {
	t.Helper()
	if driver == nil {
		return
	}
	g, err := tensor.OpenGPU(driver, tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := tr.UseGPU(g); err != nil {
		t.Fatal(err)
	}
}

var gpuRuns = map[string]struct{ dialect, optimizer string }{"netfusion": {flow.NetFusion, "adamw"}, "net2net": {flow.Net2Net, "amsgrad"}}

// A GPU's steps are those of the CPU: the parameters, their average and the moments after them differ by roundings. Adam divides by the
// root of the second moment, so that a gradient of nothing but roundings, as those of the biases in front of a BatchNorm are, moves its
// parameter either way, by the learning rate.
func TestPTXAGPUTrainsAsTheCPUDoes(t *testing.T) {
	for name, c := range gpuRuns {
		t.Run(name, func(t *testing.T) {
			o := gpuOptions()
			o.Optimizer = c.optimizer
			if c.optimizer != "adamw" {
				o.Decay, o.HeadDecay = 0, 0
			}
			want := gpuTrainer(t, nil, c.dialect, o, toy(30, 1))
			got := gpuTrainer(t, kerneltest.Open(t.Name()), c.dialect, o, toy(30, 1))
			for _, tr := range []*Trainer{want, got} {
				if err := tr.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			const tiny = 1e-12 // a second moment of roundings
			if a, b := got.Score(), want.Score(); math.Abs(a.Z-b.Z) > 1e-3*(1+math.Abs(b.Z)) || math.Abs(a.Class-b.Class) > 1e-3*(1+math.Abs(b.Class)) {
				t.Errorf("validated to %+v, want %+v", a, b)
			}
			if math.Abs(got.norm-want.norm) > 1e-3*want.norm {
				t.Errorf("the gradient's norm is %v, want %v", got.norm, want.norm)
			}
			for name, pair := range map[string][2][]float32{
				"weights": {got.flow.Values(), want.flow.Values()}, "average": {got.ema.Values(), want.ema.Values()},
				"first moment": {got.first, want.first}, "second moment": {got.second, want.second}, "peak": {got.peak, want.peak},
			} {
				far, size := 0.0, 0.0
				for i, w := range pair[1] {
					d := math.Abs(float64(pair[0][i] - w))
					if (name == "weights" || name == "average") && want.second[i] < tiny {
						if d > float64(o.Steps)*o.Rate {
							t.Errorf("%s: %d, whose gradient is nearly zero, moved by %v", name, i, d)
						}
						continue
					}
					far, size = max(far, d), max(size, math.Abs(float64(w)))
				}
				if far > 2e-4*size {
					t.Errorf("%s: off by %v of %v", name, far, size)
				}
			}
		})
	}
}

// gpuCheckpoint is checkpoint on a GPU with a schedule of its own.
func gpuCheckpoint(t *testing.T, dialect string, o Options, seed uint64, train Source, stop int) []byte {
	t.Helper()
	driver := func() tensor.Driver { return ptx.Open(ptx.Options{Seed: seed, Unchecked: true}) }
	tr := gpuTrainer(t, driver(), dialect, o, train)
	path := filepath.Join(t.TempDir(), "run.safetensors")
	tr.Checkpoint = path
	if stop != never {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		tr.Log = &stopper{at: fmt.Sprintf("step %d:", stop), cancel: cancel}
		if err := tr.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("an interrupted run returns %v", err)
		}
		var err error
		if tr, err = Resume(path, train, toy(5, 2), nil, tr.dev); err != nil {
			t.Fatal(err)
		}
		if tr.Step() != stop {
			t.Fatalf("resumed at step %d, want %d", tr.Step(), stop)
		}
		useGPU(t, tr, driver())
	}
	if err := tr.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPTXAGPUTrainsToTheSameBytes(t *testing.T) {
	for name, c := range gpuRuns {
		t.Run(name, func(t *testing.T) {
			o := gpuOptions()
			o.Optimizer = c.optimizer
			if c.optimizer != "adamw" {
				o.Decay, o.HeadDecay = 0, 0
			}
			want := gpuCheckpoint(t, c.dialect, o, 1, toy(30, 1), never)
			if !bytes.Equal(gpuCheckpoint(t, c.dialect, o, 2, toy(30, 1), 2), want) {
				t.Error("another schedule, and an interruption, give other bytes")
			}
			if name == "netfusion" && !bytes.Equal(gpuCheckpoint(t, c.dialect, o, 1, hosted{toy(30, 1)}, never), want) {
				t.Error("batches from the host give other bytes")
			}
		})
	}
}

func TestPTXAGPUWithoutRoomIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("the interpreter takes long")
	}
	g, err := tensor.OpenGPU(ptx.Open(ptx.Options{Memory: 32 << 10}), tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	tr := gpuTrainer(t, nil, flow.NetFusion, gpuOptions(), toy(30, 1))
	if err := tr.UseGPU(g); !errors.Is(err, tensor.ErrOutOfMemory) {
		t.Errorf("%v, want %v", err, tensor.ErrOutOfMemory)
	}
}

func TestPTXALostGPUEndsTheRun(t *testing.T) {
	launches := 0
	tr := gpuTrainer(t, ptx.Open(ptx.Options{Fail: func(call string) error {
		if call == "Kernel" {
			if launches++; launches == 400 {
				return tensor.ErrLost
			}
		}
		return nil
	}}), flow.NetFusion, gpuOptions(), toy(30, 1))
	if err := tr.Run(context.Background()); !errors.Is(err, tensor.ErrLost) || !strings.Contains(err.Error(), "train:") {
		t.Errorf("the run ends with %v", err)
	}
}
