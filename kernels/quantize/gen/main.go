// Command gen writes the vector forms of package quantize: avx512.s and avx2.s.
package main

import (
	"fmt"

	"netfusion/kernels/internal/asmgen"
)

const about = `
Each function walks over n values, at least as many as a register holds. What a whole number of registers leaves over is done
with the values before it, a second time.

	DI dst   SI src   CX values left
`

// A vector writes code for one register width.
type vector struct {
	*asmgen.File
	name, reg string
	lanes     int
}

func (v vector) r(i int) string { return fmt.Sprint(v.reg, i) }
func x(i int) string            { return fmt.Sprint("X", i) }
func y(i int) string            { return fmt.Sprint("Y", i) }

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {asmgen.New(about), "AVX512", "Z", 16},
		"avx2.s":   {asmgen.New(about), "AVX2", "Y", 8},
	} {
		v.narrowBF16()
		v.widenBF16()
		v.span()
		v.roundU8()
		v.peak()
		v.roundI8()
		v.widenI8()
		v.Write(path)
	}
}

// walk writes the loop: body is one register of values of src, and, unless dstSize is 0, of values of dst of so many bytes.
func (v vector) walk(srcSize, dstSize int, body func()) {
	step := func(op, note, by string) {
		for _, p := range []struct {
			reg  string
			size int
		}{{"SI", srcSize}, {"DI", dstSize}} {
			if p.size == 0 {
				continue
			}
			if by != "" {
				v.Op(note, "LEAQ", fmt.Sprintf("(%s)(%s*%d)", p.reg, by, p.size), p.reg)
			} else {
				v.Op(note, op, fmt.Sprintf("$%d", v.lanes*p.size), p.reg)
			}
		}
	}
	lanes := fmt.Sprintf("$%d", v.lanes)
	v.Label("loop")
	body()
	step("ADDQ", "", "")
	v.Op("", "SUBQ", lanes, "CX")
	v.Op("", "CMPQ", "CX", lanes)
	v.Op("", "JGE", "loop")
	v.Op("", "TESTQ", "CX", "CX")
	v.Op("", "JZ", "done")
	v.Op("", "SUBQ", lanes, "CX")
	step("", "back, so that the last register ends with src", "CX")
	v.Op("", "MOVQ", lanes, "CX")
	v.Op("", "JMP", "loop")
	v.Label("done")
}

// constant puts bits into every lane of register i.
func (v vector) constant(note string, bits uint32, i int) {
	v.Op("", "MOVL", fmt.Sprintf("$0x%x", bits), "AX")
	if v.lanes == 16 {
		v.Op(note, "VPBROADCASTD", "AX", v.r(i))
		return
	}
	v.Op("", "VMOVD", "AX", x(i))
	v.Op(note, "VPBROADCASTD", x(i), v.r(i))
}

// bitwise is the name of a bitwise operation.
func (v vector) bitwise(op string) string {
	if v.lanes == 16 {
		return op + "D"
	}
	return op
}

func (v vector) args(fields ...[2]string) {
	for _, f := range fields {
		v.Op("", "MOVQ", f[0]+"(FP)", f[1])
	}
}

