// Package program on the GPU: the forward pass of a network for few rows as one cooperative kernel. Each block works through a list
// of steps that program.go has made of the network's instructions.
//
// Weights never depend on what is computed. So a block copies those of the next steps to shared memory, a page each, while it
// still waits for the rows that this step multiplies by them: memory does not idle between layers.
//
// Blocks hand values to each other as words of 64 bits, a payload below and the number of the launch above: one float32 (single)
// or two neighbours of a row in bfloat16 (pair). A word is written and read as a whole, by relaxed accesses at the scope of the
// GPU: who sees the launch's number sees the payload. So a value is its own signal, and a layer costs one store and one load that
// sees it. A counter would cost the fence between a tile's stores and its counting, and the load that follows once it is
// seen. In a launch every word is written once and nothing is written over, so no block can be too slow to read. The kernel itself counts
// launches in control[0]: a replayed graph has nothing to clear.
//
// Every block has its own copy of what is small and changes step by step, such as the state of a flow: local memory, part of its
// shared memory, which all blocks bring up to date alike.
//
// Grid: as many blocks as the lists are for, all resident; blocks of 256.
#include "functions.cuh"
#include "mma.cuh"

enum : int { threads = 256, warps = threads / warp_size, columns = 16, row_group = 8, row_groups = 4, most_rows = row_group * row_groups };
enum : int { most_chunks = 128 }; // of a row of a page

// How a matrix is stored.
enum Kind : u32 { none, plain, local, single, pair };

// Matrix is rows of values. at is an address if it is plain, from earlier in the stream or for later; an offset in values if it is local,
// and in bytes from the words' memory if it is of words. ld is the row stride in values or words.
struct Matrix {
	u64 at;
	u32 ld;
	u32 kind;

	// from is the part of the matrix from a row on.
	Matrix from(int row) const { return {at + u64(row) * ld * (kind == plain ? 4 : kind == local ? 1 : 8), ld, kind}; }
};

enum Op : u32 { multiply_op, couple_op, move_op, attend_op, pool_op, embed_op };

// Step is what a block does between two meetings of its threads. What the fields mean for each Op is told there.
struct __align__(16) Step {
	Matrix x, y, z, out, copy;
	const char *weights;
	const float *bias, *scale;
	const int *index;
	const float *gamma, *beta;
	const int *more;
	u32 stride, bytes, height, chunks; // of the page: between rows, of a row, rows, 16-byte chunks of a row in shared memory
	u32 op, m, n, k;
	u32 begin, depth, across;
	float number;
	u32 act, norm_act, flags;
};

enum Flag : u32 { first_page = 1, last_page = 2, unit_length = 4, fixed_moments = 8 };

enum : int { step_chunks = sizeof(Step) / 16 };

// Layout says where things lie in a block's shared memory, in bytes; before them there are 2·pages steps.
struct Layout {
	int pages, page_bytes; // the ring
	int ring, work, parts, local;
};

// Weights come from memory once in a launch: what is in the L2 cache for longer is not to make room for them.
inline u64 passing() {
	u64 policy;
	asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}
inline void copy_async(u32 *dst, const void *src, int size, u64 policy) {
	asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(shared_address(dst)),
		"l"(__cvta_generic_to_global(src)), "r"(size), "l"(policy) : "memory");
}

// The same for one word, or zero if it is not there.
inline void copy_word(u32 *dst, const void *src, bool there) {
	asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(there ? 4 : 0) : "memory");
}

inline void prefetch(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(p))); }

struct Words {
	u64 a, b;
};

// p is aligned to 16 bytes; each word is an access of its own.
inline Words load_words(const u64 *p) {
	Words w;
	asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(w.a), "=l"(w.b) : "l"(__cvta_generic_to_global(p)) : "memory");
	return w;
}
inline void store_words(u64 *p, u64 a, u64 b) {
	asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "l"(a), "l"(b) : "memory");
}
inline void store_word(u64 *p, u64 a) {
	asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "l"(a) : "memory");
}

// Two neighbours in shared memory, aligned to 8 bytes.
inline float2 load_two(const float *p) {
	float2 v;
	asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(shared_address(p)) : "memory");
	return v;
}
inline int2 load_two(const int *p) {
	int2 v;
	asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(shared_address(p)) : "memory");
	return v;
}

