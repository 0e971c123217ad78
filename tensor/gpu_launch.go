package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"netfusion/kernels/activation"
	"netfusion/kernels/affine"
	"netfusion/kernels/attention"
	"netfusion/kernels/conv"
	"netfusion/kernels/coupling"
	"netfusion/kernels/dense"
	"netfusion/kernels/embedding"
	"netfusion/kernels/groupnorm"
	"netfusion/kernels/layernorm"
	"netfusion/kernels/matmul"
	"netfusion/kernels/optimizer"
	"netfusion/kernels/program"
	"netfusion/kernels/quantize"
	"netfusion/kernels/random"
)

// This file is the launch table: how every entry of every PTX text is launched. What its arguments are is where the operation
// is: gpu_<op>.go.

// Form is how one entry is launched.
type Form struct {
	Family      string
	Block       int    // threads
	Tile        [3]int // of the extent that one block does, along each axis of the grid
	Shared      int    // bytes of dynamic shared memory
	Cluster     int    // blocks along the first axis that make one; 0 is 1
	Cooperative bool
	Hopper      bool // for compute capability 9.0 alone
}

// Grid is how many blocks cover an extent: what that counts, rows and columns for most, is said with the table.
func (f Form) Grid(extent [3]int) [3]int {
	var grid [3]int
	for i, n := range extent {
		tile := max(f.Tile[i], 1)
		grid[i] = (n + tile - 1) / tile
	}
	grid[0] = roundUp(grid[0], max(f.Cluster, 1))
	return grid
}

// The usual forms.
func values(family string) Form      { return Form{Family: family, Block: 256, Tile: [3]int{256}} }    // (values, 1, 1)
func warpRows(family string) Form    { return Form{Family: family, Block: 128, Tile: [3]int{4}} }      // (rows, 1, 1), a warp each
func wideRows(family string) Form    { return Form{Family: family, Block: 128, Tile: [3]int{1, 128}} } // (rows, columns, 1)
func columns(family string) Form     { return Form{Family: family, Block: 256, Tile: [3]int{32}} }     // (columns, 1, 1)
func blockRows(family string) Form   { return Form{Family: family, Block: 128} }                       // (rows, 1, 1), a block each
func tile(family string, n int) Form { return Form{Family: family, Block: 2 * n, Tile: [3]int{n, n}} } // (rows, columns, phases)
func sliced(family string) Form      { return Form{Family: family, Block: 256, Tile: [3]int{32, 32}} } // (rows, columns, phases)
func cut(family string) Form { // (rows, columns, phases)
	return Form{Family: family, Block: 512, Tile: [3]int{32, 32}, Shared: 96 << 10}
}
func few(windows int) Form { return Form{Family: "conv", Block: 128, Tile: [3]int{8, windows}} }
func skinny(family string, columns int) Form { // (columns, 1, phases)
	return Form{Family: family, Block: 128, Tile: [3]int{columns}}
}

