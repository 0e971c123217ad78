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
	"unsafe"

	"netfusion/tensor"
)

var (
	// Types that are only moved.
	elements = map[int]C.int{1: C.CU_TENSOR_MAP_DATA_TYPE_UINT8, 2: C.CU_TENSOR_MAP_DATA_TYPE_UINT16, 4: C.CU_TENSOR_MAP_DATA_TYPE_UINT32}
	swizzles = map[int]C.int{0: C.CU_TENSOR_MAP_SWIZZLE_NONE, 32: C.CU_TENSOR_MAP_SWIZZLE_32B, 64: C.CU_TENSOR_MAP_SWIZZLE_64B, 128: C.CU_TENSOR_MAP_SWIZZLE_128B}
)

// withMaps returns a launch's arguments, with its tensor maps filled in.
func withMaps(l *tensor.Launch) ([]byte, error) {
	if len(l.Maps) == 0 {
		return l.Args, nil
	}
	args := append([]byte(nil), l.Args...)
	for i := range l.Maps {
		m := &l.Maps[i]
		if err := m.Check(len(args)); err != nil {
			return nil, err
		}
		var dims, strides [5]C.cuuint64_t
		var box [5]C.cuuint32_t
		for j, n := range m.Dims {
			dims[j], box[j] = C.cuuint64_t(n), C.cuuint32_t(m.Box[j])
		}
		for j, n := range m.Strides {
			strides[j] = C.cuuint64_t(n)
		}
		if err := check(C.tensorMap(unsafe.Pointer(&args[m.At]), elements[m.Element], C.uint(len(m.Dims)), C.CUdeviceptr(m.Ptr), &dims[0], &strides[0],
			&box[0], swizzles[m.Swizzle])); err != nil {
			return nil, fmt.Errorf("tensor map %+v: %w", *m, err)
		}
	}
	return args, nil
}
