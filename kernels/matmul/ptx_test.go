package matmul_test

import (
	"fmt"
	"math"
	"testing"

	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
	"netfusion/kernels/quantize"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, matmul.PTX, matmul.HopperPTX) }

// A product is one launch: its operands as the CPU has them, and as the kernel does.
type product struct {
	m, n, k, ldx, ldw, ldd int
	x, w                   []float32 // [m][ldx], [n][ldw]; what is behind k is poisoned in x and zero in w
	epilogue
	next
}

// epilogue is that of epilogue.cuh.
type epilogue struct {
	bias, scale, offset, residual []float32
	ldr                           int
	act                           matmul.Act
	lda                           int // of scale and offset
	pixels                        int
}

// next is that of epilogue.cuh.
type next struct {
	float       []float32 // [m][n+2], or nil
	half        []uint16  // in its place
	gain, shift []float32 // [images][n]
}

// newProduct makes operands whose rows begin at multiples of align values.
func newProduct(m, n, k, align int, fused bool) product {
	ld := Up(k, align) * align
	p := product{m: m, n: n, k: k, ldx: ld + align, ldw: ld, ldd: n + 3, x: Poison(m * (ld + align)), w: make([]float32, n*ld)}
	for i := range m {
		copy(p.x[i*p.ldx:], Normals(uint64(i), k, 1))
	}
	for j := range n {
		copy(p.w[j*ld:], Normals(uint64(1000+j), k, 1/math.Sqrt(float64(k))))
	}
	p.pixels = max(1, m/2)
	if fused {
		images := Up(m, p.pixels)
		p.epilogue = epilogue{Normals(1, n, 1), Normals(2, images*(n+3), 1), Normals(3, images*(n+3), 1), Normals(4, m*(n+1), 1), n + 1, matmul.LeakyReLU, n + 3, p.pixels}
		p.gain, p.shift = Normals(5, images*n, 1), Normals(6, images*n, 1)
		if p.half = make([]uint16, m*(n+2)); m%2 == 0 {
			p.float, p.half = Poison(len(p.half)), nil
		}
	}
	return p
}

// few is p with what the entries for few rows want behind k: anything finite, up to a multiple of 16 bytes.
func (p product) few() product {
	for i := range p.m {
		for l := p.k; l%8 != 0; l++ {
			p.x[i*p.ldx+l] = 1e30
		}
	}
	return p
}

// finish applies the epilogue to a sum.
func (e *epilogue) finish(sum float64, i, j int) float64 {
	if e.bias != nil {
		sum += float64(e.bias[j])
	}
	switch e.act {
	case matmul.GELU:
		sum = sum / 2 * math.Erfc(-sum/math.Sqrt2)
	case matmul.Tanh:
		sum = math.Tanh(sum)
	case matmul.LeakyReLU:
		sum = max(sum, activation.Slope*sum)
	case matmul.ReLU:
		sum = max(sum, 0)
	}
	if e.scale != nil {
		at := i/e.pixels*e.lda + j
		sum = max(sum*float64(e.scale[at])+float64(e.offset[at]), 0)
	}
	if e.residual != nil {
		sum += float64(e.residual[i*e.ldr+j])
	}
	return sum
}

// output is the kernel's Output.
func (p *product) output(dst []float32) []any {
	var next any = p.float
	half := 0
	if p.half != nil {
		next, half = p.half, 1
	}
	return []any{dst, p.ldd, p.m, p.n, p.pixels, p.bias, p.scale, p.offset, p.residual, p.ldr, int(p.act), p.lda,
		next, p.gain, p.shift, p.n + 2, p.n, half, p.w, 4 * len(p.w), 0}
}

