#!/bin/sh
# Builds netfusion-gpu, which proves and times the GPU kernels, on a machine that has no GPU: ./build.sh gpu [-check]. It needs Go,
# gcc, and Python with pip.
#
# CUDA's header comes from PyPI, once, into the user's cache folder; the driver's library is a stand-in of empty functions of the
# same names, which the loader replaces by the driver where the program runs.
#
#   -check   only vets and links the whole tree with the tag cuda, and starts a program with the stand-in
set -eu
cd "$(dirname "$0")/../.."
program=netfusion-gpu
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "gpu: builds on Linux on x86-64 only" >&2; exit 1; }

requirements=bench/gpu/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/netfusion-cuda/$(sha256sum $requirements | cut -c 1-12)
if [ ! -d "$cache" ]; then
	mkdir -p "$(dirname "$cache")"
	fresh=$(mktemp -d "$cache.XXXXXX")
	PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --target "$fresh" --requirement $requirements
	mv -T "$fresh" "$cache" 2>/dev/null || [ -d "$cache" ] # another run may have been faster
fi
include=$cache/nvidia/cuda_runtime/include

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# Every function of the stand-in returns 100, CUDA_ERROR_NO_DEVICE.
grep -o '\bcu[A-Z][A-Za-z0-9_]*' "$include/cuda.h" | sort -u | sed 's/.*/int &(void) { return 100; }/' >"$work/stub.c"
gcc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so" "$work/stub.c"

export GOOS=linux GOARCH=amd64 CGO_ENABLED=1 CGO_CFLAGS="-O2 -I$include" CGO_LDFLAGS="-L$work"
run() {
	echo "+ $*"
	"$@"
}

if [ "${1:-}" = -check ]; then
	run go vet -tags cuda ./...
	run go build -tags cuda -o "$work/" ./...
	ln -s libcuda.so "$work/libcuda.so.1"
	echo "+ $program, with the stand-in"
	said=$(LD_LIBRARY_PATH=$work "$work/gpu" -h) && status=0 || status=$?
	case "$status $said" in
	"1 Error in initialization, "*NoDevice) ;;
	*) echo "gpu: without a GPU the program says something else than its documentation ($status): $said" >&2; exit 1 ;;
	esac
	exit
fi

mkdir "$work/tests"
run go build -tags cuda -trimpath -ldflags "-s -w" -o "$work/program" ./bench/gpu
run go test -c -tags cuda -trimpath -ldflags "-s -w" -o "$work/tests/" ./tensor/cudadriver $(for f in kernels/*/sm80.ptx; do echo "./${f%/*}"; done)
python3 -m zipfile -c "$work/tests.zip" "$work"/tests/*
cat "$work/program" "$work/tests.zip" >$program
chmod +x $program
ls -l $program
