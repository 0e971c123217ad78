package ptx

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"netfusion/tensor"
)

// hopperHeader begins texts for compute capability 9.0, with as many lines as header.
const hopperHeader = ".version 8.0\n.target sm_90a\n.address_size 64\n"

// hopperRig is a rig of an H100.
func hopperRig(t testing.TB, seed uint64) *rig {
	return newRig(t, Options{Capability: 90, Multiprocessors: 132, SharedPerBlock: 227 << 10, Seed: seed, Instructions: 1 << 22})
}

// loadHopper compiles a text and returns its entry k.
func (r *rig) loadHopper(src string, dynamic int) tensor.Function {
	r.t.Helper()
	fs, err := r.dev.Load("test.ptx", hopperHeader+src, []tensor.Entry{{Name: "k", DynamicShared: dynamic}})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs[0]
}

func TestTextsForOneTarget(t *testing.T) {
	if _, err := Open(Options{Capability: 90}).Load("test.ptx", hopperHeader+shell(""), []tensor.Entry{{Name: "k"}}); err != nil {
		t.Error(err)
	}
	for _, capability := range []int{80, 89, 100} {
		if _, err := Open(Options{Capability: capability}).Load("test.ptx", hopperHeader+shell(""), nil); err == nil {
			t.Errorf("sm_90a on %d", capability)
		}
	}
}

// boxKernel copies a box to shared memory, where 1024-byte alignment is that of dynamic memory, and then to p. Coordinates follow p.
func boxKernel(rank, bytes int) string {
	var params, loads, at []string
	for i := range rank {
		params = append(params, fmt.Sprintf(", .param .u32 c%d", i))
		loads = append(loads, fmt.Sprintf("\tld.param.u32 %%r1%d, [c%d];\n", i, i))
		at = append(at, fmt.Sprintf("%%r1%d", i))
	}
	return fmt.Sprintf(`.extern .shared .align 1024 .b8 dyn[];
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 p%s)
{
	.shared .align 8 .b64 full;
	.reg .pred %%p<4>;
	.reg .b32 %%r<20>;
	.reg .b64 %%rd<9>;
	ld.param.u64 %%rd1, [p];
	mov.b64 %%rd2, map;
	cvta.param.u64 %%rd2, %%rd2;
	mov.u32 %%r1, %%tid.x;
	mov.u32 %%r2, dyn;
	mov.u32 %%r3, full;
%s	setp.ne.u32 %%p1, %%r1, 0;
	@%%p1 bra wait;
	mbarrier.init.shared::cta.b64 [%%r3], 1;
	fence.proxy.async.shared::cta;
	prefetch.tensormap [%%rd2];
	cp.async.bulk.prefetch.tensor.%[4]dd.L2.global.tile [%%rd2, {%[5]s}];
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%%r3], %[3]d;
	cp.async.bulk.tensor.%[4]dd.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%%r2], [%%rd2, {%[5]s}], [%%r3];
wait:
	bar.sync 0;
again:
	mbarrier.try_wait.parity.shared::cta.b64 %%p2, [%%r3], 0;
	@!%%p2 bra again;
	mov.u32 %%r4, %%r1;
next:
	shl.b32 %%r5, %%r4, 2;
	setp.ge.u32 %%p3, %%r5, %[6]d;
	@%%p3 bra done;
	add.u32 %%r6, %%r2, %%r5;
	ld.shared.u32 %%r7, [%%r6];
	cvt.u64.u32 %%rd3, %%r5;
	add.s64 %%rd3, %%rd1, %%rd3;
	st.global.u32 [%%rd3], %%r7;
	add.u32 %%r4, %%r4, 64;
	bra next;
done:
	ret;
}
`, strings.Join(params, ""), strings.Join(loads, ""), bytes, rank, strings.Join(at, ", "), bytes)
}

