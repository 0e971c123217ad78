// What compute capability 9.0 adds: barriers in shared memory that count bytes, copies of boxes by the tensor memory accelerator,
// products of a warpgroup (four warps) on operands in shared memory. Thin names for PTX instructions of sm_90a.
#pragma once
#include "mma.cuh"

// A tensor map as the host's driver encodes it: a parameter of the kernel.
struct alignas(64) TensorMap {
	u64 opaque[16];
};

enum : int { warpgroup_size = 4 * warp_size };

// The thread block's number in its cluster.
inline u32 cluster_rank() {
	u32 r;
	asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
	return r;
}

// Barrier is completed, phase after phase, by so many arrivals and by the bytes that were announced.
struct Barrier {
	u64 state;

	u32 address() const { return shared_address(this); }
	void init(u32 arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(arrivals) : "memory"); }

	// expect arrives, and announces bytes that copies will bring.
	void expect(u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory"); }

	void arrive() { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory"); }

	// arrive_at arrives at the same barrier of a block of the cluster.
	void arrive_at(u32 rank) {
		asm volatile("{\n\t.reg .b32 there;\n\tmapa.shared::cluster.u32 there, %0, %1;\n\tmbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n\t}"
			:: "r"(address()), "r"(rank) : "memory");
	}

	// wait returns once the phase of that parity has completed: of a new barrier, 0 is the first, and 1 has completed.
	void wait(u32 parity) {
		asm volatile("{\n\t.reg .pred done;\nagain:\n\tmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n\t@!done bra again;\n\t}"
			:: "r"(address()), "r"(parity) : "memory");
	}
};

// After it, barriers that this thread has made can be used by other threads, blocks of the cluster, and copies.
inline void fence_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// All threads of a cluster arrive, and wait for the others to.
inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

// copy_box starts the copy of the box at these coordinates of a tensor, the innermost first, which completes on a barrier. With several
// blocks it goes to the same place in each block of the cluster, and completes on the same barrier of each.
#define COPY_BOX(rank, coordinates, next, ...) \
	if (blocks > 1) \
		asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {" coordinates "}], [%2], " next ";" \
			:: "r"(shared_address(to)), "l"(&map), "r"(b.address()), __VA_ARGS__, "h"(u16((1 << blocks) - 1)) : "memory"); \
	else \
		asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {" coordinates "}], [%2];" \
			:: "r"(shared_address(to)), "l"(&map), "r"(b.address()), __VA_ARGS__ : "memory")
template <int blocks = 1> inline void copy_box(void *to, const TensorMap &map, Barrier &b, int x, int y) {
	COPY_BOX("2d", "%3, %4", "%5", "r"(x), "r"(y));
}
template <int blocks = 1> inline void copy_box(void *to, const TensorMap &map, Barrier &b, int x, int y, int z) {
	COPY_BOX("3d", "%3, %4, %5", "%6", "r"(x), "r"(y), "r"(z));
}
template <int blocks = 1> inline void copy_box(void *to, const TensorMap &map, Barrier &b, int x, int y, int z, int u) {
	COPY_BOX("4d", "%3, %4, %5, %6", "%7", "r"(x), "r"(y), "r"(z), "r"(u));
}

// A matrix in shared memory for a warpgroup's product: rows of 64 bfloat16 (128 bytes), of which each eight have their chunks of 16
// bytes exchanged as copy_box leaves them with a map of swizzle 128. p is aligned to 1024.
inline u64 matrix(const void *p) {
	constexpr u64 eight_rows = 1024 / 16, swizzle_128 = 1;
	return (shared_address(p) & 0x3ffff) / 16 | u64(1) << 16 | eight_rows << 32 | swizzle_128 << 62;
}

// One step of k, 64 values: four products of 16, which are 32 bytes apart. It waits for its own end: other warpgroups of the
// multiprocessor keep the tensor cores busy meanwhile, and no sum that is on its way needs to be copied.
#define PRODUCT(shape, sums, a, b) "wgmma.mma_async.sync.aligned." shape ".f32.bf16.bf16 " sums ", " a ", " b ", add, 1, 1, 0, 0;\n\t"
#define NEXT_PRODUCT(shape, sums) "add.s64 a, a, 2;\n\tadd.s64 b, b, 2;\n\t" PRODUCT(shape, sums, "a", "b")
#define STEP(shape, sums, a, b, one) \
	"{\n\t.reg .pred add;\n\t.reg .b64 a, b;\n\tsetp.ne.b32 add, " one ", 0;\n\tmov.b64 a, " a ";\n\tmov.b64 b, " b ";\n\t" \
	"wgmma.fence.sync.aligned;\n\t" PRODUCT(shape, sums, "a", "b") NEXT_PRODUCT(shape, sums) NEXT_PRODUCT(shape, sums) \
	NEXT_PRODUCT(shape, sums) "wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;\n\t}"

#define SUMS_32 \
	"{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15," \
	" %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define SUMS_64 \
	"{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15," \
	" %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31," \
	" %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47," \
	" %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define IN_OUT_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define IN_OUT_16(i) IN_OUT_4(i), IN_OUT_4(i + 4), IN_OUT_4(i + 8), IN_OUT_4(i + 12)

// sum += a·bᵀ, of 64 rows of a and 64 or 128 of b. Sum 4·j + e is row lane/4 + e/2·8 of the warp's 16, column 8·j + lane%4·2 + e%2.
inline void multiply(float (&sum)[32], u64 a, u64 b) {
	asm volatile(STEP("m64n64k16", SUMS_32, "%32", "%33", "%34") : IN_OUT_16(0), IN_OUT_16(16) : "l"(a), "l"(b), "r"(1) : "memory");
}
inline void multiply(float (&sum)[64], u64 a, u64 b) {
	asm volatile(STEP("m64n128k16", SUMS_64, "%64", "%65", "%66")
		: IN_OUT_16(0), IN_OUT_16(16), IN_OUT_16(32), IN_OUT_16(48) : "l"(a), "l"(b), "r"(1) : "memory");
}
