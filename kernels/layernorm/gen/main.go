// Command gen writes the vector forms of package layernorm: avx512.s and avx2.s.
package main

import (
	"fmt"

	. "netfusion/kernels/internal/asmgen"
)

const registers = `
	DI dst   SI x   DX residual, or nil   BX gamma   R8 beta   R9 n   CX values left   R10 offset in bytes
	0-3 temporaries, 4-5 sums, 6-7 sums of squares, two chains each
	8 shift; later 9 high and 10 low part of the mean, 11 the scale
`

// A vector writes code for one register width.
type vector struct {
	*File
	name  string
	reg   string // of a whole vector of float32, and of half as many float64
	half  string // of half a vector of float32
	lanes int
}

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {New("Z registers:" + registers + "\tK1 the lanes of the tail, K2 the upper half of them"), "AVX512", "Z", "Y", 16},
		"avx2.s":   {New("Y registers:" + registers + "\t12 the lanes of the tail, 13 and 14 its halves, widened"), "AVX2", "Y", "X", 8},
	} {
		if v.lanes == 8 {
			var lanes []Word // 8 on, 8 off: start at 8-tail
			for i := range 16 {
				lanes = append(lanes, Word{Name: fmt.Sprint("lane", i), Bits: uint32(int32(i-8) >> 31)})
			}
			v.Data("lanes", lanes...)
		}
		v.row()
		v.Write(path)
	}
}

func (v vector) r(i int) string { return fmt.Sprint(v.reg, i) }
func (v vector) h(i int) string { return fmt.Sprint(v.half, i) }
func x(i int) string            { return fmt.Sprint("X", i) }

// op writes an instruction on vector registers, in the assembler's order: the destination is last.
func (v vector) op(note, op string, regs ...int) {
	names := make([]string, len(regs))
	for i, r := range regs {
		names[i] = v.r(r)
	}
	v.Op(note, op, names...)
}

func (v vector) row() {
	v.Func("row"+v.name+"(dst, x, residual, gamma, beta *float32, n int, eps float64)", 56)
	for _, arg := range [][2]string{{"dst+0", "DI"}, {"x+8", "SI"}, {"residual+16", "DX"}, {"gamma+24", "BX"}, {"beta+32", "R8"}, {"n+40", "R9"}} {
		v.Op("", "MOVQ", arg[0]+"(FP)", arg[1])
	}
	v.tailMask()
	v.Op("", "VMOVSS", "(SI)", x(8))
	for r := 4; r < 8; r++ {
		v.op("", "VXORPS", r, r, r)
	}
	v.Op("", "TESTQ", "DX", "DX")
	v.Op("", "JZ", "alone")
	v.Op("", "VADDSS", "(DX)", x(8), x(8))
	v.shift()
	v.loop("sums", func(tail bool) {
		v.load("(SI)(R10*1)", 0, tail)
		v.load("(DX)(R10*1)", 1, tail)
		v.op("x + residual", "VADDPS", 1, 0, 0)
		v.store(0, tail)
		v.accumulate(tail)
	})
	v.Op("normalise what is in dst", "MOVQ", "DI", "SI")
	v.Op("", "JMP", "moments")
	v.Label("alone")
	v.shift()
	v.loop("sumsAlone", func(tail bool) {
		v.load("(SI)(R10*1)", 0, tail)
		v.accumulate(tail)
	})
	v.Label("moments")
	v.moments()
	v.loop("normalise", func(tail bool) {
		v.load("(SI)(R10*1)", 0, tail)
		v.load("(R8)(R10*1)", 1, tail)
		v.load("(BX)(R10*1)", 2, tail)
		v.op("", "VSUBPS", 9, 0, 0)
		v.op("x - mean", "VSUBPS", 10, 0, 0)
		v.op("", "VMULPS", 11, 0, 0)
		v.op("· gamma + beta", "VFMADD213PS", 1, 2, 0)
		v.store(0, tail)
	})
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// tailMask selects the first n % lanes lanes.
func (v vector) tailMask() {
	v.Op("", "MOVQ", "R9", "CX")
	v.Op("", "ANDQ", fmt.Sprintf("$%d", v.lanes-1), "CX")
	if v.lanes == 16 {
		v.Op("", "MOVL", "$-1", "AX")
		v.Op("", "BZHIL", "CX", "AX", "AX")
		v.Op("", "KMOVW", "AX", "K1")
		v.Op("", "KSHIFTRW", "$8", "K1", "K2")
		return
	}
	v.Op("", "LEAQ", "lanes<>+32(SB)", "AX")
	v.Op("", "SHLQ", "$2", "CX")
	v.Op("", "SUBQ", "CX", "AX")
	v.Op("", "VMOVUPS", "(AX)", "Y12")
	v.Op("", "VPMOVSXDQ", "(AX)", "Y13")
	v.Op("", "VPMOVSXDQ", "16(AX)", "Y14")
}

// shift widens the first value of the row into every lane of 8.
func (v vector) shift() {
	v.Op("", "VCVTSS2SD", x(8), x(8), x(8))
	v.Op("", "VBROADCASTSD", x(8), v.r(8))
}

// loop writes body once for whole vectors and once for the values that remain.
func (v vector) loop(label string, body func(tail bool)) {
	v.Op("", "XORQ", "R10", "R10")
	v.Op("", "MOVQ", "R9", "CX")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JLT", label+"_tail")
	v.Label(label + "_loop")
	body(false)
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "R10")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JGE", label+"_loop")
	v.Label(label + "_tail")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JZ", label+"_end")
	body(true)
	v.Label(label + "_end")
}

