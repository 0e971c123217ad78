// A driver without a GPU, with which ./build.sh gpu -check runs the tests of tensor/cudadriver: what they can find without a GPU is
// whether that makes the right calls, in the right order, on threads that have the context. Work is done when it is given, on host
// memory. Of kernels it knows those of tensor/drivertest, by their names; ours do nothing, but are launched as their PTX says: so
// a whole request runs through the driver, to a picture of nothing. build.sh adds the other functions of the driver.
#include <cuda.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { multiprocessors = 132, threads_of_multiprocessor = 2048, shared_by_default = 48 << 10, shared_at_most = 227 << 10 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static CUresult lost; // what every call returns after a kernel has faulted
static int retained;
static __thread CUcontext current;

// Calls that need the context of their thread begin with this.
#define ENTER \
	if (!current || !retained) return CUDA_ERROR_INVALID_CONTEXT; \
	if (lost) return lost;

struct kernel {
	const char *name;
	int parameters, bytes; // of arguments, which begin with a pointer, and have words behind
};
static const struct kernel kernels[] = {{"add", 3, 16}, {"turn", 2, 12}, {"meet", 2, 12}, {"stray", 1, 8}};

struct CUmod_st {
	char *text;
};
struct CUfunc_st {
	const struct kernel *kernel; // null: one of ours
	int shared, threads, bytes, parameters;
	struct {
		size_t offset, size;
	} parameter[64];
};
struct CUevent_st {
	int recorded;
	struct timespec time;
};
struct work {
	enum { copy, run, record } kind;
	void *to, *from;
	size_t bytes;
	CUfunction f;
	unsigned blocks, threads;
	CUevent event;
	unsigned char args[16];
};
struct CUgraph_st {
	int count;
	struct work *work;
};
struct CUstream_st {
	CUgraph capture; // null: what comes is done
	pthread_t capturer;
};

static CUresult perform(struct work *w) {
	uint32_t *p, n[2];
	switch (w->kind) {
	case copy: memcpy(w->to, w->from, w->bytes); break;
	case record:
		w->event->recorded = 1;
		clock_gettime(CLOCK_MONOTONIC, &w->event->time);
		break;
	case run:
		if (!w->f->kernel) break;
		memcpy(&p, w->args, 8);
		memcpy(n, w->args + 8, 8);
		switch (w->f->kernel->name[0]) {
		case 'a': // add n[0] to each of n[1] words
			for (uint32_t i = 0; i < n[1] && i < w->blocks * w->threads; i++) __atomic_fetch_add(p + i, n[0], __ATOMIC_RELAXED);
			break;
		case 't': // turn
			for (uint32_t i = 0, j = n[0] * w->threads - 1; i < j; i++, j--) {
				uint32_t word = p[i];
				p[i] = p[j];
				p[j] = word;
			}
			break;
		case 'm': // meet
			p[0] += n[0];
			for (uint32_t i = 1; i <= n[0]; i++) p[i] = p[0];
			break;
		default: return lost = CUDA_ERROR_ILLEGAL_ADDRESS;
		}
	}
	return CUDA_SUCCESS;
}

static CUresult give(CUstream s, struct work w) {
	if (!s->capture) return perform(&w);
	CUgraph g = s->capture;
	g->work = realloc(g->work, (g->count + 1) * sizeof w);
	g->work[g->count++] = w;
	return CUDA_SUCCESS;
}

CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { return *version = 12040, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *n) { return *n = 1, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *d, int i) { return *d = i, i == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE; }
CUresult cuDeviceGetName(char *name, int size, CUdevice d) { return strncpy(name, "no GPU", size), CUDA_SUCCESS; }
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice d) { return *bytes = (size_t)2 << 30, CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult r, const char **s) { return *s = "CUDA_ERROR", CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult r, const char **s) { return *s = "an error of the driver without a GPU", CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) {
	switch (a) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = 9; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = 0; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = multiprocessors; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *v = shared_at_most; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *v = shared_at_most + 1024; break;
	case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *v = 50 << 20; break;
	default: return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) {
	pthread_mutex_lock(&mutex);
	retained++;
	pthread_mutex_unlock(&mutex);
	return *c = (CUcontext)&retained, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice d) {
	pthread_mutex_lock(&mutex);
	int was = retained--;
	pthread_mutex_unlock(&mutex);
	return was > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuCtxSetCurrent(CUcontext c) { return current = c, CUDA_SUCCESS; }

CUresult cuModuleLoadDataEx(CUmodule *m, const void *text, unsigned n, CUjit_option *options, void **values) {
	ENTER
	int ours = strstr(text, "// Generated by NVIDIA NVVM Compiler") != 0;
	if (strstr(text, ".version") && (strstr(text, "sm_80") || strstr(text, "sm_90a")) && (ours || strstr(text, "red.global"))) {
		*m = malloc(sizeof **m);
		(*m)->text = strdup(text);
		return CUDA_SUCCESS;
	}
	for (unsigned i = 0; i < n; i++)
		if (options[i] == CU_JIT_ERROR_LOG_BUFFER) strcpy(values[i], "said by the compiler\n");
	return CUDA_ERROR_INVALID_PTX;
}
CUresult cuModuleUnload(CUmodule m) {
	ENTER
	return free(m->text), free(m), CUDA_SUCCESS;
}

// declare reads the parameters and the threads of an entry from the text behind its name.
static void declare(CUfunction f, const char *text) {
	const char *end = strchr(text, ')');
	while ((text = strstr(text, ".param ")) && text < end) {
		int align, size, bits;
		char name[128];
		if (sscanf(text, ".param .align %d .b8 %127[a-z0-9A-Z_][%d]", &align, name, &size) != 3) {
			sscanf(strpbrk(text + strlen(".param ."), "0123456789"), "%d", &bits);
			align = size = bits / 8;
		}
		f->bytes = (f->bytes + align - 1) / align * align;
		f->parameter[f->parameters].offset = f->bytes;
		f->parameter[f->parameters++].size = size;
		f->bytes += size;
		text++;
	}
	f->threads = atoi(strstr(end, ".maxntid ") + strlen(".maxntid "));
}

CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
	ENTER
	struct CUfunc_st g = {.shared = shared_by_default, .threads = 1024};
	for (int i = 0; i < 4; i++)
		if (!strcmp(kernels[i].name, name)) {
			g.kernel = &kernels[i];
			g.bytes = kernels[i].bytes;
			for (; g.parameters < kernels[i].parameters; g.parameters++) {
				g.parameter[g.parameters].offset = g.parameters ? 4 + 4 * g.parameters : 0;
				g.parameter[g.parameters].size = g.parameters ? 4 : 8;
			}
		}
	char entry[128];
	snprintf(entry, sizeof entry, ".entry %s(", name);
	const char *text = strstr(m->text, entry);
	if (!g.kernel && !text) return CUDA_ERROR_NOT_FOUND;
	if (!g.kernel) declare(&g, text);
	*f = malloc(sizeof g);
	**f = g;
	return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *v, CUfunction_attribute a, CUfunction f) {
	ENTER
	return *v = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? f->threads : 0, CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
	ENTER
	if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || v > shared_at_most) return CUDA_ERROR_INVALID_VALUE;
	return f->shared = v, CUDA_SUCCESS;
}
CUresult cuFuncGetParamInfo(CUfunction f, size_t i, size_t *offset, size_t *size) {
	ENTER
	if (i >= (size_t)f->parameters) return CUDA_ERROR_INVALID_VALUE;
	*offset = f->parameter[i].offset;
	*size = f->parameter[i].size;
	return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **parameters, void **extra) {
	ENTER
	unsigned threads = c->blockDimX * c->blockDimY * c->blockDimZ, blocks = c->gridDimX * c->gridDimY * c->gridDimZ;
	if (!threads || threads > (unsigned)f->threads || !blocks || c->gridDimY > 65535 || c->gridDimZ > 65535 || c->sharedMemBytes > (unsigned)f->shared)
		return CUDA_ERROR_INVALID_VALUE;
	if (parameters || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER || extra[2] != CU_LAUNCH_PARAM_BUFFER_SIZE || extra[4] != CU_LAUNCH_PARAM_END ||
		*(size_t *)extra[3] != (size_t)f->bytes)
		return CUDA_ERROR_INVALID_VALUE;
	int cooperative = c->numAttrs == 1 && c->attrs[0].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE && c->attrs[0].value.cooperative;
	if (cooperative && blocks > multiprocessors * (threads_of_multiprocessor / threads)) return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
	struct work w = {.kind = run, .f = f, .blocks = blocks, .threads = threads};
	if (f->kernel) memcpy(w.args, extra[1], f->bytes);
	return give(c->hStream, w);
}