// TestBoxes copies boxes of one to five dimensions, inside and half outside of the tensor, with every swizzle, and compares with the
// tensor element by element.
func TestBoxes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		element, swizzle int
		dims, box        []int
		at               [][]int
	}{
		{4, 0, []int{40}, []int{16}, [][]int{{0}, {-3}, {30}, {100}}},
		{1, 0, []int{50, 9}, []int{32, 4}, [][]int{{0, 0}, {-5, 7}, {40, -2}}},
		{2, 128, []int{70, 33}, []int{64, 24}, [][]int{{0, 0}, {64, 16}, {-8, -3}, {0, 40}}},
		{2, 64, []int{40, 20}, []int{32, 16}, [][]int{{3, 5}, {20, 10}}},
		{4, 32, []int{9, 20}, []int{8, 16}, [][]int{{0, 1}, {5, -9}}},
		{4, 128, []int{10, 6, 5}, []int{8, 3, 2}, [][]int{{0, 0, 0}, {4, 4, 4}, {-1, -1, -1}}},
		{2, 0, []int{12, 5, 4, 3}, []int{8, 2, 3, 2}, [][]int{{2, 1, 1, 1}, {8, 4, -1, 2}}},
		{1, 0, []int{20, 3, 4, 3, 2}, []int{16, 2, 1, 2, 2}, [][]int{{1, 1, 1, 1, 0}, {-4, -1, 3, 2, -1}}},
	} {
		rank := len(c.dims)
		m := tensor.TensorMap{Element: c.element, Dims: c.dims, Box: c.box, Swizzle: c.swizzle}
		pitch, size := align(c.dims[0]*c.element, 16), c.element
		for i, n := range c.dims {
			if size *= c.box[i]; i > 0 {
				m.Strides = append(m.Strides, pitch)
				pitch *= n
			}
		}
		memory := make([]byte, pitch)
		for i := range memory {
			memory[i] = byte(1 + rng.IntN(255))
		}
		for n, at := range c.at {
			r := hopperRig(t, uint64(n))
			f := r.loadHopper(boxKernel(rank, size), align(size, 1024))
			m.Ptr = r.alloc(pitch)
			p := r.alloc(size)
			if err := r.dev.Upload(r.s, m.Ptr, memory); err != nil {
				t.Fatal(err)
			}
			args := append(make([]byte, 128), pack(p)...)
			for _, x := range at {
				args = binary.LittleEndian.AppendUint32(args, uint32(x))
			}
			if err := r.dev.Launch(r.s, f, tensor.Launch{Block: [3]int{64}, DynamicShared: align(size, 1024), Args: args, Maps: []tensor.TensorMap{m}}); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for _, w := range r.download(p, size/4) {
				got = binary.LittleEndian.AppendUint32(got, w)
			}
			span := c.box[0] * c.element
			for i := range size {
				row, col := i/span, i%span
				inside, from := true, 0
				for j, left := 1, row; j < rank; j++ {
					x := at[j] + left%c.box[j]
					left /= c.box[j]
					inside = inside && x >= 0 && x < c.dims[j]
					from += x * m.Strides[j-1]
				}
				x := at[0] + col/c.element
				inside = inside && x >= 0 && x < c.dims[0]
				want := byte(0)
				if inside {
					want = memory[from+at[0]*c.element+col]
				}
				// The chunk's number within the span, as tensor.TensorMap gives it, for rows of the span's length.
				chunk, offset := i/16, i%16
				switch c.swizzle {
				case 128:
					chunk = chunk&^7 | (chunk&7 ^ chunk/8%8)
				case 64:
					chunk = chunk&^3 | (chunk&3 ^ chunk/8%4)
				case 32:
					chunk = chunk&^1 | (chunk&1 ^ chunk/8%2)
				}
				if got[16*chunk+offset] != want {
					t.Fatalf("%v at %v: row %d, byte %d is %d, want %d", m, at, row, col, got[16*chunk+offset], want)
				}
			}
		}
	}
}

