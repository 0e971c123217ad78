package ptx

import (
	"fmt"
	"strings"
	"testing"

	"netfusion/tensor"
)

// TestLoadsAndStoresOfAllWidths writes with one width and reads with others, in every space that can be written to, by
// its own addresses and by generic ones.
func TestLoadsAndStoresOfAllWidths(t *testing.T) {
	for _, x := range []struct{ declare, base, space string }{
		{"", "add.s64 %rd5, %rd1, %rd4;", ".global"},
		{"", "add.s64 %rd5, %rd1, %rd4;", ""},
		{".shared .align 16 .b8 mine[2048];", "mov.u64 %rd5, mine;\n\tadd.s64 %rd5, %rd5, %rd4;", ".shared"},
		{".shared .align 16 .b8 mine[2048];", "mov.u64 %rd5, mine;\n\tcvta.shared.u64 %rd5, %rd5;\n\tadd.s64 %rd5, %rd5, %rd4;", ""},
		{".shared .align 16 .b8 mine[2048];", "mov.u64 %rd5, mine;\n\tcvta.shared.u64 %rd5, %rd5;\n\tcvta.to.shared.u64 %rd5, %rd5;\n\tadd.s64 %rd5, %rd5, %rd4;", ".shared::cta"},
		{".local .align 16 .b8 mine[16];", "mov.u64 %rd5, mine;", ".local"},
		{".local .align 16 .b8 mine[16];", "mov.u64 %rd5, mine;\n\tcvta.local.u64 %rd5, %rd5;", ""},
	} {
		body := x.declare + `
	.reg .b64 %v<9>;
	.reg .b32 %w<9>;
	.reg .b16 %x<9>;
	shl.b64 %rd4, %rd2, 2;
	` + x.base + `
	mad.lo.u32 %w0, %r1, 0x01010101, 0x80818283;
	add.u32 %w1, %w0, 0x04040404;
	mov.b64 %v0, {%w0, %w1};
	add.u64 %v1, %v0, 0x0808080808080808;
	st.SPACE.v2.u64 [%rd5], {%v0, %v1};
	ld.SPACE.u8 %w2, [%rd5+3];
	ld.SPACE.s8 %w3, [%rd5+5];
	add.u32 %r20, %w2, %w3;
	ld.SPACE.s8 %x1, [%rd5+7];
	cvt.u32.u16 %w2, %x1;
	add.u32 %r20, %r20, %w2;
	ld.SPACE.s16 %x2, [%rd5+8];
	ld.SPACE.u16 %w4, [%rd5+10];
	cvt.s32.s16 %w2, %x2;
	add.u32 %r20, %r20, %w2;
	add.u32 %r20, %r20, %w4;
	ld.SPACE.v4.u32 {%w0, %w1, %w2, %w3}, [%rd5];
	xor.b32 %r20, %r20, %w0;
	xor.b32 %r20, %r20, %w3;
	ld.SPACE.v4.u8 {%w4, %w5, %w6, %w7}, [%rd5+8];
	add.u32 %r20, %r20, %w5;
	ld.SPACE.s32 %v2, [%rd5+4];
	cvt.u32.u64 %w0, %v2;
	shr.s64 %v2, %v2, 40;
	cvt.u32.u64 %w1, %v2;
	add.u32 %r20, %r20, %w0;
	add.u32 %r20, %r20, %w1;
	st.SPACE.u8 [%rd5+1], %r20;
	st.SPACE.v2.u16 [%rd5+4], {%x2, %x1};
	ld.SPACE.v2.b32 {%w0, %w1}, [%rd5];
	add.u32 %r20, %r20, %w0;
	add.u32 %r20, %r20, %w1;
	add.s64 %rd3, %rd3, 2048;`
		if x.space == "" {
			body = strings.ReplaceAll(body, ".SPACE", "")
		} else {
			body = strings.ReplaceAll(body, ".SPACE", x.space)
		}
		r := newRig(t, Options{})
		f := r.load(shell(body+"\n\tst.global.u32 [%rd3], %r20;"), 0)
		p := r.alloc(2048 + 256)
		if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
			t.Fatal(err)
		}
		expect(t, r.download(p+2048, 64), x.space, func(i int) uint32 {
			var b [16]byte
			for k := range 16 {
				b[k] = byte([]int{0x83, 0x82, 0x81, 0x80}[k%4] + 4*(k/4%2) + 8*(k/8))
			}
			// The low word of the first eight bytes, with carries as the kernel's sums have them.
			low := uint64(i)*0x01010101 + 0x80818283
			v0 := low&0xffffffff | (low+0x04040404)<<32
			v1 := v0 + 0x0808080808080808
			for k := range 8 {
				b[k], b[8+k] = byte(v0>>(8*k)), byte(v1>>(8*k))
			}
			word := func(at int) uint32 {
				return uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16 | uint32(b[at+3])<<24
			}
			sum := uint32(b[3]) + uint32(int32(int8(b[5])))
			x1, x2 := uint16(int16(int8(b[7]))), int16(uint16(b[8])|uint16(b[9])<<8)
			sum += uint32(x1) + uint32(int32(x2)) + (uint32(b[10]) | uint32(b[11])<<8)
			sum ^= word(0) ^ word(12)
			sum += uint32(b[9])
			sum += word(4) + uint32(int64(int32(word(4)))>>40)
			b[1] = byte(sum)
			return sum + word(0) + (uint32(uint16(x2)) | uint32(x1)<<16)
		})
	}
}

