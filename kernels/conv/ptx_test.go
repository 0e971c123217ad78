package conv_test

import (
	"fmt"
	"math"
	"testing"

	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
	"netfusion/kernels/quantize"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, conv.PTX) }

// A layer is one use of the kernels, with its meaning in float64.
type layer struct {
	images, h, w, c, n  int
	size, stride        int // of the convolution; size 3 follows an upsampling
	up                  bool
	norm, bias          bool // before and after
	skip, skipUp, after bool
}

var layers = []layer{
	{images: 1, h: 1, w: 1, c: 8, n: 1, size: 3, stride: 1},
	{images: 2, h: 5, w: 7, c: 24, n: 70, size: 3, stride: 1, norm: true, bias: true, skip: true},
	{images: 1, h: 7, w: 8, c: 8, n: 5, size: 3, stride: 2, bias: true},
	{images: 2, h: 3, w: 5, c: 16, n: 20, size: 3, stride: 1, up: true, norm: true, after: true},
	{images: 3, h: 4, w: 6, c: 40, n: 33, size: 1, stride: 1, norm: true, skip: true, skipUp: true},
	{images: 3, h: 4, w: 4, c: 40, n: 9, size: 3, stride: 1, norm: true, bias: true, skip: true},
}

// operands are those of the kernel's Convolution.
type operands struct {
	x, scale, offset, weights []float32 // weights [n][size][size][c]
	bias, skip, after, shift  []float32
	ldx, ldd, ldr             int
}

func (l *layer) operands() operands {
	o := operands{ldx: l.c + 8, ldd: l.n + 1, ldr: l.n + 2}
	o.x = Normals(1, l.images*l.h*l.w*o.ldx, 1)
	o.weights = Normals(2, l.n*l.size*l.size*l.c, 1/math.Sqrt(float64(l.size*l.size*l.c)))
	if l.norm {
		o.scale, o.offset = Normals(3, l.images*l.c, 1), Normals(4, l.images*l.c, 1)
	}
	if l.bias {
		o.bias = Normals(5, l.n, 1)
	}
	if l.after {
		o.after, o.shift = Normals(6, l.images*l.n, 1), Normals(7, l.images*l.n, 1)
	}
	if h, w := l.output(); l.skip {
		pixels := h * w
		if l.skipUp {
			pixels /= 4
		}
		o.skip = Normals(8, l.images*pixels*o.ldr, 1)
	}
	return o
}

// windows is how many rows the implicit matrix has.
func (l *layer) windows() int { return l.images * Up(l.h, l.stride) * Up(l.w, l.stride) }

// output is the size of the output.
func (l *layer) output() (h, w int) {
	if l.up {
		return 2 * l.h, 2 * l.w
	}
	return Up(l.h, l.stride), Up(l.w, l.stride)
}

// check compares dst with the definition, where every operand of the product is rounded with a relative error of at most u.
func (l *layer) check(t *testing.T, o operands, dst []float32, u float64) {
	t.Helper()
	h, w := l.output()
	up := 1
	if l.up {
		up = 2
	}
	for p := range l.images * h * w {
		image, y, x := p/(h*w), p/w%h, p%w
		for j := range o.ldd {
			if j >= l.n {
				if !Poisoned(dst[p*o.ldd+j]) {
					t.Fatalf("wrote behind pixel %d", p)
				}
				continue
			}
			sum, size := l.sum(o, image, y, x, up, j)
			tolerance := (2*u+float64(l.size*l.size*l.c+4)*0x1p-24)*size + 1e-6
			if l.bias {
				sum += float64(o.bias[j])
			}
			if l.after {
				a := float64(o.after[image*l.n+j])
				sum, tolerance = max(sum*a+float64(o.shift[image*l.n+j]), 0), tolerance*(1+math.Abs(a))
			}
			if l.skip {
				q := p
				if l.skipUp {
					q = (image*(h/2)+y/2)*(w/2) + x/2
				}
				sum += float64(o.skip[q*o.ldr+j])
			}
			if got := float64(dst[p*o.ldd+j]); !(math.Abs(got-sum) <= tolerance) {
				t.Fatalf("image %d pixel (%d, %d) channel %d = %v, want %v ± %v", image, y, x, j, got, sum, tolerance)
			}
		}
	}
}

