// Command gen writes the vector forms of package attention: avx512.s and avx2.s.
package main

import (
	"fmt"

	. "netfusion/kernels/internal/asmgen"
)

const about = `
A tile is rows × panels·16 outputs, all of them in registers while k runs: each step loads each panel's columns of w once,
and each row's x once, into every lane.

	DI dst   SI ldd
	AX x     BX ldx     rows 0-2 are at AX + {0,1,2}·BX, rows 3-5 at R10 + …, rows 6-8 at R11 + …, rows 9-11 at R12 + …
	CX w     DX panel   R13 stepX   R8 stepW   R9 steps of k left
	At the end: R14 the tile, R12 keep, R13 scale;   R15 the lanes of the last panel
`

// An isa is a vector width and the shapes of tile that its registers hold.
type isa struct {
	*File
	name    string
	reg     string
	lanes   int
	rows    int // at most
	panels  int // at most
	weights int // first register of a step's weights; the sums are below it
	spread  int // first of two registers for x, broadcast
}

func main() {
	avx512 := isa{New("tileAVX512: up to 12 rows × 2 panels, 24 accumulators of 16 lanes.\n" + about +
		"\tK1 the columns of the last panel\n\n\tZ0-Z23 sums, Z24-Z25 weights, Z28-Z29 x"), "AVX512", "Z", 16, 12, 2, 24, 28}
	avx2 := isa{New("tileAVX2: up to 6 rows × 1 panel, 12 accumulators of 8 lanes.\n" + about +
		"\n\tY0-Y11 sums, Y12-Y13 weights, Y14-Y15 x"), "AVX2", "Y", 8, 6, 1, 12, 14}
	var masks []Word // 16 lanes on, 16 off: start at 16-last
	for i := range 32 {
		masks = append(masks, Word{Name: fmt.Sprint("lane", i), Bits: uint32(int32(i-16) >> 31)})
	}
	avx2.Data("lanes", masks...)
	for path, v := range map[string]isa{"avx512.s": avx512, "avx2.s": avx2} {
		v.dispatch()
		for p := range v.panels {
			for r := range v.rows {
				tile{v, r + 1, p + 1}.write()
			}
		}
		v.pack()
		v.Write(path)
	}
}

func (v isa) r(i int) string { return fmt.Sprint(v.reg, i) }

// lastLanes makes the mask of the first columns, 1 to 16, in register count.
func (v isa) lastLanes(count, scratch string) {
	if v.lanes == 16 {
		v.Op("", "MOVL", "$-1", scratch)
		v.Op("1<<last - 1", "BZHIL", count, scratch, count)
		v.Op("", "KMOVW", count, "K1")
		return
	}
	v.Op("", "NEGQ", count)
	v.Op("", "LEAQ", "lanes<>+64(SB)", scratch)
	v.Op("lanes[16-last:]", "LEAQ", fmt.Sprintf("(%s)(%s*4)", scratch, count), count)
}

// dispatch loads the fields of the tile and jumps to the code for its shape.
func (v isa) dispatch() {
	v.Func("tile"+v.name+"(t *tile)", 8)
	v.Op("", "MOVQ", "t+0(FP)", "R14")
	for _, field := range [][2]string{{"dst", "DI"}, {"ldd", "SI"}, {"x", "AX"}, {"ldx", "BX"}, {"w", "CX"}, {"stepW", "R8"}, {"panel", "DX"}, {"stepX", "R13"},
		{"k", "R9"}, {"last", "R15"}} {
		v.Op("", "MOVQ", "tile_"+field[0]+"(R14)", field[1])
	}
	for _, stride := range []string{"SI", "BX", "R8", "DX", "R13"} {
		v.Op("in bytes", "SHLQ", "$2", stride)
	}
	v.lastLanes("R15", "R10")
	v.Op("", "LEAQ", "(BX)(BX*2)", "R12")
	v.Op("x + 3·ldx", "LEAQ", "(AX)(R12*1)", "R10")
	v.Op("x + 6·ldx", "LEAQ", "(AX)(R12*2)", "R11")
	v.Op("x + 9·ldx", "ADDQ", "R11", "R12")
	for p := range v.panels {
		if p+1 < v.panels {
			v.Op("", "CMPQ", "tile_panels(R14)", fmt.Sprintf("$%d", p+1))
			v.Op("", "JNE", fmt.Sprintf("panels%d", p+2))
		}
		for r := v.rows; r > 0; r-- {
			v.Op("", "CMPQ", "tile_rows(R14)", fmt.Sprintf("$%d", r))
			v.Op("", "JEQ", tile{v, r, p + 1}.label(""))
		}
		v.Op("", "RET")
		if p+1 < v.panels {
			v.Label(fmt.Sprintf("panels%d", p+2))
		}
	}
}