// TestGenericAddressesOfSeveralSpaces: the lanes of one load read shared, global, local and constant memory.
func TestGenericAddressesOfSeveralSpaces(t *testing.T) {
	body := `
	.local .align 4 .b8 mine[8];
	.reg .b64 %g<9>;
	mov.u64 %g1, mine;
	add.u32 %r6, %r1, 100;
	st.local.u32 [%g1+4], %r6;
	cvta.local.u64 %g1, %g1;
	add.s64 %g1, %g1, 4;
	add.u32 %r6, %r1, 200;
	st.shared.u32 [%r4], %r6;
	cvt.u64.u32 %g2, %r4;
	cvta.shared.u64 %g2, %g2;
	mov.u64 %g3, table;
	cvta.const.u64 %g3, %g3;
	add.s64 %g3, %g3, 8;
	and.b32 %r7, %r1, 3;
	setp.eq.u32 %p3, %r7, 1;
	selp.b64 %g4, %g1, %rd3, %p3;
	setp.eq.u32 %p4, %r7, 2;
	selp.b64 %g4, %g2, %g4, %p4;
	setp.eq.u32 %p5, %r7, 3;
	selp.b64 %g4, %g3, %g4, %p5;
	isspacep.shared %p6, %g4;
	ld.u32 %r20, [%g4];
	@%p6 add.u32 %r20, %r20, 1000;
	bar.warp.sync -1;
	st.global.u32 [%rd3], %r20;`
	r := newRig(t, Options{})
	f := r.load(".const .align 4 .b8 table[12] = {1, 0, 0, 0, 2, 0, 0, 0, 44, 1, 0, 0};\n"+shell(body), 0)
	init := make([]uint32, 64)
	for i := range init {
		init[i] = uint32(i)
	}
	p := r.words(init...)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
		t.Fatal(err)
	}
	expect(t, r.download(p, 64), "generic", func(i int) uint32 {
		return []uint32{uint32(i), uint32(i + 100), uint32(i + 1200), 300}[i%4]
	})
}