// TestBulkCopies brings bytes to shared memory, half of them by another thread than waits for them.
func TestBulkCopies(t *testing.T) {
	r := hopperRig(t, 1)
	f := r.loadHopper(shell(`
	mov.u32 %r6, buf;
	.shared .align 8 .b64 full;
	mov.u32 %r7, full;
	@!%p1 bra made;
	mbarrier.init.shared::cta.b64 [%r7], 2;
	fence.mbarrier_init.release.cluster;
made:
	bar.sync 0;
	and.b32 %r8, %r1, 31;
	setp.ne.u32 %p3, %r8, 0;
	@%p3 bra wait;
	shl.b32 %r9, %r1, 2;
	add.u32 %r10, %r6, %r9;
	mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%r7], 128;
	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r10], [%rd3], 128, [%r7];
wait:
	mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p4, [%r7], 0, 1000;
	@!%p4 bra wait;
	xor.b32 %r11, %r2, 252;
	add.u32 %r11, %r11, %r6;
	ld.shared.u32 %r12, [%r11];
	bar.sync 0;
	st.global.u32 [%rd3+256], %r12;`), 0)
	var words []uint32
	for i := range uint32(128) {
		words = append(words, 1000+i)
	}
	p := r.words(words...)
	if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
		t.Fatal(err)
	}
	expect(t, r.download(p+256, 64), "reversed", func(i int) uint32 { return uint32(1063 - i) })
}

// TestCounters uses an mbarrier by tokens and by parities, for several phases, with arrivals for more than one.
func TestCounters(t *testing.T) {
	for seed := range uint64(8) {
		r := hopperRig(t, seed)
		f := r.loadHopper(shell(`
	.shared .align 8 .b64 turn;
	.reg .b64 %token;
	mov.u32 %r7, turn;
	@!%p1 bra made;
	mbarrier.init.shared.b64 [%r7], 66;
made:
	bar.sync 0;
	mbarrier.test_wait.parity.shared.b64 %p5, [%r7], 1;
	selp.u32 %r20, 1, 0, %p5;
	mov.u32 %r8, 0;
	st.shared.u32 [%r4], %r1;
round:
	@!%p1 bra one;
	mbarrier.arrive.shared.b64 %token, [%r7], 3;
	bra came;
one:
	mbarrier.arrive.shared.b64 %token, [%r7];
came:
	mbarrier.try_wait.shared.b64 %p4, [%r7], %token;
	@!%p4 bra came;
	and.b32 %r9, %r8, 1;
	mbarrier.test_wait.parity.shared.b64 %p6, [%r7], %r9;
	selp.u32 %r10, 2, 0, %p6;
	add.u32 %r20, %r20, %r10;
	xor.b32 %r11, %r2, 128;
	add.u32 %r11, %r11, %r3;
	ld.shared.u32 %r12, [%r11];
	@!%p1 bra other;
	mbarrier.arrive.shared.b64 %token, [%r7], 3;
	bra read;
other:
	mbarrier.arrive.shared.b64 %token, [%r7];
read:
	mbarrier.try_wait.shared.b64 %p4, [%r7], %token;
	@!%p4 bra read;
	add.u32 %r12, %r12, 1;
	st.shared.u32 [%r4], %r12;
	add.u32 %r8, %r8, 2;
	setp.lt.u32 %p7, %r8, 6;
	@%p7 bra round;
	bar.sync 0;
	@%p1 mbarrier.inval.shared.b64 [%r7];
	ld.shared.u32 %r12, [%r4];
	shl.b32 %r20, %r20, 8;
	add.u32 %r20, %r20, %r12;
	st.global.u32 [%rd3], %r20;`), 0)
		p := r.alloc(256)
		if err := r.run(f, tensor.Launch{Block: [3]int{64}}, p); err != nil {
			t.Fatal(err)
		}
		// Before the first phase ends, the one before has. Three rounds exchange halves, and add one each.
		expect(t, r.download(p, 64), "phases", func(i int) uint32 { return 7<<8 + uint32(i^32) + 3 })
	}
}