CUresult cuMemGetInfo(size_t *free, size_t *total) {
	ENTER
	*free = 1 << 30;
	*total = (size_t)2 << 30;
	return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *p, size_t bytes) {
	ENTER
	return *p = (CUdeviceptr)aligned_alloc(256, (bytes + 255) & ~(size_t)255), CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr p) {
	ENTER
	return free((void *)p), CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **p, size_t bytes, unsigned flags) {
	ENTER
	return *p = malloc(bytes), CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *p) {
	ENTER
	return free(p), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream s) {
	ENTER
	return give(s, (struct work){.kind = copy, .to = (void *)to, .from = (void *)from, .bytes = bytes});
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream s) {
	ENTER
	return give(s, (struct work){.kind = copy, .to = to, .from = (void *)from, .bytes = bytes});
}

CUresult cuStreamCreate(CUstream *s, unsigned flags) {
	ENTER
	return *s = calloc(1, sizeof **s), CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream s) {
	ENTER
	return free(s), CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream s) {
	ENTER
	return s->capture ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent *e, unsigned flags) {
	ENTER
	return *e = calloc(1, sizeof **e), CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent e) {
	ENTER
	return free(e), CUDA_SUCCESS;
}
CUresult cuEventRecordWithFlags(CUevent e, CUstream s, unsigned flags) {
	ENTER
	if ((flags == CU_EVENT_RECORD_EXTERNAL) != (s->capture != 0)) return CUDA_ERROR_INVALID_VALUE;
	return give(s, (struct work){.kind = record, .event = e});
}
CUresult cuEventRecord(CUevent e, CUstream s) { return cuEventRecordWithFlags(e, s, 0); }
CUresult cuEventSynchronize(CUevent e) {
	ENTER
	return CUDA_SUCCESS;
}
CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to) {
	ENTER
	if (!from->recorded || !to->recorded) return CUDA_ERROR_INVALID_HANDLE;
	*ms = 1e3 * (to->time.tv_sec - from->time.tv_sec) + 1e-6 * (to->time.tv_nsec - from->time.tv_nsec);
	return CUDA_SUCCESS;
}

// A graph that can run is the graph itself, kept: the captured one is destroyed before it.
CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode mode) {
	ENTER
	if (s->capture) return CUDA_ERROR_ILLEGAL_STATE;
	s->capture = calloc(1, sizeof *s->capture);
	s->capturer = pthread_self();
	return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream s, CUgraph *g) {
	ENTER
	if (!s->capture) return CUDA_ERROR_ILLEGAL_STATE;
	if (!pthread_equal(s->capturer, pthread_self())) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	*g = s->capture;
	s->capture = 0;
	return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *e, CUgraph g, unsigned long long flags) {
	ENTER
	CUgraph kept = malloc(sizeof *g);
	*kept = (struct CUgraph_st){g->count, malloc((g->count + 1) * sizeof *g->work)};
	if (g->count) memcpy(kept->work, g->work, g->count * sizeof *g->work);
	*e = (CUgraphExec)kept;
	return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec e, CUstream s) {
	ENTER
	CUgraph g = (CUgraph)e;
	CUresult r = CUDA_SUCCESS;
	for (int i = 0; i < g->count && r == CUDA_SUCCESS; i++) r = perform(&g->work[i]);
	return r;
}
CUresult cuGraphDestroy(CUgraph g) {
	ENTER
	return free(g->work), free(g), CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec e) { return cuGraphDestroy((CUgraph)e); }

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *p, const cuuint64_t *dims, const cuuint64_t *strides,
	const cuuint32_t *box, const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
	CUtensorMapFloatOOBfill fill) {
	ENTER
	if ((uintptr_t)map % 64 || (uintptr_t)p % 16) return CUDA_ERROR_INVALID_VALUE;
	for (cuuint32_t i = 0; i < rank; i++)
		if (i + 1 < rank && strides[i] % 16 || !box[i] || box[i] > 256 || steps[i] != 1) return CUDA_ERROR_INVALID_VALUE;
	return memset(map, 1, sizeof *map), CUDA_SUCCESS;
}
