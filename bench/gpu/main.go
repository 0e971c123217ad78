// Command gpu proves and times the GPU kernels where there is a GPU: ./build.sh gpu builds it as netfusion-gpu, which is copied there
// and needs nothing but the driver. Every kernel's tests are inside of it, those that run in the interpreter elsewhere; where
// compute-sanitizer is installed they run under that, too. The results go to a file, to be kept in bench/results.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"netfusion/tensor"
)

const usage = `usage: netfusion-gpu [flags]

Runs the driver's and every kernel's tests on the GPU, under compute-sanitizer again where that is installed, times the
kernels, and writes what came of it to a file. It exits with 1 if a test failed. bench/gpu/pytorch.py FILE times the same
shapes with PyTorch, and adds them to the file.

`

func main() {
	var o options
	flag.StringVar(&o.file, "o", "gpu.md", "`FILE` for the results")
	flag.StringVar(&o.only, "only", "", "test only `FAMILY`, as matmul")
	flag.BoolVar(&o.tests, "tests", true, "run the tests")
	flag.BoolVar(&o.sanitizer, "sanitizer", true, "run the tests under compute-sanitizer, if it is found")
	flag.BoolVar(&o.timings, "timings", true, "time the kernels")
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
	file, only                string
	tests, sanitizer, timings bool
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
	f, err := os.Create(o.file)
	if err != nil {
		return err
	}
	r.show(f)
	if err := f.Close(); err != nil {
		return err
	}
	return r.failed()
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
