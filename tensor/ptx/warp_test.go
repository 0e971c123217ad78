package ptx

import (
	"fmt"
	"math"
	"math/bits"
	"testing"

	"netfusion/tensor"
)

// threads runs body in one block of n threads; what it leaves in %r20 is returned for every thread.
func threads(t *testing.T, n int, body string, o Options) []uint32 {
	t.Helper()
	r := newRig(t, o)
	f := r.load(shell(body+"\n\tst.global.u32 [%rd3], %r20;"), 0)
	out := r.alloc(4 * n)
	if err := r.run(f, tensor.Launch{Block: [3]int{n}}, out); err != nil {
		t.Fatal(err)
	}
	return r.download(out, n)
}

func expect(t *testing.T, got []uint32, what string, want func(i int) uint32) {
	t.Helper()
	for i, v := range got {
		if v != want(i) {
			t.Fatalf("%s: thread %d has %d, want %d", what, i, v, want(i))
		}
	}
}

func TestShuffles(t *testing.T) {
	for _, x := range []struct {
		mode    string
		b, c    int
		from    func(lane int) int
		invalid func(lane int) bool
	}{
		{"bfly", 5, 31, func(l int) int { return l ^ 5 }, nil},
		{"down", 3, 31, func(l int) int { return min(l+3, 31) }, func(l int) bool { return l+3 > 31 }},
		{"up", 3, 0, func(l int) int { return l - 3 }, func(l int) bool { return l < 3 }},
		{"idx", 7, 31, func(int) int { return 7 }, nil},
		{"down", 2, 24<<8 | 7, func(l int) int { return l + 2 }, func(l int) bool { return l%8+2 > 7 }}, // in parts of 8 lanes
		{"idx", 9, 16<<8 | 15, func(l int) int { return l&16 | 9 }, nil},
	} {
		invalid := func(l int) bool { return x.invalid != nil && x.invalid(l) }
		got := threads(t, 64, fmt.Sprintf(`
	mul.lo.u32 %%r6, %%r1, 10;
	shfl.sync.%s.b32 %%r20|%%p3, %%r6, %d, %d, -1;
	@%%p3 add.u32 %%r20, %%r20, 1000;`, x.mode, x.b, x.c), Options{})
		expect(t, got, "shfl."+x.mode, func(i int) uint32 {
			if invalid(i % 32) {
				return uint32(10 * i)
			}
			return uint32(10*(i&^31+x.from(i%32)) + 1000)
		})
	}
}

func TestVotesAndMatches(t *testing.T) {
	got := threads(t, 64, `
	setp.lt.u32 %p3, %r1, 40;
	vote.sync.ballot.b32 %r20, %p3, -1;`, Options{})
	expect(t, got, "ballot", func(i int) uint32 {
		if i < 32 {
			return allLanes
		}
		return 0xff
	})
	got = threads(t, 64, `
	setp.lt.u32 %p3, %r1, 40;
	vote.sync.all.pred %p4, %p3, -1;
	vote.sync.any.pred %p5, !%p3, -1;
	vote.sync.uni.pred %p6, %p3, -1;
	selp.u32 %r20, 1, 0, %p4;
	@%p5 add.u32 %r20, %r20, 2;
	@%p6 add.u32 %r20, %r20, 4;`, Options{})
	expect(t, got, "vote", func(i int) uint32 {
		if i < 32 {
			return 1 + 4
		}
		return 2
	})
	got = threads(t, 32, `
	and.b32 %r6, %r1, 3;
	match.any.sync.b32 %r20, %r6, -1;`, Options{})
	expect(t, got, "match.any", func(i int) uint32 { return 0x11111111 << (i % 4) })
	got = threads(t, 64, `
	max.u32 %r6, %r1, 32;
	match.all.sync.b32 %r20|%p3, %r6, -1;
	@!%p3 mov.u32 %r20, 7;`, Options{})
	expect(t, got, "match.all", func(i int) uint32 {
		if i < 32 {
			return allLanes
		}
		return 7
	})
	got = threads(t, 32, `
	mov.u32 %r20, 0;
	setp.lt.u32 %p3, %r1, 5;
	@!%p3 bra over;
	activemask.b32 %r20;
over:`, Options{})
	expect(t, got, "activemask", func(i int) uint32 {
		if i < 5 {
			return 31
		}
		return 0
	})
	for op, want := range map[string]uint32{"add.s32": 496, "min.s32": 0, "max.u32": 31, "or.b32": 31, "and.b32": 0, "xor.b32": 0} {
		got = threads(t, 32, "\tredux.sync."+op+" %r20, %r1, -1;", Options{})
		expect(t, got, "redux."+op, func(int) uint32 { return want })
	}
}

