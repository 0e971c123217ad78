package tensor_test

import (
	"fmt"
	"math"
	"testing"

	"netfusion/kernels/conv"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
)

// convolution is one for both devices.
type convolution struct {
	images, h, w, in, out, size, stride int
	up, bias, after, skip, skipUp       bool
	act                                 matmul.Act
}

var convolutions = []convolution{
	{images: 1, h: 1, w: 1, in: 8, out: 1, size: 3, stride: 1},
	{images: 2, h: 5, w: 7, in: 24, out: 70, size: 3, stride: 1, bias: true},
	{images: 1, h: 7, w: 8, in: 8, out: 5, size: 3, stride: 2, bias: true},
	{images: 2, h: 3, w: 5, in: 16, out: 20, size: 3, stride: 1, up: true, after: true},
	{images: 3, h: 4, w: 6, in: 40, out: 33, size: 1, stride: 1, bias: true, act: matmul.LeakyReLU, skip: true, skipUp: true},
	{images: 1, h: 4, w: 4, in: 12, out: 9, size: 1, stride: 1, bias: true, skip: true},
	{images: 1, h: 6, w: 5, in: 64, out: 16, size: 3, stride: 1, after: true},
	{images: 1, h: 4, w: 15, in: 8, out: 40, size: 3, stride: 1},
	{images: 1, h: 9, w: 8, in: 64, out: 9, size: 3, stride: 1},
	{images: 1, h: 9, w: 8, in: 8, out: 3, size: 3, stride: 1},
	{images: 1, h: 9, w: 8, in: 176, out: 9, size: 3, stride: 1},
}

// A convolution on a GPU is that of a Device, which in bfloat16 rounds in other places.
func TestPTXConv(t *testing.T) {
	reference := cpu(t)
	for _, c := range []struct {
		device
		precision tensor.Precision
		which     []int
		tolerance float64
	}{
		{usual, tensor.F32, []int{0, 1, 2, 3, 4, 5}, 1e-4},
		{device{108, true}, tensor.F32, []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 10}, 5e-3},
		{device{5, true}, tensor.F32, []int{7}, 5e-3},
		{device{4, true}, tensor.F32, []int{1}, 5e-3},
		{device{1, true}, tensor.F32, []int{1}, 5e-3},
		{usual, tensor.BF16, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 3e-2},
		{device{5, false}, tensor.BF16, []int{7}, 3e-2},
		{device{4, false}, tensor.BF16, []int{1}, 3e-2},
		{device{1, false}, tensor.Int8, []int{1}, 3e-2},
	} {
		r := newRig(t, c.device)
		for _, i := range c.which {
			t.Run(fmt.Sprintf("%v/%+v/%d", c.precision, c.device, i), func(t *testing.T) {
				r.t = t
				convolutions[i].compare(r, reference, c.precision, c.tolerance)
			})
		}
	}
}

// On compute capability 9.0 convolutions of bfloat16 take the kernels for it, if those are trusted and its copies can gather windows.
func TestPTXConvOnHopper(t *testing.T) {
	d := OpenFor(t, conv.HopperPTX)
	reference := cpu(t)
	for _, c := range []struct {
		entry           string
		multiprocessors int
		convolution
	}{
		{"conv_bf16_w64", 4, convolution{images: 2, h: 8, w: 8, in: 72, out: 70, size: 3, stride: 1, bias: true}},
		{"conv_bf16_w64", 4, convolution{images: 2, h: 8, w: 16, in: 40, out: 33, size: 1, stride: 1, act: matmul.LeakyReLU, skip: true, skipUp: true}},
		{"conv_bf16_w128", 1, convolution{images: 5, h: 4, w: 4, in: 24, out: 20, size: 3, stride: 1, up: true, after: true}},
		{"conv_bf16_t64", 4, convolution{images: 2, h: 8, w: 9, in: 72, out: 70, size: 3, stride: 1}},
	} {
		g, err := tensor.OpenGPU(&spy{d, c.multiprocessors}, tensor.GPUOptions{Unproven: true})
		if err != nil {
			t.Fatal(err)
		}
		q, err := g.NewQueue(0)
		if err != nil {
			t.Fatal(err)
		}
		delete(launched, c.entry)
		c.compare(&rig{t, g, q}, reference, tensor.BF16, 3e-2)
		if !launched[c.entry] {
			t.Errorf("%s was not chosen", c.entry)
		}
	}
}

// output is the size of the output.
func (c *convolution) output() (h, w int) {
	if c.up {
		return 2 * c.h, 2 * c.w
	}
	return (c.h + c.stride - 1) / c.stride, (c.w + c.stride - 1) / c.stride
}

