// What the threads of a warp and of a block do together.
#pragma once

using i8 = signed char;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

enum : int { warp_size = 32 };
enum : u32 { whole_warp = 0xffffffff };

// The thread's index in a one-dimensional grid, which the host keeps below 2³¹.
inline int global_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// The index of the thread's warp in a one-dimensional grid, and of the thread in its warp.
inline int global_warp() { return u32(global_thread()) / warp_size; }
inline int lane() { return threadIdx.x % warp_size; }

// max, but a NaN stays one, as in the CPU's kernels.
inline float larger(float a, float b) {
	float c;
	asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
	return c;
}

// The sum of the warp's values, in every lane and with the same bits.
template <class T> inline T warp_sum(T x) {
#pragma unroll
	for (int d = warp_size / 2; d > 0; d /= 2) x += __shfl_xor_sync(whole_warp, x, d);
	return x;
}

// The largest of the warp's values, in every lane.
inline float warp_max(float x) {
#pragma unroll
	for (int d = warp_size / 2; d > 0; d /= 2) x = larger(x, __shfl_xor_sync(whole_warp, x, d));
	return x;
}

// The sum of the values of a block of whole warps, in every thread and with the same bits. All threads must call it, once for each
// slot.
template <int threads, int slot = 0, class T> inline T block_sum(T x) {
	__shared__ T sums[threads / warp_size];
	x = warp_sum(x);
	if (lane() == 0) sums[threadIdx.x / warp_size] = x;
	__syncthreads();
	T total = 0;
#pragma unroll
	for (int i = 0; i < threads / warp_size; i++) total += sums[i];
	return total;
}

// The largest of the values of a block of whole warps, in every thread: see block_sum.
template <int threads, int slot = 0> inline float block_max(float x) {
	__shared__ float largest[threads / warp_size];
	x = warp_max(x);
	if (lane() == 0) largest[threadIdx.x / warp_size] = x;
	__syncthreads();
	float top = largest[0];
#pragma unroll
	for (int i = 1; i < threads / warp_size; i++) top = larger(top, largest[i]);
	return top;
}
