package tensor

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/matmul"
)

// A convCase is one use of Conv, with its meaning in float64.
type convCase struct {
	name                  string
	images, h, w, in, out int
	size, stride          int
	up, before, after     bool
	bias, skip, skipUp    bool
	skipChannels          int
}

var convCases = []convCase{
	{name: "1x1", images: 2, h: 4, w: 4, in: 40, out: 130, size: 1, stride: 1, before: true, after: true},
	{name: "1x1 skip", images: 2, h: 8, w: 4, in: 16, out: 70, size: 1, stride: 1, bias: true, skip: true, skipChannels: 80},
	{name: "1x1 skip up", images: 3, h: 8, w: 6, in: 16, out: 70, size: 1, stride: 1, bias: true, skip: true, skipUp: true, skipChannels: 80},
	{name: "3x3", images: 3, h: 7, w: 5, in: 20, out: 200, size: 3, stride: 1, after: true},
	{name: "3x3, F2", images: 2, h: 3, w: 8, in: 64, out: 70, size: 3, stride: 1, bias: true},
	{name: "3x3, F4", images: 3, h: 18, w: 15, in: 24, out: 72, size: 3, stride: 1, after: true},
	{name: "3x3, patches", images: 3, h: 4, w: 4, in: 24, out: 72, size: 3, stride: 1, after: true},
	{name: "3x3, taps", images: 2, h: 17, w: 5, in: 20, out: 3, size: 3, stride: 1, before: true, bias: true},
	{name: "3x3, taps after", images: 2, h: 1, w: 1, in: 20, out: 5, size: 3, stride: 1, after: true},
	{name: "3x3 up, UpF4", images: 2, h: 11, w: 9, in: 24, out: 90, size: 3, stride: 1, up: true, after: true},
	{name: "3x3 up, bias", images: 2, h: 3, w: 3, in: 12, out: 40, size: 3, stride: 1, up: true, bias: true},
	{name: "3x3 stride 2", images: 2, h: 8, w: 8, in: 5, out: 24, size: 3, stride: 2, bias: true},
	{name: "3x3 up", images: 2, h: 4, w: 5, in: 24, out: 160, size: 3, stride: 1, up: true, after: true},
	{name: "3x3 up, tiles across images", images: 3, h: 8, w: 8, in: 512, out: 16, size: 3, stride: 1, up: true, after: true},
	{name: "3x3, tiles across images", images: 4, h: 4, w: 4, in: 600, out: 16, size: 3, stride: 1, after: true},
}

type convOperands struct {
	x, w, bias, skip Tensor
	before, after    Affine
}

func (c *convCase) operands() convOperands {
	o := convOperands{x: normals(c.images*c.h*c.w, c.in, 1), w: normals(c.out, c.size*c.size*c.in, 2)}
	pair := func(n int, seed uint64) Affine {
		return Affine{normals(c.images, n, seed), normals(c.images, n, seed+1)}
	}
	if c.before {
		o.before = pair(c.in, 3)
	}
	if c.after {
		o.after = pair(c.out, 5)
	}
	if c.bias {
		o.bias = normals(1, c.out, 7)
	}
	if c.skip {
		rows := o.x.Rows
		if c.skipUp {
			rows /= 4
		}
		o.skip = normals(rows, c.skipChannels, 8)
	}
	return o
}

func (c *convCase) run(o convOperands, p Precision, workers int) Tensor {
	d := CPU(workers)
	defer d.Close()
	f := NewFilter(p, o.w.Data, c.shape())
	d.Reserve(f.Scratch(c.h, c.w))
	dst := New(c.outputs(), c.out)
	for i := range dst.Data {
		dst.Data[i] = float32(math.NaN())
	}
	d.Conv(dst, o.x, c.h, c.w, &f, ConvEpilogue{Before: o.before, After: o.after, Bias: o.bias.Data, Skip: o.skip, SkipUp: c.skipUp})
	return dst
}

func (c *convCase) shape() ConvShape {
	return ConvShape{Out: c.out, In: c.in, Size: c.size, Stride: c.stride, Up: c.up, H: c.h, W: c.w}
}

func (c *convCase) scale() (up int) {
	if c.up {
		return 2
	}
	return 1
}

func (c *convCase) outputs() int {
	up := c.scale()
	return c.images * c.h * c.w * up * up / (c.stride * c.stride)
}

