//go:build !cuda

package cinn

const noCUDA = `built without CUDA; "go build -tags cuda" builds with it, given its header and its driver's library, but in this version models run on the CPU only, even so`