func TestVariablesOfAModule(t *testing.T) {
	r := newRig(t, Options{})
	src := `.global .align 4 .u32 counter = 7;
.global .align 8 .u64 pointer = counter;
.global .align 4 .f32 weights[2][2] = {{1.5, -2.0}, {0f40400000, 4.0}};
.const .align 8 .u64 indirect[2] = {weights, 5};
.visible .entry k(.param .u64 p)
{
	.reg .b64 %rd<9>;
	.reg .b32 %r<9>;
	ld.param.u64 %rd1, [p];
	ld.global.u64 %rd2, [pointer];
	atom.global.add.u32 %r1, [%rd2], 3;
	ld.const.u64 %rd3, [indirect];
	ld.global.v2.u32 {%r2, %r3}, [%rd3+8];
	ld.const.u64 %rd4, [indirect+8];
	cvt.u32.u64 %r4, %rd4;
	st.global.v4.u32 [%rd1], {%r1, %r2, %r3, %r4};
	ret;
}`
	f := r.load(src, 0)
	p := r.alloc(16)
	for i := range uint32(2) {
		if err := r.run(f, tensor.Launch{}, p); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(r.download(p, 4)), fmt.Sprint([]uint32{7 + 3*i, 0x40400000, 0x40800000, 5}); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// TestArgumentsAreAligned passes every size of argument, and an array.
func TestArgumentsAreAligned(t *testing.T) {
	r := newRig(t, Options{})
	f := r.load(`.visible .entry k(.param .u8 a, .param .u16 b, .param .u64 p, .param .align 4 .b8 s[12])
{
	.reg .b64 %rd<9>;
	.reg .b32 %r<9>;
	.reg .b16 %h<3>;
	ld.param.u8 %h1, [a];
	ld.param.s16 %r2, [b];
	ld.param.u64 %rd1, [p];
	ld.param.v2.u32 {%r3, %r4}, [s];
	ld.param.u32 %r5, [s+8];
	cvt.u32.u16 %r1, %h1;
	st.global.v4.u32 [%rd1], {%r1, %r2, %r3, %r4};
	st.global.u32 [%rd1+16], %r5;
	ret;
}`, 0)
	p := r.alloc(20)
	args := append([]byte{200, 0, 0xfe, 0xff, 0, 0, 0, 0}, pack(p, uint32(11), uint32(12), uint32(13))...)
	if err := r.dev.Launch(r.s, f, tensor.Launch{Args: args}); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(r.download(p, 5)), fmt.Sprint([]uint32{200, 0xfffffffe, 11, 12, 13}); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if err := r.dev.Launch(r.s, f, tensor.Launch{Args: args[:20]}); err == nil || !strings.Contains(err.Error(), "20 bytes of arguments, not 28") {
		t.Errorf("short arguments: %v", err)
	}
}

// TestAsyncCopiesFillWithZeros copies 4, 8 and 16 bytes, of which some are not read.
func TestAsyncCopiesFillWithZeros(t *testing.T) {
	for _, bytes := range []int{4, 8, 16} {
		kind := "ca"
		if bytes == 16 {
			kind = "cg"
		}
		r := newRig(t, Options{})
		f := r.load(shell(fmt.Sprintf(`
	mul.lo.u32 %%r6, %%r1, %[1]d;
	cvt.u64.u32 %%rd4, %%r6;
	add.s64 %%rd4, %%rd1, %%rd4;
	add.u32 %%r7, %%r3, %%r6;
	and.b32 %%r8, %%r1, 3;
	min.u32 %%r8, %%r8, 2;
	mul.lo.u32 %%r8, %%r8, %[2]d;
	setp.eq.u32 %%p3, %%r8, 0;
	@%%p3 mov.u64 %%rd4, 0;
	cp.async.%[3]s.shared.global.L2::128B [%%r7], [%%rd4], %[1]d, %%r8;
	cp.async.commit_group;
	cp.async.wait_all;
	bar.sync 0;
	setp.ge.u32 %%p4, %%r1, %[4]d;
	@%%p4 ret;
	ld.shared.u32 %%r20, [%%r4];
	st.global.u32 [%%rd3], %%r20;`, bytes, bytes/2, kind, 32*bytes/4)), 0)
		var init []uint32
		for i := range 64 * bytes / 4 {
			init = append(init, 0x11111111*uint32(i%15+1))
		}
		p := r.words(init...)
		if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
			t.Fatal(err)
		}
		expect(t, r.download(p, min(64, 8*bytes)), fmt.Sprint(bytes), func(i int) uint32 {
			thread, at := 4*i/bytes, 4*i%bytes
			n := min(thread%4, 2) * bytes / 2
			switch {
			case at >= n:
				return 0
			case n-at < 4:
				return init[i] & 0xffff
			}
			return init[i]
		})
	}
}

// TestGroupsOfCopies keeps two copies under way and uses the first one.
func TestGroupsOfCopies(t *testing.T) {
	r := newRig(t, Options{})
	f := r.load(shell(`
	cp.async.ca.shared.global [%r4], [%rd3], 4;
	cp.async.commit_group;
	cp.async.ca.shared.global [%r4+256], [%rd3+256], 4;
	cp.async.commit_group;
	cp.async.wait_group 1;
	ld.shared.u32 %r6, [%r4];
	cp.async.wait_group 0;
	ld.shared.u32 %r7, [%r4+256];
	add.u32 %r6, %r6, %r7;
	st.global.u32 [%rd3], %r6;`), 0)
	var init []uint32
	for i := range uint32(128) {
		init = append(init, i)
	}
	p := r.words(init...)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
		t.Fatal(err)
	}
	expect(t, r.download(p, 64), "groups", func(i int) uint32 { return uint32(2*i + 64) })
}

func TestCalls(t *testing.T) {
	r := newRig(t, Options{})
	src := `.func (.param .b32 result) twice(.param .b32 x)
{
	.reg .b32 %r<4>;
	.reg .pred %p;
	ld.param.b32 %r1, [x];
	setp.gt.u32 %p, %r1, 20;
	@%p bra big;
	add.u32 %r2, %r1, %r1;
	st.param.b32 [result], %r2;
	ret;
big:
	st.param.b32 [result], 7;
	ret;
}
` + shell(`
	{
	.param .b32 a;
	.param .b32 b;
	st.param.b32 [a], %r1;
	call.uni (b), twice, (a);
	ld.param.b32 %r20, [b];
	}
	setp.gt.u32 %p3, %r1, 5;
	{
	.reg .b32 %r20;
	mov.u32 %r20, 1;
	}
	{
	.param .b32 a;
	.param .b32 b;
	st.param.b32 [b], 0;
	st.param.b32 [a], 4;
	@%p3 call (b), twice, (a);
	ld.param.b32 %r21, [b];
	}
	add.u32 %r20, %r20, %r21;
	st.global.u32 [%rd3], %r20;`)
	f := r.load(src, 0)
	p := r.alloc(256)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
		t.Fatal(err)
	}
	expect(t, r.download(p, 64), "calls", func(i int) uint32 {
		v := uint32(2 * i)
		if i > 20 {
			v = 7
		}
		if i > 5 {
			v += 8
		}
		return v
	})
}
