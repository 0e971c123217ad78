// Command gen writes the tiles of package dense: avx512.s and avx2.s.
package main

import (
	"fmt"

	"netfusion/kernels/internal/asmgen"
)

const registers = `
A tile is rows × panels·16 sums, all of them in registers while k runs: each step of k loads one row of b, and
one value of each row of a into every lane.

	DI dst      SI ldd·4
	AX a        BX lda·4      DX astep·4, the way to the next step
	R10 a + 3·lda             R15 a + 6·lda             R12 a + 9·lda
	CX b        R8 ldb·4
	R9 steps of k left
	R14 ahead   R13 aheadStep·4, fetched into L2 meanwhile
	At the start and the end: R11 bias, dst, gate or mask, R14 the tile
`

// An isa is a vector width and the shapes of tile that its registers hold.
type isa struct {
	name    string
	reg     string // register name prefix
	lanes   int
	rows    []int // [panels-1], the most rows of a tile with so many panels
	weights int   // first register of a step's row of b; the sums are below it
	spread  int   // first of two registers for a, broadcast
	about   string
}

var (
	avx512 = isa{
		name: "AVX512", reg: "Z", lanes: 16, rows: []int{12, 12, 8, 6}, weights: 24, spread: 28,
		about: "tileAVX512: up to 6 rows × 4 panels, 8 × 3, 12 × 2 or 12 × 1, 24 sums of 16 lanes.\n" + registers +
			"\tK1 the columns of the last panel, K2 where the gate is negative\n\n\tZ0-Z23 sums, Z24-Z27 b, Z28-Z29 a; at the end Z29 the gate, Z30 the slope, Z31 sum·slope",
	}
	avx2 = isa{
		name: "AVX2", reg: "Y", lanes: 8, rows: []int{6}, weights: 12, spread: 14,
		about: "tileAVX2: up to 6 rows × 1 panel, 12 sums of 8 lanes.\n" + registers +
			"\tR15 the lanes of the last panel\n\n\tY0-Y11 sums, Y12-Y13 b, Y14-Y15 a; at the end Y12 the slope, Y13 sum·slope, Y14 the gate",
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
		v.transpose(f)
		f.Write(path)
	}
}

