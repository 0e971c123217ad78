package ptx

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// Fragments of matrices, as the PTX ISA's chapter on mma gives them: lane l belongs to group g = l/4 and is thread
// t = l%4 of it.

// decodeLoadMatrix is ldmatrix.sync.aligned.m8n8.x{1,2,4}[.trans].shared.b16 {d…}, [a]: lanes 8i..8i+7 have the addresses
// of the rows of matrix i, 16 bytes each.
func decodeLoadMatrix(d *decoder) error {
	a := &access{space: generic, bytes: 16}
	count, trans := 0, false
	for _, m := range d.st.mods {
		switch m {
		case "sync", "aligned", "m8n8", "b16":
		case "x1", "x2", "x4":
			count = int(m[1] - '0')
		case "trans":
			trans = true
		case "shared", "shared::cta":
			a.space = shared
		default:
			return d.fail("not known to this interpreter")
		}
	}
	if len(d.st.args) != 2 || count == 0 {
		return d.fail("not known to this interpreter")
	}
	in := inst{class: maskedClass, access: a, masked: func(w *warp, in *inst, m uint32) { w.loadMatrix(in, m, trans) }}
	if err := d.address(&in, d.st.args[1]); err != nil {
		return err
	}
	list := d.st.args[0].list
	if d.st.args[0].form == nameForm {
		list = d.st.args[:1]
	}
	if len(list) != count {
		return d.fail("%d registers for %d matrices", len(list), count)
	}
	for _, o := range list {
		s, err := d.target(o, words)
		if err != nil {
			return err
		}
		a.regs = append(a.regs, s)
	}
	return d.emit(in)
}

func (w *warp) whole(m uint32) {
	if m != w.alive || m != allLanes {
		w.fault(first(m), Divergent, "an instruction of the whole warp is run by lanes %#x", m)
	}
}

func (w *warp) loadMatrix(in *inst, m uint32, trans bool) {
	w.whole(m)
	a := in.access
	w.addresses(in)
	var rows [warpSize][]byte
	for lanes := uint32(1<<(8*len(a.regs)) - 1); lanes != 0; {
		r, got := w.window(a.space, lanes, 16)
		lanes &^= got
		w.count(r, got, 16)
		if r.cells != nil {
			w.checkRead(r, got, 16, weak) // as if each lane read the row that it has the address of
		}
		for mm := got; mm != 0; mm &= mm - 1 {
			l := first(mm)
			rows[l] = r.data[w.off[l] : w.off[l]+16]
		}
	}
	for i, reg := range a.regs {
		z, rows := &w.words[reg.index], rows[8*i:8*i+8]
		for l := range z {
			g, t := l/4, l%4
			if trans {
				z[l] = uint32(binary.LittleEndian.Uint16(rows[2*t][2*g:])) | uint32(binary.LittleEndian.Uint16(rows[2*t+1][2*g:]))<<16
			} else {
				z[l] = binary.LittleEndian.Uint32(rows[g][4*t:])
			}
		}
	}
}

// product is the shape and the types of an mma.
type product struct {
	m, n, k int
	a, b    string // types
	sums    string
	relu    bool
	regs    [4][]int32 // of d, a, b, c
}

// shapes lists the products that there are: k by the type of a, for 16 x 8 results.
var shapes = map[string][]int{"f16": {8, 16}, "bf16": {8, 16}, "tf32": {4, 8}, "s8": {16, 32}, "u8": {16, 32}}

// decodeMatrix is mma.sync.aligned.m16n8kK.row.col.d.a.b.c.
func decodeMatrix(d *decoder) error {
	mods := slices.DeleteFunc(slices.Clone(d.st.mods), func(m string) bool { return m == "satfinite" })
	if len(mods) != 9 || mods[0] != "sync" || mods[1] != "aligned" || mods[3] != "row" || mods[4] != "col" || len(d.st.args) != 4 {
		return d.fail("not known to this interpreter")
	}
	p := &product{m: 16, n: 8, sums: mods[5], a: mods[6], b: mods[7]}
	for _, k := range shapes[p.a] {
		if mods[2] == "m16n8k"+map[int]string{4: "4", 8: "8", 16: "16", 32: "32"}[k] {
			p.k = k
		}
	}
	integer := strings.HasSuffix(p.a, "8")
	switch {
	case p.k == 0, mods[8] != p.sums, !integer && p.a != p.b, integer && !strings.HasSuffix(p.b, "8"),
		integer != (p.sums == "s32"), p.sums == "f16" && p.a != "f16", p.sums != "s32" && p.sums != "f32" && p.sums != "f16":
		return d.fail("not known to this interpreter")
	case integer && len(mods) != len(d.st.mods):
		return d.fail("not known to this interpreter") // .satfinite of integers
	}
	bytes := typeBytes(p.a)
	counts := [4]int{4, 16 * p.k * bytes / 128, 8 * p.k * bytes / 128, 4}
	if p.sums == "f16" {
		counts[0], counts[3] = 2, 2
	}
	for i, o := range d.st.args {
		if o.form != listForm || len(o.list) != counts[i] {
			return d.fail("operand %d has not %d registers", i, counts[i])
		}
		for _, e := range o.list {
			var s slot
			var err error
			if i == 0 {
				s, err = d.target(e, words)
			} else {
				s, err = d.value(e, words, map[bool]string{true: "f32", false: "b32"}[p.sums == "f32" && i == 3])
			}
			if err != nil {
				return err
			}
			p.regs[i] = append(p.regs[i], s.index)
		}
	}
	run := p.floats
	if integer {
		run = p.integers
	}
	return d.emit(inst{class: maskedClass, masked: func(w *warp, _ *inst, m uint32) {
		w.whole(m)
		run(w)
	}})
}

