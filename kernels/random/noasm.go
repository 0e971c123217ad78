//go:build !amd64 || purego

package random

func blocks(dst []uint32, seed uint64, stream uint32, sample uint64, i int) {
	blocksGeneric(dst, seed, stream, sample, i)
}

func dropout(x, mask []float32, noise []uint32, cut uint32, keep float32) {
	dropoutGeneric(x, mask, noise, cut, keep)
}
