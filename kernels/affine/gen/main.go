// Command gen writes the vector forms of package affine: avx512.s and avx2.s.
package main

import (
	"fmt"

	"netfusion/kernels/internal/asmgen"
)

const registers = `
	DI dst   DX its stride   SI x   BX its stride   CX rows left   all strides in bytes
	AX place in the row   R10 where its last, incomplete vector begins   R11 whether there is one
	R8 scale   R9 offset
	0 x and the result   1 scale   3 zero
`

// A vector writes code for one register width. The columns of an incomplete vector are in K1, or in register 7.
type vector struct {
	*asmgen.File
	name, reg string
	lanes     int
}

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {name: "AVX512", reg: "Z", lanes: 16},
		"avx2.s":   {name: "AVX2", reg: "Y", lanes: 8},
	} {
		v.File = asmgen.New(registers)
		if v.lanes == 8 {
			var lanes []asmgen.Word // 8 on, 8 off: start at 8-n
			for i := range 16 {
				lanes = append(lanes, asmgen.Word{Name: fmt.Sprint("lane", i), Bits: uint32(int32(i-8) >> 31)})
			}
			v.Data("lanes", lanes...)
		}
		v.rows("relu", true, v.relu)
		v.rows("add", false, v.add)
		v.scale()
		v.Write(path)
	}
}

func (v vector) r(i int) string { return fmt.Sprint(v.reg, i) }

// relu is one vector of max(0, scale·x + offset); a NaN passes, since it is the operand that VMAXPS returns.
func (v vector) relu(tail bool) {
	v.load("(SI)(AX*1)", 0, tail)
	v.load("(R8)(AX*1)", 1, tail)
	v.load("(R9)(AX*1)", 2, tail)
	v.Op("x = scale·x + offset", "VFMADD213PS", v.r(2), v.r(1), v.r(0))
	v.Op("", "VMAXPS", v.r(0), v.r(3), v.r(0))
	v.store(tail)
}

// add is one vector of dst + x.
func (v vector) add(tail bool) {
	v.load("(DI)(AX*1)", 0, tail)
	v.load("(SI)(AX*1)", 1, tail)
	v.Op("", "VADDPS", v.r(1), v.r(0), v.r(0))
	v.store(tail)
}

func (v vector) load(mem string, to int, tail bool) {
	switch {
	case !tail:
		v.Op("", "VMOVUPS", mem, v.r(to))
	case v.lanes == 16:
		v.Op("", "VMOVUPS.Z", mem, "K1", v.r(to))
	default:
		v.Op("", "VMASKMOVPS", mem, v.r(7), v.r(to))
	}
}

func (v vector) store(tail bool) {
	switch {
	case !tail:
		v.Op("", "VMOVUPS", v.r(0), "(DI)(AX*1)")
	case v.lanes == 16:
		v.Op("", "VMOVUPS", v.r(0), "K1", "(DI)(AX*1)")
	default:
		v.Op("", "VMASKMOVPS", v.r(0), v.r(7), "(DI)(AX*1)")
	}
}

// columns splits the R10 columns of a row into whole vectors and the rest.
func (v vector) columns() {
	v.Op("", "MOVQ", "R10", "R11")
	v.Op("", "ANDQ", fmt.Sprintf("$%d", v.lanes-1), "R11")
	v.Op("", "SUBQ", "R11", "R10")
	v.Op("", "SHLQ", "$2", "R10")
	if v.lanes == 16 {
		v.Op("", "MOVL", "$-1", "AX")
		v.Op("", "BZHIL", "R11", "AX", "AX")
		v.Op("", "KMOVW", "AX", "K1")
	} else {
		v.Op("", "LEAQ", "lanes<>+32(SB)", "AX")
		v.Op("", "MOVQ", "R11", "R12")
		v.Op("", "SHLQ", "$2", "R12")
		v.Op("", "SUBQ", "R12", "AX")
		v.Op("", "VMOVUPS", "(AX)", v.r(7))
	}
}

// row writes body once for the whole vectors of a row, and once for the rest.
func (v vector) row(name string, body func(tail bool)) {
	v.Op("", "XORL", "AX", "AX")
	v.Op("", "CMPQ", "AX", "R10")
	v.Op("", "JEQ", name+"_tail")
	v.Label(name + "_loop")
	body(false)
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "AX")
	v.Op("", "CMPQ", "AX", "R10")
	v.Op("", "JNE", name+"_loop")
	v.Label(name + "_tail")
	v.Op("", "TESTQ", "R11", "R11")
	v.Op("", "JEQ", name+"_next")
	body(true)
	v.Label(name + "_next")
}

// rows writes a function that does body to each vector of each row.
func (v vector) rows(name string, affine bool, body func(tail bool)) {
	arguments, at := "dst *float32, ldd int, x *float32, ldx int", 32
	if affine {
		arguments, at = arguments+", scale, offset *float32", 48
	}
	v.Func(name+v.name+"("+arguments+", rows, cols int)", at+16)
	v.Op("", "MOVQ", "dst+0(FP)", "DI")
	v.Op("", "MOVQ", "ldd+8(FP)", "DX")
	v.Op("", "MOVQ", "x+16(FP)", "SI")
	v.Op("", "MOVQ", "ldx+24(FP)", "BX")
	if affine {
		v.Op("", "MOVQ", "scale+32(FP)", "R8")
		v.Op("", "MOVQ", "offset+40(FP)", "R9")
	}
	v.Op("", "MOVQ", fmt.Sprintf("rows+%d(FP)", at), "CX")
	v.Op("", "MOVQ", fmt.Sprintf("cols+%d(FP)", at+8), "R10")
	v.Op("", "SHLQ", "$2", "DX")
	v.Op("", "SHLQ", "$2", "BX")
	v.columns()
	v.Op("", "VXORPS", v.r(3), v.r(3), v.r(3))

	v.Label(name + "_row")
	v.row(name, body)
	v.Op("", "ADDQ", "DX", "DI")
	v.Op("", "ADDQ", "BX", "SI")
	v.Op("", "DECQ", "CX")
	v.Op("", "JNZ", name+"_row")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// scale writes a function that multiplies the rows of dst by a value each.
func (v vector) scale() {
	v.Func("scale"+v.name+"(dst *float32, ldd int, by *float32, rows, cols int)", 40)
	v.Op("", "MOVQ", "dst+0(FP)", "DI")
	v.Op("", "MOVQ", "ldd+8(FP)", "DX")
	v.Op("", "MOVQ", "by+16(FP)", "SI")
	v.Op("", "MOVQ", "rows+24(FP)", "CX")
	v.Op("", "MOVQ", "cols+32(FP)", "R10")
	v.Op("", "SHLQ", "$2", "DX")
	v.columns()
	v.Label("scale_row")
	v.Op("", "VBROADCASTSS", "(SI)", v.r(1))
	v.row("scale", func(tail bool) {
		v.load("(DI)(AX*1)", 0, tail)
		v.Op("", "VMULPS", v.r(1), v.r(0), v.r(0))
		v.store(tail)
	})
	v.Op("", "ADDQ", "DX", "DI")
	v.Op("", "ADDQ", "$4", "SI")
	v.Op("", "DECQ", "CX")
	v.Op("", "JNZ", "scale_row")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}
