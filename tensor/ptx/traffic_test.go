package ptx

import (
	"testing"

	"netfusion/tensor"
)

// TestTrafficIsCounted lays a warp's addresses well and badly.
func TestTrafficIsCounted(t *testing.T) {
	src := shell(`
	.reg .b32 %a<9>;
	.reg .b64 %q<9>;
	shl.b32 %a1, %r1, 5;
	add.u32 %a2, %r3, %a1;
	shl.b32 %a3, %r1, 4;
	add.u32 %a4, %r3, %a3;
	cvt.u64.u32 %q1, %a1;
	add.s64 %q2, %rd1, %q1;
	cvt.u64.u32 %q3, %a3;
	add.s64 %q4, %rd1, %q3;
	ld.global.u32 %r10, [%rd3];                      // 128 bytes in a row
	ld.global.v4.u32 {%r11, %r12, %r13, %r14}, [%q4]; // 512 bytes in a row
	ld.global.u32 %r15, [%q2];                       // a word of each sector
	ld.global.u8 %r15, [%rd1];                       // all the same byte
	st.shared.u32 [%r4], %r10;                       // each bank once
	st.shared.u32 [%a2], %r10;                       // every eighth bank, eight words of each
	st.shared.v4.u32 [%a4], {%r10, %r10, %r10, %r10}; // in a row, eight lanes at a time
	st.shared.v2.u32 [%a2], {%r10, %r10};            // every eighth pair of banks, 16 lanes at a time
	bar.warp.sync -1;
	ld.shared.u32 %r15, [%r3];                       // one word for all
	setp.lt.u32 %p3, %r1, 8;
	@%p3 ld.shared.v2.u32 {%r16, %r17}, [%a2];
	cp.async.cg.shared.global [%a4+512], [%q4], 16;`)
	r := newRig(t, Options{Traffic: true, Unchecked: true})
	f := r.load(src, 0)
	if err := r.run(f, tensor.Launch{Block: [3]int{32}}, r.alloc(1024)); err != nil {
		t.Fatal(err)
	}
	type units struct {
		shared       bool
		units, least int64
	}
	want := []units{
		{false, 4, 4}, {false, 16, 16}, {false, 32, 4}, {false, 1, 1},
		{true, 1, 1}, {true, 8, 1}, {true, 4, 4}, {true, 8, 2}, {true, 1, 1}, {true, 2, 1},
		{false, 16, 16}, {true, 4, 4},
	}
	got := r.dev.Traffic()
	if len(got) != len(want) {
		t.Fatalf("%d instructions: %+v", len(got), got)
	}
	for i, g := range got {
		if g.Kernel != "k" || g.Warps != 1 || g.Line == 0 || (units{g.Shared, g.Units, g.Least}) != want[i] {
			t.Errorf("%+v, want %+v", g, want[i])
		}
	}
}
