//go:build cuda && cgo

package cudadriver

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <string.h>

// Drivers before 12.0 lack this function. A program that makes no tensor map should start there, too, so it is looked up when it is needed.
static CUresult tensorMap(void *to, int type, unsigned rank, CUdeviceptr p, const cuuint64_t *dims, const cuuint64_t *strides,
	const cuuint32_t *box, int swizzle) {
	__typeof__(cuTensorMapEncodeTiled) *encode = dlsym(RTLD_DEFAULT, "cuTensorMapEncodeTiled");
	if (!encode) return CUDA_ERROR_NOT_SUPPORTED;
	const cuuint32_t dense[] = {1, 1, 1, 1, 1};
	_Alignas(64) CUtensorMap map;
	CUresult r = encode(&map, type, rank, (void *)p, dims, strides, box, dense, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
		CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	if (r == CUDA_SUCCESS) memcpy(to, &map, sizeof map);
	return r;
}
*/
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"

	"netfusion/tensor"
)

// TensorType is what the elements of a TensorMap are.
type TensorType int

// Types of elements.
const (
	TensorUint8    TensorType = C.CU_TENSOR_MAP_DATA_TYPE_UINT8
	TensorFloat32  TensorType = C.CU_TENSOR_MAP_DATA_TYPE_FLOAT32
	TensorBFloat16 TensorType = C.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
)

// TensorMap describes a tensor of one to five dimensions for the copies of boxes by the tensor memory accelerator, from compute
// capability 9.0. What is outside of the tensor reads as zero. The innermost dimension comes first, and is dense.
type TensorMap struct {
	Type    TensorType
	Dims    []uint64 // elements
	Strides []uint64 // bytes, of all dimensions but the first: multiples of 16
	Box     []uint32 // elements, at most 256 each
	Swizzle int      // bytes over which a box's rows are exchanged in shared memory: 0, 32, 64 or 128
}

// Encode returns the map of memory at p as a kernel takes it: a parameter that is aligned to 64.
func (d *Device) Encode(p tensor.DevicePtr, m TensorMap) ([128]byte, error) {
	var map128 [128]byte
	if err := d.enter("Encode"); err != nil {
		return map128, err
	}
	defer runtime.UnlockOSThread()
	call := fmt.Sprintf("Encode: %+v at %#x", m, uint64(p))
	rank := len(m.Dims)
	swizzle, ok := map[int]C.int{0: C.CU_TENSOR_MAP_SWIZZLE_NONE, 32: C.CU_TENSOR_MAP_SWIZZLE_32B, 64: C.CU_TENSOR_MAP_SWIZZLE_64B, 128: C.CU_TENSOR_MAP_SWIZZLE_128B}[m.Swizzle]
	if rank < 1 || rank > 5 || len(m.Strides) != rank-1 || len(m.Box) != rank || !ok {
		return map128, d.failed(invalidValue, call)
	}
	r := C.tensorMap(unsafe.Pointer(&map128), C.int(m.Type), C.uint(rank), C.CUdeviceptr(p), (*C.cuuint64_t)(unsafe.SliceData(m.Dims)),
		(*C.cuuint64_t)(unsafe.SliceData(m.Strides)), (*C.cuuint32_t)(unsafe.SliceData(m.Box)), swizzle)
	if err := check(r); err != nil {
		return map128, d.failed(err, call)
	}
	return map128, nil
}