// check compares every output with the sum that defines it.
// Its error is at most so much of the sum of the products' magnitudes.
func (c *convCase) check(t *testing.T, o convOperands, dst Tensor, most float64) {
	up := c.scale()
	h, w := c.h*up/c.stride, c.w*up/c.stride
	norm := func(a Affine, image, channel int, v float64) float64 {
		if a.none() {
			return v
		}
		return max(0, v*float64(a.Scale.Row(image)[channel])+float64(a.Offset.Row(image)[channel]))
	}
	for p := range dst.Rows {
		image, y, x := p/(h*w), p/w%h, p%w
		for j := range c.out {
			sum, abs := 0.0, 1.0
			for ky := range c.size {
				for kx := range c.size {
					sy, sx := y*c.stride+ky-c.size/2, x*c.stride+kx-c.size/2
					if sy < 0 || sx < 0 || sy >= c.h*up || sx >= c.w*up {
						continue
					}
					in := o.x.Row((image*c.h+sy/up)*c.w + sx/up)
					for i, v := range in {
						term := norm(o.before, image, i, float64(v)) * float64(o.w.Row(j)[(ky*c.size+kx)*c.in+i])
						sum += term
						abs += math.Abs(term)
					}
				}
			}
			if c.bias {
				sum += float64(o.bias.Data[j])
			}
			if c.skip {
				q := p
				if c.skipUp {
					q = (image*h/2+y/2)*w/2 + x/2
				}
				sum += float64(o.skip.Row(q)[j])
			}
			if c.after {
				abs *= 1 + math.Abs(float64(o.after.Scale.Row(image)[j]))
			}
			sum = norm(o.after, image, j, sum)
			if got := float64(dst.Row(p)[j]); !(math.Abs(got-sum) <= most*abs) {
				t.Fatalf("pixel %d channel %d = %v, want %v", p, j, got, sum)
			}
		}
	}
}

func TestConv(t *testing.T) {
	for _, c := range convCases {
		t.Run(c.name, func(t *testing.T) {
			o := c.operands()
			for p, most := range map[Precision]float64{F32: 2e-6, BF16: 1.0 / 60, Int8: 1.0 / 30} {
				want := c.run(o, p, 1)
				if len(want.Data) < 1<<15 || !testing.Short() {
					c.check(t, o, want, most)
				}
				for _, workers := range []int{2, 7} {
					if !slices.Equal(c.run(o, p, workers).Data, want.Data) {
						t.Errorf("%v: %d workers give other bits than 1", p, workers)
					}
				}
			}
		})
	}
}

