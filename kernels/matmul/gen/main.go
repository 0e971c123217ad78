// Command gen writes the tiles of package matmul, a file for each precision and vector width.
package main

import (
	"fmt"
	"strings"

	"netfusion/kernels/internal/asmgen"
)

const about = `
A tile is rows × panels·16 outputs, all of them in registers while k runs: each step of k loads each panel's
line of 64 bytes once, and 4 bytes of each row of x once, into every lane.

	DI dst     SI ldd
	AX x       BX ldx      R10 x + 3·ldx      rows 0-2 are at AX + {0,1,2}·BX, rows 3-5 at R10 + …,
	                       R15 x + 6·ldx      rows 6-7 at R15 + …
	CX w       DX panel    R11 w + 3·panel    panel q is at CX + q·DX
	R9 steps of k left
	R14 ahead  R13 aheadStep   R12 aheadPanel   R8 ahead + 3·aheadPanel, fetched into L2 meanwhile
	At the start and the end: R8 start, R13 lds, R14 the tile, R15 the lanes of the last panel
`

// An isa is a vector width and the shapes of tile that its registers hold.
type isa struct {
	name      string
	reg       string // register name prefix
	lanes     int
	rows      []int // [panels-1], the most rows of a tile with so many panels
	registers string
}

var (
	avx512 = isa{name: "AVX512", reg: "Z", lanes: 16, rows: []int{8, 8, 8, 6}, registers: `
up to 6 rows × 4 panels or 8 × 3, 24 accumulators of 16 lanes.
	K1 the columns of the last panel
	Z0-Z23 sums, Z24-Z27 weights, Z28-Z29 x`}
	avx2 = isa{name: "AVX2", reg: "Y", lanes: 8, rows: []int{6, 2}, registers: `
up to 6 rows × 1 panel, 12 accumulators of 8 lanes, or 2 rows × 2 panels.
	Y0-Y11 sums, Y12-Y13 weights, Y14-Y15 x; with 2 panels Y0-Y7 sums, Y8-Y11 weights`}
)

// A form is how an isa multiplies a precision.
type form struct {
	isa
	name string
	// add adds the products of registers w and x to sum. It may spoil x and scratch.
	add func(t tile, note string, w, x, sum int)
	// parts are how a step is computed, one after the other: each loads weights and x anew and widens them in place. A
	// form that multiplies them as they are has one part without instructions.
	parts []part
	// tail writes what the file has besides the tiles.
	tail func(v form, f *asmgen.File)
}

// A part lists instructions without their last two operands, which are the register.
type part struct{ w, x []string }

var whole = []part{{}}

const (
	high = "high<>(SB)" // 0xffff0000 in each lane
	low  = "low<>(SB)"  // 0x00ff00ff in each lane
)

var forms = map[string]form{
	"f32_avx512.s": {isa: avx512, name: "tileF32AVX512", add: fma, parts: whole},
	"f32_avx2.s":   {isa: avx2, name: "tileF32AVX2", add: fma, parts: whole},

	"bf16_avx512.s": {isa: avx512, name: "tileBF16AVX512", add: dotBF16, parts: whole},
	"bf16_avx2.s": {isa: avx2, name: "tileBF16AVX2", add: fma, parts: []part{
		{w: []string{"VPSLLD $16"}, x: []string{"VPSLLD $16"}},       // even k
		{w: []string{"VPAND " + high}, x: []string{"VPAND " + high}}, // odd k
	}},

	"int8_avx512.s": {isa: avx512, name: "tileI8AVX512", add: dotI8, parts: whole, tail: form.dequantize},
	"int8_avx2.s": {isa: avx2, name: "tileI8AVX2", add: addI16, tail: form.dequantize, parts: []part{ // pairs of int16
		{w: []string{"VPSLLW $8", "VPSRAW $8"}, x: []string{"VPAND " + low}}, // even k
		{w: []string{"VPSRAW $8"}, x: []string{"VPSRLW $8"}},                 // odd k
	}},
}

