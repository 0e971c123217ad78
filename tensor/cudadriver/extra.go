//go:build cuda && cgo

package cudadriver

// What cu lacks.

/*
#cgo LDFLAGS: -lcuda
#include <cuda.h>

// A launch's arguments come as one buffer, laid out as the kernel's parameters. The extensible launch, not
// cuLaunchCooperativeKernel, is what takes such a buffer for cooperative kernels, too; clusters are the PTX's (.reqnctapercluster).
static CUresult launch(CUfunction f, CUstream s, const unsigned *grid, const unsigned *block, unsigned shared, int cooperative,
	int early, void *args, size_t size) {
	CUlaunchAttribute attributes[2];
	unsigned n = 0;
	if (cooperative) attributes[n++] = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE, .value.cooperative = 1};
	if (early)
		attributes[n++] = (CUlaunchAttribute){.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
			.value.programmaticStreamSerializationAllowed = 1};
	CUlaunchConfig config = {
		.gridDimX = grid[0], .gridDimY = grid[1], .gridDimZ = grid[2],
		.blockDimX = block[0], .blockDimY = block[1], .blockDimZ = block[2],
		.sharedMemBytes = shared, .hStream = s, .attrs = attributes, .numAttrs = n,
	};
	void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, args, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
	return cuLaunchKernelEx(&config, f, 0, extra);
}

// parameters tells how many bytes of arguments f takes.
static CUresult parameters(CUfunction f, size_t *bytes) {
	size_t offset, size;
	*bytes = 0;
	for (size_t i = 0;; i++) {
		CUresult r = cuFuncGetParamInfo(f, i, &offset, &size);
		if (r == CUDA_ERROR_INVALID_VALUE) return CUDA_SUCCESS; // there are i of them
		if (r != CUDA_SUCCESS) return r;
		*bytes = offset + size;
	}
}
*/
// #cgo noescape launch
// #cgo nocallback launch
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// result is a CUresult. cu has a type for it, too, which keeps the number to itself.
type result C.CUresult

// Error is the driver's name of the error and what it says of it.
func (r result) Error() string {
	var name, text *C.char
	if C.cuGetErrorName(C.CUresult(r), &name) != C.CUDA_SUCCESS || C.cuGetErrorString(C.CUresult(r), &text) != C.CUDA_SUCCESS {
		return "an error that this driver does not know"
	}
	return C.GoString(name) + ": " + C.GoString(text)
}

// Results that Device tells apart.
const (
	invalidValue = result(C.CUDA_ERROR_INVALID_VALUE)
	outOfMemory  = result(C.CUDA_ERROR_OUT_OF_MEMORY)
)

// lost tells whether no work can be done after r: the context that it happened in is beyond repair.
func (r result) lost() bool {
	switch r {
	case C.CUDA_ERROR_ILLEGAL_ADDRESS, C.CUDA_ERROR_LAUNCH_TIMEOUT, C.CUDA_ERROR_ASSERT, C.CUDA_ERROR_HARDWARE_STACK_ERROR,
		C.CUDA_ERROR_ILLEGAL_INSTRUCTION, C.CUDA_ERROR_MISALIGNED_ADDRESS, C.CUDA_ERROR_INVALID_ADDRESS_SPACE,
		C.CUDA_ERROR_INVALID_PC, C.CUDA_ERROR_LAUNCH_FAILED, C.CUDA_ERROR_CONTEXT_IS_DESTROYED, C.CUDA_ERROR_ECC_UNCORRECTABLE,
		C.CUDA_ERROR_NVLINK_UNCORRECTABLE, C.CUDA_ERROR_EXTERNAL_DEVICE, C.CUDA_ERROR_DEINITIALIZED:
		return true
	}
	return false
}

// check makes an error of what a call returned.
func check(r C.CUresult) error {
	if r != C.CUDA_SUCCESS {
		return result(r)
	}
	return nil
}

// sharedPerBlockOptIn is how much shared memory a function may ask for, which cu has no name for.
const sharedPerBlockOptIn = cu.DeviceAttribute(C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)

// cu's handles are structs of one pointer, which only Stream gives away.
func functionOf(f cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&f)) }
func streamOf(s cu.Stream) C.CUstream       { return *(*C.CUstream)(unsafe.Pointer(&s)) }
func eventOf(e cu.Event) C.CUevent          { return *(*C.CUevent)(unsafe.Pointer(&e)) }

var _ = [1]struct{}{}[unsafe.Sizeof(cu.Function{})+unsafe.Sizeof(cu.Stream{})+unsafe.Sizeof(cu.Event{})-3*unsafe.Sizeof(uintptr(0))]

// allowShared lets launches of f have bytes of dynamic shared memory, beyond the 48 KB that are always allowed.
func allowShared(f cu.Function, bytes int) error {
	return check(C.cuFuncSetAttribute(functionOf(f), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)))
}

// argumentBytes is how long the buffer of f's arguments is.
func argumentBytes(f cu.Function) (int, error) {
	var n C.size_t
	err := check(C.parameters(functionOf(f), &n))
	return int(n), err
}

// launch does not keep args.
func launch(f cu.Function, s cu.Stream, grid, block *[3]C.uint, shared int, cooperative, early bool, args []byte) error {
	number := func(b bool) (n C.int) {
		if b {
			n = 1
		}
		return n
	}
	return check(C.launch(functionOf(f), streamOf(s), &grid[0], &block[0], C.uint(shared), number(cooperative), number(early), unsafe.Pointer(unsafe.SliceData(args)), C.size_t(len(args))))
}

// size is a grid or block for launch; a zero means 1.
func size(n [3]int) [3]C.uint {
	return [3]C.uint{C.uint(max(n[0], 1)), C.uint(max(n[1], 1)), C.uint(max(n[2], 1))}
}

// hostAlloc returns pinned memory, which cu.MemFreeHost frees.
func hostAlloc(bytes int) ([]byte, error) {
	var p unsafe.Pointer
	if err := check(C.cuMemHostAlloc(&p, C.size_t(bytes), 0)); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), bytes), nil
}

// recordInCapture makes a node that records e each time the graph runs; cu's Record would only order the capture.
func recordInCapture(e cu.Event, s cu.Stream) error {
	return check(C.cuEventRecordWithFlags(eventOf(e), streamOf(s), C.CU_EVENT_RECORD_EXTERNAL))
}

// beginCapture is ended by the same thread.
func beginCapture(s cu.Stream) error {
	return check(C.cuStreamBeginCapture(streamOf(s), C.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
}

// dropCapture ends a capture that came to nothing.
func dropCapture(s cu.Stream) {
	var g C.CUgraph
	if C.cuStreamEndCapture(streamOf(s), &g) == C.CUDA_SUCCESS && g != nil {
		C.cuGraphDestroy(g)
	}
}

// graph is a captured graph that can run.
type graph struct{ exec C.CUgraphExec }

// endCapture makes a graph of what was captured.
func endCapture(s cu.Stream) (g graph, err error) {
	var captured C.CUgraph
	if err := check(C.cuStreamEndCapture(streamOf(s), &captured)); err != nil {
		return g, err
	}
	defer C.cuGraphDestroy(captured)
	err = check(C.cuGraphInstantiateWithFlags(&g.exec, captured, 0))
	return g, err
}

func (g graph) launch(s cu.Stream) error { return check(C.cuGraphLaunch(g.exec, streamOf(s))) }
func (g graph) destroy() error           { return check(C.cuGraphExecDestroy(g.exec)) }
