//go:build !cuda

package kerneltest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// open returns the interpreter with all its checks on; seed is that of the order in which blocks and warps take turns.
func open(seed uint64) tensor.Driver { return ptx.Open(ptx.Options{Seed: seed}) }

// hopper is what an H100 has.
var hopper = ptx.Options{Capability: 90, Multiprocessors: 132, SharedPerBlock: 227 << 10}

func device(_ testing.TB, text string, seed uint64) tensor.Driver {
	return ptx.Open(optionsOf(text, seed))
}

func optionsOf(text string, seed uint64) ptx.Options {
	o := ptx.Options{}
	if isHopper(text) {
		o = hopper
	}
	o.Seed = seed
	return o
}

func function(d tensor.Driver, text string, e tensor.Entry) (tensor.Function, error) {
	f, err := d.Load(e.Name, text, []tensor.Entry{e})
	if err != nil {
		return 0, err
	}
	return f[0], nil
}

func release(k *Kernel) { k.driver.Close() }

var synchronising = regexp.MustCompile(`(?m)^\s*(bar\.sync|bar\.warp\.sync|cp\.async\.wait_group|barrier\.cluster|fence\.(proxy|mbarrier_init)|wgmma\.(fence|wait_group)|mbarrier\.(arrive|try_wait))\b.*$`)

// waiting is a wait whose result is used: without it the result is that there is nothing to wait for.
var waiting = regexp.MustCompile(`\bmbarrier\.try_wait\S*\s+(\S+),`)

// Needs reports each synchronising instruction of entry, a barrier, a fence or a wait, without which run, which launches the
// kernel, ends in no fault in any of some orders of doing things: so none is there for nothing, and the checks see that it is missing.
func Needs(t *testing.T, text, entry string, run func(k *Kernel) error) {
	t.Helper()
	NeedsShared(t, text, entry, 0, run)
}

// NeedsShared is Needs for an entry whose blocks have so many bytes of dynamic shared memory.
func NeedsShared(t *testing.T, text, entry string, bytes int, run func(k *Kernel) error) {
	t.Helper()
	const tries = 8
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
		instead := ""
		if m := waiting.FindStringSubmatch(text[from:to]); m != nil {
			instead = "mov.pred " + m[1] + ", -1;"
		}
		without := text[:from] + instead + text[to:]
		var fault *ptx.Fault
		var err error
		for try := 0; try < tries && fault == nil; try++ {
			o := optionsOf(text, seedOf(fmt.Sprint(t.Name(), entry, try)))
			o.Favour = try % 3 // none, or a block that leaves others behind
			d := ptx.Open(o)
			err = run(load(t, d, without, tensor.Entry{Name: entry, DynamicShared: bytes}))
			errors.As(err, &fault)
		}
		if fault == nil {
			line := 1 + strings.Count(text[:to], "\n")
			t.Errorf("%s does not need line %d, %s: %v", entry, line, strings.TrimSpace(text[from:to]), err)
		}
	}
}
