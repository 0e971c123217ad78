#!/bin/sh
# What one does with this repository. Every command is printed before it runs.
set -eu
cd "$(dirname "$0")"

usage() {
	cat <<'TEXT'
usage: ./build.sh COMMAND

  help      this text
  check     all that a commit must pass: formatting, vet, cross-builds, tests (.ci/run)
  build     one program without C: cinn-OS-ARCH; GOOS and GOARCH choose others
  pack      the built-in fusion again, from its sources: ./build.sh pack -data FOLDER -experts FOLDER
  prove     all that is long, or needs Python or large weights; results go to bench/results (bench/prove.sh)
  golden    every committed golden again, by the script that made it (bench/golden.sh)

  GOOS=windows GOARCH=arm64 ./build.sh build

pack reads emoji.json and emoji64.npz in the data folder, biggan-emoji and all-MiniLM-L6-v2 in the experts' folder, checks
that they are the files that the fusion was made of, and writes to runs/pack. What is there already is used again.
TEXT
}

run() {
	echo "+ $*"
	"$@"
}

build() {
	name="cinn-$(go env GOOS)-$(go env GOARCH)$(go env GOEXE)"
	run env CGO_ENABLED=0 go build -trimpath -o "$name" ./cinn/cmd
	ls -l "$name"
}

# sums prints the SHA-256 of the files that the fusion is made of, in the form of sha256sum.
sums() {
	cat <<-TEXT
		e2c9cb3e44fcbb9743b66c3d2ef29f7ac2a7ff202e540bc4c9b607777568283f  $data/emoji.json
		6405a2003fb50f2a6e6a0470646361207dad933683115bd26b9c2381200b2cc7  $data/emoji64.npz
		d6be4707973950700a03b3d5ffd49e85ef0a4a8297de19a21dcd1becbd9e3442  $experts/biggan-emoji/config.json
		e8a84183637c827ff2a5ddfab3a68183699ba386a3b1db09277720624c39fcb2  $experts/biggan-emoji/latents.npz
		930d68bd2280239fb41f0151d9f38cebea18119cbfe45ad29db1a36d15a7b2bb  $experts/biggan-emoji/pytorch_model.bin
		53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  $experts/all-MiniLM-L6-v2/model.safetensors
		07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  $experts/all-MiniLM-L6-v2/vocab.txt
	TEXT
}

pack() {
	data= experts=
	while [ $# -gt 1 ]; do
		case $1 in
		-data) data=$2 ;;
		-experts) experts=$2 ;;
		*) break ;;
		esac
		shift 2
	done
	if [ $# -gt 0 ] || [ -z "$data" ] || [ -z "$experts" ]; then
		echo "usage: ./build.sh pack -data FOLDER -experts FOLDER" >&2
		exit 2
	fi
	if command -v sha256sum >/dev/null; then check="sha256sum -c"; else check="shasum -a 256 -c"; fi
	echo "+ $check"
	sums | $check

	out=runs/pack
	run mkdir -p $out
	run go build -o $out/cinn ./cinn/cmd
	[ -f $out/minilm ] || run $out/cinn convert "$experts/all-MiniLM-L6-v2" -dtype int8 -o $out/minilm
	[ -f $out/biggan ] || run $out/cinn convert "$experts/biggan-emoji" -dtype bf16 -licence Apache-2.0 -o $out/biggan
	[ -f $out/emoji.pairs ] || run $out/cinn pairs -data "$data" -expert "$experts/biggan-emoji" -o $out/emoji.pairs
	[ -f $out/flow ] || run $out/cinn train -pairs $out/emoji.pairs -source $out/minilm -target $out/biggan -o $out/flow
	run $out/cinn pack -name emoji -source $out/minilm -flow $out/flow -target $out/biggan -pairs $out/emoji.pairs \
		-notice NOTICE -half -compress -f -o $out/emoji.pack
	echo "to ship them: cp $out/emoji.pack cinn/pack/; cp $out/emoji.pairs cinn/pairs/"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
help | -h | --help) usage ;;
check) run .ci/run ;;
build) build ;;
pack) pack "$@" ;;
prove) bench/prove.sh "$@" ;;
golden) bench/golden.sh "$@" ;;
*)
	echo "build.sh: no command is called $command" >&2
	usage >&2
	exit 2
	;;
esac
