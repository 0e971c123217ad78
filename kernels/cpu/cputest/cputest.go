// Package cputest runs tests and benchmarks once per form of the kernels, and has what else their tests share.
package cputest

import (
	"os"
	"strings"
	"testing"

	"netfusion/kernels/cpu"
)

// forms lists the forms, best first. Each names the state of the bits in package cpu.
var forms = []struct {
	name         string
	avx2, avx512 bool
}{
	{"avx512", true, true},
	{"avx2", true, false},
	{"generic", false, false},
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
	avx2, avx512 := cpu.AVX2, cpu.AVX512
	defer func() { cpu.AVX2, cpu.AVX512 = avx2, avx512 }()
	for _, form := range forms {
		if form.avx2 && !avx2 || form.avx512 && !avx512 {
			if strings.Contains(","+os.Getenv("TEST_REQUIRE")+",", ","+form.name+",") {
				t.Errorf("form %s is required but not available here", form.name)
			}
			continue
		}
		cpu.AVX2, cpu.AVX512 = form.avx2, form.avx512
		t.Run("form="+form.name, f)
	}
}