// A tile writes the code for r rows and p panels.
type tile struct {
	isa
	rows, panels int
}

func (t tile) vectors() int          { return t.panels * 16 / t.lanes } // per row
func (t tile) sum(r, v int) string   { return t.r(r*t.vectors() + v) }
func (t tile) weight(v int) string   { return t.r(t.weights + v) }
func (t tile) x(r int) string        { return t.r(t.spread + r%2) }
func (t tile) label(p string) string { return fmt.Sprintf("tile%dx%d%s", t.rows, t.panels, p) }

// isLast says whether vector v of a row lies in the last panel, and mask where its lanes are selected.
func (t tile) isLast(v int) bool { return v*t.lanes/16 == t.panels-1 }
func (t tile) mask(v int) string { return fmt.Sprintf("%d(R15)", v*t.lanes%16*4) }

func (t tile) write() {
	t.Label(t.label(""))
	for r := range t.rows {
		for v := range t.vectors() {
			t.Op("", "VXORPS", t.sum(r, v), t.sum(r, v), t.sum(r, v))
		}
	}
	t.Label(t.label("_loop"))
	t.step()
	t.Op("", "DECQ", "R9")
	t.Op("", "JNZ", t.label("_loop"))

	t.Op("", "MOVQ", "tile_keep(R14)", "R12")
	t.Op("", "TESTQ", "R12", "R12")
	t.Op("", "JZ", t.label("_scale"))
	t.Op("", "MOVQ", "DI", "R11")
	for r := range t.rows {
		t.Op(fmt.Sprintf("keep[%d]", r), "VBROADCASTSS", fmt.Sprintf("%d(R12)", 4*r), t.x(0))
		for v := range t.vectors() {
			t.load(fmt.Sprintf("%d(R11)", v*t.lanes*4), v, t.weight(0))
			t.Op("sum += keep · dst", "VFMADD231PS", t.x(0), t.weight(0), t.sum(r, v))
		}
		t.Op("next row", "ADDQ", "SI", "R11")
	}
	t.Label(t.label("_scale"))
	t.Op("", "MOVQ", "tile_scale(R14)", "R13")
	t.Op("", "TESTQ", "R13", "R13")
	t.Op("", "JZ", t.label("_store"))
	for r := range t.rows {
		t.Op(fmt.Sprintf("scale[%d]", r), "VBROADCASTSS", fmt.Sprintf("%d(R13)", 4*r), t.x(0))
		for v := range t.vectors() {
			t.Op("", "VMULPS", t.x(0), t.sum(r, v), t.sum(r, v))
		}
	}
	t.Label(t.label("_store"))
	t.Op("", "CMPQ", "tile_last(R14)", "$16")
	t.Op("", "JNE", t.label("_cut"))
	t.store(func(from, mem string, _ int) { t.Op("", "VMOVUPS", from, mem) })
	t.Label(t.label("_cut"))
	t.store(t.cut)
}

// store writes the sums to dst, vector by vector.
func (t tile) store(vector func(from, mem string, v int)) {
	for r := range t.rows {
		for v := range t.vectors() {
			vector(t.sum(r, v), fmt.Sprintf("%d(DI)", v*t.lanes*4), v)
		}
		t.Op("next row", "ADDQ", "SI", "DI")
	}
	t.Op("", "VZEROUPPER")
	t.Op("", "RET")
}

// step adds the products of one step of k.
func (t tile) step() {
	for v := range t.vectors() {
		panel := v * t.lanes / 16
		t.load(fmt.Sprint(v*t.lanes%16*4, []string{"(CX)", "(CX)(DX*1)"}[panel]), v, t.weight(v))
	}
	for r := range t.rows {
		base := []string{"AX", "R10", "R11", "R12"}[r/3]
		t.Op(fmt.Sprintf("x[%d]", r), "VBROADCASTSS", fmt.Sprintf("(%s)%s", base, []string{"", "(BX*1)", "(BX*2)"}[r%3]), t.x(r))
		for v := range t.vectors() {
			t.Op(fmt.Sprintf("sum[%d] += x·w", r), "VFMADD231PS", t.weight(v), t.x(r), t.sum(r, v))
		}
	}
	t.Op("next step", "ADDQ", "R8", "CX")
	for i, base := range []string{"AX", "R10", "R11", "R12"} {
		if t.rows > 3*i {
			t.Op("", "ADDQ", "R13", base)
		}
	}
}

// load and cut move vector v of a row, up to the last column; load leaves zero beyond it.
func (t tile) load(mem string, v int, to string) {
	switch {
	case !t.isLast(v):
		t.Op("", "VMOVUPS", mem, to)
	case t.lanes == 16:
		t.Op("", "VMOVUPS.Z", mem, "K1", to)
	default:
		t.Op("", "VMOVUPS", t.mask(v), t.r(t.spread+1))
		t.Op("", "VMASKMOVPS", mem, t.r(t.spread+1), to)
	}
}