// sum is the convolution at one output, and the sum of the sizes of its terms.
func (l *layer) sum(o operands, image, y, x, up, j int) (sum, size float64) {
	for ky := range l.size {
		for kx := range l.size {
			sy, sx := y*l.stride+ky-l.size/2, x*l.stride+kx-l.size/2
			if sy < 0 || sx < 0 || sy >= l.h*up || sx >= l.w*up {
				continue
			}
			pixel := o.x[((image*l.h+sy/up)*l.w+sx/up)*o.ldx:]
			for i := range l.c {
				v := float64(pixel[i])
				if l.norm {
					v = max(v*float64(o.scale[image*l.c+i])+float64(o.offset[image*l.c+i]), 0)
				}
				v *= float64(o.weights[((j*l.size+ky)*l.size+kx)*l.c+i])
				sum += v
				size += math.Abs(v)
			}
		}
	}
	return sum, size
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// few is the tile of the entries for few windows.
const few = 0

// launch is a grid, a block and arguments; round makes the entry's weights.
func (l *layer) launch(o operands, dst []float32, tile int, round func(w []float32) any) (grid, block Size, args []any) {
	weights, size, phases := o.weights, l.size, 1
	if l.up {
		weights, size, phases = l.fold(o.weights), 2, 4
	}
	oh, ow := Up(l.h, l.stride), Up(l.w, l.stride)
	if tile == few {
		grid, block = Size{Up(l.n, 8), 1, phases}, Size{128}
	} else {
		grid, block = Size{Up(l.windows(), tile), Up(l.n, tile), phases}, Size{2 * tile}
	}
	return grid, block, []any{
		o.x, o.scale, o.offset, round(weights), dst, o.ldx, l.images, l.h, l.w, l.c, oh, ow, l.n, size, l.stride, number(l.up), number(l.skipUp), o.ldd, 0,
		o.bias, o.after, o.shift, o.skip, o.ldr, int(matmul.None)}
}

// fold returns the filters of the four phases, [py][px][n][2][2][c], that after an upsampling equal w [n][3][3][c].
func (l *layer) fold(w []float32) []float32 {
	dst := make([]float32, 16*l.n*l.c)
	for phase := range 4 {
		for j := range l.n {
			for ky := range 3 {
				for kx := range 3 {
					tap := (ky+1-phase/2)/2*2 + (kx+1-phase%2)/2
					for i := range l.c {
						dst[((phase*l.n+j)*4+tap)*l.c+i] += w[((j*3+ky)*3+kx)*l.c+i]
					}
				}
			}
		}
	}
	return dst
}

func asIs(w []float32) any { return w }

func bfloat16(w []float32) any {
	q := make([]uint16, len(w))
	quantize.F32ToBF16(q, w)
	return q
}

func TestPTX(t *testing.T) {
	for _, k := range []struct {
		entry string
		tile  int
		round func([]float32) any
		u     float64 // of an operand, and of sums of folded weights
		most  int     // windows, if there is a limit
	}{
		{"conv_f32", 64, asIs, 0x1p-24, 0},
		{"conv_tf32_t32", 32, asIs, 0x1p-11, 0}, {"conv_tf32_t64", 64, asIs, 0x1p-11, 0}, {"conv_tf32_t128", 128, asIs, 0x1p-11, 0},
		{"conv_bf16_t32", 32, bfloat16, 0x1p-8, 0}, {"conv_bf16_t64", 64, bfloat16, 0x1p-8, 0}, {"conv_bf16_t128", 128, bfloat16, 0x1p-8, 0},
		{"conv_bf16_m16", few, bfloat16, 0x1p-8, 16}, {"conv_bf16_m32", few, bfloat16, 0x1p-8, 32}, {"conv_bf16_m64", few, bfloat16, 0x1p-8, 64},
	} {
		kernel := Load(t, conv.PTX, k.entry)
		for i, l := range layers {
			if k.tile == 128 && i != 1 && i != 3 {
				continue // what differs from the smaller tile is the same everywhere
			}
			if k.most > 0 && l.windows() > k.most {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", k.entry, i), func(t *testing.T) {
				o := l.operands()
				h, w := l.output()
				dst := Poison(l.images * h * w * o.ldd)
				grid, block, args := l.launch(o, dst, k.tile, k.round)
				kernel.Run(grid, block, args...)
				l.check(t, o, dst, k.u)
			})
		}
	}
}

func TestPTXNeedsEveryWaitAndBarrier(t *testing.T) {
	for _, c := range []struct {
		entry string
		layer layer
		tile  int
		round func([]float32) any
	}{{"conv_f32", layers[1], 64, asIs}, {"conv_bf16_t64", layers[1], 64, bfloat16}, {"conv_bf16_m32", layers[3], few, bfloat16}} {
		o := c.layer.operands()
		h, w := c.layer.output()
		Needs(t, conv.PTX, c.entry, func(k *Kernel) error {
			grid, block, args := c.layer.launch(o, Poison(c.layer.images*h*w*o.ldd), c.tile, c.round)
			return k.Try(grid, block, args...)
		})
	}
}

// In bfloat16 a lane takes 8 neighbours of x in two loads, of half a sector each.
func TestPTXAddressesLieWell(t *testing.T) {
	l := layer{images: 1, h: 4, w: 4, c: 64, n: 16, size: 3, stride: 1, norm: true, bias: true, skip: true}
	for _, c := range []struct {
		entry string
		tile  int
		round func([]float32) any
		most  float64
	}{{"conv_f32", 64, asIs, 1}, {"conv_tf32_t32", 32, asIs, 1}, {"conv_bf16_t32", 32, bfloat16, 2}, {"conv_bf16_m16", few, bfloat16, 2}, {"conv_bf16_m32", few, bfloat16, 2}} {
		o := l.operands()
		o.ldd, o.ldr = l.n, l.n
		Traffic(t, conv.PTX, c.entry, c.most, func(k *Kernel) {
			grid, block, args := l.launch(o, Poison(l.windows()*o.ldd), c.tile, c.round)
			k.Run(grid, block, args...)
		})
	}
}

func TestPTXMaxPoolHasTheCPUsBits(t *testing.T) {
	k := Load(t, conv.PTX, "conv_maxpool")
	for _, s := range [][4]int{{1, 2, 2, 1}, {2, 4, 6, 130}} {
		images, h, w, c := s[0], s[1], s[2], s[3]
		ldx := c + 3
		x, dst, want := Normals(1, images*h*w*ldx, 1), Poison(images*h/2*w/2*c), Poison(images*h/2*w/2*c)
		for i := range images {
			conv.MaxPool(want[i*h/2*w/2*c:], x[i*h*w*ldx:], ldx, h, w, c)
		}
		k.Run(Size{images * h / 2 * w / 2, Up(c, 128)}, Size{128}, dst, x, ldx, h, w, c)
		Equal(t, dst, want)
	}
}
