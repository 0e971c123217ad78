// Package cputest runs tests and benchmarks once per form of the kernels, and has what else their tests share.
package cputest

import (
	"os"
	"strings"
	"testing"

	"netfusion/kernels/cpu"
)

// forms lists the forms, best first.
var forms = []form{
	{"avx512", bits{avx2: true, avx512: true, bf16: true, vnni: true}},
	{"avx512f", bits{avx2: true, avx512: true}},
	{"avx2", bits{avx2: true}},
	{"generic", bits{}},
}

type form struct {
	name string
	bits
}

// bits is the state of package cpu.
type bits struct{ avx2, avx512, bf16, vnni bool }

func current() bits { return bits{cpu.AVX2, cpu.AVX512, cpu.AVX512BF16, cpu.AVX512VNNI} }

func (b bits) set() {
	cpu.AVX2, cpu.AVX512, cpu.AVX512BF16, cpu.AVX512VNNI = b.avx2, b.avx512, b.bf16, b.vnni
}

// within says whether a processor with all of these bits has the form b.
func (b bits) within(all bits) bool {
	return (all.avx2 || !b.avx2) && (all.avx512 || !b.avx512) && (all.bf16 || !b.bf16) && (all.vnni || !b.vnni)
}

// A runner is *testing.T or *testing.B.
type runner[R any] interface {
	testing.TB
	Run(name string, f func(R)) bool
}

// EachForm runs f as one subtest per form that this processor has, with the bits of package cpu set to
// select it. It changes package variables, so neither f nor the caller may be parallel.
// TEST_REQUIRE=avx2,avx512 turns the absence of a form into a failure.
func EachForm[R runner[R]](t R, f func(R)) {
	t.Helper()
	all := current()
	defer all.set()
	for _, form := range forms {
		if !form.within(all) {
			if strings.Contains(","+os.Getenv("TEST_REQUIRE")+",", ","+form.name+",") {
				t.Errorf("form %s is required but not available here", form.name)
			}
			continue
		}
		form.set()
		t.Run("form="+form.name, f)
	}
}