var forms = map[string]Form{
	"activation_exp":        values("activation"),
	"activation_tanh":       values("activation"),
	"activation_gelu":       values("activation"),
	"activation_gelu_tanh":  values("activation"),
	"activation_relu":       values("activation"),
	"activation_prelu":      values("activation"),
	"activation_softmax":    warpRows("activation"),
	"activation_pick":       warpRows("activation"),
	"activation_prelu_back": values("activation"),
	"activation_mixture":    warpRows("activation"),

	"affine_relu":           wideRows("affine"),
	"affine_fold":           wideRows("affine"),
	"affine_columns":        wideRows("affine"),
	"affine_columns_gather": wideRows("affine"),
	"affine_columns_back":   wideRows("affine"),
	"affine_columns_sums":   columns("affine"),
	"affine_mix":            values("affine"),
	"affine_add":            values("affine"),

	// (tokens of the longest text, heads, texts)
	"attention_text_32":      {Family: "attention", Block: 128, Tile: [3]int{64, 1, 1}},
	"attention_text_64":      {Family: "attention", Block: 128, Tile: [3]int{64, 1, 1}},
	"attention_tf32_text_32": {Family: "attention", Block: 128, Tile: [3]int{64, 1, 1}},
	"attention_tf32_text_64": {Family: "attention", Block: 128, Tile: [3]int{64, 1, 1}},
	"attention_bf16_text_32": {Family: "attention", Block: 128, Tile: [3]int{64, 1, 1}},
	"attention_bf16_text_64": {Family: "attention", Block: 128, Tile: [3]int{64, 1, 1}},
	// (queries of an image, width of a value, images)
	"attention_pooled":         {Family: "attention", Block: 128, Tile: [3]int{64, 64, 1}},
	"attention_tf32_pooled_32": {Family: "attention", Block: 128, Tile: [3]int{64, 64, 1}},
	"attention_tf32_pooled":    {Family: "attention", Block: 128, Tile: [3]int{64, 64, 1}},

	// (windows, channels, phases)
	"conv_f32":       tile("conv", 64),
	"conv_tf32_t32":  tile("conv", 32),
	"conv_tf32_t64":  tile("conv", 64),
	"conv_tf32_t128": tile("conv", 128),
	"conv_tf32_s32":  sliced("conv"),
	"conv_tf32_x32":  cut("conv"),
	"conv_bf16_t32":  tile("conv", 32),
	"conv_bf16_t64":  tile("conv", 64),
	"conv_bf16_t128": tile("conv", 128),
	"conv_bf16_s32":  sliced("conv"),
	"conv_bf16_x32":  cut("conv"),
	// (channels, windows, phases)
	"conv_tf32_m16":    few(16),
	"conv_tf32_m32":    few(32),
	"conv_tf32_m64":    few(64),
	"conv_bf16_m16":    few(16),
	"conv_bf16_m32":    few(32),
	"conv_bf16_m64":    few(64),
	"conv_tf32_pixels": few(64),
	"conv_bf16_pixels": few(64),
	"conv_bf16_w64":    {Family: "conv", Hopper: true, Block: 160, Tile: [3]int{64, 64}, Shared: 98400},
	"conv_bf16_w128":   {Family: "conv", Hopper: true, Block: 288, Tile: [3]int{128, 128}, Shared: 98352, Cluster: 2},
	"conv_maxpool":     wideRows("conv"), // (pixels of the result, channels, 1)

	"coupling_forward":  warpRows("coupling"),
	"coupling_inverse":  warpRows("coupling"),
	"coupling_backward": warpRows("coupling"),
	"coupling_loss":     warpRows("coupling"),

	"coupling_log_scales": {Family: "coupling", Block: 256}, // (1, 1, 1)

	"dense_sums":            columns("dense"),
	"dense_norm_back":       warpRows("dense"),
	"dense_batch_norm":      columns("dense"),
	"dense_batch_norm_back": columns("dense"),
	"dense_back":            {Family: "dense", Block: 256}, // (blocks, 1, 1)

	"embedding_f32":       wideRows("embedding"),
	"embedding_i8":        wideRows("embedding"),
	"embedding_add":       wideRows("embedding"),
	"embedding_draw":      wideRows("embedding"),
	"embedding_pool":      blockRows("embedding"), // (texts, 1, 1)
	"embedding_posterior": blockRows("embedding"),

	"groupnorm_f32": {Family: "groupnorm", Block: 256}, // (groups, images, 1)

	"layernorm_f32":  warpRows("layernorm"),
	"layernorm_next": blockRows("layernorm"),
	"layernorm_text": blockRows("layernorm"),

	"matmul_f32":       tile("matmul", 64),
	"matmul_f32_m1":    skinny("matmul", 4),
	"matmul_f32_m2":    skinny("matmul", 4),
	"matmul_f32_m4":    skinny("matmul", 4),
	"matmul_f32_m8":    skinny("matmul", 4),
	"matmul_f32_m16":   skinny("matmul", 4),
	"matmul_tf32_t32":  tile("matmul", 32),
	"matmul_tf32_t64":  tile("matmul", 64),
	"matmul_tf32_t128": tile("matmul", 128),
	"matmul_tf32_s32":  sliced("matmul"),
	"matmul_tf32_x32":  cut("matmul"),
	"matmul_bf16_t32":  tile("matmul", 32),
	"matmul_bf16_t64":  tile("matmul", 64),
	"matmul_bf16_t128": tile("matmul", 128),
	"matmul_bf16_s32":  sliced("matmul"),
	"matmul_bf16_x32":  cut("matmul"),
	"matmul_bf16_m16":  skinny("matmul", 8),
	"matmul_bf16_m32":  skinny("matmul", 8),
	"matmul_bf16_m64":  skinny("matmul", 8),
	"matmul_bf16_b16":  skinny("matmul", 8),
	"matmul_bf16_b32":  skinny("matmul", 8),
	"matmul_bf16_b64":  skinny("matmul", 8),
	"matmul_bf16_w64":  {Family: "matmul", Hopper: true, Block: 160, Tile: [3]int{64, 64}, Shared: 98400},
	"matmul_bf16_w128": {Family: "matmul", Hopper: true, Block: 288, Tile: [3]int{128, 128}, Shared: 98352, Cluster: 2},
	"matmul_int8_t32":  tile("matmul", 32),
	"matmul_int8_t64":  tile("matmul", 64),
	"matmul_int8_t128": tile("matmul", 128),
	"matmul_int8_s32":  sliced("matmul"),
	"matmul_int8_x32":  cut("matmul"),
	"matmul_int8_m16":  skinny("matmul", 8),
	"matmul_int8_m32":  skinny("matmul", 8),
	"matmul_int8_m64":  skinny("matmul", 8),

	"optimizer_adam":        values("optimizer"),
	"optimizer_sum_squares": values("optimizer"), // any extent up to the number of values

	"optimizer_clip": {Family: "optimizer", Block: 256}, // (1, 1, 1)

	// the blocks of a program.Code, which says how much shared memory they have
	"program_bf16": {Family: "program", Block: 256, Cooperative: true},
	"program_int8": {Family: "program", Block: 256, Cooperative: true},

	"quantize_bf16":    wideRows("quantize"),
	"quantize_u8_rows": warpRows("quantize"),
	"quantize_pixels":  values("quantize"),

	// (rows, fours of dimensions, 1)
	"random_words":   wideRows("random"),
	"random_uniform": wideRows("random"),
	"random_normal":  wideRows("random"),
	"random_pairs":   {Family: "random", Block: 128, Tile: [3]int{128}},     // (rows, 1, 1)
	"random_dropout": {Family: "random", Block: 128, Tile: [3]int{16, 128}}, // (rows, columns, 1)
}

