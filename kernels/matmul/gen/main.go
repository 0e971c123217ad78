// Command gen writes the tiles of package matmul: avx512.s and avx2.s.
package main

import (
	"fmt"

	"netfusion/kernels/internal/asmgen"
)

const registers = `
A tile is rows × panels·16 outputs, all of them in registers while k runs: each step of k loads each panel's
line once, and each row's x once, into every lane.

	DI dst     SI ldd·4
	AX x       BX ldx·4      R10 x + 3·ldx      rows 0-2 are at AX + {0,1,2}·BX, rows 3-5 at R10 + …,
	                         R15 x + 6·ldx      rows 6-7 at R15 + …
	CX w       DX panel·4    R11 w + 3·panel    panel q is at CX + q·DX
	R9 steps of k left
	R14 ahead  R13 step·4    R8 ahead + 3·panel, fetched into L2 meanwhile
	At the start and the end: R8 start, R13 lds·4, R14 the tile, R15 the lanes of the last panel
`

// An isa is a vector width and the shapes of tile that its registers hold.
type isa struct {
	name    string
	reg     string // register name prefix
	lanes   int
	rows    []int // [panels-1], the most rows of a tile with so many panels
	weights int   // first register of a step's weights; the accumulators are below it
	spread  int   // first of two registers for x, broadcast
	about   string
}

var (
	avx512 = isa{
		name: "AVX512", reg: "Z", lanes: 16, rows: []int{8, 8, 8, 6}, weights: 24, spread: 28,
		about: "tileAVX512: up to 6 rows × 4 panels or 8 × 3, 24 accumulators of 16 lanes.\n" + registers +
			"\tK1 the columns of the last panel\n\n\tZ0-Z23 sums, Z24-Z27 weights, Z28-Z29 x",
	}
	avx2 = isa{
		name: "AVX2", reg: "Y", lanes: 8, rows: []int{6, 2}, weights: 12, spread: 14,
		about: "tileAVX2: up to 6 rows × 1 panel, 12 accumulators of 8 lanes, or 2 rows × 2 panels.\n" + registers +
			"\n\tY0-Y11 sums, Y12-Y13 weights, Y14-Y15 x; with 2 panels Y0-Y7 sums, Y8-Y11 weights",
	}
)

func main() {
	for path, v := range map[string]isa{"avx512.s": avx512, "avx2.s": avx2} {
		f := asmgen.New(v.about)
		if v.lanes == 8 {
			var masks []asmgen.Word // 16 lanes on, 16 off: start at 16-last
			for i := range 32 {
				masks = append(masks, asmgen.Word{Name: fmt.Sprint("lane", i), Bits: uint32(int32(i-16) >> 31)})
			}
			f.Data("lanes", masks...)
		}
		v.dispatch(f)
		for p := range v.rows {
			for r := range v.rows[p] {
				tile{File: f, isa: v, r: r + 1, p: p + 1}.write()
			}
		}
		f.Write(path)
	}
}

