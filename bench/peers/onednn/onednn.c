// oneDNN as a contestant, through its C API:
//
//	onednn matmul data=FILE m=M n=N k=K copies=C precision=f32|bf16|int8
//	onednn conv   data=FILE in=C out=C size=S precision=f32|bf16|int8
//
// Operands are what main.go's cases of the same names take. They are brought into the formats and the precision that oneDNN chooses
// before the time runs, activations too; results stay float32. OMP_NUM_THREADS says how many threads.
#include <oneapi/dnnl/dnnl.h>

#include "contestant.h"

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static dnnl_memory_desc_t describe(int dimensions, const dnnl_dim_t *dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
	dnnl_memory_desc_t md;
	TRY(dnnl_memory_desc_create_with_tag(&md, dimensions, dims, type, tag));
	return md;
}

static dnnl_memory_t allocate(const_dnnl_memory_desc_t md) {
	dnnl_memory_t m;
	TRY(dnnl_memory_create(&m, md, engine, DNNL_MEMORY_ALLOCATE));
	return m;
}

static void *data(dnnl_memory_t m) {
	void *p;
	TRY(dnnl_memory_get_data_handle(m, &p));
	return p;
}

static dnnl_primitive_t primitive(dnnl_primitive_desc_t pd) {
	dnnl_primitive_t p;
	TRY(dnnl_primitive_create(&p, pd));
	return p;
}

static void reorder(dnnl_memory_t from, dnnl_memory_t to) {
	const_dnnl_memory_desc_t a, b;
	TRY(dnnl_memory_get_memory_desc(from, &a));
	TRY(dnnl_memory_get_memory_desc(to, &b));
	dnnl_primitive_desc_t pd;
	TRY(dnnl_reorder_primitive_desc_create(&pd, a, engine, b, engine, NULL));
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
	TRY(dnnl_primitive_execute(primitive(pd), stream, 2, args));
	TRY(dnnl_stream_wait(stream));
}

// values is a memory of a vector: scales or zero points.
static dnnl_memory_t values(dnnl_dim_t n, dnnl_data_type_t type, const void *v) {
	dnnl_memory_t m = allocate(describe(1, &n, type, dnnl_a));
	memcpy(data(m), v, 4 * n);
	return m;
}

// The case: one primitive, and its arguments for each copy of the weights.
static dnnl_primitive_t run;
static dnnl_exec_arg_t *arguments;
static int count, copies, next;
static dnnl_memory_t raw, plain; // the result, as it is computed and in the order that main.go has

static void call(void) {
	TRY(dnnl_primitive_execute(run, stream, count, arguments + next * count));
	TRY(dnnl_stream_wait(stream));
	next = (next + 1) % copies;
}

// operand is a float32 array of the given dimensions in a memory of another type. For int8 it is rounded as oneDNN's users do: weights
// (channels > 0) symmetrically with a scale for each, activations to u8 with one scale and a zero point.
static dnnl_memory_t operand(int dimensions, const dnnl_dim_t *dims, dnnl_format_tag_t tag, float *x, dnnl_data_type_t type, dnnl_dim_t channels,
                             float *scale, int *zero) {
	dnnl_dim_t size = 1;
	for (int i = 0; i < dimensions; i++)
		size *= dims[i];
	dnnl_memory_t m = allocate(describe(dimensions, dims, type == dnnl_bf16 ? dnnl_f32 : type, tag));
	if (type == dnnl_f32 || type == dnnl_bf16) {
		memcpy(data(m), x, 4 * size);
	} else if (type == dnnl_s8) {
		dnnl_dim_t row = size / channels;
		for (dnnl_dim_t c = 0; c < channels; c++) {
			float top = 0;
			for (dnnl_dim_t i = 0; i < row; i++)
				top = fmaxf(top, fabsf(x[c * row + i]));
			scale[c] = top / 127;
			for (dnnl_dim_t i = 0; i < row; i++)
				((signed char *)data(m))[c * row + i] = lrintf(x[c * row + i] / scale[c]);
		}
	} else {
		float low = 0, high = 0;
		for (dnnl_dim_t i = 0; i < size; i++)
			low = fminf(low, x[i]), high = fmaxf(high, x[i]);
		*scale = (high - low) / 255;
		*zero = lrintf(-low / *scale);
		for (dnnl_dim_t i = 0; i < size; i++)
			((unsigned char *)data(m))[i] = fmaxf(0, fminf(255, lrintf(x[i] / *scale) + *zero));
	}
	return m;
}

