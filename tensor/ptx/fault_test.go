package ptx

import (
	"strings"
	"testing"

	"netfusion/tensor"
)

// shell is a kernel with a pointer argument p in %rd1 and the thread's number in %r1, times four in %r2 and %rd2, around body.
func shell(body string) string {
	return `.extern .shared .align 16 .b8 dyn[];
.visible .entry k(.param .u64 p)
{
	.shared .align 16 .b8 buf[1024];
	.reg .pred %p<9>;
	.reg .b16 %h<9>;
	.reg .b32 %r<30>;
	.reg .f32 %f<9>;
	.reg .b64 %rd<9>;
	ld.param.u64 %rd1, [p];
	mov.u32 %r1, %tid.x;
	shl.b32 %r2, %r1, 2;
	cvt.u64.u32 %rd2, %r2;
	mov.u32 %r3, buf;
	add.u32 %r4, %r3, %r2;
	add.s64 %rd3, %rd1, %rd2;
	mov.u32 %r5, %ctaid.x;
	setp.eq.u32 %p1, %r1, 0;
	setp.eq.u32 %p2, %r5, 0;
` + body + "\n\tret;\n}\n"
}

// plant is a kernel without a fault, and the change that gives it one.
type plant struct {
	name     string
	body     string
	replace  string // what is taken out of body
	with     string // and put in its place
	kind     Kind
	at       string // where the fault is seen
	launch   tensor.Launch
	contains string
}

