#!/bin/sh
# Builds netfusion-gpu, which proves and times the GPU kernels, on a machine that has no GPU: ./build.sh gpu [-check]. It needs Go,
# gcc, and Python with pip.
#
# CUDA's header comes from PyPI, once, into the user's cache folder; the driver's library is a stand-in of empty functions of the
# same names, which the loader replaces by the driver where the program runs.
#
#   -check   only vets and links the whole tree with the tag cuda, starts a program with the stand-in, and runs the tests of
#            tensor/cudadriver with a driver that works on host memory (fake/driver.c); with that one, in which our kernels do
#            nothing, cinn draws pictures of nothing
set -eu
cd "$(dirname "$0")/../.."
program=netfusion-gpu
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "gpu: builds on Linux on x86-64 only" >&2; exit 1; }

# library FOLDER INCLUDE [SOURCE] makes a driver's library, in which every function that SOURCE has not returns 100, which is
# CUDA_ERROR_NO_DEVICE.
library() {
	mkdir "$1"
	grep -o '\bcu[A-Z][A-Za-z0-9_]*' "$2/cuda.h" | sort -u | sed 's/.*/__attribute__((weak)) int &(void) { return 100; }/' >"$1/stub.c"
	gcc -O -shared -fPIC -Wall -Wno-parentheses -Wl,-soname,libcuda.so.1 "-I$2" -o "$1/libcuda.so.1" "$1/stub.c" ${3:+"$3"} -lpthread
	ln -s libcuda.so.1 "$1/libcuda.so"
}

# Both lie in a place that is always the same, so that Go's cache knows what was built with them.
requirements=bench/gpu/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/netfusion-cuda/$(cat $requirements bench/gpu/build.sh | sha256sum | cut -c 1-12)
include=nvidia/cuda_runtime/include
if [ ! -d "$cache" ]; then
	mkdir -p "$(dirname "$cache")"
	fresh=$(mktemp -d "$cache.XXXXXX")
	PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --target "$fresh" --requirement $requirements
	library "$fresh/stub" "$fresh/$include"
	mv -T "$fresh" "$cache" 2>/dev/null || [ -d "$cache" ] # another run may have been faster
fi
include=$cache/$include stub=$cache/stub

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

export GOOS=linux GOARCH=amd64 CGO_ENABLED=1 CGO_CFLAGS="-O2 -I$include" CGO_LDFLAGS="-L$stub"
run() {
	echo "+ $*"
	"$@"
}

if [ "${1:-}" = -check ]; then
	run go vet -tags cuda ./...
	run go build -tags cuda -o "$work/" ./...
	echo "+ $program, with the stand-in"
	said=$(LD_LIBRARY_PATH=$stub "$work/gpu" -h) && status=0 || status=$?
	case "$status $said" in
	"1 Error in initialization, "*NoDevice) ;;
	*) echo "gpu: without a GPU the program says something else than its documentation ($status): $said" >&2; exit 1 ;;
	esac
	library "$work/fake" "$include" bench/gpu/fake/driver.c
	run env LD_LIBRARY_PATH="$work/fake" go test -count 1 -tags cuda ./tensor/cudadriver
	for precision in f32 bf16 int8; do
		run env LD_LIBRARY_PATH="$work/fake" "$work/cmd" -backend cuda -precision $precision -n 3 -f -o "$work/picture.png" "red heart"
	done
	exit
fi

mkdir "$work/tests"
run go build -tags cuda -trimpath -ldflags "-s -w" -o "$work/program" ./bench/gpu
run go test -c -tags cuda -trimpath -ldflags "-s -w" -o "$work/tests/" ./tensor/cudadriver $(for f in kernels/*/sm80.ptx; do echo "./${f%/*}"; done) \
	./tensor ./experts/bert ./experts/biggan ./cinn/flow ./cinn ./cinn/train
# Stored, not compressed: the programs have most of their code in common, so that xz with a dictionary as large as all makes 10 MB of them.
python3 -c 'import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    for path in sys.argv[2:]: z.write(path, os.path.basename(path))' "$work/tests.zip" "$work"/tests/*
cat "$work/program" "$work/tests.zip" >$program
chmod +x $program
ls -l $program
echo "to carry it: xz -k --lzma2=preset=5,dict=256MiB $program"
