// Package ptx runs PTX on the CPU, so that tests can execute the GPU's kernels, as they ship, where there is no GPU. Its
// Device is a tensor.Driver. It is for tests: no product links it.
//
// A text is parsed (lex.go, parse.go, statement.go, variable.go), and each entry that is loaded is decoded once (decode.go, control.go):
// names become registers in three banks of a warp, 32 words, 32 longs or one mask of predicates each; literals and special
// registers become registers, too; functions are put in place of their calls; and every instruction becomes one loop over
// 32 lanes, written for its operation (integer.go, logic.go, float.go, half.go, convert.go, compare.go, move.go) or for its
// effect (load.go, atomic.go, async.go, bulk.go, matrix.go, warpgroup.go, exchange.go, barrier.go, counter.go, cluster.go, sync.go). Rare
// arithmetic shares a loop that calls a function for each lane. Where lanes part, a stack of paths runs one after the other up to the branch's immediate post-dominator (flow.go,
// warp.go).
//
// A launch (schedule.go) keeps several blocks under way and lets a warp run for a while, then another one, of any block, as
// a seed decides; atomics, fences and volatile accesses end a turn early. So blocks can wait for each other, and what
// depends on their order changes with the seed.
//
// What a kernel must not rely on is looked for (check.go), and ends the launch with a Fault: every 4 bytes of shared and
// global memory have a cell that knows whether they hold data, and which thread wrote and read them last, and when. Barriers,
// and fences together with atomics or acquiring and releasing accesses, tell warps of others' times, as vector clocks do; an
// access whose time the other side does not know of is a race, whether or not this schedule lets it show. cp.async lands
// when it is waited for, and its destination cannot be used before. A cell remembers one writer and two readers, so some
// races go unseen; none are made up, but where lanes of one warp rely on running in step, or write the same value to one
// place, which this package calls races.
//
// Traffic (traffic.go) tells how well a kernel's accesses lie: sectors of global memory, and conflicts of shared banks.
//
// Numbers are those of the PTX ISA: float32 operations round once, in the mode asked for. The approximate functions are
// nearly exact here, and the sums of mma are rounded once, where a device may be off by some units in the last place; tests
// of kernels have to allow for both.
//
// Of the instructions that are for compute capability 9.0 those are known that kernels here use: mbarriers, bulk copies to shared
// memory, by tensor maps or without, wgmma with both operands in shared memory under a swizzle of 128 bytes, clusters. Bulk copies
// land at times of the seed's choice, and a thread that did not wait for their mbarrier races with them. wgmma reads its operands
// as it is issued, and again when it is waited for, which is when its sums appear: what writes to them in between is a race, and its
// registers cannot be used before. Textures and surfaces are not known.
package ptx
