// Command gen writes the vector forms of package optimizer: avx512.s and avx2.s.
package main

import (
	"fmt"

	. "netfusion/kernels/internal/asmgen"
)

const registers = `
	DI p or ema   SI g or p   R8 m   R9 v   R10 peak   CX elements left, a multiple of the lanes   DX the constants
	0-6 values, 7-15 constants or sums
`

// The constants of a step, in the order of the struct in amd64.go.
var names = []string{"scale", "b1", "c1", "b2", "c2", "keep", "rate", "root", "eps"}

// A vector writes code for one register width.
type vector struct {
	*File
	name, reg string
	lanes     int
}

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {New("Z registers:" + registers), "AVX512", "Z", 16},
		"avx2.s":   {New("Y registers:" + registers), "AVX2", "Y", 8},
	} {
		v.adam("adam", false)
		v.adam("amsgrad", true)
		v.average()
		v.sumSquares()
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

func (v vector) load(note, base string, r int)         { v.Op(note, "VMOVUPS", base, v.r(r)) }
func (v vector) store(note string, r int, base string) { v.Op(note, "VMOVUPS", v.r(r), base) }

// constant is the register of a constant.
func constant(name string) int {
	for i, n := range names {
		if n == name {
			return 7 + i
		}
	}
	panic(name)
}

func (v vector) loop(name string, width int, pointers []string, body func()) {
	v.Op("", "TESTQ", "CX", "CX")
	v.Op("", "JZ", name+"_end")
	v.Label(name + "_loop")
	body()
	for _, p := range pointers {
		v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*width), p)
	}
	v.Op("", "SUBQ", fmt.Sprintf("$%d", width), "CX")
	v.Op("", "JNZ", name+"_loop")
	v.Label(name + "_end")
}

// adam writes one step of Adam or of AMSGrad. Every product is rounded before it is added, as in the plain form.
func (v vector) adam(name string, peak bool) {
	v.Func(name+v.name+"(p, grad, m, v, peak *float32, n int, c *constants)", 56)
	for i, reg := range []string{"DI", "SI", "R8", "R9", "R10", "CX", "DX"} {
		v.Op("", "MOVQ", fmt.Sprintf("%s+%d(FP)", []string{"p", "grad", "m", "v", "peak", "n", "c"}[i], 8*i), reg)
	}
	for _, c := range names {
		v.Op(c, "VBROADCASTSS", "constants_"+c+"(DX)", v.r(constant(c)))
	}
	const g, m, u, s, t = 0, 1, 2, 3, 4
	pointers := []string{"DI", "SI", "R8", "R9"}
	if peak {
		pointers = append(pointers, "R10")
	}
	v.loop(name, v.lanes, pointers, func() {
		v.load("g", "(SI)", g)
		v.op("g·scale", "VMULPS", constant("scale"), g, g)
		v.load("m", "(R8)", m)
		v.op("", "VMULPS", constant("b1"), m, m)
		v.op("", "VMULPS", constant("c1"), g, t)
		v.op("m = β₁m + (1-β₁)g", "VADDPS", t, m, m)
		v.store("", m, "(R8)")
		v.load("v", "(R9)", u)
		v.op("", "VMULPS", constant("b2"), u, u)
		v.op("g²", "VMULPS", g, g, t)
		v.op("", "VMULPS", constant("c2"), t, t)
		v.op("v = β₂v + (1-β₂)g²", "VADDPS", t, u, u)
		v.store("", u, "(R9)")
		if peak {
			v.load("peak", "(R10)", t)
			v.op("max(peak, v), a NaN of v", "VMAXPS", u, t, u)
			v.store("", u, "(R10)")
		}
		v.op("", "VSQRTPS", u, s)
		v.op("", "VMULPS", constant("root"), s, s)
		v.op("√v̂ + ε", "VADDPS", constant("eps"), s, s)
		v.op("", "VMULPS", constant("rate"), m, m)
		v.op("step", "VDIVPS", s, m, m)
		v.load("p", "(DI)", t)
		v.op("", "VMULPS", constant("keep"), t, t)
		v.op("p·keep - step", "VSUBPS", m, t, t)
		v.store("", t, "(DI)")
	})
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

func (v vector) average() {
	v.Func("average"+v.name+"(ema, p *float32, n int, c float32)", 28)
	v.Op("", "MOVQ", "ema+0(FP)", "DI")
	v.Op("", "MOVQ", "p+8(FP)", "SI")
	v.Op("", "MOVQ", "n+16(FP)", "CX")
	v.Op("", "VBROADCASTSS", "c+24(FP)", v.r(8))
	v.loop("average", v.lanes, []string{"DI", "SI"}, func() {
		v.load("p", "(SI)", 0)
		v.load("ema", "(DI)", 1)
		v.op("p - ema", "VSUBPS", 1, 0, 0)
		v.op("", "VMULPS", 8, 0, 0)
		v.op("ema + c·(p - ema)", "VADDPS", 0, 1, 1)
		v.store("", 1, "(DI)")
	})
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// sumSquares adds 32 values at a time to 32 sums. A square of a float32 is exact in float64, so that fusing changes nothing.
func (v vector) sumSquares() {
	const sums = 32
	half := v.lanes / 2 // float64s in a register
	v.Func("sumSquares"+v.name+"(sums *float64, x *float32, n int)", 24)
	v.Op("", "MOVQ", "sums+0(FP)", "DI")
	v.Op("", "MOVQ", "x+8(FP)", "SI")
	v.Op("", "MOVQ", "n+16(FP)", "CX")
	for i := range sums / half {
		v.op("", "VXORPS", 8+i, 8+i, 8+i)
	}
	v.loop("squares", sums, []string{"SI"}, func() {
		for i := range sums / half {
			v.Op("", "VCVTPS2PD", fmt.Sprintf("%d(SI)", 4*half*i), v.r(i%4))
			v.Op("", "VFMADD231PD", v.r(i%4), v.r(i%4), v.r(8+i))
		}
	})
	for i := range sums / half {
		v.Op("", "VMOVUPD", v.r(8+i), fmt.Sprintf("%d(DI)", 8*half*i))
	}
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}