func TestBarriersThatReduce(t *testing.T) {
	got := threads(t, 96, `
	setp.lt.u32 %p3, %r1, 70;
	barrier.cta.red.popc.aligned.u32 %r20, 0, %p3;
	bar.red.and.pred %p4, 1, %p3;
	bar.red.or.pred %p5, 2, !%p3;
	@%p4 add.u32 %r20, %r20, 1000;
	@%p5 add.u32 %r20, %r20, 2000;`, Options{})
	expect(t, got, "bar.red", func(int) uint32 { return 2070 })
}

// TestProducersArrive: one warp waits for the other at a barrier that the other one only arrives at.
func TestProducersArrive(t *testing.T) {
	got := threads(t, 64, `
	setp.lt.u32 %p3, %r1, 32;
	mov.u32 %r20, 0;
	@!%p3 bra consume;
	add.u32 %r6, %r1, 5;
	st.shared.u32 [%r4], %r6;
	bar.arrive 1, 64;
	bra over;
consume:
	bar.sync 1, 64;
	ld.shared.u32 %r20, [%r4+-128];
over:`, Options{Seed: 3})
	expect(t, got, "bar.arrive", func(i int) uint32 {
		if i < 32 {
			return 0
		}
		return uint32(i - 32 + 5)
	})
}

// TestDivergence: each lane goes round a loop as often as its number says, through one of two ways, and all meet again.
func TestDivergence(t *testing.T) {
	got := threads(t, 64, `
	mov.u32 %r20, 0;
	mov.u32 %r6, 0;
	bra test;
odd:
	add.u32 %r20, %r20, 100;
	bra next;
body:
	and.b32 %r7, %r6, 1;
	setp.eq.u32 %p3, %r7, 1;
	@%p3 bra odd;
	add.u32 %r20, %r20, 1;
next:
	add.u32 %r6, %r6, 1;
test:
	setp.lt.u32 %p4, %r6, %r1;
	@%p4 bra body;
	bar.sync 0;
	activemask.b32 %r8;
	setp.ne.u32 %p5, %r8, -1;
	@%p5 mov.u32 %r20, 0;`, Options{})
	expect(t, got, "divergence", func(i int) uint32 { return uint32(100*(i/2) + (i+1)/2) })

	got = threads(t, 64, `
	rem.u32 %r6, %r1, 3;
	mov.u32 %r20, 5;
table: .branchtargets zero, one, two;
	brx.idx %r6, table;
two:
	add.u32 %r20, %r20, 1;
one:
	add.u32 %r20, %r20, 10;
zero:
	shfl.sync.bfly.b32 %r9|%p3, %r20, 1, 31, -1;`, Options{})
	expect(t, got, "brx.idx", func(i int) uint32 { return []uint32{5, 15, 16}[i%3] })
}

// TestThreadsThatEndEarly: the rest of the warp goes on, and barriers wait for nobody who has ended.
func TestThreadsThatEndEarly(t *testing.T) {
	r := newRig(t, Options{})
	f := r.load(shell(`
	st.global.u32 [%rd3], %r1;
	setp.ge.u32 %p3, %r1, 40;
	@%p3 ret;
	bar.sync 0;
	mov.u32 %r20, 77;
	st.global.u32 [%rd3], %r20;`), 0)
	out := r.alloc(4 * 128)
	if err := r.run(f, tensor.Launch{Block: [3]int{128}}, out); err != nil {
		t.Fatal(err)
	}
	expect(t, r.download(out, 128), "ret", func(i int) uint32 {
		if i < 40 {
			return 77
		}
		return uint32(i)
	})
}

func TestSpecialRegisters(t *testing.T) {
	r := newRig(t, Options{Seed: 9})
	f := r.load(shell(`
	mov.u32 %r6, %ntid.x;
	mov.u32 %r7, %ntid.y;
	mov.u32 %r8, %tid.y;
	mov.u32 %r9, %tid.z;
	mad.lo.u32 %r10, %r9, %r7, %r8;
	mad.lo.u32 %r10, %r10, %r6, %r1;
	mov.u32 %r11, %ctaid.y;
	mov.u32 %r12, %nctaid.x;
	mad.lo.u32 %r11, %r11, %r12, %r5;
	mad.lo.u32 %r13, %r11, 24, %r10;
	mul.wide.u32 %rd4, %r13, 8;
	add.s64 %rd4, %rd1, %rd4;
	mov.u32 %r14, %laneid;
	mov.u32 %r15, %lanemask_lt;
	popc.b32 %r15, %r15;
	sub.u32 %r14, %r14, %r15;
	mov.u32 %r16, %warpid;
	add.u32 %r14, %r14, %r16;
	st.global.v2.u32 [%rd4], {%r13, %r14};`), 0)
	out := r.alloc(8 * 24 * 6)
	if err := r.run(f, tensor.Launch{Grid: [3]int{3, 2}, Block: [3]int{4, 3, 2}}, out); err != nil {
		t.Fatal(err)
	}
	for i, v := range r.download(out, 2*24*6) {
		if want := []uint32{uint32(i / 2), 0}[i%2]; v != want {
			t.Fatalf("word %d: %d", i, v)
		}
	}
}

