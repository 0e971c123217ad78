package conv_test

import (
	"fmt"
	"testing"

	"netfusion/kernels/conv"
	. "netfusion/tensor/kerneltest"
)

// hopperForms are the entries of hopper.cu.
var hopperForms = []struct {
	form
	tile, cluster int
}{
	{form{"conv_bf16_w64", 64, 64, 160, 98400, bfloat16, 0x1p-8}, 64, 1},
	{form{"conv_bf16_w128", 128, 128, 288, 98352, bfloat16, 0x1p-8}, 128, 2},
}

// hopperLayers have boxes of parts of a row, of rows, and of images, with tails of channels, and with images that fill no box.
var hopperLayers = []layer{
	{images: 2, h: 8, w: 8, c: 72, n: 70, size: 3, stride: 1, bias: true, skip: true, next: true},
	{images: 3, h: 4, w: 4, c: 24, n: 20, size: 3, stride: 1, up: true, after: true},
	{images: 1, h: 2, w: 128, c: 8, n: 5, size: 3, stride: 1, bias: true},
	{images: 2, h: 8, w: 16, c: 136, n: 33, size: 1, stride: 1, skip: true, skipUp: true},
}

// hopperLaunch is launch with tensor maps.
func (l *layer) hopperLaunch(o operands, dst any, f form, cluster int) (grid, block Size, args []any) {
	grid, block, args = l.launch(o, dst, f)
	grid[0] = Up(grid[0], cluster) * cluster
	size, phases := l.size, 1
	if l.up {
		size, phases = 2, 4
	}
	wide := min(l.w, 64)
	high := min(l.h, 64/wide)
	x := Map{Of: args[0], Element: 2, Dims: []int{l.c, l.w, l.h, l.images}, Strides: []int{2 * o.ldx, 2 * o.ldx * l.w, 2 * o.ldx * l.w * l.h},
		Box: []int{64, wide, high, 64 / (wide * high)}, Swizzle: 128}
	w := Map{Of: args[1], Element: 2, Dims: []int{l.c, size * size, phases * l.n}, Strides: []int{2 * l.c, 2 * l.c * size * size}, Box: []int{64, 1, 64}, Swizzle: 128}
	return grid, block, append([]any{x, w}, args...)
}

func TestPTXHopper(t *testing.T) {
	for _, f := range hopperForms {
		kernel := LoadShared(t, conv.HopperPTX, f.entry, f.shared)
		for i, l := range hopperLayers {
			t.Run(fmt.Sprintf("%s/%d", f.entry, i), func(t *testing.T) {
				o := l.operands()
				h, w := l.output()
				dst := Poison(l.images * h * w * o.ldd)
				grid, block, args := l.hopperLaunch(o, dst, f.form, f.cluster)
				kernel.Run(grid, block, args...)
				l.check(t, o, dst, f.u)
			})
		}
	}
}

// The second block of the cluster has no windows.
func TestPTXHopperNeedsEveryWaitAndFence(t *testing.T) {
	l := layer{images: 1, h: 4, w: 16, c: 64, n: 9, size: 3, stride: 1}
	for _, f := range hopperForms {
		o := l.operands()
		NeedsShared(t, conv.HopperPTX, f.entry, f.shared, func(k *Kernel) error {
			grid, block, args := l.hopperLaunch(o, Poison(l.windows()*o.ldd), f.form, f.cluster)
			return k.Try(grid, block, args...)
		})
	}
}