// position is where the first element of register r of a fragment of the matrix a (16 x k) lies, for lane l; per is how many
// elements a register holds.
func position(r, l, per int) (row, col int) { return l/4 + 8*(r&1), per * (l%4 + 4*(r>>1)) }

// floats computes d = a·b + c with exact products that are summed in float64 and rounded once.
func (p *product) floats(w *warp) {
	var a [16][16]float64
	var b [8][16]float64 // transposed: [n][k]
	if p.a == "tf32" {
		gatherTensor(w, p, &a, &b)
	} else {
		gatherHalves(w, p, &a, &b)
	}
	var sums [16][8]float64
	for i := range sums {
		x := &a[i]
		for j := range b {
			y := &b[j]
			var s0, s1, s2, s3 float64 // four chains, for speed
			for k := 0; k < 16; k += 4 {
				s0 += float64(x[k] * y[k])
				s1 += float64(x[k+1] * y[k+1])
				s2 += float64(x[k+2] * y[k+2])
				s3 += float64(x[k+3] * y[k+3])
			}
			sums[i][j] = s0 + s1 + (s2 + s3)
		}
	}
	if p.sums == "f32" {
		for i := range 4 {
			z, c := reg[float32](w, p.regs[0][i]), reg[float32](w, p.regs[3][i])
			for l := range z {
				z[l] = float32(float64(c[l]) + sums[l/4+8*(i>>1)][2*(l%4)+i&1])
			}
		}
		return
	}
	for i := range 2 {
		z, c := &w.words[p.regs[0][i]], &w.words[p.regs[3][i]]
		for l := range z {
			row, col := l/4+8*i, 2*(l%4)
			low := half.round(float64(halfValue(uint16(c[l])))+sums[row][col], nearestEven)
			high := half.round(float64(halfValue(uint16(c[l]>>16)))+sums[row][col+1], nearestEven)
			z[l] = uint32(low | high<<16)
		}
	}
}

func gatherHalves(w *warp, p *product, a *[16][16]float64, b *[8][16]float64) {
	bf16 := p.a == "bf16"
	widen := func(v uint32) float64 {
		if bf16 {
			return float64(math.Float32frombits(v << 16))
		}
		return float64(halfValue(uint16(v)))
	}
	for r, x := range p.regs[1] {
		v := &w.words[x]
		for l := range v {
			row, col := position(r, l, 2)
			a[row][col], a[row][col+1] = widen(v[l]), widen(v[l]>>16)
		}
	}
	for r, x := range p.regs[2] {
		v := &w.words[x]
		for l := range v {
			col := l%4*2 + 8*r
			b[l/4][col], b[l/4][col+1] = widen(v[l]), widen(v[l]>>16)
		}
	}
}

func gatherTensor(w *warp, p *product, a *[16][16]float64, b *[8][16]float64) {
	widen := func(v uint32) float64 { return float64(math.Float32frombits(v &^ 0x1fff)) } // a device ignores the low bits
	for r, x := range p.regs[1] {
		v := &w.words[x]
		for l := range v {
			row, col := position(r, l, 1)
			a[row][col] = widen(v[l])
		}
	}
	for r, x := range p.regs[2] {
		v := &w.words[x]
		for l := range v {
			b[l/4][l%4+4*r] = widen(v[l])
		}
	}
}

// integers computes d = a·b + c exactly, modulo 2³².
func (p *product) integers(w *warp) {
	var a [16][32]int32
	var b [8][32]int32
	widen := func(signed bool, v uint32) int32 {
		if signed {
			return int32(int8(v))
		}
		return int32(v & 0xff)
	}
	signedA, signedB := p.a == "s8", p.b == "s8"
	for r, x := range p.regs[1] {
		v := &w.words[x]
		for l := range v {
			row, col := position(r, l, 4)
			for i := range 4 {
				a[row][col+i] = widen(signedA, v[l]>>(8*i))
			}
		}
	}
	for r, x := range p.regs[2] {
		v := &w.words[x]
		for l := range v {
			for i := range 4 {
				b[l/4][l%4*4+16*r+i] = widen(signedB, v[l]>>(8*i))
			}
		}
	}
	var sums [16][8]int32
	for i := range sums {
		x := &a[i]
		for j := range b {
			y := &b[j]
			var s0, s1, s2, s3 int32
			for k := 0; k < 32; k += 4 {
				s0 += x[k] * y[k]
				s1 += x[k+1] * y[k+1]
				s2 += x[k+2] * y[k+2]
				s3 += x[k+3] * y[k+3]
			}
			sums[i][j] = s0 + s1 + s2 + s3
		}
	}
	for i := range 4 {
		z, c := reg[int32](w, p.regs[0][i]), reg[int32](w, p.regs[3][i])
		for l := range z {
			z[l] = c[l] + sums[l/4+8*(i>>1)][2*(l%4)+i&1]
		}
	}
}