// dispatch loads the fields of the tile and jumps to the code for its shape.
func (v isa) dispatch(f *asmgen.File) {
	f.Func("tile"+v.name+"(t *tile)", 8)
	f.Op("", "MOVQ", "t+0(FP)", "R14")
	for _, field := range [][2]string{{"dst", "DI"}, {"ldd", "SI"}, {"a", "AX"}, {"lda", "BX"}, {"astep", "DX"}, {"b", "CX"}, {"ldb", "R8"},
		{"k", "R9"}, {"last", "R15"}, {"panels", "R12"}, {"bias", "R11"}} {
		f.Op("", "MOVQ", "tile_"+field[0]+"(R14)", field[1])
	}
	for _, stride := range []string{"SI", "BX", "DX", "R8"} {
		f.Op("in bytes", "SHLQ", "$2", stride)
	}
	if v.lanes == 16 {
		f.Op("", "MOVL", "$-1", "R10")
		f.Op("1<<last - 1", "BZHIL", "R15", "R10", "R15")
		f.Op("", "KMOVW", "R15", "K1")
	} else {
		f.Op("", "NEGQ", "R15")
		f.Op("", "LEAQ", "lanes<>+64(SB)", "R10")
		f.Op("lanes[16-last:]", "LEAQ", "(R10)(R15*4)", "R15")
	}
	for p := len(v.rows); p > 0; p-- {
		f.Op("", "CMPQ", "R12", fmt.Sprintf("$%d", p))
		f.Op("", "JEQ", fmt.Sprintf("panels%d", p))
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

func (t tile) label(part string) string { return fmt.Sprintf("tile%dx%d%s", t.r, t.p, part) }

// bases are the registers that hold every third row of a; the rows between are reached by scaling lda.
var bases = []string{"AX", "R10", "R15", "R12"}

// row is the operand of row r of a.
func row(r int) string {
	return []string{"(AX)", "(AX)(BX*1)", "(AX)(BX*2)", "(R10)", "(AX)(BX*4)", "(R10)(BX*2)",
		"(R15)", "(R10)(BX*4)", "(AX)(BX*8)", "(R12)", "(R15)(BX*4)", "(R10)(BX*8)"}[r]
}

// used is how many of the bases a tile with t.r rows needs.
func (t tile) used() int { return min((t.r+2)/3, len(bases)) }

func (t tile) write() {
	t.Label(t.label(""))
	t.start()

	t.Label(t.label("_loop"))
	t.step()
	t.Op("", "DECQ", "R9")
	t.Op("", "JNZ", t.label("_loop"))

	t.finish()
}

// start loads the sums from bias or from dst, or clears them.
func (t tile) start() {
	for i := 1; i < t.used(); i++ {
		t.Op("", "LEAQ", fmt.Sprintf("(%s)(BX*2)", bases[i-1]), bases[i])
		t.Op(fmt.Sprintf("a + %d·lda", 3*i), "ADDQ", "BX", bases[i])
	}
	t.Op("", "TESTQ", "R11", "R11")
	t.Op("", "JZ", t.label("_unbiased"))
	for r := range t.r {
		for v := range t.vectors() {
			t.Op(fmt.Sprintf("sum[%d] = bias", r), "VBROADCASTSS", fmt.Sprintf("%d(R11)", 4*r), t.sum(r, v))
		}
	}
	t.Op("", "JMP", t.label("_ready"))
	t.Label(t.label("_unbiased"))
	t.Op("", "CMPQ", "tile_add(R14)", "$0")
	t.Op("", "JEQ", t.label("_clear"))
	t.Op("", "MOVQ", "DI", "R11")
	for r := range t.r {
		for v := range t.vectors() {
			t.loadSum(r, v)
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "SI", "R11")
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
	t.Op("", "MOVQ", "tile_aheadStep(R14)", "R13")
	t.Op("", "SHLQ", "$2", "R13")
	t.Op("", "MOVQ", "tile_ahead(R14)", "R14")
}

func (t tile) loadSum(r, v int) {
	note, mem := fmt.Sprintf("sum[%d] = dst", r), fmt.Sprintf("%d(R11)", v*t.lanes*4)
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

// step adds the products of one step of k.
func (t tile) step() {
	for v := range t.vectors() {
		t.Op("b", "VMOVUPS", fmt.Sprintf("%d(CX)", v*t.lanes*4), t.register(t.weights+v))
	}
	for r := range t.r {
		a := t.register(t.spread + r%2)
		t.Op(fmt.Sprintf("a[%d]", r), "VBROADCASTSS", row(r), a)
		for v := range t.vectors() {
			t.Op(fmt.Sprintf("sum[%d] += a·b", r), "VFMADD231PS", t.register(t.weights+v), a, t.sum(r, v))
		}
	}
	t.Op("ahead", "PREFETCHT1", "(R14)")
	t.Op("", "ADDQ", "R13", "R14")
	for _, base := range bases[:t.used()] {
		t.Op("next step", "ADDQ", "DX", base)
	}
	t.Op("", "ADDQ", "R8", "CX")
}

// finish applies LeakyReLU, or its slopes and a mask, where they are asked for, and stores the sums to dst, cutting the last panel.
func (t tile) finish() {
	slope, scaled, gate := t.register(30), t.register(31), t.register(29)
	if t.lanes == 8 {
		slope, scaled, gate = t.register(12), t.register(13), t.register(14)
	}
	t.Op("", "MOVQ", "t+0(FP)", "R14")
	t.Op("", "VBROADCASTSS", "tile_slope(R14)", slope)
	t.Op("", "MOVQ", "tile_gate(R14)", "R11")
	t.Op("", "TESTQ", "R11", "R11")
	t.Op("", "JZ", t.label("_ungated"))
	for r := range t.r {
		for v := range t.vectors() {
			mem := fmt.Sprintf("%d(R11)", v*t.lanes*4)
			if t.lanes == 16 {
				t.Op("", "VMOVUPS", mem, gate)
				t.Op("where gate is negative", "VPMOVD2M", gate, "K2")
				t.Op("sum·slope", "VMULPS", slope, t.sum(r, v), "K2", t.sum(r, v))
				continue
			}
			t.Op("", "VMOVUPS", mem, gate)
			t.Op("", "VMULPS", slope, t.sum(r, v), scaled)
			t.Op("sum·slope where gate is negative", "VBLENDVPS", gate, scaled, t.sum(r, v), t.sum(r, v))
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "SI", "R11")
		}
	}
	t.Label(t.label("_ungated"))
	t.Op("", "MOVQ", "tile_mask(R14)", "R11")
	t.Op("", "TESTQ", "R11", "R11")
	t.Op("", "JZ", t.label("_unmasked"))
	for r := range t.r {
		for v := range t.vectors() {
			t.Op("sum·mask", "VMULPS", fmt.Sprintf("%d(R11)", v*t.lanes*4), t.sum(r, v), t.sum(r, v))
		}
		if r < t.r-1 {
			t.Op("next row", "ADDQ", "SI", "R11")
		}
	}
	t.Label(t.label("_unmasked"))
	t.Op("", "CMPQ", "tile_leaky(R14)", "$0")
	t.Op("", "JEQ", t.label("_store"))
	for r := range t.r {
		for v := range t.vectors() {
			t.Op("", "VMULPS", slope, t.sum(r, v), scaled)
			t.Op("max(sum, slope·sum)", "VMAXPS", t.sum(r, v), scaled, t.sum(r, v))
		}
	}
	t.Label(t.label("_store"))
	if t.lanes == 8 { // a masked store is slow on some processors
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
