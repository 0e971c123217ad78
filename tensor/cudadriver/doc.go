// Package cudadriver is tensor.Driver on an NVIDIA GPU, by CUDA's driver API: gorgonia.org/cu, and extra.go for what that lacks.
//
// It is compiled only with the tag cuda (go build -tags cuda), which takes cgo and CUDA's header and driver library, or a
// stand-in for the library: ./build.sh gpu gets both without a GPU. A program that links it needs a driver to start, of version
// 550 or later for the PTX that ships. Where libcuda.so.1 is not installed, the loader ends it before its first line:
//
//	error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file or directory
//
// and where there is a driver but no device that it can use, cu ends it while it starts, with the exit status 1:
//
//	Error in initialization, please refer to "https://docs.nvidia.com/cuda/…/group__CUDA__INITIALIZE.html" for details on: NoDevice
package cudadriver
