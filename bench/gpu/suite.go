package main

import (
	"fmt"
	"strings"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// suite says at which shapes kernels are timed.
type suite struct {
	copies   int      // of a launch in a graph, at most
	fewest   int      // launches in a graph
	repeats  int      // of a graph
	values   int      // of what is done value by value
	skinny   [][2]int // {n, k} of products of 1 to 64 rows
	rows     []int    // of larger products,
	wide     [2]int   // of this {n, k}
	images   [][4]int // {images, height and width, channels in, channels out} of convolutions
	texts    [3]int   // {texts, tokens of each, heads of 32}
	features int      // of a token
	pooled   [4]int   // {images, height and width, channels of a query, and of a value} of attention over pixels
	groups   int      // of a normalisation
	flow     [4]int   // {rows, half of the latent, width of a subnet, classes}
}

// full has the shapes of the models: subnets of the flow and layers of text encoders, a text encoder's wide layer, the maps of
// BigGAN's blocks.
var full = suite{
	copies: 64, fewest: 16, repeats: 9,
	values:   1 << 26,
	skinny:   [][2]int{{1024, 1024}, {1536, 384}, {3072, 768}, {4096, 4096}},
	rows:     []int{128, 512, 2048, 4096},
	wide:     [2]int{3072, 768},
	images:   [][4]int{{1, 8, 512, 512}, {1, 16, 512, 512}, {1, 32, 256, 256}, {1, 64, 128, 128}, {8, 16, 512, 512}, {8, 32, 256, 256}, {8, 64, 128, 128}},
	texts:    [3]int{32, 64, 12},
	features: 384,
	pooled:   [4]int{8, 64, 32, 128},
	groups:   32,
	flow:     [4]int{1024, 134, 1024, 1000},
}

// launches lists what is timed by its arguments: the same product in every way that the device has.
func (s suite) launches(a tensor.Attributes) []launch {
	hopper := []string{"bf16_w64", "bf16_w128"}
	if a.Capability != 90 {
		hopper = nil
	}
	all := []launch{copying(s.values)}
	for _, shape := range s.skinny {
		for _, few := range []struct {
			m       int
			entries []string
		}{
			{1, []string{"f32_m1", "bf16_m16", "int8_m16"}}, {16, []string{"f32_m16", "bf16_m16", "bf16_b16", "int8_m16"}},
			{32, []string{"bf16_m32", "bf16_b32", "int8_m32"}}, {64, []string{"bf16_m64", "bf16_b64", "int8_m64"}},
		} {
			for _, e := range few.entries {
				all = append(all, product(e, few.m, shape[0], shape[1]))
			}
		}
	}
	for _, m := range s.rows {
		for _, e := range append([]string{"f32", "tf32_t64", "tf32_t128", "bf16_t32", "bf16_t64", "bf16_t128", "bf16_s32", "int8_t64", "int8_t128"}, hopper...) {
			all = append(all, product(e, m, s.wide[0], s.wide[1]), product(e, m, s.wide[1], s.wide[0]))
		}
	}
	for _, i := range s.images {
		entries := []string{"f32", "tf32_s32", "tf32_t64", "tf32_t128", "bf16_s32", "bf16_t32", "bf16_t64", "bf16_t128"}
		if i[0]*i[1]*i[1] <= 64 { // few windows
			entries = append(entries, "tf32_m64", "bf16_m64")
		}
		if size := i[1]; size&(size-1) == 0 { // as boxes want it
			entries = append(entries, hopper...)
		}
		for _, e := range entries {
			all = append(all, convolution(e, i[0], i[1], i[2], i[3]))
		}
	}
	for _, e := range []string{"text_32", "tf32_text_32", "bf16_text_32", "text_64", "tf32_text_64", "bf16_text_64"} {
		all = append(all, attend(e, s.texts[0], s.texts[1], s.texts[2]))
	}
	return append(all, normalise(s.texts[0]*s.texts[1], s.features), gelu(s.values/4), softmax(s.texts[0]*s.texts[1], s.features))
}

// up is how many blocks of size cover n.
func up(n, size int) int { return (n + size - 1) / size }

// copying moves its memory and computes nothing: it is what memory can do.
func copying(n int) launch {
	return launch{"activation_relu", fmt.Sprintf("n=%d", n), [3]int{n, 1, 1}, []any{out(n), f32(n), n}, 0}
}

// format tells by an entry's name, as "bf16_t64", what its operands are.
func format(entry string) (x, w func(n int) memory) {
	switch kind, form, _ := strings.Cut(entry, "_"); {
	case kind == "int8":
		return octets, octets
	case kind == "bf16" && form[0] == 'm': // rounded as it is read
		return f32, bf16
	case kind == "bf16":
		return bf16, bf16
	}
	return f32, f32
}

// product is dst = x·Wᵀ + bias, x [m][k] and W [n][k]; k is a multiple of 16.
func product(entry string, m, n, k int) launch {
	x, w := format(entry)
	args := []any{x(m * k), k, w(n * k), k, k}
	if tensor.FormOf("matmul_" + entry).Hopper {
		args = []any{boxes{x(m * k), []int{k, m}, []int{64, 64}}, boxes{w(n * k), []int{k, n}, []int{64, 64}}, k}
	}
	if strings.HasPrefix(entry, "int8") {
		args = append(args, f32(m), zeros(m), f32(n), zeros(n)) // scales and zero points, scales and sums
	}
	args = append(args, output(m, n)...)
	extent := [3]int{m, n, 1}
	if _, form, _ := strings.Cut(entry, "_"); strings.HasPrefix(form, "m") || strings.HasPrefix(form, "b") { // for few rows
		extent = [3]int{n, 1, 1}
	}
	return launch{"matmul_" + entry, fmt.Sprintf("m=%d n=%d k=%d", m, n, k), extent, args, 2 * float64(m) * float64(n) * float64(k)}
}

// output is the kernels' Output with a bias, for one image of m rows.
func output(m, n int) []any {
	return []any{out(m * n), n, m, n, m, f32(n), null, null, null, 0, int(matmul.None), 0, null, null, null, 0, 0, 0, null, 0, 0}
}

// convolution is dst = x ∗ W + bias, 3×3, x of size×size pixels of c channels, dst of n; c is a multiple of 8.
func convolution(entry string, images, size, c, n int) launch {
	_, w := format(entry)
	x, pixels := w, images*size*size
	args := append([]any{x(pixels * c), w(9 * n * c), c, size, size, c, size, size, 3, 1, 0, 0}, output(pixels, n)...)
	if tensor.FormOf("conv_" + entry).Hopper {
		wide := min(size, 64)
		high := min(size, 64/wide)
		args[0], args[1] = null, null
		args = append([]any{boxes{x(pixels * c), []int{c, size, size, images}, []int{64, wide, high, 64 / (wide * high)}},
			boxes{w(9 * n * c), []int{c, 9, n}, []int{64, 1, 64}}}, args...)
	}
	extent := [3]int{pixels, n, 1}
	if strings.Contains(entry, "_m") {
		extent = [3]int{n, pixels, 1}
	}
	return launch{"conv_" + entry, fmt.Sprintf("images=%d size=%d c=%d n=%d", images, size, c, n),
		extent, args, 18 * float64(pixels) * float64(c) * float64(n)}
}

// attend is attention over the keys of texts of equal length, with heads as wide as the entry's name says.
func attend(entry string, texts, tokens, heads int) launch {
	x, depth := f32, 32
	if strings.HasSuffix(entry, "64") {
		depth = 64
	}
	if strings.HasPrefix(entry, "bf16") {
		x = bf16
	}
	hidden, all := heads*depth, texts*tokens
	starts := make([]int32, texts+1)
	for i := range starts {
		starts[i] = int32(i * tokens)
	}
	return launch{"attention_" + entry, fmt.Sprintf("texts=%d tokens=%d heads=%d depth=%d", texts, tokens, heads, depth),
		[3]int{tokens, heads, texts},
		[]any{x(all * hidden), hidden, x(all * hidden), x(all * hidden), x(all * hidden), hidden, starts, depth, null, 0, 0},
		4 * float64(all) * float64(tokens) * float64(hidden)}
}

func normalise(rows, n int) launch {
	return launch{"layernorm_f32", fmt.Sprintf("rows=%d n=%d", rows, n), [3]int{rows, 1, 1},
		[]any{out(rows * n), f32(rows * n), f32(rows * n), f32(n), f32(n), rows, n, float32(1e-12), int(matmul.None)}, 0}
}

func gelu(n int) launch {
	return launch{"activation_gelu", fmt.Sprintf("n=%d", n), [3]int{n, 1, 1}, []any{out(n), f32(n), n}, 0}
}

// softmax is in place.
func softmax(rows, cols int) launch {
	return launch{"activation_softmax", fmt.Sprintf("rows=%d cols=%d", rows, cols), [3]int{rows, 1, 1},
		[]any{f32(rows * cols), rows, cols, cols}, 0}
}