func fma(t tile, note string, w, x, sum int) {
	t.Op(note, "VFMADD231PS", t.register(w), t.register(x), t.register(sum))
}

func dotBF16(t tile, note string, w, x, sum int) { t.VDPBF16PS(note, w, x, sum) }

func dotI8(t tile, note string, w, x, sum int) {
	t.Op(note, "VPDPBUSD", t.register(w), t.register(x), t.register(sum))
}

// addI16 needs no saturation: |255·128 + 255·128| < 2³¹. (VPMADDUBSW, which spares the widening, saturates at 2¹⁵.)
func addI16(t tile, note string, w, x, sum int) {
	t.Op("", "VPMADDWD", t.register(w), t.register(x), t.register(t.scratch()))
	t.Op(note, "VPADDD", t.register(t.scratch()), t.register(sum), t.register(sum))
}

func main() {
	for path, v := range forms {
		f := asmgen.New(v.name + ": " + strings.TrimSpace(v.registers) + "\n" + about)
		v.data(f)
		v.dispatch(f)
		for p := range v.rows {
			for r := range v.rows[p] {
				tile{File: f, form: v, r: r + 1, p: p + 1}.write()
			}
		}
		if v.tail != nil {
			v.tail(v, f)
		}
		f.Write(path)
	}
}

// data writes the constants that the form uses.
func (v form) data(f *asmgen.File) {
	if v.lanes == 8 {
		var masks []asmgen.Word // 16 lanes on, 16 off: start at 16-last
		for i := range 32 {
			masks = append(masks, asmgen.Word{Name: fmt.Sprint("lane", i), Bits: uint32(int32(i-16) >> 31)})
		}
		f.Data("lanes", masks...)
	}
	for symbol, bits := range map[string]uint32{high: 0xffff0000, low: 0x00ff00ff} {
		if strings.Contains(fmt.Sprint(v.parts), symbol) {
			name, _, _ := strings.Cut(symbol, "<>")
			words := make([]asmgen.Word, v.lanes)
			for i := range words {
				words[i] = asmgen.Word{Name: fmt.Sprint(name, i), Bits: bits}
			}
			f.Data(name, words...)
		}
	}
}

// dispatch loads the fields of the tile and jumps to the code for its shape.
func (v form) dispatch(f *asmgen.File) {
	f.Func(v.name+"(t *tile)", 8)
	f.Op("", "MOVQ", "t+0(FP)", "R14")
	for _, field := range [][2]string{{"dst", "DI"}, {"ldd", "SI"}, {"start", "R8"}, {"lds", "R13"}, {"x", "AX"}, {"ldx", "BX"},
		{"w", "CX"}, {"panel", "DX"}, {"steps", "R9"}, {"last", "R15"}, {"panels", "R12"}} {
		f.Op("", "MOVQ", "tile_"+field[0]+"(R14)", field[1])
	}
	f.Op("", "LEAQ", "(CX)(DX*2)", "R11")
	f.Op("R11 = w + 3·panel", "ADDQ", "DX", "R11")
	v.lastLanes(f, "R10")
	f.Op("", "LEAQ", "(AX)(BX*2)", "R10")
	f.Op("R10 = x + 3·ldx", "ADDQ", "BX", "R10")
	for p := range v.rows {
		f.Op("", "CMPQ", "R12", fmt.Sprintf("$%d", p+1))
		f.Op("", "JEQ", fmt.Sprintf("panels%d", p+1))
	}
	f.Op("", "RET")
	for p, rows := range v.rows {
		f.Label(fmt.Sprintf("panels%d", p+1))
		f.Op("", "MOVQ", "tile_rows(R14)", "R12")
		for r := rows; r > 0; r-- {
			f.Op("", "CMPQ", "R12", fmt.Sprintf("$%d", r))
			f.Op("", "JEQ", fmt.Sprintf("tile%dx%d", r, p+1))
		}
		f.Op("", "RET")
	}
}

