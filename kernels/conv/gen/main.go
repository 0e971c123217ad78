// Command gen writes the vector forms of package conv: avx512.s and avx2.s.
package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"netfusion/kernels/internal/asmgen"
)

const registers = `
A transform of a tile takes one vector of channels at a time: first the columns of its matrix, into tmp, then the rows
of that. The lines of a transform, with constants in capitals, are in gen.

	R14 the tile   BX channel·4   CX (cols - lanes)·4   R13 tmp, aligned
	SI, R8-R11     1, 3, 5, 7 and 9 strides between points (input) or between rows of points (output)
	R12            a row of points (input)   DX the row or column
	AX             a pixel of the first tile of a run; R15 (input) or R12 (output) is BX and how far the tile is from that
`

// The points of interpolation are 0, ±A, ±B and infinity; AA is A², and so on.
var constants = map[string]float64{
	"A": .75, "B": 1.5, "AA": .5625, "BB": 2.25, "AAA": .421875, "BBB": 3.375, "AABB": 1.265625, "AAplusBB": 2.8125,
}

// The transforms along one axis, of d0, d1, … to p0, p1, … and of m0, m1, … to y0, y1, …
type scheme struct {
	name            string
	in, points, out int
	b, a            string
}

var schemes = []scheme{
	{"F2", 4, 4, 2, `
		p0 = d2 - d0
		p1 = d1 + d2
		p2 = d2 - d1
		p3 = d3 - d1
	`, `
		s = m1 + m2
		y0 = m0 + s
		t = m1 - m2
		y1 = t + m3
	`},
	{"F4", 6, 6, 4, `
		p0 = d4 - AAplusBB d2 + AABB d0
		p5 = d5 - AAplusBB d3 + AABB d1
		e = d4 - BB d2
		o = d3 - BB d1
		p1 = e + A o
		p2 = e - A o
		e = d4 - AA d2
		o = d3 - AA d1
		p3 = e + B o
		p4 = e - B o
	`, `
		s = m1 + m2
		t = m3 + m4
		y0 = m0 + s + t
		y2 = AA s + BB t
		s = m1 - m2
		t = m3 - m4
		y1 = A s + B t
		y3 = m5 + AAA s + BBB t
	`},
	{"UpF2", 3, 3, 2, `
		p0 = d0 - d1
		p1 = d1
		p2 = d2 - d1
	`, `
		y0 = m0 + m1
		y1 = m1 + m2
	`},
	{"UpF4", 6, 10, 8, `
		f0 = d1 - B d0
		f1 = d2 - B d1
		f2 = d3 - B d2
		f3 = d4 - B d3
		f4 = d5 - B d4
		p0 = f2 - AA f0
		p1 = f2 + A f1
		p2 = f2 - A f1
		p3 = d3 - AA d1
		p4 = f3 - AA f1
		p5 = f3 - AA f1
		p6 = f3 + A f2
		p7 = f3 - A f2
		p8 = d4 - AA d2
		p9 = f4 - AA f2
	`, `
		s = m1 + m2
		y0 = m0 + s + m3
		y4 = AA s + BB m3
		s = m1 - m2
		y2 = A s + B m3
		y6 = m4 + AAA s + BBB m3
		s = m6 + m7
		y1 = m5 + s + m8
		y5 = AA s + BB m8
		s = m6 - m7
		y3 = A s + B m8
		y7 = m9 + AAA s + BBB m8
	`},
}

// A vector writes code for one register width.
type vector struct {
	*asmgen.File
	name  string
	reg   string
	lanes int
	free  int // registers for a transform; those behind are for what the output is multiplied by, added to and clipped at
	data  map[string]string
}

func main() {
	for path, v := range map[string]vector{
		"avx512.s": {name: "AVX512", reg: "Z", lanes: 16, free: 29},
		"avx2.s":   {name: "AVX2", reg: "Y", lanes: 8, free: 15},
	} {
		v.File = asmgen.New(registers)
		v.constants()
		for _, s := range schemes {
			v.input(s)
			v.output(s)
		}
		v.maxPool()
		v.Write(path)
	}
}