// FormOf returns the row of entry, which is there.
func FormOf(entry string) Form {
	f, known := forms[entry]
	if !known {
		panic("tensor: no form of " + entry)
	}
	return f
}

// Family is a package of kernels: one of its texts.
type Family struct {
	Name, Text string
	Hopper     bool // for compute capability 9.0 alone
	Late       bool // loaded when it is first used: see Queue.Program
}

// Families lists all. It is a function, so that a program that opens no GPU does not carry the texts.
func Families() []Family {
	return []Family{
		{Name: "activation", Text: activation.PTX},
		{Name: "affine", Text: affine.PTX},
		{Name: "attention", Text: attention.PTX},
		{Name: "conv", Text: conv.PTX},
		{Name: "conv", Text: conv.HopperPTX, Hopper: true},
		{Name: "coupling", Text: coupling.PTX},
		{Name: "dense", Text: dense.PTX},
		{Name: "embedding", Text: embedding.PTX},
		{Name: "groupnorm", Text: groupnorm.PTX},
		{Name: "layernorm", Text: layernorm.PTX},
		{Name: "matmul", Text: matmul.PTX},
		{Name: "matmul", Text: matmul.HopperPTX, Hopper: true},
		{Name: "optimizer", Text: optimizer.PTX},
		{Name: "program", Text: program.PTX, Late: true},
		{Name: "quantize", Text: quantize.PTX},
		{Name: "random", Text: random.PTX},
	}
}

// Entries lists what the table has of f, by name.
func (f Family) Entries() []Entry {
	var entries []Entry
	for name, form := range forms {
		if form.Family == f.Name && form.Hopper == f.Hopper {
			entries = append(entries, Entry{name, form.Shared})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries
}

// AppendArgs lays out a kernel's parameters as Launch wants them: int (32 bits wide for the kernel), uint32, float32, DevicePtr,
// and what has one: an Array, or a Buffer of float32. The zero values of these are null pointers.
func AppendArgs(dst []byte, args ...any) []byte {
	for _, arg := range args {
		switch v := arg.(type) {
		case int:
			dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
		case uint32:
			dst = binary.LittleEndian.AppendUint32(dst, v)
		case float32:
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		case DevicePtr:
			dst = appendPointer(dst, v)
		case Buffer:
			if v.Precision != F32 {
				panic("tensor: a Buffer of bfloat16 where float32 is wanted")
			}
			dst = appendPointer(dst, v.Ptr)
		case interface{ pointer() DevicePtr }:
			dst = appendPointer(dst, v.pointer())
		default:
			panic(fmt.Sprintf("tensor: a kernel's argument of type %T", arg))
		}
	}
	return dst
}

func appendPointer(dst []byte, p DevicePtr) []byte {
	for len(dst)%8 != 0 {
		dst = append(dst, 0)
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(p))
}