// exchange: the blocks of a cluster of four write to each other's shared memory, read it, and arrive at each other's barriers.
const exchange = `.visible .entry k(.param .u64 p)
.explicitcluster
.reqnctapercluster 2, 2, 1
{
	.shared .align 16 .b8 mine[256];
	.shared .align 8 .b64 heard;
	.reg .pred %p<9>;
	.reg .b32 %r<30>;
	.reg .b64 %rd<9>;
	ld.param.u64 %rd1, [p];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %cluster_ctarank;
	mov.u32 %r3, %cluster_nctarank;
	mov.u32 %r4, mine;
	mov.u32 %r5, heard;
	setp.eq.u32 %p1, %r1, 0;
	@!%p1 bra made;
	mbarrier.init.shared::cta.b64 [%r5], 1;
	fence.mbarrier_init.release.cluster;
made:
	shl.b32 %r6, %r1, 2;
	add.u32 %r7, %r4, %r6;
	mad.lo.u32 %r8, %r2, 1000, %r1;
	st.shared.u32 [%r7], %r8;
	barrier.cluster.arrive.release;
	barrier.cluster.wait.acquire;
	add.u32 %r9, %r2, 1;
	and.b32 %r9, %r9, 3;
	mapa.shared::cluster.u32 %r10, %r7, %r9;
	ld.shared::cluster.u32 %r11, [%r10];
	mapa.shared::cluster.u32 %r12, %r5, %r9;
	barrier.cluster.arrive;
	barrier.cluster.wait;
	add.u32 %r11, %r11, 10000;
	st.shared::cluster.u32 [%r10], %r11;
	bar.sync 0;
	@%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r12];
hear:
	mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r5], 0;
	@!%p2 bra hear;
	ld.shared.u32 %r13, [%r7];
	mad.lo.u32 %r13, %r3, 100000, %r13;
	mov.u32 %r14, %ctaid.x;
	mov.u32 %r15, %ctaid.y;
	mov.u32 %r16, %nctaid.x;
	mad.lo.u32 %r14, %r15, %r16, %r14;
	mad.lo.u32 %r14, %r14, 64, %r1;
	mul.wide.u32 %rd2, %r14, 4;
	add.s64 %rd2, %rd1, %rd2;
	st.global.u32 [%rd2], %r13;
	barrier.cluster.arrive.relaxed;
	barrier.cluster.wait;
	ret;
}
`

func TestClusters(t *testing.T) {
	for seed := range uint64(8) {
		r := hopperRig(t, seed)
		f := r.loadHopper(exchange, 0)
		p := r.alloc(4 * 64 * 24)
		if err := r.run(f, tensor.Launch{Grid: [3]int{6, 4}, Block: [3]int{64}}, p); err != nil {
			t.Fatal(err)
		}
		expect(t, r.download(p, 64*24), "clusters", func(i int) uint32 {
			block := i / 64
			rank := block%6%2 + block/6%2*2
			return uint32(410000 + 1000*rank + i%64)
		})
		if err := r.dev.Launch(r.s, f, tensor.Launch{Grid: [3]int{5, 4}, Block: [3]int{64}, Args: pack(p)}); err == nil || !strings.Contains(err.Error(), "clusters") {
			t.Errorf("a grid of half clusters: %v", err)
		}
	}
}

// multicast: each of two blocks copies one half for both.
const multicast = `.visible .entry k(.param .u64 p)
.reqnctapercluster 2, 1, 1
{
	.shared .align 128 .b8 data[256];
	.shared .align 8 .b64 full;
	.reg .pred %p<9>;
	.reg .b16 %h<3>;
	.reg .b32 %r<30>;
	.reg .b64 %rd<9>;
	ld.param.u64 %rd1, [p];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %cluster_ctarank;
	mov.u32 %r4, data;
	mov.u32 %r5, full;
	shl.b32 %r6, %r2, 7;
	cvt.u64.u32 %rd2, %r6;
	add.s64 %rd2, %rd1, %rd2;
	add.u32 %r7, %r4, %r6;
	setp.eq.u32 %p1, %r1, 0;
	@!%p1 bra made;
	mbarrier.init.shared::cta.b64 [%r5], 1;
	fence.mbarrier_init.release.cluster;
made:
	barrier.cluster.arrive.release;
	barrier.cluster.wait.acquire;
	@!%p1 bra hear;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r5], 256;
	mov.u16 %h1, 3;
	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r7], [%rd2], 128, [%r5], %h1;
hear:
	mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5], 0;
	@!%p2 bra hear;
	shl.b32 %r8, %r1, 2;
	add.u32 %r8, %r8, %r4;
	ld.shared.u32 %r9, [%r8];
	mad.lo.u32 %r10, %r2, 64, %r1;
	mul.wide.u32 %rd3, %r10, 4;
	add.s64 %rd3, %rd1, %rd3;
	st.global.u32 [%rd3+256], %r9;
	barrier.cluster.arrive; // the end
	barrier.cluster.wait;
	ret;
}
`