inline float low_half(u32 w) { return __uint_as_float(w << 16); }
inline float high_half(u32 w) { return __uint_as_float(w & 0xffff0000); }

// Waits until all but the last n groups of copies of this thread have arrived.
inline void wait_copies(int n) {
	switch (n) {
	case 0: return wait_copies<0>();
	case 1: return wait_copies<1>();
	case 2: return wait_copies<2>();
	case 3: return wait_copies<3>();
	case 4: return wait_copies<4>();
	case 5: return wait_copies<5>();
	default: return wait_copies<6>();
	}
}

// A row in shared memory of so many chunks of 16 bytes, a multiple of four, is followed by the next one so far behind that the
// chunks t … t+3 of neighbouring rows are in different banks.
inline int pitch(int chunks) { return 16 * chunks | 64; }

// Weights are the left operand of tensor cores here, a tile's 16 columns, and rows the right one, eight at a time: the fragments are
// those of mma.cuh, with the int8 formats changed over.
struct Bfloat : BF16 {
	enum : int { per_chunk = 8 };
};

struct Octet {
	using Sum = int;
	enum : int { per_chunk = 16 };
	static void multiply(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
		asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
			: "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
	}
};

// Of a row of x in uint8.
struct Scale {
	float step;
	int zero;
};

// What values of a row lie between, with 0.
struct Extremes {
	float low, high, peak;

	Extremes with(const Extremes &r) const { return {fminf(low, r.low), fmaxf(high, r.high), larger(peak, r.peak)}; }
};

