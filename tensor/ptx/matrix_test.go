package ptx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"netfusion/tensor"
)

// TestMatrixProducts distributes random matrices over a warp's registers by the formulas of the PTX ISA (the chapters
// "Matrix Fragments for mma.m16n8k…"), and compares with sums in float64.
func TestMatrixProducts(t *testing.T) {
	type spec struct {
		k          int
		d, a, b    string
		bits       int                          // of an element
		ra, rb, rd int                          // registers
		encode     func(x int, t string) uint32 // of a small integer
	}
	float := func(f format) func(x int, _ string) uint32 {
		return func(x int, _ string) uint32 { return uint32(f.round(float64(x)/8, nearestEven)) }
	}
	byteOf := func(x int, t string) uint32 { return uint32(uint8(x)) }
	for _, x := range []spec{
		{16, "f32", "bf16", "bf16", 16, 4, 2, 4, float(bfloat)},
		{8, "f32", "bf16", "bf16", 16, 2, 1, 4, float(bfloat)},
		{16, "f32", "f16", "f16", 16, 4, 2, 4, float(half)},
		{8, "f32", "f16", "f16", 16, 2, 1, 4, float(half)},
		{16, "f16", "f16", "f16", 16, 4, 2, 2, float(half)},
		{8, "f32", "tf32", "tf32", 32, 4, 2, 4, float(tfloat32)},
		{4, "f32", "tf32", "tf32", 32, 2, 1, 4, float(tfloat32)},
		{32, "s32", "s8", "s8", 8, 4, 2, 4, byteOf},
		{32, "s32", "u8", "s8", 8, 4, 2, 4, byteOf},
		{32, "s32", "u8", "u8", 8, 4, 2, 4, byteOf},
		{16, "s32", "s8", "u8", 8, 2, 1, 4, byteOf},
	} {
		name := fmt.Sprintf("mma.sync.aligned.m16n8k%d.row.col.%s.%s.%s.%s", x.k, x.d, x.a, x.b, x.d)
		rng := rand.New(rand.NewPCG(5, uint64(x.k)))
		draw := func(t string) int {
			switch t {
			case "s8":
				return rng.IntN(256) - 128
			case "u8":
				return rng.IntN(256)
			}
			return rng.IntN(31) - 15
		}
		a, b, c := make([]int, 16*x.k), make([]int, x.k*8), make([]int, 16*8)
		for i := range a {
			a[i] = draw(x.a)
		}
		for i := range b {
			b[i] = draw(x.b)
		}
		for i := range c {
			c[i] = rng.IntN(100) - 50
		}
		per := 32 / x.bits
		// The ISA's rows and columns of element i, for group g and thread h of it.
		rowA := func(i, g int) int {
			if i/per%2 == 0 {
				return g
			}
			return g + 8
		}
		colA := func(i, h int) int { return h*per + i%per + 4*per*(i/(2*per)) }
		rowB := func(i, h int) int { return h*per + i%per + 4*per*(i/per) }
		var in []uint32 // [lane][registers of a, b, c]
		for lane := range 32 {
			g, h := lane/4, lane%4
			regs := make([]uint32, x.ra+x.rb+x.rd)
			for i := range x.ra * per {
				regs[i/per] |= x.encode(a[rowA(i, g)*x.k+colA(i, h)], x.a) << (i % per * x.bits)
			}
			for i := range x.rb * per {
				regs[x.ra+i/per] |= x.encode(b[rowB(i, h)*8+g], x.b) << (i % per * x.bits)
			}
			for i := range 4 {
				v := c[(g+i/2*8)*8+2*h+i%2]
				switch x.d {
				case "f32":
					regs[x.ra+x.rb+i] = math.Float32bits(float32(v))
				case "f16":
					regs[x.ra+x.rb+i/2] |= uint32(half.round(float64(v), nearestEven)) << (i % 2 * 16)
				default:
					regs[x.ra+x.rb+i] = uint32(v)
				}
			}
			in = append(in, regs...)
		}
		regs := func(from, n int) string {
			var s []string
			for i := range n {
				s = append(s, fmt.Sprintf("%%v%d", from+i))
			}
			return "{" + strings.Join(s, ", ") + "}"
		}
		n := x.ra + x.rb + x.rd
		body := fmt.Sprintf("\t.reg .b32 %%v<20>;\n\t.reg .b64 %%q<4>;\n\tld.param.u64 %%q2, [out];\n\tmul.wide.u32 %%q1, %%r1, %d;\n\tadd.s64 %%q1, %%rd1, %%q1;\n", 4*n)
		for i := range n {
			body += fmt.Sprintf("\tld.global.b32 %%v%d, [%%q1+%d];\n", i, 4*i)
		}
		body += fmt.Sprintf("\t%s %s, %s, %s, %s;\n\tmul.wide.u32 %%q1, %%r1, %d;\n\tadd.s64 %%q1, %%q2, %%q1;\n",
			name, regs(0, x.rd), regs(0, x.ra), regs(x.ra, x.rb), regs(x.ra+x.rb, x.rd), 4*x.rd)
		for i := range x.rd {
			body += fmt.Sprintf("\tst.global.b32 [%%q1+%d], %%v%d;\n", 4*i, i)
		}
		src := strings.Replace(shell(body), ".param .u64 p)", ".param .u64 p, .param .u64 out)", 1)
		r := newRig(t, Options{})
		f := r.load(src, 0)
		out := r.alloc(4 * 32 * x.rd)
		if err := r.run(f, tensor.Launch{Block: [3]int{32}}, r.words(in...), out); err != nil {
			t.Fatal(err)
		}
		got := r.download(out, 32*x.rd)
		for lane := range 32 {
			for i := range 4 {
				row, col := lane/4+i/2*8, lane%4*2+i%2
				want := c[row*8+col] * 64
				for k := range x.k {
					want += a[row*x.k+k] * b[k*8+col]
				}
				var v float64
				switch x.d {
				case "f32":
					v = float64(math.Float32frombits(got[lane*4+i])) * 64
				case "f16":
					v = half.value(uint64(got[lane*2+i/2]>>(i%2*16)&0xffff)) * 64
					want = int(half.value(half.round(float64(want)/64, nearestEven)) * 64)
				default:
					want -= c[row*8+col] * 63
					v = float64(int32(got[lane*4+i]))
				}
				if v != float64(want) {
					t.Fatalf("%s: row %d, column %d: %v, want %d", name, row, col, v, want)
				}
			}
		}
	}
}