func multicastRun(t *testing.T, src string, seed uint64) ([]uint32, error) {
	r := hopperRig(t, seed)
	f := r.loadHopper(src, 0)
	var words []uint32
	for i := range uint32(192) {
		words = append(words, 7*i)
	}
	p := r.words(words...)
	if err := r.run(f, tensor.Launch{Grid: [3]int{2}, Block: [3]int{64}}, p); err != nil {
		return nil, err
	}
	return r.download(p+256, 128), nil
}

func TestMulticast(t *testing.T) {
	for seed := range uint64(8) {
		got, err := multicastRun(t, multicast, seed)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, got, "multicast", func(i int) uint32 { return uint32(7 * (i % 64)) })
	}
}

// productKernel multiplies matrices that ordinary stores bring to shared memory. n columns; kind is that of the operands.
func productKernel(n int, kind string) string {
	var sums []string
	for i := range n / 2 {
		sums = append(sums, fmt.Sprintf("%%s%d", i))
	}
	list := "{" + strings.Join(sums, ", ") + "}"
	product := func(add string) string {
		return fmt.Sprintf("wgmma.mma_async.sync.aligned.m64n%dk16.f32.%s.%s %s, %%rd4, %%rd5, %s, 1, 1, 0, 0;", n, kind, kind, list, add)
	}
	var zero, stores strings.Builder
	for i, s := range sums {
		fmt.Fprintf(&zero, "\tmov.f32 %s, 0f42280000;\n", s) // 42: not to be read
		fmt.Fprintf(&stores, "\tst.global.f32 [%%rd6+%d], %s;\n", 4*i, s)
	}
	return fmt.Sprintf(`.extern .shared .align 1024 .b8 dyn[];
.visible .entry k(.param .u64 p, .param .u64 out, .param .u32 bytes)
{
	.reg .pred %%p<4>;
	.reg .b32 %%r<20>;
	.reg .f32 %%s<%d>;
	.reg .b64 %%rd<9>;
	ld.param.u64 %%rd1, [p];
	ld.param.u64 %%rd6, [out];
	ld.param.u32 %%r8, [bytes];
	mov.u32 %%r1, %%tid.x;
	mov.u32 %%r2, dyn;
	shl.b32 %%r4, %%r1, 2;
next:
	cvt.u64.u32 %%rd2, %%r4;
	add.s64 %%rd2, %%rd1, %%rd2;
	ld.global.u32 %%r5, [%%rd2];
	add.u32 %%r6, %%r2, %%r4;
	st.shared.u32 [%%r6], %%r5;
	add.u32 %%r4, %%r4, 512;
	setp.lt.u32 %%p1, %%r4, %%r8;
	@%%p1 bra next;
	fence.proxy.async.shared::cta;
	bar.sync 0;
	shr.u32 %%r6, %%r2, 4;
	cvt.u64.u32 %%rd4, %%r6;
	or.b64 %%rd4, %%rd4, 0x4000004000010000;
	add.s64 %%rd5, %%rd4, 514; // the second matrix begins 8192 bytes behind, and its values 32
%s	setp.ne.u32 %%p2, %%r1, %%r1;
	setp.eq.u32 %%p3, %%r1, %%r1;
	wgmma.fence.sync.aligned;
	%s
	add.s64 %%rd4, %%rd4, 4; // 32 values behind
	%s
	wgmma.commit_group.sync.aligned;
	wgmma.wait_group.sync.aligned 0;
	mul.wide.u32 %%rd7, %%r1, %d;
	add.s64 %%rd6, %%rd6, %%rd7;
%s	ret;
}
`, n/2+1, zero.String(), product("%p2"), product("%p3"), 2*n, stores.String())
}