// lastLanes turns R15 from the columns of the last panel into their mask: in K1 or, for AVX2, in memory at R15.
func (v form) lastLanes(f *asmgen.File, free string) {
	if v.lanes == 16 {
		f.Op("", "MOVL", "$-1", free)
		f.Op("1<<last - 1", "BZHIL", "R15", free, "R15")
		f.Op("", "KMOVW", "R15", "K1")
		return
	}
	f.Op("", "NEGQ", "R15")
	f.Op("", "LEAQ", "lanes<>+64(SB)", free)
	f.Op("lanes[16-last:]", "LEAQ", "("+free+")(R15*4)", "R15")
}

// A tile writes the code for r rows and p panels.
type tile struct {
	*asmgen.File
	form
	r, p int
}

func (t tile) vectors() int { return t.p * 16 / t.lanes } // per row

func (t tile) register(i int) string { return fmt.Sprint(t.reg, i) }

// The registers, as the comment at the top of each file says.
func (t tile) sum(r, v int) int { return r*t.vectors() + v }

func (t tile) weight(v int) int {
	switch {
	case t.lanes == 16:
		return 24 + v
	case t.p == 2:
		return 8 + v
	}
	return 12 + v
}

func (t tile) spread(r int) int {
	switch {
	case t.lanes == 16:
		return 28 + r%2
	case len(t.parts) > 1:
		return 14 // the other one is scratch
	}
	return 14 + r%2
}

func (t tile) scratch() int { return 15 }

func (t tile) label(part string) string { return fmt.Sprintf("tile%dx%d%s", t.r, t.p, part) }

func (t tile) write() {
	t.Label(t.label(""))
	t.start()

	t.Label(t.label("_loop"))
	t.step()
	t.Op("", "DECQ", "R9")
	t.Op("", "JNZ", t.label("_loop"))

	t.store()
}

// start loads the sums from start, or clears them.
func (t tile) start() {
	t.Op("", "TESTQ", "R8", "R8")
	t.Op("", "JZ", t.label("_clear"))
	for r := range t.r {
		for v := range t.vectors() {
			t.move(fmt.Sprintf("sum[%d] = start", r), fmt.Sprintf("%d(R8)", v*t.lanes*4), v*t.lanes%16, t.isLast(v), t.sum(r, v))
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "R13", "R8")
		}
	}
	t.Op("", "JMP", t.label("_ready"))
	t.Label(t.label("_clear"))
	for r := range t.r {
		for v := range t.vectors() {
			sum := t.register(t.sum(r, v))
			t.Op("", "VXORPS", sum, sum, sum)
		}
	}
	t.Label(t.label("_ready"))
	t.Op("", "MOVQ", "DI", "R12")
	for r := range t.r {
		for p := range t.p {
			t.Op("dst, which may be in no cache", "PREFETCHT0", fmt.Sprintf("%d(R12)", 64*p))
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "SI", "R12")
		}
	}
	t.fetchColumns()
	if t.r > 6 {
		t.Op("", "LEAQ", "(R10)(BX*2)", "R15")
		t.Op("R15 = x + 6·ldx", "ADDQ", "BX", "R15")
	}
	t.Op("", "MOVQ", "tile_aheadStep(R14)", "R13")
	t.Op("", "MOVQ", "tile_aheadPanel(R14)", "R12")
	t.Op("", "MOVQ", "tile_ahead(R14)", "R14")
	if t.p > 3 {
		t.Op("", "LEAQ", "(R14)(R12*2)", "R8")
		t.Op("R8 = ahead + 3·aheadPanel", "ADDQ", "R12", "R8")
	}
}

// fetchColumns fetches what dequantize will take.
func (t tile) fetchColumns() {
	if t.tail == nil {
		return
	}
	for _, field := range []string{"wScale", "wSum", "bias"} {
		t.Op("", "MOVQ", "tile_"+field+"(R14)", "R12")
		for p := range t.p {
			t.Op(field, "PREFETCHT0", fmt.Sprintf("%d(R12)", 64*p))
		}
	}
}

