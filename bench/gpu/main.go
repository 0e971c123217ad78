// Command gpu proves and times the GPU kernels where there is a GPU: ./build.sh gpu builds it as netfusion-gpu, which is copied there
// and needs nothing but the driver. Every kernel's tests are inside of it, those that run in the interpreter elsewhere; where
// compute-sanitizer is installed they run under that, too. The results go to a file, to be kept in bench/results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"netfusion/bench/soak"
	"netfusion/cinn"
	"netfusion/tensor"
)

const usage = `usage: netfusion-gpu [flags]

Runs the driver's and every kernel's tests on the GPU, under compute-sanitizer again where that is installed, times the
kernels and whole models, draws thousands of pictures and looks for memory that leaks, and writes what came of it to a
file. In this repository's folder, where Python has PyTorch, that times the same shapes and models on the same weights and
adds them to the file. It exits with 1 if a test failed.

`

func main() {
	var o options
	flag.StringVar(&o.file, "o", "gpu.md", "`FILE` for the results")
	flag.StringVar(&o.only, "only", "", "test only `FAMILY`, as matmul")
	flag.BoolVar(&o.tests, "tests", true, "run the tests")
	flag.BoolVar(&o.sanitizer, "sanitizer", true, "run the tests under compute-sanitizer, if it is found")
	flag.BoolVar(&o.timings, "timings", true, "time the kernels")
	flag.BoolVar(&o.models, "models", true, "time whole models, with random weights that Python makes in this repository's folder")
	flag.StringVar(&o.folder, "folder", "runs/gpu", "`FOLDER` for those")
	flag.IntVar(&o.soak, "soak", 10000, "draw so many pictures")
	flag.StringVar(&o.pack, "pack", "cinn/pack/emoji.pack", "`FILE` of the fusion that draws them")
	flag.BoolVar(&o.pytorch, "pytorch", true, "time PyTorch, if it is installed")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "netfusion-gpu:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	file, only, folder, pack                   string
	tests, sanitizer, timings, models, pytorch bool
	soak                                       int
}

// run does what the flags say. The tests come in processes of their own: the driver's lose the device on purpose.
func (o *options) run() error {
	var r report
	if o.tests {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		var under []string
		if o.sanitizer {
			under = sanitizers()
		}
		if r.tests, err = runTests(self, o.only, under); err != nil {
			return err
		}
	}
	d, version, err := open()
	if err != nil {
		return err
	}
	defer d.Close()
	r.attributes, r.version, r.clocks = d.Attributes(), version, clocks()
	if o.timings {
		if r.timings, err = full.time(d); err != nil {
			return err
		}
		operated, err := full.operated(d)
		if err != nil {
			return err
		}
		r.timings = append(r.timings, operated...)
	}
	if o.models {
		if r.models, err = o.timeModels(d); err != nil {
			return err
		}
	}
	if o.soak > 0 {
		r.soak = o.draw(d)
	}
	f, err := os.Create(o.file)
	if err != nil {
		return err
	}
	r.show(f)
	if err := f.Close(); err != nil {
		return err
	}
	return errors.Join(r.failed(), o.comparePyTorch())
}

// script finds one of bench/gpu's, and a Python that has the modules that it needs.
func script(name, modules string) (path string, ok bool) {
	path = filepath.Join("bench/gpu", name)
	if _, err := os.Stat(path); err != nil {
		fmt.Printf("%s is not here: it is left out\n", path)
		return path, false
	}
	if out, err := exec.Command("python3", "-c", "import "+modules).CombinedOutput(); err != nil {
		fmt.Printf("%s is left out: python3: %v\n%s", path, err, out)
		return path, false
	}
	return path, true
}