// TestWarpgroupProducts lays random matrices out by the swizzle's definition, and compares with sums in float64.
func TestWarpgroupProducts(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for _, c := range []struct {
		n    int
		kind string
	}{{8, "bf16"}, {64, "bf16"}, {128, "bf16"}, {256, "bf16"}, {24, "f16"}} {
		a, b := make([]float64, 64*64), make([]float64, c.n*64)
		image := make([]byte, 8192+(c.n+7)/8*1024)
		lay := func(m []float64, at int) {
			for i := range m {
				m[i] = float64(rng.IntN(255)-127) / 16
				h := uint16(math.Float32bits(float32(m[i])) >> 16)
				if c.kind == "f16" {
					h = uint16(half.round(m[i], nearestEven))
				}
				row, col := i/64, i%64
				binary.LittleEndian.PutUint16(image[at+row*128+(col/8^row%8)*16+col%8*2:], h)
			}
		}
		lay(a, 0)
		lay(b, 8192)
		var words []uint32
		for i := 0; i < len(image); i += 4 {
			words = append(words, binary.LittleEndian.Uint32(image[i:]))
		}
		r := hopperRig(t, uint64(c.n))
		f := r.loadHopper(productKernel(c.n, c.kind), len(image))
		p, out := r.words(words...), r.alloc(64*c.n*4)
		if err := r.run(f, tensor.Launch{Block: [3]int{128}, DynamicShared: len(image)}, p, out, uint32(len(image))); err != nil {
			t.Fatal(err)
		}
		got := r.download(out, 64*c.n)
		for thread := range 128 {
			for i := range c.n / 2 {
				// The chapter "Register Fragments and Shared Memory Matrix Layouts" of the PTX ISA.
				row, col := thread/32*16+thread%32/4+i%4/2*8, i/4*8+thread%4*2+i%2
				var want float64
				for _, from := range []int{0, 32} {
					for k := range 16 {
						want += a[row*64+from+k] * b[col*64+16+k]
					}
				}
				if v := float64(math.Float32frombits(got[thread*c.n/2+i])); math.Abs(v-want) > 1e-4 {
					t.Fatalf("n %d: [%d][%d] = %v, want %v", c.n, row, col, v, want)
				}
			}
		}
	}
}

