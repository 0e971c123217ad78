// Command gen writes the vector forms of package activation: avx512.s and avx2.s.
package main

import (
	"fmt"
	"math"

	. "netfusion/kernels/internal/asmgen"
)

// The constants are those of generic.go.
var constants = []Word{
	Float("expMax", 89), Float("expMin", -104), Float("log2e", 1.44269504),
	Float("ln2High", 0.693359375), Float("ln2Low", -2.12194440e-4), Float("shifter", 3<<22),
	Float("exp0", 1.9875691500e-4), Float("exp1", 1.3981999507e-3), Float("exp2", 8.3334519073e-3),
	Float("exp3", 4.1665795894e-2), Float("exp4", 1.6666665459e-1), Float("exp5", 5.0000001201e-1),
	Float("tanh0", -5.70498872745e-3), Float("tanh1", 2.06390887954e-2), Float("tanh2", -5.37397155531e-2),
	Float("tanh3", 1.33314422036e-1), Float("tanh4", -3.33332819422e-1), Float("tanhSmall", 0.625),
	Float("erfP0", -2.72614225801306e-10), Float("erfP1", 2.77068142495902e-08), Float("erfP2", -2.10102402082508e-06),
	Float("erfP3", -5.69250639462346e-05), Float("erfP4", -7.34990630326855e-04), Float("erfP5", -2.95459980854025e-03),
	Float("erfP6", -1.60960333262415e-02),
	Float("erfQ0", -1.45660718464996e-05), Float("erfQ1", -2.13374055278905e-04), Float("erfQ2", -1.68282697438203e-03),
	Float("erfQ3", -7.37332916720468e-03), Float("erfQ4", -1.42647390514189e-02),
	Float("erfMax", 4), Float("erfMin", -4), Float("sqrtHalf", 1/math.Sqrt2),
	Float("zero", 0), Float("half", 0.5), Float("one", 1), Float("minusOne", -1), Float("two", 2), Float("slope", 0.01),
	Float("minusInf", math.Inf(-1)), {Name: "sign", Bits: 1 << 31}, {Name: "bias", Bits: 127},
}

const registers = `
	DI dst   SI src   CX elements left   (softmax: SI walks over the row)
	0 x and the result, 1-9 temporaries, 12 max, 13 sum, 15 a constant
`

// Registers by role; the number is that of a Y or Z register.
const (
	x, k, n, y, t, a, s, u = 0, 1, 2, 3, 4, 5, 6, 7
	top, sum, mask, c      = 12, 13, 14, 15
)