// checkNext compares the copy for the next product with dst.
func (p *product) checkNext(t *testing.T, dst []float32) {
	t.Helper()
	for at := range max(len(p.float), len(p.half)) {
		i, j := at/(p.n+2), at%(p.n+2)
		if j >= p.n {
			if p.float != nil && !Poisoned(p.float[at]) || p.half != nil && p.half[at] != 0 {
				t.Fatalf("wrote behind row %d", i)
			}
			continue
		}
		k := i/p.pixels*p.n + j
		v := float64(dst[i*p.ldd+j])
		want := max(0, float64(p.gain[k])*v+float64(p.shift[k]))
		if p.float != nil {
			if got := float64(p.float[at]); !(math.Abs(got-want) <= 0x1p-22*(math.Abs(v)+1)) {
				t.Fatalf("next[%d][%d] = %v, want %v", i, j, got, want)
			}
		} else if got := float64(math.Float32frombits(uint32(p.half[at]) << 16)); !(math.Abs(got-want) <= 0x1p-8*want+0x1p-22*(math.Abs(v)+1)) {
			t.Fatalf("next[%d][%d] = %v in bfloat16, want %v", i, j, got, want)
		}
	}
}

// check compares dst with the product of x and w, each rounded by round, in float64. Sums of k products in float32 err by at most
// (k+2) roundings of the sum of their sizes; what follows, by a few roundings of its operands.
func (p *product) check(t *testing.T, dst []float32, round func(float32) float64) {
	t.Helper()
	p.checkNext(t, dst)
	const u = 0x1p-24
	for i := range p.m {
		for j := range p.ldd {
			got := dst[i*p.ldd+j]
			if j >= p.n {
				if !Poisoned(got) {
					t.Fatalf("wrote behind row %d", i)
				}
				continue
			}
			var sum, size float64
			for l := range p.k {
				v := round(p.x[i*p.ldx+l]) * round(p.w[j*p.ldw+l])
				sum += v
				size += math.Abs(v)
			}
			want, tolerance := p.finish(sum, i, j), float64(p.k+2)*u*size+2e-7*(1+math.Abs(sum))
			if p.scale != nil {
				at := i/p.pixels*p.lda + j
				tolerance = tolerance*(1+math.Abs(float64(p.scale[at]))) + 4*u*(1+math.Abs(float64(p.offset[at])))
			}
			if p.bias != nil {
				tolerance += 4 * u * (1 + math.Abs(float64(p.bias[j])))
			}
			if !(math.Abs(float64(got)-want) <= tolerance+2*u*math.Abs(want)) {
				t.Fatalf("[%d][%d] = %v, want %v ± %v", i, j, got, want, tolerance)
			}
		}
	}
}

func asIs(v float32) float64 { return float64(v) }

func toBF16(v float32) float64 {
	return float64(math.Float32frombits(uint32(quantize.BF16(v)) << 16))
}

// toTF32 keeps 10 bits of mantissa, rounded to the nearest, ties away from zero.
func toTF32(v float32) float64 {
	return float64(math.Float32frombits((math.Float32bits(v) + 1<<12) &^ (1<<13 - 1)))
}

// ragged are shapes with tails in every dimension, and one without.
var ragged = [][3]int{{1, 1, 1}, {65, 3, 40}, {17, 70, 77}, {64, 64, 64}, {130, 66, 31}}

// large are shapes with tails for tiles of 128, and one of a small text encoder.
var large = [][3]int{{129, 131, 70}, {5, 128, 33}, {21, 384, 384}}

// long are shapes whose k does not divide among the parts of a block, and shorter ones.
var long = [][3]int{{1, 1, 1}, {33, 3, 40}, {17, 70, 517}, {32, 32, 256}}

// each runs f for every shape, plain and with all that the epilogue can do, and for every activation once.
func each(t *testing.T, shapes [][3]int, align int, f func(t *testing.T, p product)) {
	for i, s := range shapes {
		for _, fused := range []bool{false, true} {
			t.Run(fmt.Sprintf("m=%d,n=%d,k=%d,fused=%v", s[0], s[1], s[2], fused), func(t *testing.T) {
				p := newProduct(s[0], s[1], s[2], align, fused)
				if !fused {
					p.act = matmul.Act(i % 5)
				}
				f(t, p)
			})
		}
	}
}