func TestConvDoesNotAllocate(t *testing.T) {
	d := CPU(2)
	defer d.Close()
	x, dst, a := normals(64, 32, 1), New(256, 48), Affine{normals(1, 48, 2), normals(1, 48, 3)}
	f := NewFilter(F32, normals(48, 9*32, 4).Data, ConvShape{Out: 48, In: 32, Size: 3, Stride: 1, Up: true, H: 8, W: 8})
	d.Reserve(f.Scratch(8, 8))
	if n := testing.AllocsPerRun(20, func() { d.Conv(dst, x, 8, 8, &f, ConvEpilogue{After: a}) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func TestConvRefusesWrongShapes(t *testing.T) {
	d := CPU(1)
	defer d.Close()
	f := NewFilter(F32, make([]float32, 16*9*3), ConvShape{Out: 16, In: 3, Size: 3, Stride: 1, H: 4, W: 4})
	point := NewFilter(F32, make([]float32, 4*3), ConvShape{Out: 4, In: 3, Size: 1, Stride: 1, H: 4, W: 4})
	d.Reserve(max(f.Scratch(4, 4), point.Scratch(4, 4)))
	a := func(rows, cols int) Affine { return Affine{New(rows, cols), New(rows, cols)} }
	conv := func(f *Filter, x int, e ConvEpilogue) { d.Conv(New(16, f.Out), New(16, x), 4, 4, f, e) }
	for name, call := range map[string]func(){
		"dst":           func() { d.Conv(New(15, 16), New(16, 3), 4, 4, &f, ConvEpilogue{}) },
		"channels":      func() { conv(&f, 4, ConvEpilogue{}) },
		"bias":          func() { conv(&f, 3, ConvEpilogue{Bias: make([]float32, 15)}) },
		"images":        func() { conv(&f, 3, ConvEpilogue{After: a(2, 16)}) },
		"before":        func() { conv(&f, 3, ConvEpilogue{Before: a(1, 3)}) },
		"before images": func() { conv(&point, 3, ConvEpilogue{Before: a(2, 3)}) },
		"bias after":    func() { conv(&f, 3, ConvEpilogue{After: a(1, 16), Bias: make([]float32, 16)}) },
		"act":           func() { conv(&f, 3, ConvEpilogue{Act: matmul.Tanh}) },
		"act after":     func() { conv(&point, 3, ConvEpilogue{After: a(1, 4), Act: matmul.Tanh}) },
		"skip":          func() { conv(&f, 3, ConvEpilogue{Skip: New(16, 16)}) },
		"skip channels": func() { conv(&point, 3, ConvEpilogue{Skip: New(16, 3)}) },
		"skip rows":     func() { conv(&point, 3, ConvEpilogue{Skip: New(16, 4), SkipUp: true}) },
		"size":          func() { NewFilter(F32, make([]float32, 100), ConvShape{Out: 2, In: 2, Size: 5, Stride: 1}) },
		"stride":        func() { NewFilter(F32, make([]float32, 36), ConvShape{Out: 2, In: 2, Size: 3, Stride: 2, Up: true}) },
		"weights":       func() { NewFilter(F32, make([]float32, 35), ConvShape{Out: 2, In: 2, Size: 3, Stride: 1}) },
		"scratch": func() {
			small := CPU(1)
			small.Conv(New(16, 4), New(16, 3), 4, 4, &f, ConvEpilogue{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}

func TestReLUAffineIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	x, a := normals(3*1000, 37, 1), Affine{normals(3, 37, 2), normals(3, 37, 3)}
	var first []float32
	for _, workers := range []int{1, 2, 7} {
		d := CPU(workers)
		dst := New(x.Rows, x.Cols)
		d.ReLUAffine(dst, x, a)
		if n := testing.AllocsPerRun(20, func() { d.ReLUAffine(dst, x, a) }); n != 0 {
			t.Errorf("%v allocations a call", n)
		}
		d.Close()
		if first == nil {
			first = dst.Data
		} else if !slices.Equal(first, dst.Data) {
			t.Errorf("%d workers give other bits than 1", workers)
		}
	}
	for i, got := range first {
		p, j := i/x.Cols, i%x.Cols
		want := max(0, float64(x.Data[i])*float64(a.Scale.Row(p / 1000)[j])+float64(a.Offset.Row(p / 1000)[j]))
		if math.Abs(float64(got)-want) > 1e-6*(1+want) {
			t.Fatalf("pixel %d channel %d = %v, want %v", p, j, got, want)
		}
	}
}

func TestReLUAffineAndPooledAttentionRefuseWrongShapes(t *testing.T) {
	d := CPU(1)
	defer d.Close()
	var p PooledAttention
	Plan(func(a *Arena) { p = NewPooledAttention(a, F32, 2, 4, 4, 3, 5) })
	d.Reserve(p.Scratch())
	a := Affine{New(2, 4), New(2, 4)}
	for name, call := range map[string]func(){
		"affine dst":       func() { d.ReLUAffine(New(6, 5), New(6, 4), a) },
		"affine images":    func() { d.ReLUAffine(New(5, 4), New(5, 4), a) },
		"affine channels":  func() { d.ReLUAffine(New(6, 3), New(6, 3), a) },
		"no affine":        func() { d.ReLUAffine(New(6, 4), New(6, 4), Affine{}) },
		"attention x":      func() { d.PooledAttention(New(16, 5), New(16, 12), &p) },
		"attention dst":    func() { d.PooledAttention(New(16, 4), New(16, 11), &p) },
		"attention pixels": func() { d.PooledAttention(New(15, 5), New(15, 11), &p) },
		"attention images": func() { d.PooledAttention(New(48, 5), New(48, 11), &p) },
		"attention size":   func() { NewPooledAttention(&Arena{}, F32, 1, 3, 4, 1, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}

func TestPooledAttentionIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	for _, size := range [][2]int{{12, 10}, {8, 32}, {6, 6}} { // h, w: keys in one part, in several, and an odd number
		const images, depth, width = 3, 5, 20
		h, w := size[0], size[1]
		x := normals(images*h*w, 2*depth+width, 1)
		want := map[Precision][]float32{}
		for _, precision := range []Precision{F32, BF16} {
			for _, workers := range []int{1, 2, 7} {
				d := CPU(workers)
				var p PooledAttention
				Plan(func(a *Arena) { p = NewPooledAttention(a, precision, images, h, w, depth, width) })
				d.Reserve(p.Scratch())
				dst := New(images*h*w, width)
				d.PooledAttention(dst, x, &p)
				if n := testing.AllocsPerRun(20, func() { d.PooledAttention(dst, x, &p) }); n != 0 {
					t.Errorf("%v allocations a call", n)
				}
				d.Close()
				if want[precision] == nil {
					want[precision] = dst.Data
				} else if !slices.Equal(want[precision], dst.Data) {
					t.Errorf("%v: %d workers give other bits than 1", precision, workers)
				}
			}
		}
		for i, v := range want[BF16] {
			if d := math.Abs(float64(v - want[F32][i])); !(d <= 0.02) {
				t.Fatalf("value %d is %v in bf16, %v in float32", i, v, want[F32][i])
			}
		}
	}
}
