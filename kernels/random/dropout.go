package random

// Dropout multiplies x by a fresh mask, which it writes to mask, too: byte i of the words of a sample, the low byte of a word first,
// decides about x[i]. If it is below cut, up to 255, the factor is 0, and else 256/(256-cut): the mean of the factors is 1.
func Dropout(x, mask []float32, cut uint32, seed uint64, stream uint32, sample uint64) {
	if len(mask) < len(x) {
		panic("random: mask too short")
	}
	if cut > 255 {
		panic("random: cut above 255")
	}
	keep := 256 / float32(256-cut)
	var noise [64]uint32
	for at := 0; at < len(x); at += 4 * len(noise) {
		n := min(4*len(noise), len(x)-at)
		Words(noise[:(n+3)/4], seed, stream, sample, at/4)
		dropout(x[at:at+n], mask[at:at+n], noise[:], cut, keep)
	}
}

func dropoutGeneric(x, mask []float32, noise []uint32, cut uint32, keep float32) {
	factors := [2]float32{keep, 0}
	for i := range x {
		k := factors[(noise[i/4]>>(i%4*8)&255-cut)>>31] // by the sign of the difference: no branch, which would be taken wrongly
		mask[i] = k
		x[i] *= k
	}
}