// A vector writes code for one register width.
type vector struct {
	*File
	name  string
	reg   string
	lanes int
	data  map[string]string
}

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {name: "AVX512", reg: "Z", lanes: 16, File: New("Z registers:" + registers + "\tK1 the lanes of the tail, K2 a comparison")},
		"avx2.s":   {name: "AVX2", reg: "Y", lanes: 8, File: New("Y registers:" + registers + "\t14 the lanes of the tail, or a comparison")},
	} {
		v.data = v.Data("const", constants...)
		if v.lanes == 8 {
			var lanes []Word // 8 on, 8 off: start at 8-tail
			for i := range 16 {
				lanes = append(lanes, Word{Name: fmt.Sprint("lane", i), Bits: uint32(int32(i-8) >> 31)})
			}
			v.Data("lanes", lanes...)
		}
		v.elementwise("exp", v.exp)
		v.elementwise("tanh", v.tanh)
		v.elementwise("gelu", v.gelu)
		v.elementwise("relu", v.relu)
		v.elementwise("leakyReLU", v.leakyReLU)
		v.softmax()
		v.softmaxSums()
		v.softmaxPart()
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

// splat puts a constant in every lane of dst.
func (v vector) splat(name string, dst int) {
	v.Op(v.r(dst)+" = "+name, "VBROADCASTSS", v.data[name], v.r(dst))
}

// with writes an instruction whose first operand is a constant.
func (v vector) with(note, op, name string, regs ...int) {
	if v.lanes == 16 {
		names := []string{v.data[name]}
		for _, r := range regs {
			names = append(names, v.r(r))
		}
		v.Op(note, op+".BCST", names...)
		return
	}
	v.splat(name, c)
	v.op(note, op, append([]int{c}, regs...)...)
}

// clamp limits r to [low, high]; a NaN passes, since it is the operand that these instructions return.
func (v vector) clamp(r int, low, high string) {
	v.splat(high, c)
	v.op("min(x, "+high+")", "VMINPS", r, c, r)
	v.splat(low, c)
	v.op("max(x, "+low+")", "VMAXPS", r, c, r)
}

// horner evaluates the polynomial with coefficients name0 … name<degree> at register at.
func (v vector) horner(name string, degree, at, dst int) {
	v.splat(name+"0", dst)
	for i := 1; i <= degree; i++ {
		v.with(fmt.Sprintf("· t + %s%d", name, i), "VFMADD213PS", fmt.Sprint(name, i), at, dst)
	}
}

// exp replaces x by eˣ, as exp1 does. It uses k, n, y, t.
func (v vector) exp() {
	v.clamp(x, "expMin", "expMax")
	v.splat("shifter", k)
	v.with("k = shifter + round(x/ln 2)", "VFMADD231PS", "log2e", x, k)
	v.with("n = round(x/ln 2)", "VSUBPS", "shifter", k, n)
	v.with("r = x - n·ln 2", "VFNMADD231PS", "ln2High", n, x)
	v.with("", "VFNMADD231PS", "ln2Low", n, x)
	v.horner("exp", 5, x, y)
	v.op("t = r²", "VMULPS", x, x, t)
	v.op("y = y·r² + r", "VFMADD213PS", x, t, y)
	v.with("y = eʳ", "VADDPS", "one", y, y)
	if v.lanes == 16 {
		v.op("y·2ⁿ", "VSCALEFPS", n, y, x)
		return
	}
	v.op("integer n", "VCVTPS2DQ", n, n)
	v.Op("h = n/2", "VPSRAD", "$1", v.r(n), v.r(t))
	v.op("n - h", "VPSUBD", t, n, n)
	v.splat("bias", c)
	v.op("", "VPADDD", c, t, t)
	v.op("", "VPADDD", c, n, n)
	v.Op("2ʰ", "VPSLLD", "$23", v.r(t), v.r(t))
	v.Op("2ⁿ⁻ʰ", "VPSLLD", "$23", v.r(n), v.r(n))
	v.op("y·2ʰ", "VMULPS", t, y, y)
	v.op("y·2ⁿ", "VMULPS", n, y, x)
}

func (v vector) tanh() {
	v.splat("sign", c)
	v.op("sign of x", "VANDPS", c, x, s)
	v.op("a = |x|", "VANDNPS", x, c, a)
	v.op("t = x²", "VMULPS", x, x, t)
	v.horner("tanh", 4, t, u)
	v.op("", "VMULPS", t, u, u)
	v.op("u = x + x³·P(x²), for small x", "VFMADD213PS", x, x, u)
	v.op("2a", "VADDPS", a, a, x)
	v.exp()
	v.with("e²ᵃ + 1", "VADDPS", "one", x, x)
	v.splat("two", t)
	v.op("", "VDIVPS", x, t, t)
	v.splat("one", y)
	v.op("1 - 2/(e²ᵃ + 1)", "VSUBPS", t, y, x)
	v.op("with the sign of x", "VORPS", s, x, x)
	v.splat("tanhSmall", c)
	if v.lanes == 16 {
		v.Op("a < tanhSmall", "VCMPPS", "$1", v.r(c), v.r(a), "K2")
		v.Op("", "VMOVAPS", v.r(u), "K2", v.r(x))
		return
	}
	v.Op("a < tanhSmall", "VCMPPS", "$1", v.r(c), v.r(a), v.r(c))
	v.op("", "VBLENDVPS", c, u, x, x)
}

func (v vector) gelu() {
	v.with("h = x/2", "VMULPS", "half", x, s)
	v.with("z = x/√2", "VMULPS", "sqrtHalf", x, x)
	v.clamp(x, "erfMin", "erfMax")
	v.op("t = z²", "VMULPS", x, x, t)
	v.horner("erfP", 6, t, y)
	v.horner("erfQ", 4, t, u)
	v.op("", "VMULPS", x, y, y)
	v.op("erf z = z·P/Q", "VDIVPS", u, y, x)
	v.clamp(x, "minusOne", "one")
	v.op("h·erf z + h", "VFMADD213PS", s, s, x)
}

func (v vector) relu() {
	v.splat("zero", c)
	v.op("", "VMAXPS", x, c, x)
}

func (v vector) leakyReLU() {
	v.with("", "VMULPS", "slope", x, t)
	v.op("", "VMAXPS", x, t, x)
}

// elementwise writes a loop of body over dst and src.
func (v vector) elementwise(name string, body func()) {
	v.Func(name+v.name+"(dst, src *float32, n int)", 24)
	v.Op("", "MOVQ", "dst+0(FP)", "DI")
	v.Op("", "MOVQ", "src+8(FP)", "SI")
	v.Op("", "MOVQ", "n+16(FP)", "CX")
	v.loop(name, func(tail bool) {
		if tail {
			v.load("(SI)")
			body()
			v.store("(DI)")
			return
		}
		v.Op("", "VMOVUPS", "(SI)", v.r(x))
		body()
		v.Op("", "VMOVUPS", v.r(x), "(DI)")
		v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "DI")
	})
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// loop writes body once for whole vectors, advancing SI, and once for the CX elements that remain.
func (v vector) loop(label string, body func(tail bool)) {
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JLT", label+"_tail")
	v.Label(label + "_loop")
	body(false)
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "SI")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JGE", label+"_loop")
	v.Label(label + "_tail")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JZ", label+"_end")
	if v.lanes == 16 {
		v.Op("", "MOVL", "$-1", "AX")
		v.Op("", "BZHIL", "CX", "AX", "AX")
		v.Op("the first CX lanes", "KMOVW", "AX", "K1")
	} else {
		v.Op("", "LEAQ", "lanes<>+32(SB)", "AX")
		v.Op("", "SHLQ", "$2", "CX")
		v.Op("", "SUBQ", "CX", "AX")
		v.Op("the first CX lanes", "VMOVUPS", "(AX)", v.r(mask))
	}
	body(true)
	v.Label(label + "_end")
}