// TestLoadMatrix numbers the elements of four 8 x 8 matrices, whose rows lie apart in shared memory.
func TestLoadMatrix(t *testing.T) {
	for _, count := range []int{1, 2, 4} {
		for _, trans := range []bool{false, true} {
			mode, regs := "", []string{"%r10", "%r11", "%r12", "%r13"}[:count]
			if trans {
				mode = ".trans"
			}
			// 32 rows of 8 elements in 32 bytes: row r begins at 32 r and holds 256 r + column.
			body := `
	shl.b32 %r6, %r1, 5;
	add.u32 %r6, %r3, %r6;
	shl.b32 %r7, %r1, 8;
	mad.lo.u32 %r8, %r7, 65536, %r7;
	add.u32 %r9, %r8, 0x10000;
	st.shared.u32 [%r6], %r9;
	add.u32 %r9, %r8, 0x30002;
	st.shared.u32 [%r6+4], %r9;
	add.u32 %r9, %r8, 0x50004;
	st.shared.u32 [%r6+8], %r9;
	add.u32 %r9, %r8, 0x70006;
	st.shared.u32 [%r6+12], %r9;
	bar.sync 0;
	ldmatrix.sync.aligned.m8n8.x` + fmt.Sprint(count) + mode + `.shared.b16 {` + strings.Join(regs, ", ") + `}, [%r6];
`
			for i, reg := range regs {
				body += fmt.Sprintf("\tst.global.b32 [%%rd3+%d], %s;\n", 128*i, reg)
			}
			r := newRig(t, Options{})
			f := r.load(shell(body), 0)
			out := r.alloc(512)
			if err := r.run(f, tensor.Launch{Block: [3]int{32}}, out); err != nil {
				t.Fatal(err)
			}
			for i, v := range r.download(out, 32*count) {
				m, row, col := i/32, i%32/4, i%4*2
				want := uint32(256*(8*m+row)+col) | uint32(256*(8*m+row)+col+1)<<16
				if trans {
					want = uint32(256*(8*m+col)+row) | uint32(256*(8*m+col+1)+row)<<16
				}
				if v != want {
					t.Fatalf("x%d%s: matrix %d, lane %d: %#x, want %#x", count, mode, m, i%32, v, want)
				}
			}
		}
	}
}