func (c *convolution) compare(r *rig, reference *tensor.Device, p tensor.Precision, tolerance float64) {
	shape := tensor.ConvShape{Out: c.out, In: c.in, Size: c.size, Stride: c.stride, Up: c.up, H: c.h, W: c.w}
	k := c.size * c.size * c.in
	weights := Normals(1, c.out*k, 1/math.Sqrt(float64(k)))
	x := normals(c.images*c.h*c.w, c.in, 2)
	h, w := c.output()
	want, dst := tensor.New(c.images*h*w, c.out), r.fresh(c.images*h*w, c.out)
	e, on := tensor.ConvEpilogue{}, tensor.GPUConvEpilogue{}
	on.Act = c.act
	if c.bias {
		e.Bias = normals(1, c.out, 3).Data
		on.Bias = vector(r, e.Bias)
	}
	if c.after {
		e.After = tensor.Affine{Scale: normals(c.images, c.out, 4), Offset: normals(c.images, c.out, 5)}
		on.After = tensor.GPUAffine{Scale: r.put(e.After.Scale), Offset: r.put(e.After.Offset)}
	}
	if c.size == 1 {
		e.Act = c.act
	}
	if c.skip {
		rows := want.Rows
		if c.skipUp {
			rows /= 4
		}
		e.Skip, e.SkipUp = normals(rows, c.out+3, 6), c.skipUp
		on.Skip, on.SkipUp = r.put(e.Skip), c.skipUp
	}
	f := tensor.NewFilter(tensor.F32, weights, shape)
	reference.Reserve(f.Scratch(c.h, c.w))
	reference.Conv(want, x, c.h, c.w, &f, e)
	g, from := r.g.NewFilter(p, weights, shape), r.put(x)
	r.run(func() { r.Conv(dst, from, c.h, c.w, &g, on) })
	r.near(dst, want, tolerance)
}

// A convolution leaves a second copy of its outputs, normalised for the one that follows, which reads them as they are.
func TestPTXConvLeavesWhatTheNextOneReads(t *testing.T) {
	reference := cpu(t)
	for _, p := range []tensor.Precision{tensor.F32, tensor.BF16} {
		r := newRig(t, usual)
		const images, h, w, in, mid, out = 2, 3, 4, 8, 16, 5
		first := tensor.ConvShape{Out: mid, In: in, Size: 3, Stride: 1, H: h, W: w}
		second := tensor.ConvShape{Out: out, In: mid, Size: 1, Stride: 1, H: h, W: w}
		w1, w2 := Normals(1, mid*9*in, 0.1), Normals(2, out*mid, 0.2)
		x, a := normals(images*h*w, in, 3), tensor.Affine{Scale: normals(images, mid, 4), Offset: normals(images, mid, 5)}
		f1, f2 := tensor.NewFilter(tensor.F32, w1, first), tensor.NewFilter(tensor.F32, w2, second)
		reference.Reserve(max(f1.Scratch(h, w), f2.Scratch(h, w)))
		plain, want := tensor.New(x.Rows, mid), tensor.New(x.Rows, out)
		reference.Conv(plain, x, h, w, &f1, tensor.ConvEpilogue{})
		reference.Conv(want, plain, h, w, &f2, tensor.ConvEpilogue{Before: a})

		g1, g2 := r.g.NewFilter(p, w1, first), r.g.NewFilter(p, w2, second)
		from, norm := r.put(x), tensor.GPUAffine{Scale: r.put(a.Scale), Offset: r.put(a.Offset)}
		both, dst := r.fresh(x.Rows, mid), r.fresh(x.Rows, out)
		r.run(func() {
			next := r.TakeIn(p, x.Rows, mid)
			r.Conv(both, from, h, w, &g1, tensor.GPUConvEpilogue{GPUEpilogue: tensor.GPUEpilogue{Next: tensor.GPUNext{To: next, Norm: norm}}})
			r.Conv(dst, next, h, w, &g2, tensor.GPUConvEpilogue{})
		})
		r.near(both, plain, 1e-2)
		r.near(dst, want, 2e-2)
	}
}

