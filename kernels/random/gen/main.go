// Command gen writes the vector forms of package random: avx512.s and avx2.s.
package main

import (
	"fmt"

	. "netfusion/kernels/internal/asmgen"
)

// A vector writes code for one register width.
type vector struct {
	*File
	name, reg string
	lanes     int // of 32 bits
}

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {New("The vector forms of Philox and of dropout, in Z registers."), "AVX512", "Z", 16},
		"avx2.s":   {New("The vector forms of Philox and of dropout, in Y registers."), "AVX2", "Y", 8},
	} {
		v.philox()
		v.dropout()
		v.Write(path)
	}
}

func (v vector) r(i int) string { return fmt.Sprint(v.reg, i) }

// op writes an instruction on vector registers, in the assembler's order: the destination is last.
func (v vector) op(note, op string, regs ...int) {
	names := make([]string, len(regs))
	for i, r := range regs {
		names[i] = v.r(r)
	}
	v.Op(note, op, names...)
}

// logic is the name of a bitwise instruction.
func (v vector) logic(op string) string {
	if v.lanes == 16 {
		return op + "D"
	}
	return op
}

// philox writes as many blocks at a time as a register has lanes of 64 bits: the words of a block are in the low halves of the
// same lane of four registers, and what is in the high halves does not matter.
func (v vector) philox() {
	blocks := v.lanes / 2
	const c0, p0, p1, m0, m1, counter, step, low = 0, 4, 5, 6, 7, 8, 9, 10 // c0 to c0+3 are the words
	// The lanes are in such an order that the two halves of the result come out whole: 0 4 1 5 2 6 3 7.
	var order []Word
	for i := range blocks {
		order = append(order, Word{Name: fmt.Sprint("block", i), Bits: uint32(i%2*blocks/2 + i/2)}, Word{Name: "0"})
	}
	v.Data("order", order...)
	constants := v.Data("multipliers", Word{Name: "m0", Bits: 0xD2511F53}, Word{Name: "m1", Bits: 0xCD9E8D57}, Word{Name: "blocks", Bits: uint32(blocks)},
		Word{Name: "low", Bits: ^uint32(0)}, Word{Name: "high"})

	v.Func("philox"+v.name+"(dst *uint32, n int, p *philox)", 24)
	v.Op("", "MOVQ", "dst+0(FP)", "DI")
	v.Op("", "MOVQ", "n+8(FP)", "CX")
	v.Op("", "MOVQ", "p+16(FP)", "DX")
	v.Op("", "VPBROADCASTD", constants["m0"], v.r(m0))
	v.Op("", "VPBROADCASTD", constants["m1"], v.r(m1))
	v.Op("", "VPBROADCASTD", constants["blocks"], v.r(step))
	v.Op("", "VPBROADCASTQ", constants["low"], v.r(low))
	v.Op("", "VPBROADCASTD", "philox_counter(DX)", v.r(counter))
	v.Op("", "VPADDD", "order<>+0(SB)", v.r(counter), v.r(counter))
	v.Label("philox_loop")
	v.Op("", v.move(), v.r(counter), v.r(c0))
	for i, field := range []string{"low", "high", "stream"} {
		v.Op("", "VPBROADCASTD", "philox_"+field+"(DX)", v.r(c0+1+i))
	}
	for round := range 10 {
		key := func(i int) string { return fmt.Sprintf("philox_keys+%d(DX)", 4*(2*round+i)) }
		v.op(fmt.Sprintf("round %d: p0 = m0·c0", round), "VPMULUDQ", c0, m0, p0)
		v.op("p1 = m1·c2", "VPMULUDQ", c0+2, m1, p1)
		v.Op("high(p1)", "VPSRLQ", "$32", v.r(p1), v.r(c0))
		v.Op("high(p0)", "VPSRLQ", "$32", v.r(p0), v.r(c0+2))
		v.xor("c0 = high(p1) ^ c1 ^ k0", c0, c0+1, key(0))
		v.xor("c2 = high(p0) ^ c3 ^ k1", c0+2, c0+3, key(1))
		v.op("c1 = low(p1)", v.move(), p1, c0+1)
		v.op("c3 = low(p0)", v.move(), p0, c0+3)
	}
	for i := 0; i < 4; i += 2 {
		v.op("", v.logic("VPAND"), low, c0+i, c0+i)
		v.Op("", "VPSLLQ", "$32", v.r(c0+i+1), v.r(c0+i+1))
		v.op(fmt.Sprintf("words %d and %d", i, i+1), v.logic("VPOR"), c0+i+1, c0+i, c0+i)
	}
	v.op("the first blocks", "VPUNPCKLQDQ", c0+2, c0, p0)
	v.op("the others", "VPUNPCKHQDQ", c0+2, c0, p1)
	v.Op("", v.store(), v.r(p0), "(DI)")
	v.Op("", v.store(), v.r(p1), fmt.Sprintf("%d(DI)", 4*v.lanes))
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 8*v.lanes), "DI")
	v.op("next blocks", "VPADDD", step, counter, counter)
	v.Op("", "SUBQ", fmt.Sprintf("$%d", 2*v.lanes), "CX")
	v.Op("", "JNZ", "philox_loop")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

