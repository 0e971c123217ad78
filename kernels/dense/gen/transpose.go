package main

import (
	"fmt"

	"netfusion/kernels/internal/asmgen"
)

// transpose writes a function that transposes a square of as many rows as a register has lanes. Pairs of rows are interleaved,
// then pairs of pairs: now each quarter of a register has four rows of one column. Then the quarters change places.
func (v isa) transpose(f *asmgen.File) {
	n := v.lanes
	f.Func("transpose"+v.name+"(dst *float32, ldd int, src *float32, lds int)", 32)
	for i, reg := range []string{"DI", "SI", "AX", "BX"} {
		f.Op("", "MOVQ", fmt.Sprintf("%s+%d(FP)", []string{"dst", "ldd", "src", "lds"}[i], 8*i), reg)
	}
	f.Op("in bytes", "SHLQ", "$2", "SI")
	f.Op("", "SHLQ", "$2", "BX")
	a := func(i int) string { return fmt.Sprint(v.reg, i) }   // one half of the registers,
	b := func(i int) string { return fmt.Sprint(v.reg, n+i) } // and the other
	for i := range n {
		f.Op(fmt.Sprintf("row %d", i), "VMOVUPS", "(AX)", a(i))
		if i < n-1 {
			f.Op("", "ADDQ", "BX", "AX")
		}
	}
	for i := 0; i < n; i += 2 {
		f.Op("", "VUNPCKLPS", a(i+1), a(i), b(i))
		f.Op("", "VUNPCKHPS", a(i+1), a(i), b(i+1))
	}
	for i := 0; i < n; i += 4 {
		for c := range 2 {
			f.Op(fmt.Sprintf("columns %d, %d, …", 2*c, 2*c+4), "VUNPCKLPD", b(i+c+2), b(i+c), a(i+2*c))
			f.Op(fmt.Sprintf("columns %d, %d, …", 2*c+1, 2*c+5), "VUNPCKHPD", b(i+c+2), b(i+c), a(i+2*c+1))
		}
	}
	out := b
	if n == 8 {
		for c := range 4 {
			f.Op("", "VPERM2F128", "$0x20", a(4+c), a(c), b(c))
			f.Op("", "VPERM2F128", "$0x31", a(4+c), a(c), b(4+c))
		}
	} else {
		const even, odd = "$0x88", "$0xdd" // quarters of both operands
		for c := range 4 {
			for half := range 2 {
				f.Op("", "VSHUFF32X4", even, a(8*half+4+c), a(8*half+c), b(8*half+c))
				f.Op("", "VSHUFF32X4", odd, a(8*half+4+c), a(8*half+c), b(8*half+4+c))
			}
		}
		for c := range 4 {
			for quarter := range 2 {
				f.Op("", "VSHUFF32X4", even, b(8+4*quarter+c), b(4*quarter+c), a(4*quarter+c))
				f.Op("", "VSHUFF32X4", odd, b(8+4*quarter+c), b(4*quarter+c), a(8+4*quarter+c))
			}
		}
		out = a
	}
	for i := range n {
		f.Op(fmt.Sprintf("column %d", i), "VMOVUPS", out(i), "(DI)")
		if i < n-1 {
			f.Op("", "ADDQ", "SI", "DI")
		}
	}
	f.Op("", "VZEROUPPER")
	f.Op("", "RET")
}