// move loads the lanes of a panel from lane on; a cut panel has only its first columns.
func (t tile) move(note, mem string, lane int, cut bool, to int) {
	switch {
	case !cut:
		t.Op(note, "VMOVUPS", mem, t.register(to))
	case t.lanes == 16:
		t.Op(note, "VMOVUPS.Z", mem, "K1", t.register(to))
	default:
		t.Op("", "VMOVUPS", fmt.Sprintf("%d(R15)", 4*lane), t.register(15))
		t.Op(note, "VMASKMOVPS", mem, t.register(15), t.register(to))
	}
}

// put stores what move loads.
func (t tile) put(note string, from int, mem string, lane int, cut bool) {
	switch {
	case !cut:
		t.Op(note, "VMOVUPS", t.register(from), mem)
	case t.lanes == 16:
		t.Op(note, "VMOVUPS", t.register(from), "K1", mem)
	default:
		t.Op("", "VMOVUPS", fmt.Sprintf("%d(R15)", 4*lane), t.register(15))
		t.Op(note, "VMASKMOVPS", t.register(from), t.register(15), mem)
	}
}

// isLast says whether vector v of a row lies in the last panel.
func (t tile) isLast(v int) bool { return v*t.lanes/16 == t.p-1 }

// step adds the products of one step of k. Unrolling it gained nothing: the 24 multiply-adds of a large
// tile take 12 cycles, in which a processor issues more than the 45 instructions there are.
func (t tile) step() {
	for _, part := range t.parts {
		for v := range t.vectors() {
			panel := v * t.lanes / 16
			base := []string{"(CX)", "(CX)(DX*1)", "(CX)(DX*2)", "(R11)"}[panel]
			t.Op(fmt.Sprintf("w, panel %d", panel), "VMOVUPS", fmt.Sprint(v*t.lanes%16*4, base), t.register(t.weight(v)))
			t.widen(part.w, t.weight(v))
		}
		for r := range t.r {
			base := []string{"(AX)", "(AX)(BX*1)", "(AX)(BX*2)", "(R10)", "(R10)(BX*1)", "(R10)(BX*2)",
				"(R15)", "(R15)(BX*1)"}[r]
			t.Op(fmt.Sprintf("x[%d]", r), "VBROADCASTSS", base, t.register(t.spread(r)))
			t.widen(part.x, t.spread(r))
			for v := range t.vectors() {
				t.add(t, fmt.Sprintf("sum[%d] += x·w", r), t.weight(v), t.spread(r), t.sum(r, v))
			}
		}
	}
	for p := range t.p {
		line := []string{"(R14)", "(R14)(R12*1)", "(R14)(R12*2)", "(R8)"}[p]
		t.Op(fmt.Sprintf("ahead, panel %d", p), "PREFETCHT1", line)
	}
	t.Op("", "ADDQ", "R13", "R14")
	if t.p > 3 {
		t.Op("", "ADDQ", "R13", "R8")
	}
	t.Op("next step", "ADDQ", "$4", "AX")
	if t.r > 3 {
		t.Op("", "ADDQ", "$4", "R10")
	}
	if t.r > 6 {
		t.Op("", "ADDQ", "$4", "R15")
	}
	t.Op("", "ADDQ", "$64", "CX")
	if t.p > 3 {
		t.Op("", "ADDQ", "$64", "R11")
	}
}

func (t tile) widen(instructions []string, register int) {
	for _, i := range instructions {
		op, operand, _ := strings.Cut(i, " ")
		t.Op("widened", op, operand, t.register(register), t.register(register))
	}
}

// store writes the sums to dst, cutting the last panel.
func (t tile) store() {
	if t.lanes == 8 { // a masked store is slow on some processors
		t.Op("", "MOVQ", "t+0(FP)", "R14")
		t.Op("", "CMPQ", "tile_last(R14)", "$16")
		t.Op("", "JNE", t.label("_cut"))
		t.storeRows(false)
		t.Label(t.label("_cut"))
	}
	t.storeRows(true)
}