func (v vector) move() string {
	if v.lanes == 16 {
		return "VMOVDQA32"
	}
	return "VMOVDQA"
}

func (v vector) store() string {
	if v.lanes == 16 {
		return "VMOVDQU32"
	}
	return "VMOVDQU"
}

// xor writes dst ^= a ^ a word in memory, in every lane.
func (v vector) xor(note string, dst, a int, word string) {
	if v.lanes == 16 {
		v.Op(note, "VPTERNLOGD.BCST", "$0x96", word, v.r(a), v.r(dst))
		return
	}
	const key = 11
	v.Op("", "VPBROADCASTD", word, v.r(key))
	v.op("", "VPXOR", a, dst, dst)
	v.op(note, "VPXOR", key, dst, dst)
}

// dropout writes the mask that bytes of noise decide, and multiplies x by it.
func (v vector) dropout() {
	const noise, cut, keep, mask = 0, 1, 2, 3
	v.Func("dropout"+v.name+"(x, mask *float32, noise *uint32, n int, below int32, keep float32)", 40)
	v.Op("", "MOVQ", "x+0(FP)", "DI")
	v.Op("", "MOVQ", "mask+8(FP)", "SI")
	v.Op("", "MOVQ", "noise+16(FP)", "AX")
	v.Op("", "MOVQ", "n+24(FP)", "CX")
	v.Op("", "MOVL", "below+32(FP)", "DX")
	v.Op("", "VMOVD", "DX", fmt.Sprint("X", cut))
	v.Op("", "VPBROADCASTD", fmt.Sprint("X", cut), v.r(cut))
	v.Op("", "VBROADCASTSS", "keep+36(FP)", v.r(keep))
	v.Label("dropout_loop")
	v.Op("a byte for each value", "VPMOVZXBD", "(AX)", v.r(noise))
	if v.lanes == 16 {
		v.Op("noise > below", "VPCMPD", "$6", v.r(cut), v.r(noise), "K1")
		v.Op("", "VMOVAPS.Z", v.r(keep), "K1", v.r(mask))
	} else {
		v.op("noise > below", "VPCMPGTD", cut, noise, mask)
		v.op("", "VANDPS", keep, mask, mask)
	}
	v.Op("", "VMOVUPS", v.r(mask), "(SI)")
	v.Op("", "VMULPS", "(DI)", v.r(mask), v.r(mask))
	v.Op("", "VMOVUPS", v.r(mask), "(DI)")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", v.lanes), "AX")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "SI")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "DI")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JNZ", "dropout_loop")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}
