package main

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// small is full, as small as the interpreter wants it.
var small = suite{
	copies: 2, fewest: 2, repeats: 1,
	values: 1000, skinny: [][2]int{{24, 64}}, rows: []int{20}, wide: [2]int{48, 32}, images: [][4]int{{2, 3, 8, 9}, {2, 4, 8, 9}}, texts: [3]int{2, 5, 2}, features: 70,
	pooled: [4]int{1, 4, 8, 12}, groups: 2, flow: [4]int{9, 10, 12, 5},
}

// What runs on a GPU runs here: each launch, captured and replayed, in the interpreter with its checks.
func TestTimings(t *testing.T) {
	d := ptx.Open(ptx.Options{Seed: 1, Capability: 90, SharedPerBlock: 227 << 10})
	defer d.Close()
	r := report{attributes: d.Attributes(), version: 12040, clocks: "as found"}
	var err error
	if r.timings, err = small.time(d); err != nil {
		t.Fatal(err)
	}
	if len(r.timings) != len(small.launches(r.attributes)) {
		t.Fatalf("%d timings of %d", len(r.timings), len(small.launches(r.attributes)))
	}
	operated, err := small.operated(d)
	if err != nil {
		t.Fatal(err)
	}
	r.timings = append(r.timings, operated...)
	timed := ""
	for _, one := range r.timings {
		timed += one.entry + "+"
	}
	for _, f := range tensor.Families() {
		if runs(f, r.attributes) && !strings.Contains(timed, f.Name+"_") {
			t.Errorf("nothing of %s is timed", f.Name)
		}
	}
	for _, one := range r.timings {
		if one.seconds < 0 || one.bytes <= 0 {
			t.Errorf("%+v", one)
		}
	}
	var b strings.Builder
	r.show(&b)
	for _, line := range []string{
		"# GPU kernels on PTX interpreter", "CUDA of the driver 12.4", "as found", "| matmul_bf16_t128 | m=20 n=48 k=32 |",
		"`matmul/sm80.ptx` sha256 ", "`matmul/sm90a.ptx` sha256 ", "| matmul_bf16_w128 | m=20 n=48 k=32 |", "| conv_bf16_w64 | images=2 size=4 c=8 n=9 |",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("the report lacks %q:\n%s", line, b.String())
		}
	}
}

// A launch that goes wrong names itself.
func TestTimingThatFails(t *testing.T) {
	d := ptx.Open(ptx.Options{Fail: func(call string) error {
		if call == "Kernel" {
			return tensor.ErrLost
		}
		return nil
	}})
	if _, err := small.time(d); err == nil || !strings.Contains(err.Error(), "activation_relu n=1000") {
		t.Error(err)
	}
}

// The sums of a results file are those by which the table of registers names the PTX, and no family is left out.
func TestFamiliesAreAll(t *testing.T) {
	table, err := os.ReadFile("../ptx/entries.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile("(?m)^`(\\w+/sm\\w+.ptx)` sha256 (\\w+)$").FindAllSubmatch(table, -1) {
		want = append(want, string(m[1])+string(m[2]))
	}
	var got []string
	for _, f := range tensor.Families() {
		got = append(got, file(f)+sum(f))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestPTXWithin is what the program below finds in itself; NETFUSION_WITHIN says how it ends.
func TestPTXWithin(t *testing.T) {
	if os.Getenv("NETFUSION_WITHIN") == "fail" {
		t.Fail()
	}
}

// archive writes a file as ./build.sh gpu does, with this very program as the tests of a package.
func archive(t *testing.T, packages ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "program")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "the program itself"); err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for _, name := range packages {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name + ".test", Method: zip.Store})
		if err == nil {
			_, err = w.Write(program)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunsTheTestsThatItCarries(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("starts programs by names without .exe")
	}
	path := archive(t, "matmul", "conv")
	for _, ends := range []string{"pass", "fail"} {
		t.Setenv("NETFUSION_WITHIN", ends)
		all, err := runTests(path, "conv", nil)
		if err != nil || len(all) != 1 || all[0].name != "conv" || (all[0].err != nil) != (ends == "fail") {
			t.Fatalf("%+v, %v", all, err)
		}
		r := report{tests: all}
		if failed := r.failed(); (failed != nil) != (ends == "fail") {
			t.Errorf("%s: %v", ends, failed)
		}
	}
	if _, err := runTests(path, "nothing", nil); err == nil {
		t.Error("no tests, and no error")
	}
	if _, err := runTests(os.Args[0], "", nil); err == nil || !strings.Contains(err.Error(), "build.sh gpu") {
		t.Errorf("a program without tests: %v", err)
	}
}