// constants writes each constant once for AVX-512, which can broadcast it, and once per lane for AVX2.
func (v *vector) constants() {
	var words []asmgen.Word
	for _, name := range slices.Sorted(maps.Keys(constants)) {
		words = append(words, asmgen.Float(name, constants[name]))
		for lane := 1; v.lanes == 8 && lane < v.lanes; lane++ {
			words = append(words, asmgen.Float(fmt.Sprint(name, " in lane ", lane), constants[name]))
		}
	}
	v.data = v.Data("const", words...)
}

func (v vector) r(i int) string { return fmt.Sprint(v.reg, i) }

// bytes is the length of a vector.
func (v vector) bytes() int { return 4 * v.lanes }

func (v vector) input(s scheme) {
	label := "input" + s.name
	v.Func(fmt.Sprintf("input%s%s(t *inputTile)", s.name, v.name), 8)
	v.begin("inputTile", s.points)
	v.Op("", "MOVQ", "inputTile_dst(R14)", "DI")
	v.Label(label + "_loop")
	v.Op("", "MOVQ", "inputTile_shift(R14)", "R15")
	v.Op("", "ADDQ", "BX", "R15")
	for j := range s.in {
		v.transform(s.b, "d", "p", s.in, func(i int, r string) {
			v.Op("", "MOVQ", fmt.Sprintf("inputTile_src+%d(R14)", 8*(i*s.in+j)), "AX")
			v.Op(fmt.Sprintf("d%d, column %d", i, j), "VMOVUPS", "(AX)(R15*1)", r)
		}, func(p int, r string) {
			v.Op(fmt.Sprintf("p%d", p), "VMOVAPS", r, v.tmp(p*s.in+j))
		})
	}
	v.Op("", "LEAQ", "(DI)(BX*1)", "DX")
	for p := range s.points {
		v.transform(s.b, "d", "p", s.in, func(j int, r string) {
			v.Op(fmt.Sprintf("d%d, row %d", j, p), "VMOVAPS", v.tmp(p*s.in+j), r)
		}, func(q int, r string) {
			v.Op(fmt.Sprintf("p%d", q), "VMOVUPS", r, multiple("DX", q))
		})
		if p < s.points-1 {
			v.Op("next row", "ADDQ", "R12", "DX")
		}
	}
	v.end(label)
}

func (v vector) output(s scheme) {
	label := "output" + s.name
	v.Func(fmt.Sprintf("output%s%s(t *outputTile)", s.name, v.name), 8)
	v.begin("outputTile", s.points)
	v.Op("", "MOVQ", "outputTile_scale(R14)", "DI")
	v.Op("", "MOVQ", "outputTile_offset(R14)", "R15")
	if v.lanes == 16 {
		v.Op("", "VBROADCASTSS", "outputTile_low(R14)", v.r(31))
	}
	v.Label(label + "_loop")
	v.Op("", "MOVQ", "outputTile_src(R14)", "DX")
	v.Op("", "ADDQ", "BX", "DX")
	for q := range s.points {
		v.transform(s.a, "m", "y", s.points, func(p int, r string) {
			v.Op(fmt.Sprintf("m%d, column %d", p, q), "VMOVUPS", multiple("DX", p), r)
		}, func(o int, r string) {
			v.Op(fmt.Sprintf("y%d", o), "VMOVAPS", r, v.tmp(o*s.points+q))
		})
		if q < s.points-1 {
			v.Op("next column", "ADDQ", "outputTile_ld(R14)", "DX")
		}
	}
	if v.lanes == 16 {
		v.Op("scale", "VMOVUPS", "(DI)(BX*1)", v.r(29))
		v.Op("offset", "VMOVUPS", "(R15)(BX*1)", v.r(30))
	}
	v.Op("", "MOVQ", "outputTile_shift(R14)", "R12")
	v.Op("", "ADDQ", "BX", "R12")
	for o := range s.out {
		v.transform(s.a, "m", "y", s.points, func(q int, r string) {
			v.Op(fmt.Sprintf("m%d, row %d", q, o), "VMOVAPS", v.tmp(o*s.points+q), r)
		}, func(j int, r string) {
			v.finish(r)
			v.Op("", "MOVQ", fmt.Sprintf("outputTile_dst+%d(R14)", 8*(o*s.out+j)), "AX")
			v.Op(fmt.Sprintf("y%d", j), "VMOVUPS", r, "(AX)(R12*1)")
		})
	}
	v.end(label)
}

