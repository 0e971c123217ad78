package asmgen

import "fmt"

// VDPBF16PS writes an instruction of AVX512_BF16, which Go's assembler lacks, as its bytes: to the 16 float32 of Z register
// d it adds the products of the pairs of bfloat16 in Z registers a and b. (The odd one of each pair comes first; subnormal
// operands and results count as zero.)
func (f *File) VDPBF16PS(note string, a, b, d int) {
	bit := func(register, i int) byte { return byte(^register >> i & 1) } // EVEX keeps the upper bits of register numbers inverted
	code := [6]byte{
		0x62,
		bit(d, 3)<<7 | bit(a, 4)<<6 | bit(a, 3)<<5 | bit(d, 4)<<4 | 0x02,
		byte(^b&15)<<3 | 0x06,
		0x40 | bit(b, 4)<<3,
		0x52,
		byte(0xc0 | d&7<<3 | a&7),
	}
	long := fmt.Sprintf("LONG $0x%02x%02x%02x%02x; WORD $0x%02x%02x", code[3], code[2], code[1], code[0], code[5], code[4])
	f.Op(fmt.Sprintf("VDPBF16PS Z%d, Z%d, Z%d: %s", a, b, d, note), long)
}