var plants = []plant{
	{"a store past the end", `
	st.global.u32 [%rd3], %r1;`, "[%rd3]", "[%rd3+4]", OutOfBounds, "st.global", tensor.Launch{}, "0 bytes past the end of an allocation of 256 bytes"},
	{"a load before the beginning", `
	st.global.u32 [%rd3], %r1;
	bar.sync 0;
	ld.global.u32 %r9, [%rd3];`, "%r9, [%rd3]", "%r9, [%rd3+-4]", OutOfBounds, "ld.global", tensor.Launch{}, ""},
	{"a vector partly past the end", `
	st.global.u32 [%rd3], %r1;
	and.b64 %rd4, %rd2, 240;
	add.s64 %rd4, %rd1, %rd4;
	bar.sync 0;
	ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%rd4];`, "and.b64 %rd4, %rd2, 240", "shl.b64 %rd4, %rd2, 2", OutOfBounds, "ld.global", tensor.Launch{}, ""},
	{"shared memory past the end", `
	st.shared.u32 [%r4], %r1;`, "[%r4]", "[%r4+1000]", OutOfBounds, "st.shared", tensor.Launch{}, "static shared memory of 1024 bytes"},
	{"dynamic shared memory past the end", `
	mov.u32 %r6, dyn;
	add.u32 %r6, %r6, %r2;
	st.shared.u32 [%r6], %r1;`, "st.shared.u32 [%r6]", "st.shared.u32 [%r6+64]", OutOfBounds, "st.shared", tensor.Launch{DynamicShared: 256}, ""},
	{"a null pointer", `
	st.global.u32 [%rd3], %r1;`, "[%rd3]", "[%rd2]", OutOfBounds, "st.global", tensor.Launch{}, ""},
	{"a misaligned load", `
	st.global.u32 [%rd3], %r1;
	and.b64 %rd4, %rd2, 120;
	add.s64 %rd4, %rd1, %rd4;
	bar.sync 0;
	ld.global.u64 %rd5, [%rd4];`, "120", "124", Misaligned, "ld.global", tensor.Launch{}, ""},
	{"a misaligned shared vector", `
	shl.b32 %r6, %r1, 4;
	add.u32 %r6, %r6, %r3;
	st.shared.v4.u32 [%r6], {%r1, %r1, %r1, %r1};`, "shl.b32 %r6, %r1, 4", "shl.b32 %r6, %r1, 3", Misaligned, "st.shared", tensor.Launch{}, ""},
	{"uninitialised shared memory", `
	st.shared.u32 [%r4], %r1;
	ld.shared.u32 %r9, [%r4];`, "st.shared.u32 [%r4], %r1", "st.shared.u16 [%r4], %h1", Uninitialised, "ld.shared", tensor.Launch{}, ""},
	{"a global allocation read before it was written", `
	st.global.u32 [%rd3], %r1;
	ld.global.u32 %r9, [%rd3];`, "st.global.u32 [%rd3], %r1;", "", Uninitialised, "ld.global", tensor.Launch{}, ""},
	{"a barrier that half a warp reaches", `
	setp.lt.u32 %p3, %r1, 64;
	@!%p3 bra over;
	bar.sync 0;
over:`, "%r1, 64", "%r1, 16", Divergent, "bar.sync", tensor.Launch{}, "lanes 0xffff"},
	{"a predicated barrier", `
	setp.lt.u32 %p3, %r1, 64;
	@%p3 bar.sync 0;`, "%r1, 64", "%r1, 48", Divergent, "bar.sync", tensor.Launch{}, ""},
	{"two warps at different barriers", `
	setp.lt.u32 %p3, %r1, 64;
	@!%p3 bra other;
	bar.sync 0;
	bra done;
other:
	bar.sync	0;
done:`, "%r1, 64", "%r1, 32", Divergent, "", tensor.Launch{}, "other warps of the block wait at line"},
	{"a warp that waits for one that waits elsewhere", `
	setp.lt.u32 %p3, %r1, 32;
	@%p3 bra first;
	bar.sync 1, 64;
	bra done;
first:
	bar.sync 1, 64;
done:`, "first:\n\tbar.sync 1, 64", "first:\n\tbar.sync 2, 64", Deadlock, "", tensor.Launch{}, ""},
	{"a missing barrier", `
	st.shared.u32 [%r4], %r1;
	bar.sync 0;
	xor.b32 %r6, %r2, 128;
	add.u32 %r6, %r6, %r3;
	ld.shared.u32 %r9, [%r6];`, "bar.sync 0;", "", "", "ld.shared", tensor.Launch{}, ""},
	{"a missing barrier before the buffer is used again", `
	st.shared.u32 [%r4], %r1;
	bar.sync 0;
	xor.b32 %r6, %r2, 128;
	add.u32 %r6, %r6, %r3;
	ld.shared.u32 %r9, [%r6];
	barrier.sync 0;
	st.shared.u32 [%r4], %r9;`, "barrier.sync 0;", "", Race, "", tensor.Launch{}, "nothing orders the two"},
	{"a barrier of the wrong warps", `
	st.shared.u32 [%r4], %r1;
	bar.sync 1, 64;
	xor.b32 %r6, %r2, 128;
	add.u32 %r6, %r6, %r3;
	ld.shared.u32 %r9, [%r6];`, "bar.sync 1, 64", "bar.sync 1, 32", "", "ld.shared", tensor.Launch{}, ""},
	{"lanes of a warp without a barrier", `
	st.shared.u32 [%r4], %r1;
	bar.warp.sync -1;
	xor.b32 %r6, %r2, 4;
	add.u32 %r6, %r6, %r3;
	ld.shared.u32 %r9, [%r6];`, "bar.warp.sync -1;", "", Race, "ld.shared", tensor.Launch{}, "of block [0 0 0] wrote"},
	{"lanes that write what others of the warp read", `
	st.shared.u32 [%r4], %r1;
	bar.warp.sync -1;
	xor.b32 %r6, %r2, 4;
	add.u32 %r6, %r6, %r3;
	ld.shared.u32 %r9, [%r6];
	bar.warp.sync 0xffffffff;
	st.shared.u32 [%r4], %r9;`, "bar.warp.sync 0xffffffff;", "", Race, "", tensor.Launch{}, "of block [0 0 0] read"},
	{"bytes of one word by different lanes", `
	add.u32 %r6, %r3, %r1;
	st.shared.u8 [%r6], %r1;
	ld.shared.u8 %r9, [%r6];
	add.u32 %r9, %r9, 1;
	st.shared.u8 [%r6], %r9;
	ld.shared.u8 %r9, [%r6];`, "st.shared.u8 [%r6], %r9", "st.shared.u8 [%r3+100], %r9", Race, "st.shared.u8 [%r3+100]", tensor.Launch{}, ""},
	{"two lanes write one word", `
	st.shared.u32 [%r4], %r1;`, "[%r4]", "[%r3]", Race, "st.shared", tensor.Launch{}, ""},
	{"two blocks write one word", `
	mul.wide.u32 %rd5, %r5, 4;
	add.s64 %rd5, %rd1, %rd5;
	@%p1 st.global.u32 [%rd5], %r1;`, "[%rd5], %r1", "[%rd1], %r1", Race, "@%p1 st", tensor.Launch{Grid: [3]int{4}}, ""},
	{"a block reads what another one writes", `
	@!%p2 bra second;
	st.global.u32 [%rd3], %r1;
	bra over;
second:
	setp.eq.u32 %p3, %r1, 65;
	@%p3 st.global.u32 [%rd1], %r1;
over:`, "@%p3 st.global.u32 [%rd1], %r1", "ld.global.u32 %r9, [%rd3]", "", "", tensor.Launch{Grid: [3]int{2}}, ""},
	{"a counter without atomics", `
	@%p1 red.global.add.u32 [%rd1], 1;`, "red.global.add.u32 [%rd1], 1", "st.global.u32 [%rd1], 1", Race, "@%p1", tensor.Launch{Grid: [3]int{4}}, ""},
	{"an atomic beside a plain read", `
	atom.global.add.u32 %r6, [%rd1], 1;
	setp.eq.u32 %p3, %r6, 1000;
	@%p3 ld.global.u32 %r9, [%rd1];`, "%r6, 1000", "%r6, 40", Race, "@%p3 ld", tensor.Launch{}, ""},
	{"results of other blocks without a fence", lastBlock, "membar.gl;", "", Race, "", tensor.Launch{Grid: [3]int{4}}, ""},
	{"results of other warps without a barrier before the fence", lastBlock, "bar.sync 0; // written", "", Race, "", tensor.Launch{Grid: [3]int{4}}, ""},
	{"a flag that releases nothing", message, "st.release.gpu", "st.relaxed.gpu", Race, "ld.global.u32 %r9", tensor.Launch{Grid: [3]int{2}, Cooperative: true}, ""},
	{"a flag that nobody acquires", message, "ld.acquire.gpu", "ld.relaxed.gpu", Race, "ld.global.u32 %r9", tensor.Launch{Grid: [3]int{2}, Cooperative: true}, ""},
	{"read-only loads of what the launch writes", `
	st.global.u32 [%rd3], %r1;
	ld.global.u32 %r9, [%rd3];`, "ld.global.u32", "ld.global.nc.u32", Race, "ld.global", tensor.Launch{}, "which this launch writes to"},
	{"a cp.async without a wait", asyncCopy, "cp.async.wait_group 0;", "", Unawaited, "ld.shared", tensor.Launch{}, ""},
	{"a wait that leaves one group under way", asyncCopy, "cp.async.wait_group 0;", "cp.async.wait_group 1;", Unawaited, "ld.shared", tensor.Launch{}, ""},
	{"a wait without a commit", asyncCopy, "cp.async.commit_group;", "", Unawaited, "ld.shared", tensor.Launch{}, ""},
	{"other threads' copies without a barrier", asyncCopy, "bar.sync 0; // landed", "", "", "ld.shared", tensor.Launch{}, ""},
	{"a shuffle of lanes that are elsewhere", `
	setp.lt.u32 %p3, %r1, 64;
	@!%p3 bra over;
	shfl.sync.bfly.b32 %r9|%p4, %r1, 1, 31, -1;
over:`, "%r1, 64", "%r1, 3", Divergent, "shfl.sync", tensor.Launch{}, ""},
	{"a branch beyond its table", `
	and.b32 %r6, %r1, 1;
table: .branchtargets even, odd;
	brx.idx %r6, table;
even:
	mov.u32 %r7, 0;
odd:`, "%r1, 1", "%r1, 3", Illegal, "brx.idx", tensor.Launch{}, ""},
	{"a loop without an end", `
	mov.u32 %r6, 0;
again:
	add.u32 %r6, %r6, 1;
	setp.lt.u32 %p3, %r6, 100;
	@%p3 bra again;`, "@%p3 bra", "bra", Endless, "", tensor.Launch{}, ""},
	{"a trap", `
	setp.gt.u32 %p3, %r1, 63;
	@%p3 trap;`, "%r1, 63", "%r1, 62", Trap, "@%p3 trap", tensor.Launch{}, ""},
}

