// Package results reads what netfusion-gpu has written.
package results

import (
	"regexp"
	"slices"
	"strings"
)

var (
	hopper = regexp.MustCompile(`(?m)^Compute capability 9\.0,`)
	text   = regexp.MustCompile("(?m)^`(\\w+)/sm90a\\.ptx` sha256 ([0-9a-f]{64})$")
	tested = regexp.MustCompile(`(?m)^\| (\w+) \| (\S+) \| ([^|]*) \|`)
)

// Proven returns the SHA-256 of every sm90a.ptx that a results file shows to have passed all its family's tests, those under
// compute-sanitizer included, on a GPU of compute capability 9.0. A family whose tests were left out has passed none.
func Proven(file string) []string {
	if !strings.HasPrefix(file, "# GPU kernels on ") || !hopper.MatchString(file) {
		return nil
	}
	ran, failed := map[string]bool{}, map[string]bool{}
	_, tests, _ := strings.Cut(file, "\n## Tests\n")
	tests, _, _ = strings.Cut(tests, "\n## ")
	for _, row := range tested.FindAllStringSubmatch(tests, -1) {
		family, under, result := row[1], row[2], row[3]
		ran[family] = ran[family] || under == "-" && result == "passed"
		failed[family] = failed[family] || result != "passed"
	}
	var sums []string
	for _, m := range text.FindAllStringSubmatch(file, -1) {
		if ran[m[1]] && !failed[m[1]] {
			sums = append(sums, m[2])
		}
	}
	slices.Sort(sums)
	return slices.Compact(sums)
}