template <class Format> struct Machine {
	using Sum = typename Format::Sum;
	const Layout &l;
	char *shared; // dynamic
	u64 *words;
	u32 epoch;
	Scale *scales;     // [most_rows]
	Extremes *extremes; // [most_rows]
	u64 policy;
	Sum sum[row_groups][4]; // of a tile, between its pages

	int warp() const { return threadIdx.x / warp_size; }
	float *locals() const { return (float *)(shared + l.local); }
	char *work() const { return shared + l.work; }
	bool stale(u64 word) const { return u32(word >> 32) != epoch; }
	u64 word(u32 payload) const { return u64(epoch) << 32 | payload; }

	// fetch starts the copy of a step's page: weights, and what else lies in memory but does not depend on the launch.
	void fetch(const Step &s, char *page) const {
		switch (s.op) {
		case multiply_op: {
			int row = threadIdx.x / 16;
			const char *from = s.weights + u64(row) * s.stride;
			for (int at = threadIdx.x % 16 * 16; at < 16 * s.chunks; at += 256) {
				bool there = row < s.height && at < s.bytes;
				copy_async((u32 *)(page + row * pitch(s.chunks) + at), there ? from + at : s.weights, there ? 16 : 0, policy);
			}
			u32 *to = behind(s, page);
			if (row < 3) {
				int j = threadIdx.x % 16;
				const void *of = row == 0 ? (const void *)s.bias : row == 1 ? (const void *)s.scale : s.index;
				bool there = of && j < s.n;
				copy_word(to + threadIdx.x, there ? (const char *)of + 4 * j : s.weights, there);
			}
			if (!(s.flags & first_page)) return;
			if (s.gamma)
				for (int j = threadIdx.x; j < s.k; j += threads) {
					copy_word(to + 3 * columns + j, s.gamma + j, true);
					copy_word(to + 3 * columns + s.k + j, s.beta + j, true);
				}
			// The words that this thread will wait for first are brought near.
			int x = threadIdx.x >> s.across, u = threadIdx.x & ((1 << s.across) - 1);
			if (s.x.kind >= single && x < s.m) prefetch(words + s.x.at / 8 + u64(x) * s.x.ld + min(2 * u, s.x.ld - 1));
			return;
		}
		case move_op:
			for (int j = threadIdx.x; j < s.n; j += threads) {
				u32 *to = (u32 *)page + j;
				auto copy = [&](const void *from) { // one behind the other, those that there are
					if (!from) return;
					copy_word(to, (const char *)from + 4 * j, true);
					to += s.n;
				};
				copy(s.index);
				copy(s.beta);
				copy(s.scale);
				copy(s.bias);
			}
			return;
		case attend_op:
			if (s.more && threadIdx.x == 0) copy_word((u32 *)page, s.more, true);
		}
	}

	// behind is what a page has behind its weights: bias, scale and index of the columns; then gamma and beta.
	static u32 *behind(const Step &s, char *page) { return (u32 *)(page + columns * pitch(s.chunks)); }

	// gather waits for m rows of n values of x and calls put(row, unit, a, b) with the payloads of every two neighbouring words, or of the
	// two values that would be words. What lies behind n is 0. The threads of a row are 2^across; each has so many loads (ahead) on the
	// way at a time.
	template <int ahead, class Put> void gather(const Step &s, Matrix x, int m, int n, Put put) const {
		int across = 1 << s.across, begin = threadIdx.x & (across - 1), count = x.kind == pair ? (n + 1) / 2 : n, units = (count + 1) / 2;
		for (int row = threadIdx.x >> s.across; row < m; row += threads >> s.across) {
			if (x.kind < single) {
				for (int u = begin; u < units; u += across) {
					float2 v = stored(x, row, u, n);
					put(row, u, __float_as_uint(v.x), __float_as_uint(v.y));
				}
				continue;
			}
			const u64 *from = words + x.at / 8 + u64(row) * x.ld;
#pragma unroll 1
			for (int u = begin; u < units; u += ahead * across) {
				Words w[ahead];
				bool missing;
				do {
					missing = false;
#pragma unroll
					for (int a = 0; a < ahead; a++) {
						int at = 2 * (u + a * across);
						if (at >= count) continue;
						w[a] = load_words(from + at);
						missing |= stale(w[a].a) || at + 1 < count && stale(w[a].b);
					}
				} while (missing);
#pragma unroll
				for (int a = 0; a < ahead; a++) {
					int at = 2 * (u + a * across);
					if (at < count) put(row, at / 2, u32(w[a].a), at + 1 < count ? u32(w[a].b) : 0);
				}
			}
		}
	}

	// at is where a row of a plain or local matrix begins.
	float *at(const Matrix &x, int row) const { return (x.kind == local ? locals() + x.at : (float *)x.at) + u64(row) * x.ld; }

	// stored are the values at 2u and 2u+1 of a row of x [.][n], which is plain or local, and 0 behind n.
	float2 stored(const Matrix &x, int row, int u, int n) const {
		const float *from = at(x, row) + 2 * u;
		return make_float2(from[0], 2 * u + 1 < n ? from[1] : 0);
	}

	// values is stored for any x but pairs: words are waited for.
	float2 values(const Matrix &x, int row, int u, int n) const {
		if (x.kind < single) return stored(x, row, u, n);
		const u64 *from = words + x.at / 8 + u64(row) * x.ld + 2 * u;
		bool both = 2 * u + 1 < n;
		Words w;
		do w = load_words(from);
		while (stale(w.a) || both && stale(w.b));
		return make_float2(__uint_as_float(u32(w.a)), both ? __uint_as_float(u32(w.b)) : 0);
	}

	// emit writes the values a and b of columns j and j+1 of a row of x [.][n], where there is a second one. j is even.
	void emit(const Matrix &x, int row, int j, int n, float a, float b) const {
		bool both = j + 1 < n;
		if (x.kind == pair) {
			store_word(words + x.at / 8 + u64(row) * x.ld + j / 2, word(bf16x2(a, both ? b : 0)));
			return;
		}
		if (x.kind == single) {
			u64 *to = words + x.at / 8 + u64(row) * x.ld + j;
			if (both)
				store_words(to, word(__float_as_uint(a)), word(__float_as_uint(b)));
			else
				store_word(to, word(__float_as_uint(a)));
			return;
		}
		float *to = at(x, row) + j;
		to[0] = a;
		if (both) to[1] = b;
	}

	// normalise gives a row of n values in shared memory, a warp's own, its moments, as layernorm_f32, or those that are in gamma and beta
	// already, and an activation. If it copies, it writes them to s.copy, too.
	void normalise(const Step &s, const float *gamma, const float *beta, float *x, int n) const {
		float first = 0, mean = 0, scale = 1;
		if (!(s.flags & fixed_moments)) {
			float sum = 0, squares = 0;
			first = x[0];
			for (int j = lane(); j < n; j += warp_size) sum += x[j] - first;
			mean = warp_sum(sum) / n;
			for (int j = lane(); j < n; j += warp_size) {
				float d = x[j] - first - mean;
				squares = fmaf(d, d, squares);
			}
			scale = 1 / sqrtf(warp_sum(squares) / n + s.number); // a sum is also where all have read x[0]
		}
		for (int j = lane(); j < n; j += warp_size) x[j] = activate(s.norm_act, fmaf((x[j] - first - mean) * scale, gamma[j], beta[j]));
	}

	// round makes operands of tensor cores of the m rows of k values in the stage, and zeros behind each.
	void round(Bfloat, const Step &s, char *to, const float *stage) const {
		int row_pitch = pitch(s.depth), stage_pitch = (s.k + 3) & ~3;
		for (int row = warp(); row < s.m; row += warps)
			for (int j = 2 * lane(); j < 8 * s.depth; j += 2 * warp_size) {
				float2 v = j < s.k ? load_two(stage + row * stage_pitch + j) : make_float2(0, 0);
				*(u32 *)(to + row * row_pitch + 2 * j) = bf16x2(v.x, v.y);
			}
	}

	// In uint8 by each row's Range. The warps share few rows.
	void round(Octet, const Step &s, char *to, const float *stage) const {
		int row_pitch = pitch(s.depth), stage_pitch = (s.k + 3) & ~3, parts = max(warps / s.m, 1), part = warp() % parts;
		if (s.gamma) __syncthreads(); // one warp has normalised a row
		for (int row = warp() / parts; row < s.m; row += warps / parts) {
			const float *x = stage + row * stage_pitch;
			Extremes r = {0, 0, 0};
			for (int j = lane() + part * warp_size; j < s.k; j += parts * warp_size) r = r.with({x[j], x[j], fabsf(x[j])});
			r = {-warp_max(-r.low), warp_max(r.high), warp_max(r.peak)};
			if (lane() == 0) extremes[row * parts + part] = r;
		}
		__syncthreads();
		for (int row = warp() / parts; row < s.m; row += warps / parts) {
			const float *x = stage + row * stage_pitch;
			Extremes e = extremes[row * parts];
			for (int i = 1; i < parts; i++) e = e.with(extremes[row * parts + i]);
			Range r(e.low, e.high, e.peak);
			for (int j = 4 * (lane() + part * warp_size); j < 16 * s.depth; j += 4 * parts * warp_size) {
				float4 v = j < s.k ? load_shared(x + j) : make_float4(0, 0, 0, 0); // what is behind k is multiplied by 0
				*(u32 *)(to + row * row_pitch + j) = r.of(v.x) | r.of(v.y) << 8 | r.of(v.z) << 16 | u32(r.of(v.w)) << 24;
			}
			if (part == 0 && lane() == 0) scales[row] = {r.step, r.zero};
		}
	}

	// The rows of a product lie at the beginning of the work memory, those that must be float32 first behind them.
	void take_rows(const Step &s, char *page) {
		char *x = work();
		int row_pitch = pitch(s.depth), bytes = 16 * s.depth;
		if (Format::per_chunk == 8 && s.gamma == nullptr) {
			int filled = s.x.kind == pair ? (s.k + 3) / 4 * 8 : (s.k + 1) / 2 * 4; // bytes
			auto put = [&](int row, int unit, u32 a, u32 b) {
				char *to = x + row * row_pitch;
				if (s.x.kind == pair)
					*(uint2 *)(to + 8 * unit) = make_uint2(a, b);
				else
					*(u32 *)(to + 4 * unit) = bf16x2(__uint_as_float(a), __uint_as_float(b));
			};
			if (filled <= 16 << s.across) // what a thread waits for is hardly more than one load: no time is to be lost with others
				gather<2>(s, s.x, s.m, s.k, put);
			else
				gather<8>(s, s.x, s.m, s.k, put);
			for (int row = warp(); row < s.m; row += warps)
				for (int at = filled + 4 * lane(); at < bytes; at += 4 * warp_size) *(u32 *)(x + row * row_pitch + at) = 0;
			return;
		}
		float *stage = (float *)(x + s.m * row_pitch);
		const float *gamma = (const float *)behind(s, page) + 3 * columns;
		int stage_pitch = (s.k + 3) & ~3;
		gather<8>(s, s.x, s.m, s.k, [&](int row, int unit, u32 a, u32 b) { store_shared(stage + row * stage_pitch + 2 * unit, __uint_as_float(a), __uint_as_float(b)); });
		if ((s.k + 1) / 2 * 2 < stage_pitch) // rows are read four values at a time
			for (int row = threadIdx.x; row < s.m; row += threads) store_shared(stage + (row + 1) * stage_pitch - 2, 0.f, 0.f);
		__syncthreads();
		for (int row = warp(); s.gamma && row < s.m; row += warps) {
			float *from = stage + row * stage_pitch;
			normalise(s, gamma, gamma + s.k, from, s.k);
			__syncwarp(); // what follows has other lanes for its values
			for (int j = 2 * lane(); s.copy.kind != none && j < s.k; j += 2 * warp_size) {
				float2 v = load_two(from + j);
				emit(s.copy, row, j, s.k, v.x, v.y);
			}
		}
		round(Format(), s, x, stage);
	}

	float finish(const Step &s, float sum, int, float scale, int) const { return s.scale ? sum * scale : sum; }
	float finish(const Step &s, int sum, int i, float scale, int weights) const {
		return __fmul_rn(float(sum - scales[i].zero * weights), __fmul_rn(scales[i].step, scale));
	}

	// A tile of x·Wᵀ: 16 columns, of which n are there, and m rows. x has k values a row; a page has those from chunk s.begin on. The
	// warps share a page's k, and have their weights in registers before the rows come. out = act(scale·sum + bias) + z.
	void multiply(const Step &s, char *page) {
		constexpr int span = 4 * warps, turns = most_chunks / span;
		int g = lane() / 4, t = lane() % 4, page_pitch = pitch(s.chunks), row_pitch = pitch(s.depth);
		const char *w = page + g * page_pitch + 16 * t, *x = work() + 16 * (t + s.begin);
		uint4 low[turns], high[turns];
#pragma unroll
		for (int a = 0; a < turns; a++) {
			int c = 4 * warp() + a * span;
			if (c < s.chunks) {
				low[a] = *(const uint4 *)(w + 16 * c);
				high[a] = *(const uint4 *)(w + 8 * page_pitch + 16 * c);
			}
		}
		if (s.flags & first_page) {
#pragma unroll
			for (int r = 0; r < row_groups; r++)
#pragma unroll
				for (int e = 0; e < 4; e++) sum[r][e] = 0;
			take_rows(s, page);
			__syncthreads();
		}
		bool few = s.m <= row_group;
#pragma unroll
		for (int a = 0; a < turns; a++) {
			int c = 4 * warp() + a * span;
			if (c >= s.chunks) continue;
			auto add = [&](int r, Sum(&one)[4], Sum(&other)[4]) {
				uint4 v = *(const uint4 *)(x + min(row_group * r + g, s.m - 1) * row_pitch + 16 * c);
				Format::multiply(one, {low[a].x, high[a].x, low[a].y, high[a].y}, v.x, v.y);
				Format::multiply(other, {low[a].z, high[a].z, low[a].w, high[a].w}, v.z, v.w);
			};
			if (few) {
				add(0, sum[a % 2 * 2], sum[a % 2 * 2 + 1]); // of other rows there is no use: so there are four sums that do not wait for each other
				continue;
			}
#pragma unroll
			for (int r = 0; r < row_groups; r++)
				if (row_group * r < s.m) add(r, sum[r], sum[r]);
		}
		if (!(s.flags & last_page)) return;
		if (few)
#pragma unroll
			for (int e = 0; e < 4; e++) sum[0][e] = (sum[0][e] + sum[1][e]) + (sum[2][e] + sum[3][e]);
		constexpr int part_pitch = columns + 4; // the lanes of a store are in different banks
		int rows = (s.m + row_group - 1) / row_group * row_group;
		Sum *parts = (Sum *)(shared + l.parts), *mine = parts + warp() * rows * part_pitch;
#pragma unroll
		for (int r = 0; r < row_groups; r++)
			if (row_group * r < s.m) {
#pragma unroll
				for (int e = 0; e < 4; e++) mine[(row_group * r + 2 * t + e % 2) * part_pitch + g + e / 2 * 8] = sum[r][e];
			}
		__syncthreads();
		const u32 *of = behind(s, page);
		const float *bias = (const float *)of, *scale = bias + columns;
		const int *index = (const int *)of + 2 * columns;
		// Rows that half a warp reads are four apart, so that they are in different banks.
		int i = threadIdx.x / (columns / 2), j = threadIdx.x % (columns / 2) * 2;
		i = i & ~7 | i % 2 * 4 | i % 8 / 2;
		if (i < s.m && j < s.n) {
			Sum a = 0, b = 0;
#pragma unroll
			for (int part = 0; part < warps; part++) {
				auto two = load_two(parts + (part * rows + i) * part_pitch + j);
				a += two.x;
				b += two.y;
			}
			float va = finish(s, a, i, scale[j], index[j]), vb = finish(s, b, i, scale[j + 1], index[j + 1]);
			if (s.bias) {
				va = __fadd_rn(va, bias[j]);
				vb = __fadd_rn(vb, bias[j + 1]);
			}
			va = activate(s.act, va);
			vb = activate(s.act, vb);
			if (s.z.kind != none) {
				float2 v = values(s.z, i, j / 2, s.n);
				va = __fadd_rn(va, v.x);
				vb = __fadd_rn(vb, v.y);
			}
			emit(s.out, i, j, s.n, va, vb);
		}
	}

	// each calls f(row, u) for every two columns 2u and 2u+1 of m rows of n.
	template <class F> void each(const Step &s, int m, int n, F f) const {
		int across = 1 << s.across;
		for (int row = threadIdx.x >> s.across; row < m; row += threads >> s.across)
			for (int u = threadIdx.x & (across - 1); u < (n + 1) / 2; u += across) f(row, u);
	}

	// The inverse of an affine coupling, in local memory: out = (out - t)·exp(-s), s = α·tanh(raw/α), raw in x, t in y, α the number.
	void couple(const Step &s) const {
		float inverse = 1 / s.number;
		each(s, s.m, s.n, [&](int row, int u) {
			bool both = 2 * u + 1 < s.n;
			const u64 *from = words + s.x.at / 8 + u64(row) * s.x.ld + 2 * u, *shift = words + s.y.at / 8 + u64(row) * s.y.ld + 2 * u;
			Words raw, t;
			do {
				raw = load_words(from);
				t = load_words(shift);
			} while (stale(raw.a) || stale(t.a) || both && (stale(raw.b) || stale(t.b)));
			float *v = at(s.out, row) + 2 * u;
			auto undo = [&](float v, u64 raw, u64 t) {
				return (v - __uint_as_float(u32(t))) * exponential(-(tanh_of(__uint_as_float(u32(raw)) * inverse) * s.number));
			};
			v[0] = undo(v[0], raw.a, t.a);
			if (both) v[1] = undo(v[1], raw.b, t.b);
		});
	}

	// out[i][j] = (v + beta[j])·scale[j] + bias[j], each step rounded, where v is x[i][index[j]], or 0 where that is negative; without an
	// index it is x[i][j], or, with y, y + factor·(x - y), the factor being gamma[0], in memory.
	void move(const Step &s, const char *page) const {
		const int *index = (const int *)page;
		const float *before = (const float *)page + (s.index ? s.n : 0), *scale = before + (s.beta ? s.n : 0), *after = scale + (s.scale ? s.n : 0);
		each(s, s.m, s.n, [&](int row, int u) {
			int j = 2 * u;
			bool both = j + 1 < s.n;
			float2 v;
			if (s.index) {
				const float *from = at(s.x, row);
				int a = index[j], b = both ? index[j + 1] : -1;
				v = make_float2(a < 0 ? 0 : from[a], b < 0 ? 0 : from[b]);
			} else
				v = values(s.x, row, u, s.n);
			if (s.y.kind != none) {
				float2 w = values(s.y, row, u, s.n);
				float factor = s.gamma[0];
				v = make_float2(__fadd_rn(w.x, __fmul_rn(factor, v.x - w.x)), __fadd_rn(w.y, __fmul_rn(factor, v.y - w.y)));
			}
			auto map = [&](float v, int j) {
				if (s.beta) v = __fadd_rn(v, before[j]);
				if (s.scale) v = __fmul_rn(v, scale[j]);
				return s.bias ? __fadd_rn(v, after[j]) : v;
			};
			emit(s.out, row, j, s.n, map(v.x, j), both ? map(v.y, j + 1) : 0);
		});
	}

	// there is how many of n rows count: as many as lies in memory, or all.
	static int there(const Step &s, const int *count, int n) { return s.more ? min(n, *count) : n; }

	// out = softmax(x·yᵀ)·z of one head: m queries, and of n keys and values those that there are, of k channels, an even number.
	void attend(const Step &s, const char *page) const {
		int n = there(s, (const int *)page, s.n), odd = s.k + 1, row = n + 1;
		float *q = (float *)work(), *k = q + s.m * odd, *v = k + n * odd, *scores = v + n * odd;
		auto to = [&](float *at, const Matrix &from) {
			return [=](int row, int unit, u32 a, u32 b) { // k may be no multiple of four
				int j = from.kind == pair ? 4 * unit : 2 * unit;
				float *p = at + row * odd + j;
				if (from.kind != pair) {
					p[0] = __uint_as_float(a);
					p[1] = __uint_as_float(b);
					return;
				}
				p[0] = low_half(a);
				p[1] = high_half(a);
				if (j + 2 < s.k) {
					p[2] = low_half(b);
					p[3] = high_half(b);
				}
			};
		};
		gather<2>(s, s.x, s.m, s.k, to(q, s.x));
		gather<2>(s, s.y, n, s.k, to(k, s.y));
		gather<2>(s, s.z, n, s.k, to(v, s.z));
		__syncthreads();
		for (int i = threadIdx.x; i < s.m * n; i += threads) {
			const float *a = q + i / n * odd, *b = k + i % n * odd;
			float sum = 0;
			for (int p = 0; p < s.k; p++) sum = fmaf(a[p], b[p], sum);
			scores[i / n * row + i % n] = sum;
		}
		__syncthreads();
		for (int i = warp(); i < s.m; i += warps) {
			float *w = scores + i * row, top = -__int_as_float(0x7f800000), sum = 0;
			for (int j = lane(); j < n; j += warp_size) top = larger(top, w[j]);
			top = warp_max(top);
			for (int j = lane(); j < n; j += warp_size) sum += w[j] = exponential(w[j] - top);
			float scale = 1 / warp_sum(sum);
			for (int j = lane(); j < n; j += warp_size) w[j] *= scale;
		}
		__syncthreads();
		for (int i = threadIdx.x; i < s.m * (s.k / 2); i += threads) {
			int query = i / (s.k / 2), j = i % (s.k / 2) * 2;
			float a = 0, b = 0;
			for (int p = 0; p < n; p++) {
				a = fmaf(scores[query * row + p], v[p * odd + j], a);
				b = fmaf(scores[query * row + p], v[p * odd + j + 1], b);
			}
			emit(s.out, query, j, s.k, a, b);
		}
	}

	// out = the mean of those of the m rows of x [m][k] that there are, each normalised first, divided by its Euclidean norm if
	// unit_length. height rows are taken at a time.
	void pool(const Step &s) const {
		__shared__ float squares[warps];
		float *stage = (float *)work(), *mean = stage + s.height * ((s.k + 3) & ~3), square = 0;
		int stage_pitch = (s.k + 3) & ~3, m = there(s, s.more, s.m);
		for (int j = threadIdx.x; j < s.k; j += threads) mean[j] = 0;
		for (int begin = 0; begin < m; begin += s.height) {
			int rows = min(m - begin, s.height);
			__syncthreads(); // the last ones are done with
			gather<8>(s, s.x.from(begin), rows, s.k, [&](int row, int unit, u32 a, u32 b) { store_shared(stage + row * stage_pitch + 2 * unit, __uint_as_float(a), __uint_as_float(b)); });
			__syncthreads();
			for (int row = warp(); row < rows; row += warps) normalise(s, s.gamma, s.beta, stage + row * stage_pitch, s.k);
			__syncthreads();
			for (int j = threadIdx.x; j < s.k; j += threads)
				for (int row = 0; row < rows; row++) mean[j] += stage[row * stage_pitch + j];
		}
		for (int j = threadIdx.x; j < s.k; j += threads) {
			mean[j] /= m;
			square = fmaf(mean[j], mean[j], square);
		}
		square = warp_sum(square);
		if (lane() == 0) squares[warp()] = square;
		__syncthreads();
		square = 0;
		for (int i = 0; i < warps; i++) square += squares[i];
		float scale = s.flags & unit_length ? 1 / fmaxf(sqrtf(square), 1e-12f) : 1;
		for (int j = threadIdx.x; j < s.k; j += threads) ((float *)s.out.at)[j] = mean[j] * scale;
	}

	// out[i] = table[index[i]] + y[i] + z[more[i]], of k values: a text's words, positions and types. The table is float32, or int8
	// with a scale to a row.
	void embed(const Step &s) const {
		each(s, s.m, s.k, [&](int row, int u) {
			int j = 2 * u, id = s.index[row], type = s.more[row];
			bool both = j + 1 < s.k;
			float2 v = make_float2(0, 0);
			const char *from = s.weights + u64(id) * s.stride;
			if (s.scale) {
				v.x = ((const i8 *)from)[j] * s.scale[id];
				if (both) v.y = ((const i8 *)from)[j + 1] * s.scale[id];
			} else {
				v.x = ((const float *)from)[j];
				if (both) v.y = ((const float *)from)[j + 1];
			}
			float2 place = stored(s.y, row, u, s.k), kind = stored(s.z, type, u, s.k);
			emit(s.out, row, j, s.k, v.x + place.x + kind.x, v.y + place.y + kind.y);
		});
	}

	void execute(const Step &s, char *page) {
		switch (s.op) {
		case multiply_op: return multiply(s, page);
		case couple_op: return couple(s);
		case move_op: return move(s, page);
		case attend_op: return attend(s, page);
		case pool_op: return pool(s);
		case embed_op: return embed(s);
		}
	}
};