// hopperPlants are faults in the kernels above.
var hopperPlants = []struct {
	name, src, replace, with string
	kind                     Kind // "": what others did is not known, in one way or another
}{
	{"no fence after a barrier was made", multicast, "fence.mbarrier_init.release.cluster;", "", Unfenced},
	{"a cluster that does not wait for its barriers", multicast, "\tbarrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;\n", "", ""},
	{"a copy that nobody waits for", multicast, "@!%p2 bra hear;", "", ""},
	{"the phase before", multicast, "[%r5], 0;", "[%r5], 1;", ""},
	{"the phase after the only one", multicast, "@!%p2 bra hear;", "@!%p2 bra hear;\nmore:\n\tmbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5], 1;\n\t@!%p2 bra more;", Deadlock},
	{"fewer bytes than were announced", multicast, "_, [%r5], 256;", "_, [%r5], 272;", Deadlock},
	{"more bytes than were announced", multicast, "_, [%r5], 256;", "_, [%r5], 128;", ""},
	{"nothing announced", multicast, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r5], 256;", "mbarrier.arrive.shared::cta.b64 _, [%r5];", ""},
	{"an arrival too many", multicast, "mov.u16 %h1, 3;", "mov.u16 %h1, 3;\n\tmbarrier.arrive.shared::cta.b64 _, [%r5];", Illegal},
	{"a copy to a block that is not there", multicast, "mov.u16 %h1, 3;", "mov.u16 %h1, 7;", Illegal},
	{"both copies to one place", multicast, "add.u32 %r7, %r4, %r6;", "mov.u32 %r7, %r4;", Race},
	{"a copy to the wrong multiple", multicast, "add.u32 %r7, %r4, %r6;", "add.u32 %r7, %r4, 8;", Misaligned},
	{"a copy past the end", multicast, "[%rd2], 128, [%r5]", "[%rd2], 256, [%r5]", OutOfBounds},
	{"a copy of half a chunk", multicast, "[%rd2], 128, [%r5]", "[%rd2], 120, [%r5]", Illegal},
	{"a copy of what the launch writes", multicast, "@!%p1 bra hear;", "@!%p1 bra hear;\n\tst.global.u32 [%rd2], %r1;", Race},
	{"a wait without a barrier that was made", multicast, "mbarrier.init.shared::cta.b64 [%r5], 1;", "st.shared.u64 [%r5], %rd1;", Illegal},
	{"a cluster that is left early", multicast, "\tbarrier.cluster.arrive; // the end\n\tbarrier.cluster.wait;\n", "\t@%p1 bra out;\n\tmapa.shared::cluster.u32 %r20, %r8, 0;\n\tld.shared::cluster.u32 %r21, [%r20];\nout:\n", ""},
	{"an arrival at a cluster's barrier before the last was waited for", multicast, "barrier.cluster.arrive; // the end", "barrier.cluster.arrive;\n\tbarrier.cluster.arrive;", Divergent},
	{"a wait at a cluster's barrier without an arrival", multicast, "barrier.cluster.arrive; // the end", "", Divergent},
	{"data of another block without a barrier", exchange, "\tbarrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;\n", "", ""},
	{"a barrier of the cluster that releases nothing", exchange, "barrier.cluster.arrive.release;", "barrier.cluster.arrive.relaxed;", ""},
	{"a barrier of another block that was not fenced", exchange, "fence.mbarrier_init.release.cluster;", "", Unfenced},
	{"a block that is not in the cluster", exchange, "and.b32 %r9, %r9, 3;", "add.u32 %r9, %r9, 4;", Illegal},
	{"other threads' stores without a barrier", exchange, "bar.sync 0;", "", ""},
	{"stores that the tensor cores do not know of", productKernel(16, "bf16"), "fence.proxy.async.shared::cta;", "", Unfenced},
	{"other threads' operands without a barrier", productKernel(16, "bf16"), "bar.sync 0;", "", ""},
	{"sums that nobody fenced", productKernel(16, "bf16"), "wgmma.fence.sync.aligned;", "", Unfenced},
	{"sums that nobody waits for", productKernel(16, "bf16"), "wgmma.wait_group.sync.aligned 0;", "", Unawaited},
	{"a wait that leaves a group under way", productKernel(16, "bf16"), "wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;", Unawaited},
	{"a product in no group", productKernel(16, "bf16"), "wgmma.commit_group.sync.aligned;", "", Unawaited},
	{"a warp that multiplies others' matrices", productKernel(16, "bf16"), "add.s64 %rd4, %rd4, 4;", "and.b32 %r9, %r1, 32;\n\tshr.u32 %r9, %r9, 3;\n\tcvt.u64.u32 %rd7, %r9;\n\tadd.s64 %rd4, %rd4, %rd7;", Divergent},
	{"lanes that multiply different matrices", productKernel(16, "bf16"), "add.s64 %rd4, %rd4, 4;", "cvt.u64.u32 %rd7, %r1;\n\tadd.s64 %rd4, %rd4, %rd7;", Divergent},
	{"a matrix that begins anywhere", productKernel(16, "bf16"), "add.s64 %rd4, %rd4, 4;", "add.s64 %rd4, %rd4, 16;", Illegal},
	{"a matrix past the end", productKernel(16, "bf16"), "add.s64 %rd4, %rd4, 4;", "add.s64 %rd4, %rd4, 512;", OutOfBounds},
	{"operands that are overwritten under way", productKernel(16, "bf16"), "wgmma.commit_group.sync.aligned;", "wgmma.commit_group.sync.aligned;\n\tst.shared.u32 [%r2], %r1;", Race},
	{"a box that nobody waits for", boxKernel(1, 64), "@!%p2 bra again;", "", ""},
	{"a box of a map that is none", boxKernel(1, 64), "cvta.param.u64 %rd2, %rd2;", "cvta.param.u64 %rd2, %rd2;\n\tadd.s64 %rd2, %rd2, 64;", Illegal},
	{"a box of another rank", boxKernel(2, 64), "tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r2], [%rd2, {%r10, %r11}]",
		"tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r2], [%rd2, {%r10}]", Illegal},
}

