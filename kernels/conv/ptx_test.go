package conv_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
	"netfusion/kernels/quantize"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, conv.PTX, conv.HopperPTX) }

// A layer is one use of the kernels, with its meaning in float64.
type layer struct {
	images, h, w, c, n  int
	size, stride        int // of the convolution; size 3 follows an upsampling
	up                  bool
	bias                bool
	skip, skipUp, after bool
	next                bool
}

var layers = []layer{
	{images: 1, h: 1, w: 1, c: 8, n: 1, size: 3, stride: 1},
	{images: 2, h: 5, w: 7, c: 24, n: 70, size: 3, stride: 1, bias: true, skip: true, next: true},
	{images: 1, h: 7, w: 8, c: 8, n: 5, size: 3, stride: 2, bias: true},
	{images: 2, h: 3, w: 5, c: 16, n: 20, size: 3, stride: 1, up: true, after: true},
	{images: 3, h: 4, w: 6, c: 40, n: 33, size: 1, stride: 1, skip: true, skipUp: true},
	{images: 3, h: 4, w: 4, c: 40, n: 9, size: 3, stride: 1, bias: true, skip: true, next: true},
}

// operands are those of the kernel's Convolution.
type operands struct {
	x, weights               []float32 // weights [n][size][size][c]
	bias, skip, after, shift []float32
	next                     []float32 // a copy of the output, or nil
	ldx, ldd, ldr            int
}

