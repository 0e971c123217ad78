package results

import (
	"slices"
	"strings"
	"testing"
)

var (
	first  = strings.Repeat("1a", 32)
	second = strings.Repeat("2b", 32)
)

var file = "# GPU kernels on NVIDIA H100 80GB HBM3\n\nCompute capability 9.0, 132 multiprocessors, 81079 MiB, L2 50 MiB; CUDA of the driver 13.0\n" +
	"\n## PTX\n\n`conv/sm80.ptx` sha256 " + strings.Repeat("3c", 32) + "\n`conv/sm90a.ptx` sha256 " + first + "\n`matmul/sm90a.ptx` sha256 " + second + "\n" +
	"\n## Tests\n\n| of | under | result | seconds |\n| --- | --- | --- | ---: |\n" +
	"| conv | - | passed | 1.0 |\n| conv | racecheck | passed | 9.0 |\n| matmul | - | passed | 2.0 |\n| matmul | memcheck | passed | 8.0 |\n" +
	"\n## Timings\n\n| matmul | - | FAILED: of no test | 1 |\n"

func TestProven(t *testing.T) {
	for _, c := range []struct {
		what      string
		old, with string
		want      []string
	}{
		{"all passed", "", "", []string{first, second}},
		{"an older GPU", "capability 9.0", "capability 8.0", nil},
		{"a newer GPU", "capability 9.0", "capability 10.0", nil},
		{"another file", "# GPU kernels", "# Kernels", nil},
		{"a test failed", "| matmul | - | passed", "| matmul | - | FAILED: exit status 1", []string{first}},
		{"a test failed under the sanitizer", "| conv | racecheck | passed", "| conv | racecheck | FAILED: exit status 9", []string{second}},
		{"no tests of a family", "| conv | - | passed | 1.0 |\n| conv | racecheck | passed | 9.0 |\n", "", []string{second}},
		{"no tests", "\n## Tests", "\n## Nothing", nil},
	} {
		if got := Proven(strings.Replace(file, c.old, c.with, 1)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