// prepare sets the case up from a primitive for which oneDNN chose the formats, and the plain forms of its operands.
static void prepare(dnnl_primitive_desc_t pd, dnnl_memory_t x, dnnl_memory_t w, int int8, dnnl_dim_t channels, float *scales, float scale, int zero) {
	dnnl_memory_t source = allocate(dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0));
	reorder(x, source);
	raw = allocate(dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0));
	run = primitive(pd);
	count = int8 ? 6 : 3;
	arguments = calloc(copies * count, sizeof *arguments);
	for (int i = 0; i < copies; i++) {
		dnnl_memory_t packed = allocate(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
		reorder(w, packed);
		dnnl_exec_arg_t *a = arguments + i * count;
		a[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, source};
		a[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, packed};
		a[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, raw};
		if (int8) {
			a[3] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, values(channels, dnnl_f32, scales)};
			a[4] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, values(1, dnnl_f32, &scale)};
			a[5] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, values(1, dnnl_s32, &zero)};
		}
	}
}

static dnnl_primitive_attr_t attributes(int int8, int mask) {
	dnnl_primitive_attr_t attr;
	TRY(dnnl_primitive_attr_create(&attr));
	if (int8) {
		TRY(dnnl_primitive_attr_set_scales_mask(attr, DNNL_ARG_WEIGHTS, mask));
		TRY(dnnl_primitive_attr_set_scales_mask(attr, DNNL_ARG_SRC, 0));
		TRY(dnnl_primitive_attr_set_zero_points_mask(attr, DNNL_ARG_SRC, 0));
	}
	return attr;
}

static void matmul(float *numbers, dnnl_data_type_t source, dnnl_data_type_t weight) {
	dnnl_dim_t m = number("m"), n = number("n"), k = number("k");
	dnnl_dim_t x[] = {m, k}, w[] = {k, n}, y[] = {m, n};
	int int8 = weight == dnnl_s8, zero = 0;
	float *scales = calloc(n, 4), scale = 1;
	copies = number("copies");
	dnnl_memory_t weights = operand(2, w, dnnl_ba, numbers, weight, n, scales, NULL);
	dnnl_memory_t in = operand(2, x, dnnl_ab, numbers + n * k, source, 0, &scale, &zero);
	plain = allocate(describe(2, y, dnnl_f32, dnnl_ab));
	dnnl_primitive_desc_t pd;
	TRY(dnnl_matmul_primitive_desc_create(&pd, engine, describe(2, x, source, dnnl_ab), describe(2, w, weight, dnnl_format_tag_any), NULL,
	                                      describe(2, y, dnnl_f32, dnnl_ab), attributes(int8, 2)));
	prepare(pd, in, weights, int8, n, scales, scale, zero);
}

static void conv(float *numbers, dnnl_data_type_t source, dnnl_data_type_t weight) {
	dnnl_dim_t in = number("in"), out = number("out"), size = number("size");
	dnnl_dim_t x[] = {1, in, size, size}, w[] = {out, in, 3, 3}, y[] = {1, out, size, size}, one[] = {1, 1}, none[] = {0, 0};
	int int8 = weight == dnnl_s8, zero = 0;
	float *scales = calloc(out, 4), scale = 1;
	copies = 1;
	dnnl_memory_t weights = operand(4, w, dnnl_acdb, numbers, weight, out, scales, NULL);
	dnnl_memory_t map = operand(4, x, dnnl_acdb, numbers + out * in * 9, source, 0, &scale, &zero);
	plain = allocate(describe(4, y, dnnl_f32, dnnl_acdb));
	dnnl_primitive_desc_t pd;
	TRY(dnnl_convolution_forward_primitive_desc_create(&pd, engine, dnnl_forward_inference, dnnl_convolution_direct,
	                                                   describe(4, x, source, dnnl_format_tag_any),
	                                                   describe(4, w, weight, dnnl_format_tag_any), NULL,
	                                                   describe(4, y, dnnl_f32, dnnl_format_tag_any), one, none, one, one, attributes(int8, 1)));
	prepare(pd, map, weights, int8, out, scales, scale, zero);
}

static float *result(size_t *count) {
	reorder(raw, plain);
	const_dnnl_memory_desc_t md;
	TRY(dnnl_memory_get_memory_desc(plain, &md));
	*count = dnnl_memory_desc_get_size(md) / 4;
	return data(plain);
}

int main(int argc, char **argv) {
	words = argc, word = argv;
	float *numbers = read_numbers();
	TRY(dnnl_engine_create(&engine, dnnl_cpu, 0));
	TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
	const char *precision = text("precision");
	dnnl_data_type_t source = !strcmp(precision, "int8") ? dnnl_u8 : !strcmp(precision, "bf16") ? dnnl_bf16 : dnnl_f32;
	dnnl_data_type_t weight = source == dnnl_u8 ? dnnl_s8 : source;
	(!strcmp(word[1], "matmul") ? matmul : conv)(numbers, source, weight);
	serve();
}