func tiles(p product, tile int) Size { return Size{Up(p.m, tile), Up(p.n, tile)} }

func TestPTXFloat32(t *testing.T) {
	k := Load(t, matmul.PTX, "matmul_f32")
	each(t, ragged, 4, func(t *testing.T, p product) {
		dst := Poison(p.m * p.ldd)
		k.Run(tiles(p, 64), Size{128}, append([]any{p.x, p.ldx, p.w, p.ldw, p.k}, p.output(dst)...)...)
		p.check(t, dst, asIs)
	})
}

func TestPTXSkinnyFloat32(t *testing.T) {
	for _, rows := range []int{1, 2, 4, 8, 16} {
		k := Load(t, matmul.PTX, fmt.Sprintf("matmul_f32_m%d", rows))
		each(t, [][3]int{{1, 3, 5}, {rows, 9, 517}, {max(1, rows-1), 4, 512}, {rows, 64, 402}}, 4, func(t *testing.T, p product) {
			p, dst := p.few(), Poison(p.m*p.ldd)
			k.Run(Size{Up(p.n, 4)}, Size{128}, append([]any{p.x, p.ldx, p.w, p.ldw, p.k}, p.output(dst)...)...)
			p.check(t, dst, asIs)
		})
	}
}

// A form is an entry of tiles on tensor cores, with the shapes that it is tried on.
type form struct {
	entry       string
	tile, block int
	shared      int // bytes of dynamic shared memory
	shapes      [][3]int
}

// tensorForms are those of a format.
func tensorForms(format string) []form {
	return []form{
		{"matmul_" + format + "_t32", 32, 64, 0, ragged}, {"matmul_" + format + "_t64", 64, 128, 0, ragged},
		{"matmul_" + format + "_t128", 128, 256, 0, large},
		{"matmul_" + format + "_s32", 32, 256, 0, long}, {"matmul_" + format + "_x32", 32, 512, 96 << 10, long},
	}
}

func TestPTXTensorFloat32(t *testing.T) {
	for _, f := range tensorForms("tf32") {
		k := LoadShared(t, matmul.PTX, f.entry, f.shared)
		each(t, f.shapes, 4, func(t *testing.T, p product) {
			dst := Poison(p.m * p.ldd)
			k.Run(tiles(p, f.tile), Size{f.block}, append([]any{p.x, p.ldx, p.w, p.ldw, p.k}, p.output(dst)...)...)
			p.check(t, dst, toTF32)
		})
	}
}

func bfloat16(x []float32) []uint16 {
	q := make([]uint16, len(x))
	quantize.F32ToBF16(q, x)
	return q
}

func TestPTXBFloat16(t *testing.T) {
	for _, f := range tensorForms("bf16") {
		k := LoadShared(t, matmul.PTX, f.entry, f.shared)
		each(t, f.shapes, 8, func(t *testing.T, p product) {
			dst := Poison(p.m * p.ldd)
			k.Run(tiles(p, f.tile), Size{f.block}, append([]any{bfloat16(p.x), p.ldx, bfloat16(p.w), p.ldw, p.k}, p.output(dst)...)...)
			p.check(t, dst, toBF16)
		})
	}
}

// skinny are shapes for the entries of few rows on tensor cores, among them one of a flow's subnet and one of a text encoder.
var skinny = map[int][][3]int{
	16: {{1, 1, 1}, {3, 9, 517}, {9, 8, 128}, {16, 17, 300}, {8, 5, 64}, {1, 1024, 402}},
	32: {{1, 3, 40}, {32, 9, 517}, {25, 96, 384}},
	64: {{17, 3, 40}, {64, 9, 260}, {57, 17, 517}},
}