// The last convolution of a generator ends in the bytes that the host would make of its colours.
func TestPTXConvPixels(t *testing.T) {
	reference := cpu(t)
	for d, p := range map[device]tensor.Precision{usual: tensor.F32, {108, true}: tensor.F32, {4, false}: tensor.BF16} {
		r := newRig(t, d)
		const h, w, in = 5, 13, 8
		shape := tensor.ConvShape{Out: 3, In: in, Size: 3, Stride: 1, H: h, W: w}
		weights, x, bias := Normals(1, 3*9*in, 0.1), normals(h*w, in, 2), normals(1, 3, 3).Data
		f, want := tensor.NewFilter(tensor.F32, weights, shape), tensor.New(h*w, 3)
		reference.Reserve(f.Scratch(h, w))
		reference.Conv(want, x, h, w, &f, tensor.ConvEpilogue{Bias: bias, Act: matmul.Tanh})
		g, from, b, dst := r.g.NewFilter(p, weights, shape), r.put(x), vector(r, bias), tensor.Alloc[uint32](r.g, h*w)
		r.run(func() {
			r.ConvPixels(dst, from, h, w, &g, tensor.GPUConvEpilogue{GPUEpilogue: tensor.GPUEpilogue{Bias: b, Act: matmul.Tanh}})
		})
		words := make([]uint32, h*w)
		if err := tensor.Get(r.Queue, words, dst); err != nil {
			t.Fatal(err)
		}
		for i, word := range words {
			if word>>24 != 255 {
				t.Fatalf("pixel %d is not opaque: %#x", i, word)
			}
			for c := range 3 {
				got, v := float64(word>>(8*c)&255), 128*(float64(want.Row(i)[c])+1)
				if math.Abs(got+0.5-v) > 2 && !(v > 255 && got > 253) && !(v < 0 && got < 2) {
					t.Fatalf("pixel %d, colour %d: %v of %v", i, c, got, v)
				}
			}
		}
	}
}

func TestPTXMaxPoolAndPooledAttention(t *testing.T) {
	reference := cpu(t)
	for _, c := range []struct {
		device
		images, h, w, depth, width int
		tolerance                  float64
	}{{usual, 2, 4, 6, 5, 10, 1e-5}, {device{108, true}, 2, 4, 10, 8, 68, 3e-3}, {device{108, true}, 1, 4, 10, 40, 68, 1e-2}} {
		r := newRig(t, c.device)
		x := normals(c.images*c.h*c.w, 2*c.depth+c.width, 1)
		var pooled tensor.PooledAttention
		tensor.Plan(func(a *tensor.Arena) {
			pooled = tensor.NewPooledAttention(a, tensor.F32, c.images, c.h, c.w, c.depth, c.width)
		})
		reference.Reserve(pooled.Scratch())
		want, dst, from := tensor.New(x.Rows, c.width), r.fresh(x.Rows, c.width), r.put(x)
		reference.PooledAttention(want, x, &pooled)
		r.run(func() { r.PooledAttention(dst, from, c.h, c.w, c.depth, tensor.F32) })
		r.near(dst, want, c.tolerance)
	}
}

func TestPTXAttention(t *testing.T) {
	reference := cpu(t)
	starts := []int32{0, 3, 4, 70, 75}
	for _, c := range []struct {
		device
		rows         tensor.Precision
		heads, depth int
		tolerance    float64
	}{
		{usual, tensor.F32, 3, 10, 1e-5}, {usual, tensor.F32, 2, 40, 1e-5},
		{device{108, true}, tensor.F32, 3, 12, 3e-3}, {device{108, true}, tensor.F32, 2, 64, 3e-3},
		{usual, tensor.BF16, 3, 16, 2e-2}, {usual, tensor.BF16, 2, 64, 2e-2},
	} {
		r := newRig(t, c.device)
		channels := c.heads * c.depth
		tokens := int(starts[len(starts)-1])
		qkv := normals(tokens, 3*channels, 1)
		for i := range tokens { // as the products that make queries do
			for j := range channels {
				qkv.Row(i)[j] /= float32(math.Sqrt(float64(c.depth)))
			}
		}
		reference.ReserveAttention(c.depth)
		want, dst, from, s := tensor.New(tokens, channels), r.fresh(tokens, channels), r.put(qkv), vector(r, starts)
		reference.Attention(want, qkv, starts, c.heads)
		if c.rows == tensor.F32 {
			r.run(func() { r.Attention(dst, from, s, 66, c.heads, tensor.F32, tensor.GPUWeight{}) })
			r.near(dst, want, c.tolerance)
			continue
		}
		one := make([]float32, channels*channels) // the identity, by which what is rounded comes back
		for i := range channels {
			one[i*channels+i] = 1
		}
		w := r.g.NewWeight(tensor.BF16, one, channels, channels)
		r.run(func() {
			q, a := r.TakeIn(tensor.BF16, tokens, 3*channels), r.TakeIn(tensor.BF16, tokens, channels)
			r.Round(q, from)
			r.Attention(a, q, s, 66, c.heads, tensor.BF16, w)
			r.MatMul(dst, a, w, tensor.GPUEpilogue{})
		})
		r.near(dst, want, c.tolerance)
	}
}