// maxPool writes the largest of four pixels; a NaN is kept.
func (v vector) maxPool() {
	v.Func("maxPool"+v.name+"(dst, x *float32, right, down, cols int)", 40)
	v.Op("", "MOVQ", "dst+0(FP)", "DI")
	v.Op("", "MOVQ", "x+8(FP)", "SI")
	v.Op("", "MOVQ", "right+16(FP)", "R8")
	v.Op("", "MOVQ", "down+24(FP)", "R9")
	v.Op("", "MOVQ", "cols+32(FP)", "CX")
	for _, r := range []string{"R8", "R9", "CX"} {
		v.Op("in bytes", "SHLQ", "$2", r)
	}
	v.Op("the pixel to the right", "ADDQ", "SI", "R8")
	v.Op("below", "LEAQ", "(SI)(R9*1)", "R10")
	v.Op("and both", "ADDQ", "R8", "R9")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.bytes()), "CX")
	v.Op("", "XORL", "BX", "BX")
	v.Label("maxPool_loop")
	v.Op("", "VMOVUPS", "(SI)(BX*1)", v.r(0))
	for _, pixel := range []string{"R8", "R10", "R9"} {
		v.Op("", "VMOVUPS", "("+pixel+")(BX*1)", v.r(1))
		v.Op("the second if one is NaN", "VMAXPS", v.r(1), v.r(0), v.r(2))
		if v.lanes == 16 {
			v.Op("where the first is NaN", "VCMPPS", "$3", v.r(0), v.r(0), "K1")
			v.Op("", "VMOVAPS", v.r(0), "K1", v.r(2))
		} else {
			v.Op("where the first is NaN", "VCMPPS", "$3", v.r(0), v.r(0), v.r(3))
			v.Op("", "VBLENDVPS", v.r(3), v.r(0), v.r(2), v.r(2))
		}
		v.Op("", "VMOVAPS", v.r(2), v.r(0))
	}
	v.Op("", "VMOVUPS", v.r(0), "(DI)(BX*1)")
	v.end("maxPool")
}

// finish computes max(low, scale·r + offset); a NaN passes, since it is the operand that VMAXPS returns.
func (v vector) finish(r string) {
	if v.lanes == 16 {
		v.Op("scale·y + offset", "VFMADD213PS", v.r(30), v.r(29), r)
		v.Op("", "VMAXPS", r, v.r(31), r)
		return
	}
	v.Op("", "VMOVUPS", "(DI)(BX*1)", v.r(15))
	v.Op("scale·y + offset", "VFMADD213PS", "(R15)(BX*1)", v.r(15), r)
	v.Op("", "VBROADCASTSS", "outputTile_low(R14)", v.r(15))
	v.Op("", "VMAXPS", r, v.r(15), r)
}

func (v vector) tmp(i int) string { return fmt.Sprintf("%d(R13)", i*v.bytes()) }

// begin loads what both kinds of tile have: ld counts bytes.
func (v vector) begin(tile string, points int) {
	v.Op("", "MOVQ", "t+0(FP)", "R14")
	v.Op("", "MOVQ", tile+"_tmp(R14)", "R13")
	v.Op("", "ADDQ", "$63", "R13")
	v.Op("", "ANDQ", "$-64", "R13")
	v.Op("", "MOVQ", tile+"_ld(R14)", "SI")
	v.Op("", "IMUL3Q", fmt.Sprintf("$%d", points), "SI", "R12")
	if tile == "outputTile" {
		v.Op("", "MOVQ", "R12", "SI")
	}
	v.Op("", "LEAQ", "(SI)(SI*2)", "R8")
	v.Op("", "LEAQ", "(SI)(SI*4)", "R9")
	v.Op("", "LEAQ", "(R8)(SI*4)", "R10")
	v.Op("", "LEAQ", "(SI)(SI*8)", "R11")
	v.Op("", "MOVQ", tile+"_cols(R14)", "CX")
	v.Op("", "SHLQ", "$2", "CX")
	v.Op("", "SUBQ", fmt.Sprintf("$%d", v.bytes()), "CX")
	v.Op("", "XORL", "BX", "BX")
}

// multiple is the address i strides behind base.
func multiple(base string, i int) string {
	return "(" + base + ")" + []string{"", "(SI*1)", "(SI*2)", "(R8*1)", "(SI*4)", "(R9*1)", "(R8*2)", "(R10*1)", "(SI*8)", "(R11*1)"}[i]
}

