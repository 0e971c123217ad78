//go:build cuda

package cinn

const noCUDA = `built with CUDA, but in this version models run on the CPU only: what there is for GPUs is the kernels and their tests (./build.sh gpu)`
