// Package cpu says which vector forms of the kernels this processor can run.
//
// A kernel package reads these in one if per call:
//
//	if cpu.AVX512 {
//		gemmAVX512(…)
//	} else if cpu.AVX2 { … } else { … }
//
// They are set once at start and are all false on other architectures and under the build tag purego.
// Only tests change them later, through package cputest.
package cpu

var (
	AVX2   bool // AVX2 and FMA
	AVX512 bool // AVX2 and AVX-512 F, BW, DQ, VL

	AVX512BF16 bool // AVX512, and products of pairs of bfloat16
	AVX512VNNI bool // AVX512, and products of four bytes
)