// load and store move the lanes of the tail; load leaves zero in the others.
func (v vector) load(mem string) {
	if v.lanes == 16 {
		v.Op("", "VMOVUPS.Z", mem, "K1", v.r(x))
	} else {
		v.Op("", "VMASKMOVPS", mem, v.r(mask), v.r(x))
	}
}

func (v vector) store(mem string) {
	if v.lanes == 16 {
		v.Op("", "VMOVUPS", v.r(x), "K1", mem)
	} else {
		v.Op("", "VMASKMOVPS", v.r(x), v.r(mask), mem)
	}
}

// keep replaces x outside the tail by other.
func (v vector) keep(other int) {
	if v.lanes == 16 {
		v.Op("", "VMOVAPS", v.r(x), "K1", v.r(other))
		v.op("", "VMOVAPS", other, x)
	} else {
		v.op("", "VBLENDVPS", mask, x, other, x)
	}
}

// softmax writes softmax over one row, in place: its largest element, the exponentials with their sum, the quotient.
func (v vector) softmax() {
	v.Func("softmax"+v.name+"(row *float32, n int)", 16)
	v.restart()
	v.splat("minusInf", top)
	v.loop("max", func(tail bool) { v.largest(tail) })
	v.across("VMAXPS", top)

	v.restart()
	v.op("", "VXORPS", sum, sum, sum)
	v.loop("exp_sum", func(tail bool) { v.expSum(tail, false) })
	v.across("VADDPS", sum)
	v.splat("one", t)
	v.op("1/sum", "VDIVPS", sum, t, sum)

	v.restart()
	v.loop("scale", func(tail bool) {
		if tail {
			v.load("(SI)")
		} else {
			v.Op("", "VMOVUPS", "(SI)", v.r(x))
		}
		v.op("", "VMULPS", sum, x, x)
		if tail {
			v.store("(SI)")
		} else {
			v.Op("", "VMOVUPS", v.r(x), "(SI)")
		}
	})
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// largest puts the larger of max and a vector of the row into max.
func (v vector) largest(tail bool) {
	if tail {
		v.load("(SI)")
		v.splat("minusInf", t)
		v.keep(t)
	} else {
		v.Op("", "VMOVUPS", "(SI)", v.r(x))
	}
	v.op("", "VMAXPS", x, top, top)
}

// expSum replaces a vector of the row by its exponentials, less max, and adds them to sum. Where the row has room behind it, the
// vector is stored whole: a reader would have to wait for a part of one.
func (v vector) expSum(tail, room bool) {
	if tail {
		v.load("(SI)")
	} else {
		v.Op("", "VMOVUPS", "(SI)", v.r(x))
	}
	v.op("x - max", "VSUBPS", top, x, x)
	v.exp()
	if tail && !room {
		v.store("(SI)")
	}
	if tail {
		v.op("", "VXORPS", t, t, t)
		v.keep(t)
	}
	if !tail || room {
		v.Op("", "VMOVUPS", v.r(x), "(SI)")
	}
	v.op("", "VADDPS", x, sum, sum)
}

func (v vector) restart() {
	v.Op("", "MOVQ", "row+0(FP)", "SI")
	v.Op("", "MOVQ", "n+8(FP)", "CX")
}

// softmaxSums writes softmaxSumsGeneric, with R8 rows left, BX the row, R9 its stride and R11 sum.
func (v vector) softmaxSums() {
	v.Func("softmaxSums"+v.name+"(x *float32, rows, cols, ld int, sum *float32)", 40)
	for _, arg := range [][2]string{{"x+0", "BX"}, {"rows+8", "R8"}, {"ld+24", "R9"}, {"sum+32", "R11"}} {
		v.Op("", "MOVQ", arg[0]+"(FP)", arg[1])
	}
	v.Op("", "SHLQ", "$2", "R9")
	v.Label("sums_row")
	restart := func() {
		v.Op("", "MOVQ", "BX", "SI")
		v.Op("", "MOVQ", "cols+16(FP)", "CX")
	}
	restart()
	v.splat("minusInf", top)
	v.loop("sums_max", func(tail bool) { v.largest(tail) })
	v.across("VMAXPS", top)
	restart()
	v.op("", "VXORPS", sum, sum, sum)
	v.loop("sums_exp", func(tail bool) { v.expSum(tail, true) })
	v.across("VADDPS", sum)
	v.Op("", "VMOVSS", fmt.Sprint("X", sum), "(R11)")
	v.Op("", "ADDQ", "$4", "R11")
	v.Op("next row", "ADDQ", "R9", "BX")
	v.Op("", "DECQ", "R8")
	v.Op("", "JNZ", "sums_row")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// softmaxPart writes softmaxPartGeneric, a vector of columns at a time: BX is the top of them, R8 how many columns are left, R9
// the stride of rows, R13 three of them, R10 peak, R11 sum and R12 keep.
func (v vector) softmaxPart() {
	v.Func("softmaxPart"+v.name+"(x *float32, rows, cols, ld int, peak, sum, keep *float32)", 56)
	for _, arg := range [][2]string{{"x+0", "BX"}, {"cols+16", "R8"}, {"ld+24", "R9"}, {"peak+32", "R10"}, {"sum+40", "R11"}, {"keep+48", "R12"}} {
		v.Op("", "MOVQ", arg[0]+"(FP)", arg[1])
	}
	v.Op("", "SHLQ", "$2", "R9")
	v.Op("", "LEAQ", "(R9)(R9*2)", "R13")
	restart := func() {
		v.Op("", "MOVQ", "BX", "SI")
		v.Op("", "MOVQ", "rows+8(FP)", "CX")
	}
	v.Label("part_columns")
	restart()
	tops := []int{top, a, s, u} // four chains, since each maximum waits for the one before
	for _, r := range tops {
		v.splat("minusInf", r)
	}
	v.Op("", "SUBQ", "$4", "CX")
	v.Op("", "JLT", "part_max_rest")
	v.Label("part_max")
	for i, r := range tops {
		v.Op("", "VMAXPS", []string{"(SI)", "(SI)(R9*1)", "(SI)(R9*2)", "(SI)(R13*1)"}[i], v.r(r), v.r(r))
	}
	v.Op("", "LEAQ", "(SI)(R9*4)", "SI")
	v.Op("", "SUBQ", "$4", "CX")
	v.Op("", "JGE", "part_max")
	v.Label("part_max_rest")
	v.Op("", "ADDQ", "$4", "CX")
	v.Op("", "JZ", "part_peak")
	v.Label("part_max_row")
	v.Op("", "VMAXPS", "(SI)", v.r(top), v.r(top))
	v.Op("", "ADDQ", "R9", "SI")
	v.Op("", "DECQ", "CX")
	v.Op("", "JNZ", "part_max_row")
	v.Label("part_peak")
	for _, r := range tops[1:] {
		v.op("", "VMAXPS", r, top, top)
	}
	v.Op("", "TESTQ", "R12", "R12")
	v.Op("the first part", "JZ", "part_sum")
	v.Op("the old peak", "VMOVUPS", "(R10)", v.r(x))
	v.op("", "VMAXPS", x, top, top)
	v.op("the old peak - max", "VSUBPS", top, x, x)
	v.exp()
	v.Op("", "VMOVUPS", v.r(x), "(R12)")

	v.Label("part_sum")
	v.Op("peak = max", "VMOVUPS", v.r(top), "(R10)")
	v.op("", "VXORPS", sum, sum, sum)
	restart()
	v.Label("part_row")
	v.Op("", "VMOVUPS", "(SI)", v.r(x))
	v.op("x - max", "VSUBPS", top, x, x)
	v.exp()
	v.Op("", "VMOVUPS", v.r(x), "(SI)")
	v.op("", "VADDPS", x, sum, sum)
	v.Op("", "ADDQ", "R9", "SI")
	v.Op("", "DECQ", "CX")
	v.Op("", "JNZ", "part_row")

	bytes := fmt.Sprintf("$%d", 4*v.lanes)
	v.Op("", "TESTQ", "R12", "R12")
	v.Op("", "JZ", "part_next")
	v.Op("", "VMOVUPS", "(R12)", v.r(t))
	v.Op("sum += keep · the old sum", "VFMADD231PS", "(R11)", v.r(t), v.r(sum))
	v.Op("", "ADDQ", bytes, "R12")
	v.Label("part_next")
	v.Op("", "VMOVUPS", v.r(sum), "(R11)")
	for _, pointer := range []string{"R10", "R11", "BX"} {
		v.Op("", "ADDQ", bytes, pointer)
	}
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "R8")
	v.Op("", "JNZ", "part_columns")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// across combines all lanes of reg into every lane of it.
func (v vector) across(op string, reg int) {
	y, x, other := fmt.Sprint("Y", reg), fmt.Sprint("X", reg), fmt.Sprint("X", t)
	if v.lanes == 16 {
		v.Op("", "VEXTRACTF64X4", "$1", v.r(reg), fmt.Sprint("Y", t))
		v.Op("8 lanes", op, fmt.Sprint("Y", t), y, y)
	}
	v.Op("", "VEXTRACTF128", "$1", y, other)
	v.Op("4 lanes", op, other, x, x)
	v.Op("", "VMOVHLPS", x, x, other)
	v.Op("2 lanes", op, other, x, x)
	v.Op("", "VMOVSHDUP", x, other)
	v.Op("1 lane", op, other, x, x)
	v.Op("", "VBROADCASTSS", x, v.r(reg))
}
