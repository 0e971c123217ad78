package main

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tested is one run of a package's tests.
type tested struct {
	name  string // of the package
	under string // the sanitizer's tool, or "-"
	took  time.Duration
	err   error
}

func (t *tested) result() string {
	if t.err != nil {
		return "FAILED: " + t.err.Error()
	}
	return "passed"
}

// tools are those of compute-sanitizer.
var tools = []string{"memcheck", "racecheck", "synccheck", "initcheck"}

// sanitizers returns the beginning of a command for each of the tools, or nothing if compute-sanitizer is not installed.
func sanitizers() []string {
	for _, name := range []string{"compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}
		}
	}
	return nil
}

// runTests runs the test programs that lie in the archive at the end of a file: NAME.test is that of the package NAME. With a
// sanitizer, the kernels' tests run again under each of its tools. Failures are in the results, not in the error.
func runTests(file, only string, sanitizer []string) ([]tested, error) {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s holds no tests (./build.sh gpu puts them there): %w", file, err)
	}
	defer archive.Close()
	folder, err := os.MkdirTemp("", "netfusion-gpu")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	var all []tested
	for _, f := range archive.File {
		name, ok := strings.CutSuffix(f.Name, ".test")
		if !ok || only != "" && name != only {
			continue
		}
		dir := folders[name]
		if _, err := os.Stat(dir); dir != "" && err != nil {
			fmt.Printf("the tests of %s are left out: they read files of this repository\n", name)
			continue
		}
		program := filepath.Join(folder, filepath.Base(f.Name))
		if err := extract(f, program); err != nil {
			return nil, err
		}
		all = append(all, runTest(dir, name, "-", program, "-test.run", tests))
		if len(sanitizer) == 0 || name == "cudadriver" { // whose tests include a kernel that faults
			continue
		}
		for _, tool := range tools {
			command := append(sanitizer[:len(sanitizer):len(sanitizer)], "--tool", tool, "--error-exitcode", "9", program, "-test.run", tests)
			all = append(all, runTest(dir, name, tool, command...))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no tests of %s", file, only)
	}
	return all, nil
}

// folders are where tests that read files run.
var folders = map[string]string{"tensor": "tensor", "bert": "experts/bert", "biggan": "experts/biggan", "flow": "cinn/flow", "cinn": "cinn", "train": "cinn/train"}

// tests are those that run on the device: a package's other tests are of its CPU forms.
const tests = "^(TestPTX|TestDriver)"

func runTest(dir, name, under string, command ...string) tested {
	fmt.Println("+", name, under)
	start := time.Now()
	c := exec.Command(command[0], command[1:]...)
	c.Dir, c.Stdout, c.Stderr = dir, os.Stdout, os.Stderr
	err := c.Run()
	return tested{name, under, time.Since(start), err}
}

func extract(f *zip.File, to string) error {
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	if _, err = io.Copy(w, from); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
