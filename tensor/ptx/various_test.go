package ptx

import (
	"math"
	"strings"
	"testing"

	"netfusion/tensor"
)

// TestEveryFormRuns decodes and runs all that the tables list, on anything: what they compute is tested elsewhere.
func TestEveryFormRuns(t *testing.T) {
	letters := map[bank]string{words: "w", longs: "l", predicates: "p"}
	var body, declare strings.Builder
	declare.WriteString("\t.reg .b32 %vw<5>;\n\t.reg .b64 %vl<5>;\n\t.reg .pred %vp<5>;\n")
	body.WriteString("\tld.global.v2.u32 {%vw0, %vw1}, [%rd3];\n\tmov.u32 %vw2, %r1;\n\tmov.b64 %vl0, {%vw0, %vw1};\n\tmov.b64 %vl1, {%vw1, %vw0};\n\tmov.u64 %vl2, 3;\n\tsetp.lt.u32 %vp0, %vw0, %vw1;\n\tmov.pred %vp1, -1;\n\tmov.pred %vp2, 0;\n")
	for opcode, f := range forms {
		body.WriteString("\t" + opcode + " %v" + letters[f.result] + "4")
		for i, b := range f.sources {
			body.WriteString(", %v" + letters[b] + string(rune('0'+i)))
		}
		body.WriteString(";\n")
	}
	r := newRig(t, Options{})
	f := r.load(shell(declare.String()+strings.ReplaceAll(body.String(), "[%rd3]", "[%rd1]")), 0)
	for _, v := range [][2]uint32{{0, 0}, {1, 1 << 31}, {0x7fc00000, 0x7f800000}, {math.MaxUint32, math.MaxUint32}, {0x3f800000, 0x40490fdb}} {
		if err := r.run(f, tensor.Launch{Block: [3]int{40}}, r.words(v[0], v[1])); err != nil {
			t.Fatal(err)
		}
	}
	if len(forms) < 380 {
		t.Errorf("only %d forms", len(forms))
	}
}

func TestMovesPackAndUnpack(t *testing.T) {
	got := threads(t, 64, `
	.reg .b16 %x<9>;
	.reg .b64 %q<3>;
	add.u32 %r6, %r1, 0x12340000;
	mov.b32 {%x1, %x2}, %r6;
	mov.b64 %q1, {%x1, %x2, %x2, %x1};
	mov.b64 {%r7, %r8}, %q1;
	mov.b64 {%x3, _, %x4, _}, %q1;
	mov.b32 %r9, {%x3, %x4};
	sub.u32 %r20, %r9, %r7;
	shr.u32 %r8, %r8, 16;
	add.u32 %r20, %r20, %r8;
	mov.b32 {%x1, %x1}, %r6;
	cvt.u32.u16 %r7, %x1;
	sub.u32 %r20, %r20, %r7;`, Options{})
	expect(t, got, "mov", func(i int) uint32 { return uint32(i) - 0x1234 })
}

// TestHintsTimersAndElection: what is for speed only does nothing; time goes on; one lane is elected.
func TestHintsTimersAndElection(t *testing.T) {
	got := threads(t, 64, `
	.reg .b64 %q<9>;
	mov.u32 %r6, %clock;
	mov.u64 %q1, %clock64;
	nanosleep.u32 100;
	griddepcontrol.wait;
	griddepcontrol.launch_dependents;
	prefetch.global.L2 [%rd1];
	createpolicy.fractional.L2::evict_first.b64 %q3, 1.0;
	st.global.L1::no_allocate.L2::cache_hint.u32 [%rd3], %r1, %q3;
	ld.global.L2::cache_hint.L2::128B.u32 %r9, [%rd3], %q3;
	membar.cta;
	fence.sc.gpu;
	mov.u32 %r7, %clock;
	mov.u64 %q2, %globaltimer;
	setp.gt.u32 %p3, %r7, %r6;
	setp.gt.and.u64 %p3, %q2, %q1, %p3;
	selp.u32 %r20, %r9, 1000, %p3;
	elect.sync %r8|%p4, -1;
	@%p4 add.u32 %r20, %r20, 100;`, Options{})
	expect(t, got, "hints", func(i int) uint32 {
		if i%32 == 0 {
			return uint32(i + 100)
		}
		return uint32(i)
	})
}

// TestCopiesThatIgnoreTheirSource: with a predicate, a cp.async writes zeros.
func TestCopiesThatIgnoreTheirSource(t *testing.T) {
	r := newRig(t, Options{})
	f := r.load(shell(`
	setp.lt.u32 %p3, %r1, 10;
	cp.async.ca.shared.global [%r4], [%rd3], 4, %p3;
	cp.async.wait_all;
	ld.shared.u32 %r6, [%r4];
	st.global.u32 [%rd3], %r6;`), 0)
	ones := make([]uint32, 64)
	for i := range ones {
		ones[i] = 1
	}
	p := r.words(ones...)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
		t.Fatal(err)
	}
	expect(t, r.download(p, 64), "ignore-src", func(i int) uint32 {
		if i < 10 {
			return 0
		}
		return 1
	})
}

// TestDebugInformation reads what nvcc -lineinfo adds to a text.
func TestDebugInformation(t *testing.T) {
	r := newRig(t, Options{})
	src := `.file 1 "a/b.cu", 1700000000, 1234
.file 2 "c.cuh"
.extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);
.weak .func helper() ;
` + shell(`
$L__tmp1:
	.loc 2 7 3, function_name $L__info_string0, inlined_at 1 20 5
	.pragma "nounroll";
	setp.eq.u32 %p3, %r1, 99;
	.loc 1 21 3
	@%p3 trap;`) + `
.section .debug_str
{
$L__info_string0:
.b8 95
.b8 0
}
`
	f := r.load(src, 0)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, r.alloc(4)); err != nil {
		t.Fatal(err)
	}
	err := r.run(f, tensor.Launch{Block: [3]int{128}}, r.alloc(4))
	if fault, ok := faultOf(err); !ok || fault.Source != "b.cu:21" || fault.Thread != [3]int{99, 0, 0} {
		t.Error(err)
	}
}
