package ptx

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/tensor"
)

func TestErrorsNameTheLine(t *testing.T) {
	for _, x := range []struct{ src, want string }{
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\tadd.u32 %r1, %r2, %r3;\n}", "test.ptx:5: no register %r1: add.u32"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\tfrobnicate.f32;\n}", "test.ptx:5: not known to this interpreter: frobnicate.f32"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\t.reg .b32 %r<2>;\n\tmov.u64 %r1, 5;\n}", "test.ptx:6: register %r1 has another size"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\t.reg .b32 %r<2>;\n\tadd.u32 %r1, %r1;\n}", "test.ptx:6: 2 operands, not 3"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\t.reg .b32 %r<2>;\n\tmov.u32 %r1, nothing;\n}", "test.ptx:6: no variable nothing"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\tbra nowhere;\n}", "test.ptx:5: no label nowhere"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\t.reg .b32 %r<9999999999>;\n}", "test.ptx:5: 9999999999 registers %r"},
		{".version 7.8\n.target sm_80\n.entry k()\n{\n\t.reg .b32 %r;\n\t.reg .b32 %r;\n}", "test.ptx:6: %r is declared twice"},
		{".version 7.8\n.target sm_80\n.entry k()\n{", "test.ptx:4: k has no end"},
		{".version 7.8\n.target sm_80\n.entry k(.param .u64 a .param .u64 b)\n{}", `test.ptx:3: ".param" where "," was expected`},
		{".version 7.8\n.target sm_80\n.global .b8 x[99999999999];", "test.ptx:3: x is too large"},
		{".version 7.8\n.target sm_80\n.global .u32 x = {1, 2};", "test.ptx:3: more values than x holds"},
		{".version 7.8\n.target sm_80\n.shared .b8 x[240000];\n.entry k() { .reg .b32 a; mov.u32 a, x; }", "x does not fit"},
		{".version 7.8\n.target sm_80\n/* open", "test.ptx:3: comment without end"},
		{".version 7.8\n.target sm_80\n.entry k()\n{ .reg .f32 f; mov.f32 f, 0f12; }", "test.ptx:4: bad number 0f12"},
		{".target sm_80\n.entry k() {}", "no .version"},
		{".version 7.8\n.target sm_80\n.entry j() {}", "no entry k"},
		{".version 7.8\n.target sm_80\n.func f() { call f; }\n.entry k() { call f; }", "calls nested deeper than 16"},
		{".version 7.8\n.target sm_80\n.entry k() { .reg .b64 a; .shared .b8 x[4]; ld.global.u32 a, [x]; }", "x lies in another space"},
		{".version 7.8\n.target sm_80\n.entry k() { .reg .b32 a<4>; mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {a0}, {a1}, {a2}, {a3}; }", "operand 0 has not 4 registers"},
		{".version 8.5\n.target sm_80\n.entry k() {}", ".version 8.5, more than 8.4"},
		{".version 8.0\n.target sm_90\n.entry k() {}", ".target sm_90 on a device of sm_80"},
		{".version 8.0\n.target sm_80a\n.entry k() {}", ""},
	} {
		_, err := Open(Options{}).Load("test.ptx", x.src, []tensor.Entry{{Name: "k"}})
		if x.want == "" {
			if err != nil {
				t.Errorf("%v for\n%s", err, x.src)
			}
		} else if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("got %v, want %q for\n%s", err, x.want, x.src)
		}
	}
}

// FuzzLoad loads anything and runs what there is of it: whatever it is, it ends in an error, a fault or nothing worse.
func FuzzLoad(f *testing.F) {
	f.Add(header + axpy)
	f.Add(header + arithmetic)
	for _, p := range plants {
		f.Add(header + shell(p.body))
	}
	for opcode, form := range forms {
		banks := map[bank]string{words: "w", longs: "l", predicates: "p"}
		sources := ""
		for _, b := range form.sources {
			sources += banks[b]
		}
		f.Add(header + text(opcode, banks[form.result]+"="+sources))
	}
	f.Add(header + ".global .align 8 .u64 p[2][2] = {{a, 1}, 2.5};\n.const .f32 a = 0f3F800000;\n.func (.param .b32 r) f(.param .b32 x) { ret; }\n")
	f.Add(header + ".entry k() { bar; }")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) <= 1<<13 {
			runAll(t, src)
		}
	})
}

// runAll loads every entry of a text and runs what can be.
func runAll(t *testing.T, src string) (faults int) {
	m, err := parse("fuzz", src)
	if err != nil {
		return 0
	}
	for name, fn := range m.functions {
		if !fn.entry || !fn.defined {
			continue
		}
		dev := Open(Options{Instructions: 1 << 12, Memory: 1 << 20})
		fs, err := dev.Load("fuzz", src, []tensor.Entry{{Name: name}})
		if err != nil {
			continue
		}
		s, _, err := dev.OpenStream(0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := dev.Alloc(1 << 10)
		if err != nil {
			continue // the text's variables take the rest
		}
		args := make([]byte, dev.functions[fs[0]-1].kernel.args)
		for i := 0; i+8 <= len(args); i += 8 {
			copy(args[i:], pack(p))
		}
		if dev.Launch(s, fs[0], tensor.Launch{Grid: [3]int{2}, Block: [3]int{40}, Args: args}) == nil && dev.Synchronize(s) != nil {
			faults++
		}
	}
	return faults
}

// TestShuffledTexts makes kernels of lines that are right, but not together: what a fuzzer seldom finds.
func TestShuffledTexts(t *testing.T) {
	var lines []string
	for _, p := range plants {
		for _, line := range strings.Split(p.body, "\n") {
			if !strings.HasSuffix(line, ":") { // labels come once
				lines = append(lines, line)
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	faults := 0
	for range 2000 {
		body := "again:\nover:\n"
		for range 1 + rng.IntN(12) {
			line := lines[rng.IntN(len(lines))]
			if rng.IntN(3) == 0 {
				line = strings.Replace(line, "%r"+string(rune('1'+rng.IntN(9))), []string{"%r1", "%r2", "%r4", "-1", "%rd3", "%p1", "0x7fffffff"}[rng.IntN(7)], 1)
			}
			body += line + "\n"
		}
		faults += runAll(t, header+shell(body))
	}
	if faults < 300 {
		t.Errorf("only %d of the kernels ran into a fault", faults)
	}
}

// TestShippedTexts decodes every entry of the kernels that ship.
func TestShippedTexts(t *testing.T) {
	files, err := filepath.Glob("../../kernels/*/sm80.ptx")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(filepath.Base(filepath.Dir(file))+"/sm80.ptx", string(src))
		if err != nil {
			t.Error(err)
			continue
		}
		for name, f := range m.functions {
			if f.entry {
				if _, err := decode(m, name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}