// python runs a script.
func python(args ...string) error {
	fmt.Println("+ python3", strings.Join(args, " "))
	c := exec.Command("python3", args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}

// timeModels has Python make weights, and times the models with them.
func (o *options) timeModels(d tensor.Driver) ([]modelled, error) {
	path, ok := script("models.py", "numpy, safetensors")
	if !ok {
		return nil, nil
	}
	if err := os.MkdirAll(o.folder, 0o777); err != nil {
		return nil, err
	}
	if err := python(path, o.folder); err != nil {
		return nil, err
	}
	return models(d, o.folder)
}

// draw draws pictures, and says how long they took and what memory grew, or what went wrong.
func (o *options) draw(d tensor.Driver) string {
	m, err := cinn.Open(o.pack, cinn.Options{Backend: cinn.CUDA, Precision: cinn.BF16})
	if err != nil {
		return err.Error()
	}
	result, err := soak.Run(context.Background(), m, o.soak, func() (int, error) { return used(d) })
	if err = errors.Join(err, m.Close()); err != nil {
		return err.Error()
	}
	return result.String()
}

// comparePyTorch adds PyTorch's times to the results.
func (o *options) comparePyTorch() error {
	if !o.pytorch {
		return nil
	}
	path, ok := script("pytorch.py", "torch; assert torch.cuda.is_available()")
	if !ok {
		return nil
	}
	args := []string{path, o.file}
	if o.models {
		args = append(args, o.folder)
	}
	return python(args...)
}

// clocks is what nvidia-smi says of the first GPU, if it is there.
func clocks() string {
	out, err := exec.Command("nvidia-smi", "-i", "0", "--format=csv",
		"--query-gpu=driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu,ecc.mode.current").Output()
	if err != nil {
		return "nvidia-smi: " + err.Error()
	}
	return strings.TrimSpace(string(out))
}

// report is what the results file says.
type report struct {
	attributes tensor.Attributes
	version    int // of CUDA, as the driver has it
	clocks     string
	tests      []tested
	timings    []timing
	models     []modelled
	soak       string
}

func (r *report) show(w io.Writer) {
	a := &r.attributes
	fmt.Fprintf(w, "# GPU kernels on %s\n\n", a.Name)
	fmt.Fprintf(w, "Compute capability %d.%d, %d multiprocessors, %d MiB, L2 %d MiB; CUDA of the driver %d.%d\n\n```\n%s\n```\n",
		a.Capability/10, a.Capability%10, a.Multiprocessors, a.Memory>>20, a.L2>>20, r.version/1000, r.version%1000/10, r.clocks)
	fmt.Fprint(w, "\n## PTX\n\n")
	for _, f := range tensor.Families() {
		if runs(f, r.attributes) {
			fmt.Fprintf(w, "`%s` sha256 %s\n", file(f), sum(f))
		}
	}
	if len(r.tests) > 0 {
		fmt.Fprint(w, "\n## Tests\n\n| of | under | result | seconds |\n| --- | --- | --- | ---: |\n")
		for _, t := range r.tests {
			fmt.Fprintf(w, "| %s | %s | %s | %.1f |\n", t.name, t.under, t.result(), t.took.Seconds())
		}
	}
	if len(r.timings) > 0 {
		fmt.Fprint(w, "\n## Timings\n\nOperands come from memory, not from the L2 cache. MB are what is read and written if that happens once, GFLOP those of\n"+
			"products. The first line is what memory can do; an entry a+b is two launches.\n\n")
		fmt.Fprint(w, "| entry | shape | µs | MB | GB/s | of memory | GFLOP | TFLOP/s |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for _, t := range r.timings {
			fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.0f | %.0f %% | %.3f | %.2f |\n", t.entry, t.shape, 1e6*t.seconds, t.bytes/1e6, t.bandwidth()/1e9,
				100*t.bandwidth()/r.timings[0].bandwidth(), t.flops/1e9, t.flops/t.seconds/1e12)
		}
	}
	r.showModels(w)
}

// showModels appends what was seen of whole models.
func (r *report) showModels(w io.Writer) {
	if len(r.models) > 0 {
		fmt.Fprint(w, "\n## Models\n\nFrom inputs on the host to results there: copies, one graph, copies. Then the medians of other options of tensor.GPU.\n\n")
		fmt.Fprint(w, "| model | shape | precision | p50 µs | p99 µs | launches | MB of weights | of memory | GFLOP | TFLOP/s |")
		for _, way := range ways[1:] {
			fmt.Fprintf(w, " %s |", way.name)
		}
		fmt.Fprintf(w, "\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |%s\n", strings.Repeat(" ---: |", len(ways)-1))
		micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
		for _, m := range r.models {
			seconds, ofMemory := m.p50.Seconds(), "-"
			if len(r.timings) > 0 {
				ofMemory = fmt.Sprintf("%.0f %%", 100*float64(m.work.Weights)/seconds/r.timings[0].bandwidth())
			}
			fmt.Fprintf(w, "| %s | %s | %v | %.1f | %.1f | %d | %.2f | %s | %.3f | %.2f |", m.model, m.shape, m.precision, micros(m.p50), micros(m.p99),
				m.work.Launches, float64(m.work.Weights)/1e6, ofMemory, m.work.FLOPs/1e9, m.work.FLOPs/seconds/1e12)
			for _, d := range m.ways {
				fmt.Fprintf(w, " %.1f |", micros(d))
			}
			fmt.Fprintln(w)
		}
	}
	if r.soak != "" {
		fmt.Fprintf(w, "\n## Text to image\n\n%s\n", r.soak)
	}
}

// failed is an error if a test failed.
func (r *report) failed() error {
	for _, t := range r.tests {
		if t.err != nil {
			return fmt.Errorf("the tests of %s failed", t.name)
		}
	}
	return nil
}