func (l *layer) operands() operands {
	o := operands{ldx: l.c + 8, ldd: l.n + 1, ldr: l.n + 2}
	o.x = Normals(1, l.images*l.h*l.w*o.ldx, 1)
	o.weights = Normals(2, l.n*l.size*l.size*l.c, 1/math.Sqrt(float64(l.size*l.size*l.c)))
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
	if h, w := l.output(); l.next {
		o.next = Poison(l.images * h * w * o.ldd)
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
	if l.next {
		Equal(t, o.next, dst)
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
				v := float64(pixel[i]) * float64(o.weights[((j*l.size+ky)*l.size+kx)*l.c+i])
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

// A form is an entry: the windows and channels of a block, and its threads.
type form struct {
	entry                   string
	windows, channels, size int
	shared                  int                 // bytes of dynamic shared memory
	round                   func([]float32) any // of its operands
	u                       float64             // of that, and of sums of folded weights
}

func forms() []form {
	f := []form{{"conv_f32", 64, 64, 128, 0, asIs, 0x1p-24}}
	for _, format := range []struct {
		name  string
		round func([]float32) any
		u     float64
	}{{"tf32", asIs, 0x1p-11}, {"bf16", bfloat16, 0x1p-8}} {
		add := func(name string, windows, channels, size int) {
			f = append(f, form{"conv_" + format.name + "_" + name, windows, channels, size, 0, format.round, format.u})
		}
		add("t32", 32, 32, 64)
		add("t64", 64, 64, 128)
		add("t128", 128, 128, 256)
		add("s32", 32, 32, 256)
		add("x32", 32, 32, 512)
		f[len(f)-1].shared = 96 << 10
		add("m16", 16, 8, 128)
		add("m32", 32, 8, 128)
		add("m64", 64, 8, 128)
	}
	return f
}

func formOf(entry string) form {
	for _, f := range forms() {
		if f.entry == entry {
			return f
		}
	}
	panic(entry)
}

// launch is a grid, a block and arguments.
func (l *layer) launch(o operands, dst any, f form) (grid, block Size, args []any) {
	weights, size, phases := o.weights, l.size, 1
	if l.up {
		weights, size, phases = l.fold(o.weights), 2, 4
	}
	oh, ow := Up(l.h, l.stride), Up(l.w, l.stride)
	out := l.images * oh * ow * phases
	grid = Size{Up(l.windows(), f.windows), Up(l.n, f.channels), phases}
	if f.channels == 8 { // the entries for few windows
		grid[0], grid[1] = grid[1], grid[0]
	}
	return grid, Size{f.size}, []any{
		f.round(o.x), f.round(weights), o.ldx, l.h, l.w, l.c, oh, ow, size, l.stride, number(l.up), number(l.skipUp),
		dst, o.ldd, out, l.n, out / l.images, o.bias, o.after, o.shift, o.skip, o.ldr, int(matmul.None), l.n,
		o.next, Null, Null, o.ldd, 0, 0, o.weights, 4 * len(o.weights), 0}
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
	for _, f := range forms() {
		kernel := LoadShared(t, conv.PTX, f.entry, f.shared)
		for i, l := range layers {
			if f.windows == 128 && i != 1 && i != 3 {
				continue // what differs from the smaller tile is the same everywhere
			}
			t.Run(fmt.Sprintf("%s/%d", f.entry, i), func(t *testing.T) {
				o := l.operands()
				h, w := l.output()
				dst := Poison(l.images * h * w * o.ldd)
				grid, block, args := l.launch(o, dst, f)
				kernel.Run(grid, block, args...)
				l.check(t, o, dst, f.u)
			})
		}
	}
}

// Colours are bytes of 128·(tanh + 1), as quantize_pixels makes them; a rounding error may move one to its neighbour.
func TestPTXPixels(t *testing.T) {
	l := layer{images: 2, h: 9, w: 7, c: 16, n: 3, size: 3, stride: 1, bias: true}
	for _, f := range []form{{"conv_tf32_pixels", 64, 8, 128, 0, asIs, 0}, {"conv_bf16_pixels", 64, 8, 128, 0, bfloat16, 0}} {
		o, dst := l.operands(), make([]byte, 4*l.windows())
		grid, block, args := l.launch(o, dst, f)
		args[act] = int(matmul.Tanh)
		Load(t, conv.PTX, f.entry).Run(grid, block, args...)
		off := 0
		for p := range l.windows() {
			for j := range 3 {
				sum, _ := l.sum(o, p/(l.h*l.w), p/l.w%l.h, p%l.w, 1, j)
				want := int(128 * (math.Tanh(sum+float64(o.bias[j])) + 1))
				if d := int(dst[4*p+j]) - want; d < -2 || d > 2 {
					t.Fatalf("%s: pixel %d colour %d is %d, want %d", f.entry, p, j, dst[4*p+j], want)
				} else if d != 0 {
					off++
				}
			}
			if dst[4*p+3] != 255 {
				t.Fatalf("%s: pixel %d is not opaque", f.entry, p)
			}
		}
		if off > l.windows() {
			t.Errorf("%s: %d of %d colours are not the nearest", f.entry, off, 3*l.windows())
		}
	}
}

// act is the place of the activation among the arguments.
const act = 22

func TestPTXNeedsEveryWaitAndBarrier(t *testing.T) {
	for entry, l := range map[string]layer{"conv_f32": layers[1], "conv_bf16_t64": layers[1], "conv_tf32_s32": layers[4], "conv_bf16_m32": layers[3]} {
		o := l.operands()
		h, w := l.output()
		Needs(t, conv.PTX, entry, func(k *Kernel) error {
			grid, block, args := l.launch(o, Poison(l.images*h*w*o.ldd), formOf(entry))
			return k.Try(grid, block, args...)
		})
	}
}

func TestPTXAddressesLieWell(t *testing.T) {
	for _, entry := range []string{"conv_f32", "conv_tf32_t32", "conv_bf16_t32", "conv_bf16_s32", "conv_tf32_m16", "conv_bf16_m16", "conv_bf16_m32",
		"conv_tf32_t128", "conv_bf16_t128"} {
		l := layer{images: 1, h: 4, w: 4, c: 64, n: 32, size: 3, stride: 1, bias: true, skip: true}
		if strings.HasSuffix(entry, "128") {
			l.h, l.w, l.n = 8, 16, 128
		}
		o := l.operands()
		o.ldx, o.ldd, o.ldr = l.c, l.n, l.n
		Traffic(t, conv.PTX, entry, 1, func(k *Kernel) {
			grid, block, args := l.launch(o, Poison(l.windows()*o.ldd), formOf(entry))
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