// lastBlock: every block leaves a word, and the block that counts last adds them up.
const lastBlock = `
	shl.b32 %r6, %r5, 2;
	add.u32 %r6, %r6, 16;
	cvt.u64.u32 %rd5, %r6;
	add.s64 %rd5, %rd1, %rd5;
	setp.eq.u32 %p5, %r1, 32;
	@%p5 st.global.u32 [%rd5], %r5;
	bar.sync 0; // written
	@!%p1 bra over;
	membar.gl;
	atom.global.add.u32 %r7, [%rd1], 1;
	setp.ne.u32 %p4, %r7, 3;
	@%p4 bra over;
	membar.gl ;
	ld.global.u32 %r9, [%rd1+16];
	ld.global.u32 %r10, [%rd1+20];
	ld.global.u32 %r11, [%rd1+24];
	ld.global.u32 %r12, [%rd1+28];
	add.u32 %r9, %r9, %r10;
	add.u32 %r11, %r11, %r12;
	add.u32 %r9, %r9, %r11;
	st.global.u32 [%rd1+32], %r9;
over:`

// message: block 0 writes a word and raises a flag, block 1 waits for the flag and reads the word.
const message = `
	@!%p1 bra over;
	@!%p2 bra receive;
	st.global.u32 [%rd1+16], 42;
	st.release.gpu.global.u32 [%rd1], 1;
	bra over;
receive:
	ld.acquire.gpu.global.u32 %r6, [%rd1];
	setp.eq.u32 %p3, %r6, 0;
	@%p3 bra receive;
	ld.global.u32 %r9, [%rd1+16];
	st.global.u32 [%rd1+32], %r9;
over:`