func TestPTXSkinnyBFloat16(t *testing.T) {
	for rows, shapes := range skinny {
		k := Load(t, matmul.PTX, fmt.Sprintf("matmul_bf16_m%d", rows))
		each(t, shapes, 8, func(t *testing.T, p product) {
			p, dst := p.few(), Poison(p.m*p.ldd)
			k.Run(Size{Up(p.n, 8)}, Size{128}, append([]any{p.x, p.ldx, bfloat16(p.w), p.ldw, p.k}, p.output(dst)...)...)
			p.check(t, dst, toBF16)
		})
		k = Load(t, matmul.PTX, fmt.Sprintf("matmul_bf16_b%d", rows))
		each(t, shapes, 8, func(t *testing.T, p product) {
			p, dst := p.few(), Poison(p.m*p.ldd)
			k.Run(Size{Up(p.n, 8)}, Size{128}, append([]any{bfloat16(p.x), p.ldx, bfloat16(p.w), p.ldw, p.k}, p.output(dst)...)...)
			p.check(t, dst, toBF16)
		})
	}
}

// int8Operands are p's, quantised: for the kernel, and what matmul.I8 makes of them.
func int8Operands(p product) (args []any, want []float32) {
	x := matmul.Uint8{Q: make([]uint8, p.m*p.ldx), Ld: p.ldx, Scale: make([]float32, p.m), Zero: make([]int32, p.m)}
	quantize.F32ToU8Rows(x.Q, x.Ld, x.Scale, x.Zero, p.x, p.ldx, p.m, p.k)
	q, scale, sum := make([]int8, p.n*p.ldw), make([]float32, p.n), make([]int32, p.n)
	quantize.F32ToI8Rows(q, scale, p.w, p.n, p.ldw)
	dense := make([]float32, 0, p.n*p.k)
	for j := range p.n {
		for _, v := range q[j*p.ldw:][:p.k] {
			sum[j] += int32(v)
		}
		dense = append(dense, p.w[j*p.ldw:][:p.k]...)
	}
	w := matmul.NewInt8(p.n, p.k)
	matmul.PackI8(w, dense, p.n, p.k)
	want = Poison(p.m * p.ldd)
	e := matmul.Epilogue{Bias: p.bias, Act: p.act, Residual: p.residual, LdRes: p.ldr}
	matmul.I8(want, p.ldd, x, w, p.m, p.n, p.k, 0, p.n, &e)
	return []any{x.Q, p.ldx, q, p.ldw, p.k, x.Scale, x.Zero, scale, sum}, want
}

// The sums are exact, so that the bits are the CPU's, but for GELU and tanh, of which the CPU has two forms.
func TestPTXInt8HasTheCPUsBits(t *testing.T) {
	run := func(entry string, shapes [][3]int, grid func(p product) Size, block, shared int) {
		k := LoadShared(t, matmul.PTX, entry, shared)
		each(t, shapes, 16, func(t *testing.T, p product) {
			p.scale, p.offset = nil, nil
			p.float, p.half = nil, nil
			dst := Poison(p.m * p.ldd)
			args, want := int8Operands(p)
			k.Run(grid(p), Size{block}, append(args, p.output(dst)...)...)
			if p.act == matmul.GELU || p.act == matmul.Tanh {
				Near(t, dst, func(i int) (float64, float64) {
					if Poisoned(want[i]) && Poisoned(dst[i]) {
						return float64(dst[i]), 0
					}
					return float64(want[i]), 1e-6
				})
				return
			}
			Equal(t, dst, want)
		})
	}
	for _, f := range tensorForms("int8") {
		run(f.entry, f.shapes, func(p product) Size { return tiles(p, f.tile) }, f.block, f.shared)
	}
	for rows, shapes := range skinny {
		run(fmt.Sprintf("matmul_int8_m%d", rows), shapes, func(p product) Size { return Size{Up(p.n, 8)} }, 128, 0)
	}
}

