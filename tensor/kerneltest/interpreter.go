//go:build !cuda

package kerneltest

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// open returns the interpreter with all its checks on; seed is that of the order in which blocks and warps take turns.
func open(seed uint64) tensor.Driver { return ptx.Open(ptx.Options{Seed: seed}) }

var synchronising = regexp.MustCompile(`(?m)^\s*(bar\.sync|bar\.warp\.sync|cp\.async\.wait_group)\b.*$`)

// Needs reports each synchronising instruction of entry, a barrier or a wait for copies, without which run, which launches the
// kernel, ends in no fault: so none is there for nothing, and the checks see that it is missing.
func Needs(t *testing.T, text, entry string, run func(k *Kernel) error) {
	t.Helper()
	begin := strings.Index(text, ".entry "+entry+"(")
	end := len(text)
	if next := strings.Index(text[begin+1:], ".entry "); next >= 0 {
		end = begin + 1 + next
	}
	sites := synchronising.FindAllStringIndex(text[begin:end], -1)
	if len(sites) == 0 {
		t.Fatalf("%s synchronises nothing", entry)
	}
	for _, s := range sites {
		from, to := begin+s[0], begin+s[1]
		var fault *ptx.Fault
		if err := run(Load(t, text[:from]+text[to:], entry)); !errors.As(err, &fault) {
			line := 1 + strings.Count(text[:to], "\n")
			t.Errorf("%s does not need line %d, %s: %v", entry, line, strings.TrimSpace(text[from:to]), err)
		}
	}
}