func (t tile) storeRows(cut bool) {
	for r := range t.r {
		for v := range t.vectors() {
			t.put("dst = sum", t.sum(r, v), fmt.Sprintf("%d(DI)", v*t.lanes*4), v*t.lanes%16, cut && t.isLast(v))
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "SI", "DI")
		}
	}
	t.Op("", "VZEROUPPER")
	t.Op("", "RET")
}

// dequantize writes the function that turns a tile's int32 sums into float32 outputs, in dst.
func (v form) dequantize(f *asmgen.File) {
	f.Note(`
	DI dst     SI ldd
	AX wScale  BX bias  CX wSum     R8 scale  R9 zero, of the row
	R10 full panels     R11 those left     R12 rows left     DX column·4
	R15 the lanes of the last panel, if it is cut, or K1`)
	f.Func("dequantize"+v.isa.name+"(t *tile)", 8)
	f.Op("", "MOVQ", "t+0(FP)", "R14")
	for _, field := range [][2]string{{"dst", "DI"}, {"ldd", "SI"}, {"wScale", "AX"}, {"bias", "BX"}, {"wSum", "CX"}, {"scale", "R8"},
		{"zero", "R9"}, {"panels", "R10"}, {"rows", "R12"}, {"last", "R15"}} {
		f.Op("", "MOVQ", "tile_"+field[0]+"(R14)", field[1])
	}
	f.Op("", "CMPQ", "R15", "$16")
	f.Op("", "JEQ", "row")
	f.Op("", "DECQ", "R10")
	v.lastLanes(f, "R11")
	t := tile{File: f, form: v, r: 1, p: 1}
	zero, scale, product, sum, bias := t.register(0), t.register(1), t.register(2), 3, 4
	panel := func(cut bool) {
		for lane := 0; lane < 16; lane += v.lanes {
			at := func(base string) string { return fmt.Sprintf("%d(%s)(DX*1)", 4*lane, base) }
			f.Op("zero·wSum", "VPMULLD", at("CX"), zero, product)
			t.move("", at("DI"), lane, cut, sum)
			f.Op("sum - zero·wSum", "VPSUBD", product, t.register(sum), t.register(sum))
			f.Op("", "VCVTDQ2PS", t.register(sum), t.register(sum))
			f.Op("scale·wScale", "VMULPS", at("AX"), scale, product)
			f.Op("", "VMULPS", product, t.register(sum), t.register(sum))
			t.move("", at("BX"), lane, cut, bias)
			f.Op("+ bias", "VADDPS", t.register(bias), t.register(sum), t.register(sum))
			t.put("", sum, at("DI"), lane, cut)
		}
		f.Op("", "ADDQ", "$64", "DX")
	}
	f.Label("row")
	f.Op("", "VPBROADCASTD", "(R9)", zero)
	f.Op("", "VBROADCASTSS", "(R8)", scale)
	f.Op("", "XORQ", "DX", "DX")
	f.Op("", "MOVQ", "R10", "R11")
	f.Op("", "TESTQ", "R11", "R11")
	f.Op("", "JZ", "cut")
	f.Label("panel")
	panel(false)
	f.Op("", "DECQ", "R11")
	f.Op("", "JNZ", "panel")
	f.Label("cut")
	f.Op("", "CMPQ", "R10", "tile_panels(R14)")
	f.Op("", "JEQ", "next")
	panel(true)
	f.Label("next")
	f.Op("", "ADDQ", "SI", "DI")
	f.Op("", "ADDQ", "$4", "R8")
	f.Op("", "ADDQ", "$4", "R9")
	f.Op("", "DECQ", "R12")
	f.Op("", "JNZ", "row")
	f.Op("", "VZEROUPPER")
	f.Op("", "RET")
}
