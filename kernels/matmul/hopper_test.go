package matmul_test

import (
	"testing"

	"netfusion/kernels/matmul"
	. "netfusion/tensor/kerneltest"
)

// hopperForms are the entries of hopper.cu. Their shapes have tails in every dimension, more steps of k than are copied ahead, rows
// that fill one block of a cluster and not the other, and layers of a text encoder.
var hopperForms = []struct {
	entry               string
	tile, block, shared int
	cluster             int
	shapes              [][3]int
}{
	{"matmul_bf16_w64", 64, 160, 98400, 1, [][3]int{{1, 1, 1}, {65, 3, 40}, {17, 70, 77}, {64, 64, 64}, {130, 66, 517}, {21, 384, 384}}},
	{"matmul_bf16_w128", 128, 288, 98352, 2, [][3]int{{1, 1, 1}, {257, 131, 70}, {5, 128, 333}, {128, 64, 448}, {130, 129, 31}}},
}

// hopperGrid covers p with tiles, in whole clusters.
func hopperGrid(p product, tile, cluster int) Size {
	return Size{Up(p.m, tile*cluster) * cluster, Up(p.n, tile)}
}

// hopperArgs are p's, with bfloat16 operands behind tensor maps.
func hopperArgs(p product, dst []float32) []any {
	rows := func(of []uint16, count, ld int) Map {
		return Map{Of: of, Element: 2, Dims: []int{p.k, count}, Strides: []int{2 * ld}, Box: []int{64, 64}, Swizzle: 128}
	}
	return append([]any{rows(bfloat16(p.x), p.m, p.ldx), rows(bfloat16(p.w), p.n, p.ldw), p.k}, p.output(dst)...)
}

func TestPTXHopper(t *testing.T) {
	for _, f := range hopperForms {
		k := LoadShared(t, matmul.HopperPTX, f.entry, f.shared)
		each(t, f.shapes, 8, func(t *testing.T, p product) {
			dst := Poison(p.m * p.ldd)
			k.Run(hopperGrid(p, f.tile, f.cluster), Size{f.block}, hopperArgs(p, dst)...)
			p.check(t, dst, toBF16)
		})
	}
}

func TestPTXHopperAddressesLieWell(t *testing.T) {
	for _, f := range hopperForms {
		p := newProduct(f.tile*f.cluster, f.tile, 128, 32, true)
		p.ldd, p.scale, p.offset, p.residual, p.float, p.half = p.n, nil, nil, nil, nil, nil
		TrafficShared(t, matmul.HopperPTX, f.entry, f.shared, 1, func(k *Kernel) {
			k.Run(hopperGrid(p, f.tile, f.cluster), Size{f.block}, hopperArgs(p, Poison(p.m*p.ldd))...)
		})
	}
}

// The second block of the cluster has no rows, so that it would end early.
func TestPTXHopperNeedsEveryWaitAndFence(t *testing.T) {
	for _, f := range hopperForms {
		p := newProduct(f.tile, 66, 64*7, 8, false)
		NeedsShared(t, matmul.HopperPTX, f.entry, f.shared, func(k *Kernel) error {
			return k.Try(hopperGrid(p, f.tile, f.cluster), Size{f.block}, hopperArgs(p, Poison(p.m*p.ldd))...)
		})
	}
}