// asyncCopy brings a buffer to shared memory, from where each thread reads what another one brought.
const asyncCopy = `
	cp.async.ca.shared.global [%r4], [%rd3], 4;
	cp.async.commit_group;
	cp.async.wait_group 0;
	bar.sync 0; // landed
	xor.b32 %r6, %r2, 128;
	add.u32 %r6, %r6, %r3;
	ld.shared.u32 %r9, [%r6];`

// initialised are the plants whose kernels expect zeros in memory.
func initialised(name string) bool {
	return !strings.HasPrefix(name, "a global allocation")
}

func runPlant(t *testing.T, p plant, body string, seed uint64) error {
	r := newRig(t, Options{Seed: seed, Instructions: 1 << 20})
	f := r.load(shell(body), 256)
	ptr := r.alloc(256)
	if initialised(p.name) {
		if err := r.dev.Upload(r.s, ptr, make([]byte, 256)); err != nil {
			t.Fatal(err)
		}
	}
	l := p.launch
	l.Block = [3]int{64}
	return r.run(f, l, ptr)
}

// TestPlantedFaultsAreCaught runs every kernel with its fault and without, under several schedules.
func TestPlantedFaultsAreCaught(t *testing.T) {
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			if strings.Count(p.body, p.replace) != 1 {
				t.Fatalf("%q is there %d times", p.replace, strings.Count(p.body, p.replace))
			}
			faulty := strings.Replace(p.body, p.replace, p.with, 1)
			for seed := range uint64(8) {
				if err := runPlant(t, p, p.body, seed); err != nil {
					t.Fatalf("seed %d, without the fault: %v", seed, err)
				}
				err := runPlant(t, p, faulty, seed)
				f, ok := faultOf(err)
				if !ok {
					t.Fatalf("seed %d: not seen: %v", seed, err)
				}
				// What is missing may show as a race, or as memory that was not written yet.
				if p.kind != "" && f.Kind != p.kind || p.kind == "" && f.Kind != Race && f.Kind != Uninitialised && f.Kind != Unawaited {
					t.Fatalf("seed %d: %v, want %s", seed, err, p.kind)
				}
				if p.at != "" {
					if p.kind != "" {
						wantFault(t, err, p.kind, shell(faulty), p.at)
					} else {
						wantFault(t, err, f.Kind, shell(faulty), p.at)
					}
				}
				if f.Kernel != "k" || f.File != "test.ptx" || !strings.Contains(err.Error(), p.contains) {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}
