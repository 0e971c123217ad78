package ptx

import (
	"testing"

	"netfusion/tensor"
)

// arithmetic is a loop of what kernels compute most between their accesses to memory.
const arithmetic = `.visible .entry k(.param .u64 out, .param .u32 n)
{
	.reg .pred %p<3>;
	.reg .b32 %r<20>;
	.reg .f32 %f<10>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [out];
	ld.param.u32 %r2, [n];
	mov.u32 %r1, %tid.x;
	mov.u32 %r3, 0;
	cvt.rn.f32.u32 %f1, %r1;
	mov.f32 %f2, 0f3F800000;
	mov.f32 %f3, 0f3F7FF972;
loop:
	fma.rn.f32 %f2, %f2, %f3, %f1;
	fma.rn.f32 %f4, %f2, %f3, %f3;
	mul.f32 %f5, %f4, %f3;
	add.f32 %f2, %f5, %f2;
	max.f32 %f6, %f2, %f1;
	shl.b32 %r4, %r3, 2;
	xor.b32 %r5, %r4, %r1;
	mad.lo.s32 %r6, %r5, 5, %r3;
	mul.wide.s32 %rd2, %r6, 4;
	add.s64 %rd3, %rd1, %rd2;
	and.b32 %r7, %r6, 31;
	setp.gt.s32 %p1, %r7, 15;
	selp.f32 %f2, %f2, %f6, %p1;
	add.s32 %r3, %r3, 1;
	setp.lt.s32 %p2, %r3, %r2;
	@%p2 bra loop;
	mul.wide.u32 %rd4, %r1, 4;
	add.s64 %rd5, %rd1, %rd4;
	st.global.f32 [%rd5], %f2;
	ret;
}
`

// sharedSum adds shared memory up, conflict-free: loads under all checks.
const sharedSum = `.visible .entry k(.param .u64 out, .param .u32 n)
{
	.shared .align 4 .b8 buf[4096];
	.reg .pred %p<3>;
	.reg .b32 %r<20>;
	.reg .f32 %f<10>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [out];
	ld.param.u32 %r2, [n];
	mov.u32 %r1, %tid.x;
	shl.b32 %r4, %r1, 2;
	mov.u32 %r5, buf;
	add.s32 %r6, %r5, %r4;
	mov.f32 %f1, 0f3F800000;
	st.shared.f32 [%r6], %f1;
	bar.sync 0;
	xor.b32 %r7, %r4, 124;
	add.s32 %r8, %r5, %r7;
	mov.u32 %r3, 0;
	mov.f32 %f2, 0f00000000;
loop:
	ld.shared.f32 %f3, [%r8];
	ld.shared.f32 %f4, [%r6];
	add.f32 %f2, %f2, %f3;
	add.f32 %f2, %f2, %f4;
	add.s32 %r3, %r3, 1;
	setp.lt.s32 %p2, %r3, %r2;
	@%p2 bra loop;
	mul.wide.u32 %rd4, %r1, 4;
	add.s64 %rd5, %rd1, %rd4;
	st.global.f32 [%rd5], %f2;
	ret;
}
`

// BenchmarkMatrix is what a warp's mma take, of which there are few instructions.
func BenchmarkMatrix(b *testing.B) {
	for name, op := range map[string]string{"bf16": "m16n8k16.row.col.f32.bf16.bf16.f32", "s8": "m16n8k32.row.col.s32.s8.s8.s32"} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, Options{})
			f := r.load(shell(`
	mov.u32 %r6, 0;
again:
	mma.sync.aligned.`+op+` {%r10, %r11, %r12, %r13}, {%r1, %r2, %r3, %r4}, {%r1, %r2}, {%r10, %r11, %r12, %r13};
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p3, %r6, 1000;
	@%p3 bra again;`), 0)
			p := r.alloc(4)
			n := 0
			for b.Loop() {
				n += 1000
				if err := r.run(f, tensor.Launch{Block: [3]int{32}}, p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(n)*1e9, "ns/mma")
		})
	}
}

func BenchmarkLanes(b *testing.B) {
	for _, x := range []struct {
		name, src string
		o         Options
	}{{"arithmetic", arithmetic, Options{}}, {"shared/checked", sharedSum, Options{}}, {"shared/unchecked", sharedSum, Options{Unchecked: true}}} {
		b.Run(x.name, func(b *testing.B) {
			r := newRig(b, x.o)
			f := r.load(x.src, 0)
			out := r.alloc(4 * 256)
			for b.Loop() {
				if err := r.run(f, tensor.Launch{Block: [3]int{256}}, out, uint32(1000)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(r.dev.LaneInstructions())/b.Elapsed().Seconds()/1e6, "Mlane-instr/s")
		})
	}
}