// dispatch loads the fields of the tile and jumps to the code for its shape.
func (v isa) dispatch(f *asmgen.File) {
	f.Func("tile"+v.name+"(t *tile)", 8)
	f.Op("", "MOVQ", "t+0(FP)", "R14")
	for _, field := range [][2]string{{"dst", "DI"}, {"ldd", "SI"}, {"start", "R8"}, {"lds", "R13"}, {"x", "AX"}, {"ldx", "BX"},
		{"w", "CX"}, {"panel", "DX"}, {"k", "R9"}, {"last", "R15"}, {"panels", "R12"}} {
		f.Op("", "MOVQ", "tile_"+field[0]+"(R14)", field[1])
	}
	for _, stride := range []string{"SI", "R13", "BX", "DX"} {
		f.Op("in bytes", "SHLQ", "$2", stride)
	}
	f.Op("", "LEAQ", "(CX)(DX*2)", "R11")
	f.Op("R11 = w + 3·panel", "ADDQ", "DX", "R11")
	if v.lanes == 16 {
		f.Op("", "MOVL", "$-1", "R10")
		f.Op("1<<last - 1", "BZHIL", "R15", "R10", "R15")
		f.Op("", "KMOVW", "R15", "K1")
	} else {
		f.Op("", "NEGQ", "R15")
		f.Op("", "LEAQ", "lanes<>+64(SB)", "R10")
		f.Op("lanes[16-last:]", "LEAQ", "(R10)(R15*4)", "R15")
	}
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

// A tile writes the code for r rows and p panels.
type tile struct {
	*asmgen.File
	isa
	r, p int
}

func (t tile) vectors() int { return t.p * 16 / t.lanes } // per row

func (t tile) register(i int) string { return fmt.Sprint(t.reg, i) }
func (t tile) sum(r, v int) string   { return t.register(r*t.vectors() + v) }

func (t tile) weight(v int) string {
	first := t.weights
	if t.lanes == 8 && t.p == 2 {
		first = 8
	}
	return t.register(first + v)
}

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
			t.loadSum(r, v)
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "R13", "R8")
		}
	}
	t.Op("", "JMP", t.label("_ready"))
	t.Label(t.label("_clear"))
	for r := range t.r {
		for v := range t.vectors() {
			t.Op("", "VXORPS", t.sum(r, v), t.sum(r, v), t.sum(r, v))
		}
	}
	t.Label(t.label("_ready"))
	if t.r > 6 {
		t.Op("", "LEAQ", "(R10)(BX*2)", "R15")
		t.Op("R15 = x + 6·ldx", "ADDQ", "BX", "R15")
	}
	t.Op("", "MOVQ", "tile_step(R14)", "R13")
	t.Op("", "SHLQ", "$2", "R13")
	t.Op("", "MOVQ", "tile_ahead(R14)", "R14")
	if t.p > 3 {
		t.Op("", "LEAQ", "(R14)(DX*2)", "R8")
		t.Op("R8 = ahead + 3·panel", "ADDQ", "DX", "R8")
	}
}

func (t tile) loadSum(r, v int) {
	note, mem := fmt.Sprintf("sum[%d] = start", r), fmt.Sprintf("%d(R8)", v*t.lanes*4)
	switch {
	case !t.isLast(v):
		t.Op(note, "VMOVUPS", mem, t.sum(r, v))
	case t.lanes == 16:
		t.Op(note, "VMOVUPS.Z", mem, "K1", t.sum(r, v))
	default:
		t.Op("", "VMOVUPS", t.mask(v), t.register(15))
		t.Op(note, "VMASKMOVPS", mem, t.register(15), t.sum(r, v))
	}
}

// isLast says whether vector v of a row lies in the last panel.
func (t tile) isLast(v int) bool { return v*t.lanes/16 == t.p-1 }

// mask is where the lanes of vector v, in the last panel, are selected.
func (t tile) mask(v int) string { return fmt.Sprintf("%d(R15)", v*t.lanes%16*4) }

// step adds the products of one step of k. Unrolling it gained nothing: the 24 multiply-adds of a large
// tile take 12 cycles, in which a processor issues more than the 45 instructions there are.
func (t tile) step() {
	for v := range t.vectors() {
		panel := v * t.lanes / 16
		base := []string{"(CX)", "(CX)(DX*1)", "(CX)(DX*2)", "(R11)"}[panel]
		t.Op(fmt.Sprintf("w, panel %d", panel), "VMOVUPS", fmt.Sprint(v*t.lanes%16*4, base), t.weight(v))
	}
	for r := range t.r {
		base := []string{"(AX)", "(AX)(BX*1)", "(AX)(BX*2)", "(R10)", "(R10)(BX*1)", "(R10)(BX*2)",
			"(R15)", "(R15)(BX*1)"}[r]
		x := t.register(t.spread + r%2)
		t.Op(fmt.Sprintf("x[%d]", r), "VBROADCASTSS", base, x)
		for v := range t.vectors() {
			t.Op(fmt.Sprintf("sum[%d] += x·w", r), "VFMADD231PS", t.weight(v), x, t.sum(r, v))
		}
	}
	for p := range t.p {
		line := []string{"(R14)", "(R14)(DX*1)", "(R14)(DX*2)", "(R8)"}[p]
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
			mem := fmt.Sprintf("%d(DI)", v*t.lanes*4)
			switch {
			case !cut || !t.isLast(v):
				t.Op("dst = sum", "VMOVUPS", t.sum(r, v), mem)
			case t.lanes == 16:
				t.Op("dst = sum", "VMOVUPS", t.sum(r, v), "K1", mem)
			default:
				t.Op("", "VMOVUPS", t.mask(v), t.register(15))
				t.Op("dst = sum", "VMASKMOVPS", t.sum(r, v), t.register(15), mem)
			}
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "SI", "DI")
		}
	}
	t.Op("", "VZEROUPPER")
	t.Op("", "RET")
}