func (v vector) ret() {
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// narrowBF16: dst = (b + 0x7fff + b>>16&1) >> 16, and of a NaN b>>16 | 0x40.
func (v vector) narrowBF16() {
	v.Func("narrowBF16"+v.name+"(dst *uint16, src *float32, n int)", 24)
	v.args([2]string{"dst+0", "DI"}, [2]string{"src+8", "SI"}, [2]string{"n+16", "CX"})
	b, upper, sum, one, half, quiet, nan := v.r(0), v.r(1), v.r(2), v.r(3), v.r(4), v.r(5), v.r(6)
	v.constant("one", 1, 3)
	v.constant("half", 0x7fff, 4)
	v.constant("quiet", 0x40, 5)
	v.walk(4, 2, func() {
		v.Op("b", "VMOVUPS", "(SI)", b)
		v.Op("upper = b>>16", "VPSRLD", "$16", b, upper)
		v.Op("", v.bitwise("VPAND"), one, upper, sum)
		v.Op("", "VPADDD", b, sum, sum)
		v.Op("", "VPADDD", half, sum, sum)
		v.Op("sum = (b + half + upper&1)>>16", "VPSRLD", "$16", sum, sum)
		if v.lanes == 16 {
			v.Op("NaN", "VCMPPS", "$3", b, b, "K1")
			v.Op("", "VPORD", quiet, upper, "K1", sum)
			v.Op("dst", "VPMOVDW", sum, "(DI)")
			return
		}
		v.Op("NaN", "VCMPPS", "$3", b, b, nan)
		v.Op("", "VPOR", quiet, upper, upper)
		v.Op("", "VBLENDVPS", nan, upper, sum, sum)
		v.Op("", "VEXTRACTI128", "$1", sum, x(1))
		v.Op("", "VPACKUSDW", x(1), x(2), x(2))
		v.Op("dst", "VMOVDQU", x(2), "(DI)")
	})
	v.ret()
}

func (v vector) widenBF16() {
	v.Func("widenBF16"+v.name+"(dst *float32, src *uint16, n int)", 24)
	v.args([2]string{"dst+0", "DI"}, [2]string{"src+8", "SI"}, [2]string{"n+16", "CX"})
	v.walk(2, 4, func() {
		v.Op("", "VPMOVZXWD", "(SI)", v.r(0))
		v.Op("", "VPSLLD", "$16", v.r(0), v.r(0))
		v.Op("dst", "VMOVUPS", v.r(0), "(DI)")
	})
	v.ret()
}

// span: the least and the greatest of 0 and src, and the greatest magnitude (as peak), which tells whether all are finite.
func (v vector) span() {
	v.Func("span"+v.name+"(src *float32, n int) (low, high, peak float32)", 28)
	v.args([2]string{"src+0", "SI"}, [2]string{"n+8", "CX"})
	v.constant("all but the sign", 0x7fffffff, 3)
	for i := range 3 {
		v.Op("", "VXORPS", x(i), x(i), x(i))
	}
	v.walk(4, 0, func() {
		v.Op("", "VMOVUPS", "(SI)", v.r(4))
		v.Op("low", "VMINPS", v.r(0), v.r(4), v.r(0))
		v.Op("high", "VMAXPS", v.r(1), v.r(4), v.r(1))
		v.Op("|src|", v.bitwise("VPAND"), v.r(3), v.r(4), v.r(4))
		v.Op("peak", "VPMAXSD", v.r(4), v.r(2), v.r(2))
	})
	for i, op := range []string{"VMINPS", "VMAXPS", "VPMAXSD"} {
		v.reduce(op, i)
	}
	v.Op("", "VMOVSS", x(0), "low+16(FP)")
	v.Op("", "VMOVSS", x(1), "high+20(FP)")
	v.Op("", "VMOVSS", x(2), "peak+24(FP)")
	v.ret()
}

// reduce combines the lanes of register i into its first one. Registers 5 and up are spoilt.
func (v vector) reduce(op string, i int) {
	if v.lanes == 16 {
		v.Op("", "VEXTRACTF64X4", "$1", v.r(i), y(5))
		v.Op("8 lanes", op, y(5), y(i), y(i))
	}
	v.Op("", "VEXTRACTF128", "$1", y(i), x(5))
	v.Op("4 lanes", op, x(5), x(i), x(i))
	v.Op("", "VPERMILPS", "$0x0e", x(i), x(5))
	v.Op("2 lanes", op, x(5), x(i), x(i))
	v.Op("", "VPERMILPS", "$0x01", x(i), x(5))
	v.Op("1 lane", op, x(5), x(i), x(i))
}

// roundU8: q = min(max(round(src·inverse) + zero, 0), 255).
func (v vector) roundU8() {
	v.Func("roundU8"+v.name+"(q *uint8, src *float32, n int, inverse float32, zero int32)", 32)
	v.args([2]string{"q+0", "DI"}, [2]string{"src+8", "SI"}, [2]string{"n+16", "CX"})
	v.Op("", "VBROADCASTSS", "inverse+24(FP)", v.r(1))
	v.Op("", "VBROADCASTSS", "zero+28(FP)", v.r(2))
	v.Op("", "VXORPS", x(3), x(3), x(3))
	v.walk(4, 1, func() {
		v.Op("src·inverse", "VMULPS", "(SI)", v.r(1), v.r(0))
		v.Op("rounded", "VCVTPS2DQ", v.r(0), v.r(0))
		v.Op("+ zero", "VPADDD", v.r(2), v.r(0), v.r(0))
		if v.lanes == 16 {
			v.Op("at least 0", "VPMAXSD", v.r(3), v.r(0), v.r(0))
			v.Op("at most 255", "VPMOVUSDB", v.r(0), "(DI)")
			return
		}
		v.Op("", "VEXTRACTI128", "$1", v.r(0), x(4))
		v.Op("", "VPACKSSDW", x(4), x(0), x(0))
		v.Op("0 to 255", "VPACKUSWB", x(0), x(0), x(0))
		v.Op("q", "VMOVQ", x(0), "(DI)")
	})
	v.ret()
}

// peak: the greatest magnitude. Magnitudes are in the order of their bits, and a NaN comes last.
func (v vector) peak() {
	v.Func("peak"+v.name+"(src *float32, n int) float32", 20)
	v.args([2]string{"src+0", "SI"}, [2]string{"n+8", "CX"})
	v.constant("all but the sign", 0x7fffffff, 1)
	v.Op("", "VXORPS", x(0), x(0), x(0))
	v.walk(4, 0, func() {
		v.Op("|src|", v.bitwise("VPAND"), "(SI)", v.r(1), v.r(2))
		v.Op("", "VPMAXSD", v.r(2), v.r(0), v.r(0))
	})
	v.reduce("VPMAXSD", 0)
	v.Op("", "VMOVSS", x(0), "ret+16(FP)")
	v.ret()
}

// roundI8: q = min(max(round(src/scale), -127), 127).
func (v vector) roundI8() {
	v.Func("roundI8"+v.name+"(q *int8, src *float32, n int, scale float32)", 28)
	v.args([2]string{"q+0", "DI"}, [2]string{"src+8", "SI"}, [2]string{"n+16", "CX"})
	v.Op("", "VBROADCASTSS", "scale+24(FP)", v.r(1))
	v.constant("-127", 0xffffff81, 2)
	v.constant("127", 127, 3)
	v.walk(4, 1, func() {
		v.Op("", "VMOVUPS", "(SI)", v.r(0))
		v.Op("src/scale", "VDIVPS", v.r(1), v.r(0), v.r(0))
		v.Op("rounded; of a NaN the least integer", "VCVTPS2DQ", v.r(0), v.r(0))
		v.Op("", "VPMAXSD", v.r(2), v.r(0), v.r(0))
		v.Op("", "VPMINSD", v.r(3), v.r(0), v.r(0))
		if v.lanes == 16 {
			v.Op("q", "VPMOVDB", v.r(0), "(DI)")
			return
		}
		v.Op("", "VEXTRACTI128", "$1", v.r(0), x(4))
		v.Op("", "VPACKSSDW", x(4), x(0), x(0))
		v.Op("", "VPACKSSWB", x(0), x(0), x(0))
		v.Op("q", "VMOVQ", x(0), "(DI)")
	})
	v.ret()
}

// widenI8: dst = scale·q.
func (v vector) widenI8() {
	v.Func("widenI8"+v.name+"(dst *float32, q *int8, n int, scale float32)", 28)
	v.args([2]string{"dst+0", "DI"}, [2]string{"q+8", "SI"}, [2]string{"n+16", "CX"})
	v.Op("", "VBROADCASTSS", "scale+24(FP)", v.r(1))
	v.walk(1, 4, func() {
		v.Op("", "VPMOVSXBD", "(SI)", v.r(0))
		v.Op("", "VCVTDQ2PS", v.r(0), v.r(0))
		v.Op("scale·q", "VMULPS", v.r(1), v.r(0), v.r(0))
		v.Op("dst", "VMOVUPS", v.r(0), "(DI)")
	})
	v.ret()
}