// With most 2, a lane takes 8 neighbours of x in two loads, of half a sector each, or a block has half a sector of a row to store.
func TestPTXAddressesLieWell(t *testing.T) {
	x := func(p product) []any { return []any{p.x, p.ldx, p.w, p.ldw, p.k} }
	toBF16 := func(p product) []any { return []any{bfloat16(p.x), p.ldx, bfloat16(p.w), p.ldw, p.k} }
	wToBF16 := func(p product) []any { return []any{p.x, p.ldx, bfloat16(p.w), p.ldw, p.k} }
	toInt8 := func(p product) []any { args, _ := int8Operands(p); return args }
	for _, c := range []struct {
		entry string
		args  func(p product) []any
		rows  int
		per   int // columns of a block
		block int
		most  float64
	}{
		{"matmul_f32", x, 64, 64, 128, 1}, {"matmul_f32_m1", x, 1, 4, 128, 1}, {"matmul_f32_m16", x, 16, 4, 128, 2},
		{"matmul_tf32_t32", x, 32, 32, 64, 1}, {"matmul_tf32_t64", x, 64, 64, 128, 1},
		{"matmul_bf16_t32", toBF16, 32, 32, 64, 1}, {"matmul_bf16_t64", toBF16, 64, 64, 128, 1},
		{"matmul_int8_t32", toInt8, 32, 32, 64, 1}, {"matmul_int8_t64", toInt8, 64, 64, 128, 1},
		{"matmul_tf32_t128", x, 128, 128, 256, 1}, {"matmul_bf16_t128", toBF16, 128, 128, 256, 1}, {"matmul_int8_t128", toInt8, 128, 128, 256, 1},
		{"matmul_bf16_s32", toBF16, 32, 32, 256, 1}, {"matmul_int8_s32", toInt8, 32, 32, 256, 1}, {"matmul_bf16_b16", toBF16, 16, 8, 128, 1},
		{"matmul_bf16_m16", wToBF16, 16, 8, 128, 2}, {"matmul_bf16_m32", wToBF16, 32, 8, 128, 2}, {"matmul_bf16_m64", wToBF16, 64, 8, 128, 2},
		{"matmul_int8_m16", toInt8, 16, 8, 128, 1}, {"matmul_int8_m32", toInt8, 32, 8, 128, 1}, {"matmul_int8_m64", toInt8, 64, 8, 128, 1},
	} {
		k := 1024
		if c.rows > 64 {
			k = 128 // as much to multiply
		}
		p := newProduct(c.rows, max(64, c.per), k, 32, true)
		p.ldd, p.scale, p.offset, p.residual, p.float, p.half = p.n, nil, nil, nil, nil, nil
		Traffic(t, matmul.PTX, c.entry, c.most, func(k *Kernel) {
			grid := Size{Up(p.n, c.per)} // of few rows
			if c.per == c.rows {
				grid = tiles(p, c.per)
			}
			k.Run(grid, Size{c.block}, append(c.args(p), p.output(Poison(p.m*p.ldd))...)...)
		})
	}
}

func TestPTXNeedsEveryWaitAndBarrier(t *testing.T) {
	p := newProduct(65, 66, 200, 8, false)
	few := newProduct(3, 20, 600, 8, false)
	for _, c := range []struct {
		entry string
		p     product
		x, w  any
		grid  Size
		block int
	}{
		{"matmul_f32", p, p.x, p.w, tiles(p, 64), 128},
		{"matmul_tf32_t64", p, p.x, p.w, tiles(p, 64), 128},
		{"matmul_bf16_t64", p, bfloat16(p.x), bfloat16(p.w), tiles(p, 64), 128},
		{"matmul_bf16_s32", p, bfloat16(p.x), bfloat16(p.w), tiles(p, 32), 256},
		{"matmul_bf16_m16", few, few.x, bfloat16(few.w), Size{3}, 128},
		{"matmul_f32_m4", few, few.x, few.w, Size{5}, 128},
	} {
		Needs(t, matmul.PTX, c.entry, func(k *Kernel) error {
			args := append([]any{c.x, c.p.ldx, c.w, c.p.ldw, c.p.k}, c.p.output(Poison(c.p.m*c.p.ldd))...)
			return k.Try(c.grid, Size{c.block}, args...)
		})
	}
}