extern __shared__ __align__(128) char memory[];

// run works through the steps starts[block] … starts[block+1]-1.
template <class Format> void run(const Step *steps, const int *starts, u64 *words, u32 *control, const Layout &l) {
	__shared__ u32 launch;
	__shared__ Scale scales[most_rows];
	__shared__ Extremes extremes[most_rows];
	Step *ring = (Step *)memory; // of 2·pages
	int pages = l.pages, count = starts[blockIdx.x + 1] - starts[blockIdx.x];
	steps += starts[blockIdx.x];
	// A step's number is known pages steps before its page's copy begins.
	auto announce = [&](int i, int slot) {
		if (i < count && threadIdx.x < step_chunks) copy_async((u32 *)(ring + slot) + 4 * threadIdx.x, (const char *)(steps + i) + 16 * threadIdx.x, 16);
	};
	for (int i = 0; i < 2 * pages - 1; i++) announce(i, i);
	commit_copies();
	if (threadIdx.x == 0) launch = control[0] + 1;
	wait_copies<0>();
	__syncthreads();
	Machine<Format> machine{l, memory, words, launch, scales, extremes, passing()};
	auto fetch = [&](int i, int slot, int place) {
		if (i < count) machine.fetch(ring[slot], memory + l.ring + place * l.page_bytes);
	};
	for (int i = 0; i < pages - 1; i++) {
		fetch(i, i, i);
		commit_copies();
	}
	int slot = 0, place = 0; // of step i
#pragma unroll 1
	for (int i = 0; i < count; i++) {
		wait_copies(pages - 2);
		__syncthreads(); // the step and its page are here, and all have finished the one before, whose places the next ones take
		fetch(i + pages - 1, slot + pages - 1 < 2 * pages ? slot + pages - 1 : slot - pages - 1, place > 0 ? place - 1 : pages - 1);
		announce(i + 2 * pages - 1, slot > 0 ? slot - 1 : 2 * pages - 1);
		commit_copies(); // an empty group keeps the count
		machine.execute(ring[slot], memory + l.ring + place * l.page_bytes);
		if (++slot == 2 * pages) slot = 0;
		if (++place == pages) place = 0;
	}
	// The last block to end counts the launch: by then all have read its number.
	if (threadIdx.x == 0) {
		u32 ended;
		asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(ended) : "l"(__cvta_generic_to_global(control + 1)) : "memory");
		if (ended == gridDim.x - 1) {
			control[0] = launch;
			control[1] = 0;
		}
	}
}

extern "C" __global__ void __launch_bounds__(256, 1)
program_bf16(const Step *steps, const int *starts, u64 *words, u32 *control, Layout layout) { run<Bfloat>(steps, starts, words, control, layout); }

extern "C" __global__ void __launch_bounds__(256, 1)
program_int8(const Step *steps, const int *starts, u64 *words, u32 *control, Layout layout) { run<Octet>(steps, starts, words, control, layout); }
