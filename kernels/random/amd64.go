//go:build amd64 && !purego

package random

import "netfusion/kernels/cpu"

//go:generate go run ./gen

// philox is what the blocks of a sample have in common.
type philox struct {
	keys              [20]uint32 // of the ten rounds, two each
	counter           uint32     // of the first block
	low, high, stream uint32     // the other words of the counters
}

// philoxAVX512 and philoxAVX2 write the n words of the blocks from p.counter on, n a positive multiple of 32 and of 16.
//
//go:noescape
func philoxAVX512(dst *uint32, n int, p *philox)

//go:noescape
func philoxAVX2(dst *uint32, n int, p *philox)

// dropoutAVX512 and dropoutAVX2 are dropoutGeneric for n values, a positive multiple of 16 and of 8; below is one less than cut.
//
//go:noescape
func dropoutAVX512(x, mask *float32, noise *uint32, n int, below int32, keep float32)

//go:noescape
func dropoutAVX2(x, mask *float32, noise *uint32, n int, below int32, keep float32)

// blocks fills dst with whole blocks from block i on.
func blocks(dst []uint32, seed uint64, stream uint32, sample uint64, i int) {
	n := 0
	switch {
	case cpu.AVX512:
		n = len(dst) &^ 31
	case cpu.AVX2:
		n = len(dst) &^ 15
	}
	if n > 0 {
		p := philox{counter: uint32(i), low: uint32(sample), high: uint32(sample >> 32), stream: stream}
		k0, k1 := uint32(seed), uint32(seed>>32)
		for r := 0; r < len(p.keys); r += 2 {
			p.keys[r], p.keys[r+1] = k0, k1
			k0 += weyl0
			k1 += weyl1
		}
		if cpu.AVX512 {
			philoxAVX512(&dst[0], n, &p)
		} else {
			philoxAVX2(&dst[0], n, &p)
		}
	}
	blocksGeneric(dst[n:], seed, stream, sample, i+n/4)
}

func dropout(x, mask []float32, noise []uint32, cut uint32, keep float32) {
	n := 0
	switch {
	case cpu.AVX512:
		n = len(x) &^ 15
	case cpu.AVX2:
		n = len(x) &^ 7
	}
	if n > 0 {
		if cpu.AVX512 {
			dropoutAVX512(&x[0], &mask[0], &noise[0], n, int32(cut)-1, keep)
		} else {
			dropoutAVX2(&x[0], &mask[0], &noise[0], n, int32(cut)-1, keep)
		}
	}
	if n < len(x) {
		dropoutGeneric(x[n:], mask[n:], noise[n/4:], cut, keep)
	}
}