func TestPlantedFaultsOfHopper(t *testing.T) {
	run := func(src string, seed uint64) error {
		switch {
		case strings.Contains(src, ".param .u64 out"):
			r := hopperRig(t, seed)
			f := r.loadHopper(src, 10240)
			return r.run(f, tensor.Launch{Block: [3]int{128}, DynamicShared: 10240}, r.words(make([]uint32, 2560)...), r.alloc(64*16*4), uint32(10240))
		case strings.Contains(src, "map[128]"):
			r := hopperRig(t, seed)
			f := r.loadHopper(src, 1024)
			m := tensor.TensorMap{Ptr: r.words(make([]uint32, 256)...), Element: 4, Dims: []int{16}, Box: []int{16}}
			n := 140
			if strings.Contains(src, "c1") {
				m.Dims, m.Box, m.Strides, n = []int{16, 2}, []int{8, 2}, []int{64}, 144
			}
			args := make([]byte, n)
			binary.LittleEndian.PutUint64(args[128:], uint64(r.alloc(64)))
			if err := r.dev.Launch(r.s, f, tensor.Launch{Block: [3]int{64}, DynamicShared: 1024, Args: args, Maps: []tensor.TensorMap{m}}); err != nil {
				t.Fatal(err)
			}
			return r.dev.Synchronize(r.s)
		case strings.Contains(src, "2, 2, 1"):
			r := hopperRig(t, seed)
			return r.run(r.loadHopper(src, 0), tensor.Launch{Grid: [3]int{2, 2}, Block: [3]int{64}}, r.alloc(4*64*4))
		}
		_, err := multicastRun(t, src, seed)
		return err
	}
	for _, p := range hopperPlants {
		t.Run(p.name, func(t *testing.T) {
			if strings.Count(p.src, p.replace) != 1 {
				t.Fatalf("%q is there %d times", p.replace, strings.Count(p.src, p.replace))
			}
			seen := 0
			for seed := range uint64(8) {
				if err := run(p.src, seed); err != nil {
					t.Fatalf("seed %d, without the fault: %v", seed, err)
				}
				faulty := strings.Replace(p.src, p.replace, p.with, 1)
				err := run(faulty, seed)
				if err == nil {
					continue // what depends on the order shows in some
				}
				seen++
				f, ok := faultOf(err)
				if !ok {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if p.kind != "" && f.Kind != p.kind {
					t.Fatalf("seed %d: %v, want %s", seed, err, p.kind)
				}
				switch f.Kind {
				case Race, Uninitialised, Unawaited, Unfenced, Illegal:
				default:
					if p.kind == "" {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
			}
			if seen < 8 && (p.kind != "" || seen == 0) {
				t.Fatalf("seen in %d orders of 8", seen)
			}
		})
	}
}

// What is not known to the interpreter is refused, not passed over.
func TestHopperInstructionsThatAreNotKnown(t *testing.T) {
	for _, s := range []string{
		"cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r1, %r1}], [%r3];",
		"cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r3], [%rd1, {%r1, %r1, %r1}], [%r3], {%h1};",
		"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [%rd1, {%r1}], [%r3];",
		"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, %rd1, %rd1, %p1, 1, 1, 1, 0;",
		"wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%f1, %f2, %f3, %f4}, %rd1, %rd1, %p1, 1, 1;",
		"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3}, %rd1, %rd1, %p1, 1, 1, 0, 0;",
		"mbarrier.arrive_drop.shared.b64 %rd1, [%r3];", "mbarrier.arrive.expect_tx.shared.b64 %rd1, [%r3];",
		"barrier.cluster.sync;", "mapa.u64 %rd1, %rd2, %r1;", "fence.proxy.tensormap::generic.acquire.gpu [%rd1], 128;",
		"setmaxnreg.inc.sync.aligned.u32 100;", "setmaxnreg.inc.u32 104;",
	} {
		if _, err := Open(Options{Capability: 90}).Load("test.ptx", hopperHeader+shell("\t"+s), []tensor.Entry{{Name: "k"}}); err == nil {
			t.Errorf("taken: %s", s)
		}
	}
	if _, err := Open(Options{Capability: 90}).Load("test.ptx", hopperHeader+shell("\tsetmaxnreg.dec.sync.aligned.u32 40;"), []tensor.Entry{{Name: "k"}}); err != nil {
		t.Error(err)
	}
}