// TestAtomics lets 64 threads of 8 blocks work on one word each.
func TestAtomics(t *testing.T) {
	n := 64 * 8
	float := func(v float32) uint32 { return math.Float32bits(v) }
	for _, x := range []struct {
		op      string
		operand string
		initial uint32
		want    uint32
	}{
		{"add.u32", "%r1", 5, uint32(5 + 8*64*63/2)},
		{"add.s32", "-1", 0, uint32(-n)},
		{"add.f32", "0f3F000000", float(1), float(1 + 256)},
		{"min.u32", "%r1", 40, 0},
		{"max.u32", "%r1", 40, 63},
		{"min.s32", "-3", 40, uint32(1<<32 - 3)},
		{"max.s32", "-3", 1 << 31, uint32(1<<32 - 3)},
		{"and.b32", "0xff0", 0x1ff, 0x1f0},
		{"or.b32", "%r1", 0x100, 0x13f},
		{"xor.b32", "1", 7, 7},
		{"inc.u32", "9", 0, uint32(n % 10)},
		{"dec.u32", "9", 0, uint32((10 - n%10) % 10)},
		{"exch.b32", "123", 0, 123},
	} {
		for _, form := range []string{"red.global.%s [%%rd1], %s;", "atom.global.%s %%r9, [%%rd1], %s;", "atom.relaxed.gpu.global.%s %%r9, [%%rd1], %s;"} {
			if x.op == "exch.b32" && form[0] == 'r' {
				continue
			}
			r := newRig(t, Options{Seed: 2})
			f := r.load(shell(fmt.Sprintf(form, x.op, x.operand)), 0)
			p := r.words(x.initial)
			if err := r.run(f, tensor.Launch{Grid: [3]int{8}, Block: [3]int{64}}, p); err != nil {
				t.Fatal(err)
			}
			if got := r.download(p, 1)[0]; got != x.want {
				t.Errorf(form+": %#x, want %#x", x.op, x.operand, got, x.want)
			}
		}
	}
	// In shared memory, what each thread finds is different from all others'.
	got := threads(t, 64, `
	mov.u32 %r6, 0;
	@%p1 st.shared.u32 [%r3], %r6;
	bar.sync 0;
	atom.shared.add.u32 %r20, [%r3], 1;`, Options{Seed: 4})
	var seen [2]uint32
	for _, v := range got {
		if v < 64 {
			seen[v/32] |= 1 << (v % 32)
		}
	}
	if bits.OnesCount32(seen[0])+bits.OnesCount32(seen[1]) != 64 {
		t.Errorf("atom.shared.add: %v", got)
	}
	// A lock by compare and swap, taken by one thread of each warp in turn.
	got = threads(t, 128, `
	mov.u32 %r6, 0;
	@%p1 st.shared.v2.u32 [%r3], {%r6, %r6};
	bar.sync 0;
	and.b32 %r7, %r1, 31;
	setp.ne.u32 %p3, %r7, 0;
	@%p3 bra over;
again:
	atom.acquire.cta.shared.cas.b32 %r8, [%r3], 0, 1;
	setp.ne.u32 %p4, %r8, 0;
	@%p4 bra again;
	ld.shared.u32 %r9, [%r3+4];
	add.u32 %r9, %r9, 3;
	st.shared.u32 [%r3+4], %r9;
	atom.release.cta.shared.exch.b32 %r8, [%r3], 0;
over:
	bar.sync 0;
	ld.shared.u32 %r20, [%r3+4];`, Options{Seed: 5})
	expect(t, got, "lock", func(int) uint32 { return 12 })

	r := newRig(t, Options{})
	f := r.load(shell("\tmov.b32 %r6, 0x3C004000;\n\tred.global.add.noftz.f16x2 [%rd1], %r6;"), 0)
	p := r.words(0x3C003C00)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
		t.Fatal(err)
	}
	if got := r.download(p, 1)[0]; got != uint32(half.round(65, nearestEven)<<16|half.round(129, nearestEven)) {
		t.Errorf("red.add.f16x2: %#x", got)
	}
}

// TestBlocksThatWaitForEachOther: blocks that wait for each other, and counters between blocks, under many schedules.
func TestBlocksThatWaitForEachOther(t *testing.T) {
	for seed := range uint64(20) {
		for body, want := range map[string]uint32{message: 42, lastBlock: 0 + 1 + 2 + 3} {
			r := newRig(t, Options{Seed: seed})
			f := r.load(shell(body), 0)
			p := r.words(make([]uint32, 64)...)
			l := tensor.Launch{Grid: [3]int{4}, Block: [3]int{64}}
			if body == message {
				l.Grid, l.Cooperative = [3]int{2}, true
			}
			if err := r.run(f, l, p); err != nil {
				t.Fatal(err)
			}
			if got := r.download(p, 9)[8]; got != want {
				t.Fatalf("seed %d: %d, want %d", seed, got, want)
			}
		}
	}
}