func (t tile) cut(from, mem string, v int) {
	switch {
	case !t.isLast(v):
		t.Op("", "VMOVUPS", from, mem)
	case t.lanes == 16:
		t.Op("", "VMOVUPS", from, "K1", mem)
	default:
		t.Op("", "VMOVUPS", t.mask(v), t.r(t.spread+1))
		t.Op("", "VMASKMOVPS", from, t.r(t.spread+1), mem)
	}
}

// pack writes packPanel: four rows at a time, whose channels change places with them in registers.
func (v isa) pack() {
	v.Note("packPanel" + v.name + ": DI dst   R8-R11 four rows   BX ld   SI rows left   CX channels left   DX offset in bytes   R12 dst of a channel")
	v.Func("packPanel"+v.name+"(dst, x *float32, ld, m, d int)", 40)
	for _, arg := range [][2]string{{"dst+0", "DI"}, {"x+8", "R8"}, {"ld+16", "BX"}, {"m+24", "SI"}} {
		v.Op("", "MOVQ", arg[0]+"(FP)", arg[1])
	}
	v.Op("in bytes", "SHLQ", "$2", "BX")
	v.Op("", "MOVQ", "d+32(FP)", "R13")
	v.Op("", "ANDQ", fmt.Sprintf("$%d", v.lanes-1), "R13")
	v.lastLanes("R13", "R14")
	v.Label("pack_rows")
	for i, row := range []string{"R9", "R10", "R11"} { // beyond the last, that one again
		v.Op("", "MOVQ", fmt.Sprint("R", 8+i), row)
		v.Op("", "LEAQ", fmt.Sprintf("(%s)(BX*1)", row), "R14")
		v.Op("", "CMPQ", "SI", fmt.Sprintf("$%d", i+1))
		v.Op("", "CMOVQGT", "R14", row)
	}
	v.Op("", "XORQ", "DX", "DX")
	v.Op("", "MOVQ", "DI", "R12")
	v.Op("", "MOVQ", "d+32(FP)", "CX")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JLT", "pack_tail")
	v.Label("pack_loop")
	v.transpose(false)
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 4*v.lanes), "DX")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", 64*v.lanes), "R12")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JGE", "pack_loop")
	v.Label("pack_tail")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", v.lanes), "CX")
	v.Op("", "JZ", "pack_next")
	v.transpose(true)
	v.Label("pack_next")
	v.Op("", "LEAQ", "(R11)(BX*1)", "R8")
	v.Op("", "ADDQ", "$16", "DI")
	v.Op("", "SUBQ", "$4", "SI")
	v.Op("", "JG", "pack_rows")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// transpose moves a vector of channels of four rows, [4][lanes], to four columns of the panel, [lanes][4 of 16].
func (v isa) transpose(tail bool) {
	for i := range 4 {
		mem := fmt.Sprintf("(R%d)(DX*1)", 8+i)
		switch {
		case !tail:
			v.Op("", "VMOVUPS", mem, v.r(i))
		case v.lanes == 16:
			v.Op("", "VMOVUPS.Z", mem, "K1", v.r(i))
		default:
			v.Op("", "VMOVUPS", "(R13)", v.r(8))
			v.Op("", "VMASKMOVPS", mem, v.r(8), v.r(i))
		}
	}
	v.Op("rows 0 1 0 1 of channels 0 and 1", "VUNPCKLPS", v.r(1), v.r(0), v.r(4))
	v.Op("of channels 2 and 3", "VUNPCKHPS", v.r(1), v.r(0), v.r(5))
	v.Op("rows 2 3 2 3", "VUNPCKLPS", v.r(3), v.r(2), v.r(6))
	v.Op("", "VUNPCKHPS", v.r(3), v.r(2), v.r(7))
	v.Op("rows 0 1 2 3 of channel 0", "VUNPCKLPD", v.r(6), v.r(4), v.r(0))
	v.Op("of channel 1", "VUNPCKHPD", v.r(6), v.r(4), v.r(1))
	v.Op("of channel 2", "VUNPCKLPD", v.r(7), v.r(5), v.r(2))
	v.Op("of channel 3", "VUNPCKHPD", v.r(7), v.r(5), v.r(3))
	for c := range 4 {
		v.Op("", "VMOVUPS", fmt.Sprint("X", c), fmt.Sprintf("%d(R12)", 64*c))
		for quarter := 1; quarter < v.lanes/4; quarter++ {
			extract := "VEXTRACTF32X4"
			if v.lanes == 8 {
				extract = "VEXTRACTF128"
			}
			v.Op("", extract, fmt.Sprintf("$%d", quarter), v.r(c), fmt.Sprintf("%d(R12)", 64*(4*quarter+c)))
		}
	}
}
