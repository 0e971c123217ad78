// oneDNN's Winograd convolution as a contestant. Releases from 3.0 on have none, so this is for the C API of oneDNN 2:
//
//	winograd conv data=FILE in=C out=C size=S
//
// Like onednn conv, in float32.
#include <oneapi/dnnl/dnnl.h>

#include "contestant.h"

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static dnnl_memory_desc_t describe(const dnnl_dim_t *dims, dnnl_format_tag_t tag) {
	dnnl_memory_desc_t md;
	TRY(dnnl_memory_desc_init_by_tag(&md, 4, dims, dnnl_f32, tag));
	return md;
}

static dnnl_memory_t memory(const dnnl_memory_desc_t *md, void *data) {
	dnnl_memory_t m;
	TRY(dnnl_memory_create(&m, md, engine, data));
	return m;
}

static dnnl_primitive_t primitive(dnnl_primitive_desc_t pd) {
	dnnl_primitive_t p;
	TRY(dnnl_primitive_create(&p, pd));
	return p;
}

static void reorder(dnnl_memory_t from, dnnl_memory_t to) {
	const dnnl_memory_desc_t *a, *b;
	TRY(dnnl_memory_get_memory_desc(from, &a));
	TRY(dnnl_memory_get_memory_desc(to, &b));
	dnnl_primitive_desc_t pd;
	TRY(dnnl_reorder_primitive_desc_create(&pd, a, engine, b, engine, NULL));
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
	TRY(dnnl_primitive_execute(primitive(pd), stream, 2, args));
	TRY(dnnl_stream_wait(stream));
}

static dnnl_primitive_t run;
static dnnl_exec_arg_t arguments[3];
static dnnl_memory_t raw, plain; // the result, as it is computed and in the order that main.go has

static void call(void) {
	TRY(dnnl_primitive_execute(run, stream, 3, arguments));
	TRY(dnnl_stream_wait(stream));
}

static float *result(size_t *count) {
	const dnnl_memory_desc_t *md;
	void *data;
	reorder(raw, plain);
	TRY(dnnl_memory_get_memory_desc(plain, &md));
	TRY(dnnl_memory_get_data_handle(plain, &data));
	*count = dnnl_memory_desc_get_size(md) / 4;
	return data;
}

// operand brings values, which have their channels last, into the format that the primitive chose. Winograd's is reached from channels first.
static dnnl_memory_t operand(dnnl_primitive_desc_t pd, dnnl_query_t which, const dnnl_dim_t *dims, float *values) {
	dnnl_memory_desc_t last = describe(dims, dnnl_acdb), first = describe(dims, dnnl_abcd);
	dnnl_memory_t between = memory(&first, DNNL_MEMORY_ALLOCATE);
	reorder(memory(&last, values), between);
	dnnl_memory_t m = memory(dnnl_primitive_desc_query_md(pd, which, 0), DNNL_MEMORY_ALLOCATE);
	reorder(between, m);
	return m;
}

int main(int argc, char **argv) {
	words = argc, word = argv;
	float *numbers = read_numbers();
	TRY(dnnl_engine_create(&engine, dnnl_cpu, 0));
	TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));

	dnnl_dim_t in = number("in"), out = number("out"), size = number("size");
	dnnl_dim_t x[] = {1, in, size, size}, w[] = {out, in, 3, 3}, y[] = {1, out, size, size}, one[] = {1, 1};
	dnnl_memory_desc_t any[] = {describe(x, dnnl_format_tag_any), describe(w, dnnl_format_tag_any), describe(y, dnnl_format_tag_any)};
	dnnl_memory_desc_t last = describe(y, dnnl_acdb);
	dnnl_convolution_desc_t desc;
	TRY(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_winograd, any, any + 1, NULL, any + 2, one, one, one));
	dnnl_primitive_desc_t pd;
	TRY(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL));
	run = primitive(pd);
	raw = memory(dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), DNNL_MEMORY_ALLOCATE);
	plain = memory(&last, DNNL_MEMORY_ALLOCATE);
	arguments[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, operand(pd, dnnl_query_src_md, x, numbers + out * in * 9)};
	arguments[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, operand(pd, dnnl_query_weights_md, w, numbers)};
	arguments[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, raw};
	serve();
}
