package ptx

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"netfusion/tensor"
)

// calculation is one instruction and what it computes: banks as in of(), with h for a 16-bit register.
type calculation struct {
	op    string
	banks string
	want  func(a, b, c uint64) uint64
}

// registerOf declares a register of a bank for these tests, with how to fill it from %rd0 and how to widen it to %rd0.
func registerOf(bank byte, name string) (declare, fill, widen string) {
	switch bank {
	case 'h':
		return ".reg .b16 " + name + ";", "cvt.u16.u64 " + name + ", %rd0;", "cvt.u64.u16 %rd0, " + name + ";"
	case 'w':
		return ".reg .b32 " + name + ";", "cvt.u32.u64 " + name + ", %rd0;", "cvt.u64.u32 %rd0, " + name + ";"
	case 'p':
		return ".reg .pred " + name + ";", "setp.ne.s64 " + name + ", %rd0, 0;", "selp.b64 %rd0, 1, 0, " + name + ";"
	}
	return ".reg .b64 " + name + ";", "mov.u64 " + name + ", %rd0;", "mov.u64 %rd0, " + name + ";"
}

// text is a kernel that applies the instruction op %d, %s0, … to the rows of a table of 64-bit values.
func text(op, banks string) string {
	var b strings.Builder
	b.WriteString(".visible .entry k(.param .u64 out, .param .u64 in, .param .u32 n)\n{\n.reg .b64 %rd<9>;\n.reg .b32 %t<9>;\n.reg .pred %q;\n")
	names := []string{"%d", "%s0", "%s1", "%s2", "%s3"}
	var widen string
	fills := make([]string, len(banks))
	for i := range banks {
		if banks[i] == '=' {
			continue
		}
		name := names[max(0, i-1)]
		declare, fill, w := registerOf(banks[i], name)
		b.WriteString(declare + "\n")
		if fills[i] = fill; i == 0 {
			widen = w
		}
	}
	sources := len(banks) - 2
	fmt.Fprintf(&b, `ld.param.u64 %%rd1, [out];
ld.param.u64 %%rd2, [in];
ld.param.u32 %%t1, [n];
mov.u32 %%t2, %%tid.x;
mov.u32 %%t3, %%ctaid.x;
mov.u32 %%t4, %%ntid.x;
mad.lo.u32 %%t2, %%t3, %%t4, %%t2;
setp.ge.u32 %%q, %%t2, %%t1;
@%%q ret;
mul.wide.u32 %%rd3, %%t2, %d;
add.s64 %%rd3, %%rd2, %%rd3;
`, 8*sources)
	for i := range sources {
		fmt.Fprintf(&b, "ld.global.u64 %%rd0, [%%rd3+%d];\n%s\n", 8*i, fills[i+2])
	}
	fmt.Fprintf(&b, "%s %s;\n%s\nmul.wide.u32 %%rd3, %%t2, 8;\nadd.s64 %%rd3, %%rd1, %%rd3;\nst.global.u64 [%%rd3], %%rd0;\nret;\n}\n",
		op, strings.Join(names[:sources+1], ", "), widen)
	return b.String()
}

// evaluate runs an instruction on rows of operands.
func evaluate(t testing.TB, op, banks string, rows [][]uint64) []uint64 {
	t.Helper()
	return evaluateText(t, text(op, banks), rows)
}

func evaluateText(t testing.TB, src string, rows [][]uint64) []uint64 {
	t.Helper()
	r := newRig(t, Options{})
	f := r.load(src, 0)
	var in []byte
	for _, row := range rows {
		for _, v := range row {
			in = binary.LittleEndian.AppendUint64(in, v)
		}
	}
	pin, pout := r.alloc(len(in)), r.alloc(8*len(rows))
	if err := r.dev.Upload(r.s, pin, in); err != nil {
		t.Fatal(err)
	}
	if err := r.run(f, tensor.Launch{Grid: [3]int{(len(rows) + 127) / 128}, Block: [3]int{128}}, pout, pin, uint32(len(rows))); err != nil {
		t.Fatalf("%v in %s", err, src)
	}
	out := make([]byte, 8*len(rows))
	if err := r.dev.Download(r.s, out, pout); err != nil {
		t.Fatal(err)
	}
	if err := r.dev.Synchronize(r.s); err != nil {
		t.Fatal(err)
	}
	v := make([]uint64, len(rows))
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(out[8*i:])
	}
	return v
}

// operands makes rows: every combination of the corner cases of up to two sources, and random ones.
func operands(sources int, corners []uint64, random func(r *rand.Rand) uint64) [][]uint64 {
	rng := rand.New(rand.NewPCG(7, 7))
	pick := func() uint64 {
		if rng.IntN(4) == 0 {
			return corners[rng.IntN(len(corners))]
		}
		return random(rng)
	}
	var rows [][]uint64
	for _, a := range corners {
		for _, b := range corners {
			rows = append(rows, []uint64{a, b, pick(), pick()}[:sources])
		}
	}
	for range 300 {
		rows = append(rows, []uint64{pick(), pick(), pick(), pick()}[:sources])
	}
	return rows
}

// check compares an instruction with its oracle.
func check(t *testing.T, c calculation, rows [][]uint64, same func(got, want uint64) bool) {
	t.Helper()
	got := evaluate(t, c.op, c.banks, rows)
	for i, row := range rows {
		x := append(append([]uint64(nil), row...), 0, 0, 0)
		// Operands are what the registers hold.
		for j := range row {
			x[j] = narrowTo(c.banks[j+2], x[j])
		}
		if want := narrowTo(c.banks[0], c.want(x[0], x[1], x[2])); !same(got[i], want) {
			t.Errorf("%s of %#x: got %#x, want %#x", c.op, row, got[i], want)
			return
		}
	}
}

func narrowTo(bank byte, v uint64) uint64 {
	switch bank {
	case 'h':
		return v & 0xffff
	case 'w':
		return v & 0xffffffff
	case 'p':
		if v != 0 {
			return 1
		}
	}
	return v
}

func identical(got, want uint64) bool { return got == want }

// exact is x in arbitrary precision; x is finite.
func exact(x float64) *big.Float { return new(big.Float).SetPrec(4000).SetFloat64(x) }

// nearest rounds an exact number to the float32 that the mode asks for.
func nearest(x *big.Float, mode string) float32 {
	v, acc := x.Float32()
	switch {
	case mode == "rz" && x.Sign() > 0, mode == "rm":
		if acc == big.Above {
			v = math.Nextafter32(v, float32(math.Inf(-1)))
		}
	case mode == "rz", mode == "rp":
		if acc == big.Below {
			v = math.Nextafter32(v, float32(math.Inf(1)))
		}
	}
	return v
}

func sameFloat32(got, want uint64) bool {
	g, w := f32of(got), f32of(want)
	return got == want || g != g && w != w
}