// end goes on with the next channels. The last vector ends with the last channel, and may overlap the one before.
func (v vector) end(label string) {
	v.Op("", "CMPQ", "BX", "CX")
	v.Op("", "JEQ", label+"_end")
	v.Op("", "ADDQ", fmt.Sprintf("$%d", v.bytes()), "BX")
	v.Op("", "CMPQ", "BX", "CX")
	v.Op("", "JLE", label+"_loop")
	v.Op("the last channels", "MOVQ", "CX", "BX")
	v.Op("", "JMP", label+"_loop")
	v.Label(label + "_end")
	v.Op("", "VZEROUPPER")
	v.Op("", "RET")
}

// transform writes a program, whose lines are
//
//	x = [C] a ± [C] b ± …
//
// with load for each of its n inputs and store for each output, as soon as it is known. A register is free again after the
// last line that reads it.
func (v vector) transform(program, input, output string, n int, load, store func(i int, r string)) {
	var lines [][]string
	for line := range strings.Lines(strings.TrimSpace(program)) {
		lines = append(lines, strings.Fields(line))
	}
	where := map[string]int{}
	used := make([]bool, v.free)
	take := func(name string) string {
		r := slices.Index(used, false)
		if r < 0 {
			panic("too few registers for " + name)
		}
		used[r], where[name] = true, r
		return v.r(r)
	}
	drop := func(name string) { used[where[name]] = false }
	for i := range n {
		load(i, take(fmt.Sprint(input, i)))
	}
	for at, line := range lines {
		target, first, rest := line[0], line[2:], []string(nil)
		if at := slices.IndexFunc(first, func(s string) bool { return s == "+" || s == "-" }); at >= 0 {
			first, rest = first[:at], first[at:]
		}
		reads := map[string]bool{}
		for _, f := range line[2:] {
			if _, ok := where[f]; ok {
				reads[f] = true
			}
		}
		x := func(name string) string { return v.r(where[name]) }
		var r string
		switch {
		case len(first) == 2:
			r = take(target)
			v.with("", "VMULPS", first[0], x(first[1]), r)
		case len(rest) == 2 || isPlain(rest):
			r = take(target)
			v.Op(strings.Join(line, " "), map[string]string{"+": "VADDPS", "-": "VSUBPS"}[rest[0]], x(rest[1]), x(first[0]), r)
			rest = rest[2:]
		default:
			r = take(target)
			v.Op("", "VMOVAPS", x(first[0]), r)
		}
		for len(rest) > 0 {
			op, term := rest[0], rest[1:]
			if k := slices.IndexFunc(term, func(s string) bool { return s == "+" || s == "-" }); k >= 0 {
				term = term[:k]
			}
			rest = rest[1+len(term):]
			switch {
			case len(term) == 2 && op == "+":
				v.with(strings.Join(line, " "), "VFMADD231PS", term[0], x(term[1]), r)
			case len(term) == 2:
				v.with(strings.Join(line, " "), "VFNMADD231PS", term[0], x(term[1]), r)
			case op == "+":
				v.Op(strings.Join(line, " "), "VADDPS", x(term[0]), r, r)
			default:
				v.Op(strings.Join(line, " "), "VSUBPS", x(term[0]), r, r)
			}
		}
		if i, ok := strings.CutPrefix(target, output); ok {
			var k int
			fmt.Sscan(i, &k)
			store(k, r)
			drop(target)
		}
		for name := range reads {
			if name != target && !readLater(lines[at+1:], name) {
				drop(name)
			}
		}
	}
}

// isPlain tells whether the first of the terms, with its sign, has no constant.
func isPlain(terms []string) bool {
	return len(terms) > 2 && (terms[2] == "+" || terms[2] == "-")
}

func readLater(lines [][]string, name string) bool {
	for _, l := range lines {
		if slices.Contains(l[2:], name) {
			return true
		}
		if l[0] == name {
			return false
		}
	}
	return false
}

// with writes an instruction whose first operand is a constant.
func (v vector) with(note, op, constant string, regs ...string) {
	if v.lanes == 16 {
		op += ".BCST"
	}
	v.Op(note, op, append([]string{v.data[constant]}, regs...)...)
}