// load leaves zero in the lanes beyond the tail.
func (v vector) load(mem string, r int, tail bool) {
	switch {
	case !tail:
		v.Op("", "VMOVUPS", mem, v.r(r))
	case v.lanes == 16:
		v.Op("", "VMOVUPS.Z", mem, "K1", v.r(r))
	default:
		v.Op("", "VMASKMOVPS", mem, v.r(12), v.r(r))
	}
}

func (v vector) store(r int, tail bool) {
	const mem = "(DI)(R10*1)"
	switch {
	case !tail:
		v.Op("", "VMOVUPS", v.r(r), mem)
	case v.lanes == 16:
		v.Op("", "VMOVUPS", v.r(r), "K1", mem)
	default:
		v.Op("", "VMASKMOVPS", v.r(r), v.r(12), mem)
	}
}

// accumulate adds the values in 0, in float64 and less the shift, to the sums.
func (v vector) accumulate(tail bool) {
	extract := "VEXTRACTF64X4"
	if v.lanes == 8 {
		extract = "VEXTRACTF128"
	}
	v.Op("", extract, "$1", v.r(0), v.h(3))
	v.Op("lower half", "VCVTPS2PD", v.h(0), v.r(2))
	v.Op("upper half", "VCVTPS2PD", v.h(3), v.r(3))
	for half, r := range []int{2, 3} {
		if tail && v.lanes == 16 {
			v.Op("", "VSUBPD.Z", v.r(8), v.r(r), fmt.Sprint("K", 1+half), v.r(r))
			continue
		}
		v.op("", "VSUBPD", 8, r, r)
		if tail {
			v.op("", "VANDPD", 13+half, r, r)
		}
	}
	v.op("", "VADDPD", 2, 4, 4)
	v.op("", "VADDPD", 3, 5, 5)
	v.op("", "VFMADD231PD", 2, 2, 6)
	v.op("", "VFMADD231PD", 3, 3, 7)
}

// moments turns the sums into mean and scale, as generic.go does.
func (v vector) moments() {
	v.across(4, 5)
	v.across(6, 7)
	v.Op("", "VCVTSI2SDQ", "R9", x(0), x(0))
	v.Op("d = sum/n", "VDIVSD", x(0), x(4), x(4))
	v.Op("", "VDIVSD", x(0), x(6), x(6))
	v.Op("variance = squares/n - d²", "VFNMADD231SD", x(4), x(4), x(6))
	v.Op("", "VXORPD", x(1), x(1), x(1))
	v.Op("at least 0; a NaN passes", "VMAXSD", x(6), x(1), x(6))
	v.Op("", "VADDSD", "eps+48(FP)", x(6), x(6))
	v.Op("", "VSQRTSD", x(6), x(6), x(6))
	v.Op("1.0", "MOVQ", "$0x3ff0000000000000", "AX")
	v.Op("", "VMOVQ", "AX", x(1))
	v.Op("", "VDIVSD", x(6), x(1), x(1))
	v.Op("", "VCVTSD2SS", x(1), x(1), x(11))
	v.Op("mean = shift + d", "VADDSD", x(4), x(8), x(4))
	v.Op("", "VCVTSD2SS", x(4), x(4), x(9))
	v.Op("", "VCVTSS2SD", x(9), x(9), x(1))
	v.Op("", "VSUBSD", x(1), x(4), x(4))
	v.Op("", "VCVTSD2SS", x(4), x(4), x(10))
	for r := 9; r <= 11; r++ {
		v.Op("", "VBROADCASTSS", x(r), v.r(r))
	}
}

// across adds all lanes of two registers into the first lane of a.
func (v vector) across(a, b int) {
	v.op("", "VADDPD", b, a, a)
	if v.lanes == 16 {
		v.Op("", "VEXTRACTF64X4", "$1", v.r(a), fmt.Sprint("Y", b))
		v.Op("4 lanes", "VADDPD", fmt.Sprint("Y", b), fmt.Sprint("Y", a), fmt.Sprint("Y", a))
	}
	v.Op("", "VEXTRACTF128", "$1", fmt.Sprint("Y", a), x(b))
	v.Op("2 lanes", "VADDPD", x(b), x(a), x(a))
	v.Op("", "VUNPCKHPD", x(a), x(a), x(b))
	v.Op("1 lane", "VADDSD", x(b), x(a), x(a))
}
