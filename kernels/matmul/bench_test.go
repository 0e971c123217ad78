package matmul

import (
	"fmt"
	"testing"

	"netfusion/bench/roofline"
	"netfusion/kernels/cpu/cputest"
	"netfusion/kernels/memory"
)

// The part of the roof counts the weights, x and dst once each, as read from where the weights lie: DRAM for cold
// weights; for warm ones L2 if all three fit there, or else L3. The ceilings are those of one thread with the form.

// Cold weights are one thread over shapes of the models: each call takes the next of many copies, more than the last
// cache holds, and says which comes next, as layers of a model do.
func BenchmarkF32(b *testing.B)  { cold(b, benchF32) }
func BenchmarkBF16(b *testing.B) { cold(b, benchBF16) }
func BenchmarkI8(b *testing.B)   { cold(b, benchI8) }

// Warm weights are in the cache, as where m is large or the model small: the rate of the tiles alone.
func BenchmarkF32Warm(b *testing.B)  { warm(b, benchF32) }
func BenchmarkBF16Warm(b *testing.B) { warm(b, benchBF16) }
func BenchmarkI8Warm(b *testing.B)   { warm(b, benchI8) }

func cold(b *testing.B, in func(m, n, k, copies int) bench) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, s := range modelShapes {
			for _, m := range []int{1, 8, 16, 32, 128} {
				const bytes = 96 << 20
				copies := bytes / int(in(0, s[0], s[1], 0).weightBytes)
				in(m, s[0], s[1], copies).run(b, roofline.DRAM)
			}
		}
	})
}

func warm(b *testing.B, in func(m, n, k, copies int) bench) {
	cputest.EachForm(b, func(b *testing.B) {
		for _, s := range append(modelShapes, [2]int{512, 4608}) { // a 3×3 convolution of 512 channels
			for _, m := range []int{6, 8, 16, 32, 128, 1024} {
				if m > 128 && s[0]*s[1] != 1536*384 {
					continue
				}
				c := in(m, s[0], s[1], 1)
				c.run(b, roofline.Warm(c.bytes()))
			}
		}
	})
}

// A bench is one shape in one precision.
type bench struct {
	m, n, k     int
	weightBytes float64
	xBytes      float64
	roof        func(roofline.Roof) roofline.Roof
	copies      int
	multiply    func(copy int)
}

func (c *bench) bytes() float64 { return c.weightBytes + c.xBytes + float64(4*c.m*c.n) }

func (c bench) run(b *testing.B, level roofline.Level) {
	b.Run(fmt.Sprintf("m=%d,n=%d,k=%d", c.m, c.n, c.k), func(b *testing.B) {
		roof := c.roof(roofline.Measure(1))
		b.SetBytes(int64(c.weightBytes))
		at := 0
		for b.Loop() {
			c.multiply(at)
			at = (at + 1) % c.copies
		}
		roof.Report(b, 2*float64(c.m)*float64(c.n)*float64(c.k), c.bytes(), level)
	})
}

func benchF32(m, n, k, copies int) bench {
	size := PackedLen(n, k)
	x, w, dst, e := make([]float32, m*k), memory.Make[float32](copies*size), make([]float32, m*n), &Epilogue{Bias: make([]float32, n)}
	for i := range w {
		w[i] = float32(i%7) - 3
	}
	for i := range x {
		x[i] = float32(i%5) - 2
	}
	return bench{m, n, k, 4 * float64(n*k), 4 * float64(m*k), func(r roofline.Roof) roofline.Roof { return r }, copies, func(c int) {
		e.Next = Bytes(w[(c+1)%copies*size:][:size])
		F32(dst, n, x, k, w[c*size:][:size], m, n, k, 0, n, e)
	}}
}

func benchBF16(m, n, k, copies int) bench {
	size := PackedLenBF16(n, k)
	x, w, dst, e := make([]uint16, m*even(k)), memory.Make[uint16](copies*size), make([]float32, m*n), &Epilogue{Bias: make([]float32, n)}
	for i := range w {
		w[i] = 0x3f80 + uint16(i%7)
	}
	for i := range x {
		x[i] = 0x3f80 + uint16(i%5)
	}
	return bench{m, n, k, 2 * float64(n*k), 2 * float64(m*k), roofline.Roof.InBF16, copies, func(c int) {
		e.Next = Bytes(w[(c+1)%copies*size:][:size])
		BF16(dst, n, x, even(k), w[c*size:][:size], m, n, k, 0, n, e)
	}}
}

func benchI8(m, n, k, copies int) bench {
	w := make([]Int8, max(1, copies))
	for i := range w {
		w[i] = NewInt8(n, k)
		for j := range w[i].Panels {
			w[i].Panels[j] = int8(j)
		}
	}
	x := Uint8{make([]uint8, m*four(k)), four(k), make([]float32, m), make([]int32, m)}
	dst, e := make([]float32, m*n), &Epilogue{Bias: make([]float32, n)}
	return bench{m, n, k, float64(n * k), float64(m * k), roofline.Roof.InI8, copies, func(c int) {
		e.Next = Bytes(w[(c+1)%len(w)].Panels)
		I8(dst, n, x, w[c], m, n, k, 0, n, e)
	}}
}

func BenchmarkPack(b *testing.B) {
	const n, k = 1536, 384
	w, dst := make([]float32, n*k), make([]float32, PackedLen(n, k))
	half, bytes := make([]uint16, PackedLenBF16(n, k)), NewInt8(n, k)
	for _, c := range []struct {
		name string
		pack func()
	}{
		{"Pack", func() { Pack(dst, w, n, k) }},
		{"PackT", func() { PackT(dst, w, n, k) }},
		{"PackBF16", func() { PackBF16(half, w, n, k) }},
		{"PackI8", func() { PackI8(bytes, w, n, k) }},
	} {
		b.Run(fmt.Sprintf("%s/n=%d,k=%d", c.name, n, k), func(b *testing.B) {
			b.SetBytes(4 * n * k)
			for b.Loop() {
				c.pack()
			}
		})
	}
}
