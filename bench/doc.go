// Package bench holds what measures and proves the other packages; nothing but tests imports it or what is below it.
//
//	roofline/ what this machine can do at most, which benchmarks of the kernels measure themselves against
//	golden/   Python scripts that make the committed goldens from reference implementations; golden.sh runs them all
//	peers/    other engines beside ours on the same weights and inputs, in the same run
//	expert/   Python scripts that trained the 64-pixel image expert
//	ptx/      what compiles the GPU kernels, and the registers that each of them takes
//	gpu/      what proves and times the GPU kernels on a machine that has a GPU; gpu/fake is a driver for tests
//	tiny/     a fusion of random weights for the tests of the packages above the experts
//	operations/ what docs/operations.md is made from
//	results/  figures, each with its machine; prove.sh and peers.sh add to them
//	table/    writes the README's figures from them
//
// The package itself is two tests: that packages import only the layers below them, and that the table of the GPU kernels is theirs.
package bench
