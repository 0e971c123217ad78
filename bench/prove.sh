#!/bin/sh
# All that is long, or needs Python or large weights: ./build.sh prove. Each part runs if what it needs is given, and without
# anything still the laws of the flow, cinn eval and the fuzz targets; a part that fails does not stop the others, but shows in
# the exit code. Results go to a file for this kind of processor, behind those of before.
set -u
cd "$(dirname "$0")/.."

usage() {
	cat >&2 <<'TEXT'
usage: ./build.sh prove [-minilm FOLDER] [-experts FOLDER] [-data FOLDER] [-python PROGRAM] [-out FILE] [-only PATTERN]

  -minilm   checkpoint of all-MiniLM-L6-v2
  -experts  folder of biggan-emoji and its like
  -data     folder of emoji.json and emoji64.npz
  -python   a Python with torch, safetensors, tokenizers, scipy, boto3, pytorch-pretrained-biggan;
            install them into a virtual environment outside this folder
  -out      the results; default bench/results/prove-PROCESSOR.txt
  -only     of the commands, those that the extended regular expression matches
TEXT
	exit 2
}

minilm='' experts='' data='' python='' out='' only=''
while [ $# -gt 1 ]; do
	case $1 in
	-minilm) minilm=$2 ;;
	-experts) experts=$2 ;;
	-data) data=$2 ;;
	-python) python=$2 ;;
	-out) out=$2 ;;
	-only) only=$2 ;;
	*) usage ;;
	esac
	shift 2
done
[ $# -eq 0 ] || usage

# Tests run in the folder of their package, so what they are given must not depend on it.
absolute() {
	case $1 in
	'' | /*) echo "$1" ;;
	*) echo "$PWD/$1" ;;
	esac
}
minilm=$(absolute "$minilm") experts=$(absolute "$experts") data=$(absolute "$data")

processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
[ -n "$processor" ] || processor=$(sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m)
if [ -z "$out" ]; then
	mkdir -p bench/results
	out=bench/results/prove-$(echo "$processor" | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9' '-' | sed 's/-$//').txt
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
failed=0

# names writes the folders of this machine as what they are.
names() {
	sed -e "s|$work|WORK|g" ${minilm:+-e "s|$minilm|MINILM|g"} ${experts:+-e "s|$experts|EXPERTS|g"} ${data:+-e "s|$data|DATA|g"} \
		${python:+-e "s|$python|python|g"}
}

# prove PATTERN COMMAND runs the command, and records it with those lines of what it prints that match the pattern.
prove() {
	pattern=$1
	shift
	echo "$*" | grep -qE -e "$only" || return 0
	echo "+ $*"
	"$@" >"$work/log" 2>&1
	code=$?
	cat "$work/log"
	{
		echo "+ $*"
		if [ $code -eq 0 ]; then
			grep -E "$pattern" "$work/log" | sed -e 's/^ *[a-z_]*_test\.go:[0-9]*: //' -e 's/^/    /'
		else
			echo "    exit code $code"
			tail -n 20 "$work/log" | sed 's/^/    /'
		fi
	} | names >>"$out"
	[ $code -eq 0 ] || failed=1
	return $code
}

# figures is what a test logs, and that it ran.
figures='_test\.go:|^--- (PASS|FAIL|SKIP)'

{
	echo
	echo "== $(date -u +%Y-%m-%d) commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- '*.go' '*.s' '*.py' '*.sh' || echo ', with changes')${only:+, only $only}"
	echo "$processor, $(getconf _NPROCESSORS_ONLN) processors; $(go env GOOS)/$(go env GOARCH), $(go env GOVERSION)"
} >>"$out"
export CGO_ENABLED=0

if [ -n "$minilm" ] && [ -n "$python" ]; then
	texts=
	[ -z "$data" ] || { prove lines "$python" bench/golden/sentences.py "$data/emoji.json" "$work/captions.txt" && texts=$work/captions.txt; }
	prove cases "$python" bench/golden/tokenizer_parity.py "$minilm/tokenizer.json" "$work/cases.jsonl" $texts &&
		prove "$figures" env TOKENIZER_CASES="$work/cases.jsonl" go test -count=1 -v -run Official ./experts/bert
	rm -f "$work/cases.jsonl"
fi

if [ -n "$minilm" ] && [ -n "$python" ] && [ -n "$data" ]; then
	prove lines "$python" bench/golden/sentences.py "$data/emoji.json" "$work/sentences.txt" 1000 &&
		prove '.' "$python" bench/golden/bert_reference.py "$minilm" "$work/sentences.txt" "$work/bert.safetensors" &&
		prove "$figures" env BERT_MODEL="$minilm" BERT_GOLDEN="$work/bert.safetensors" go test -count=1 -v -run CheckpointAgrees ./experts/bert
fi

if [ -n "$python" ]; then
	prove '.' "$python" bench/golden/bert_tiny.py base "$work" &&
		prove "$figures" env BERT_BASE_GOLDEN="$work/base.safetensors" go test -count=1 -v -run BaseSize ./experts/bert
	rm -f "$work/base.safetensors"
	prove '.' "$python" bench/golden/biggan.py full "$work/full" &&
		prove "$figures" env BIGGAN_GOLDEN="$work/full" go test -count=1 -v -run 'FullSize|ShowTheSame|Memory' ./experts/biggan
	rm -rf "$work/full"
fi

for expert in "$experts"/biggan-emoji*; do
	if [ -n "$experts" ] && [ -f "$expert/golden.npz" ]; then
		prove "$figures" env EMOJI_EXPERT="$expert" go test -count=1 -v -run EmojiExpert ./experts/biggan
		[ -z "$data" ] || [ ! -f "$expert/encoder.npz" ] ||
			prove "$figures" env EMOJI_EXPERT="$expert" EMOJI_IMAGES="$data/emoji64.npz" go test -count=1 -v -run Emoji ./experts/autoencoder
	fi
done

prove '^Benchmark' go test -run '^$' -bench . -benchtime 1x ./bench/roofline
# Kernels in the best form that this machine has, which roofline names first, and then those that have no forms.
form=$(sed -n 's|^BenchmarkRoof/\(form=[a-z0-9]*\).*|\1|p' "$work/log" | head -n 1)
prove '^(pkg|Unit|Benchmark)' go test -run '^$' -bench "/$form\$" -benchtime 0.1s ./kernels/...
prove '^(pkg|Benchmark)' go test -run '^$' -bench 'Conv|Normal|Pack|Patches|MatMul|PooledAttention|Planes' -benchtime 0.1s ./kernels/... ./tensor ./nn/planes
prove '^Benchmark' go test -run '^$' -bench 'Encode|Tokenizer' -benchtime 0.5s ./experts/bert
prove '^Benchmark' go test -run '^$' -bench 'Generate' -benchtime 10x ./experts/biggan
prove '^Benchmark' go test -run '^$' -bench 'Step|Sample|Score' -benchtime 10x ./cinn/flow
prove '^Benchmark' go test -run '^$' -bench . -benchtime 3s ./cinn/pack

prove "$figures" go test -count=1 -v -run 'LogDet|Inverse|Gradients|Recovered|Invertible|SameBytes|AnyNumber' ./cinn ./cinn/flow ./cinn/train ./cinn/pack
# Processes that are killed 20 times, and the memory of a flow of the paper's size: 6 GB, and as much in temporary files.
prove "$figures" env KILLS=20 go test -count=1 -v -run 'Survives?Kills' ./cinn/cmd
prove "$figures" env PAPER_SIZE=1 go test -count=1 -v -run BelowWhatWasStated ./cinn/cmd
prove '^Benchmark' go test -run '^$' -bench Store -benchtime 0.5s ./cinn/pairs ./cinn/train
prove '.' go build -o "$work/cinn" ./cinn/cmd &&
	for run in first second; do # the first unpacks the weights
		prove 'pictures|real' env XDG_CACHE_HOME="$work/cache" bash -c 'time -p "$0" -o "$1" red heart' "$work/cinn" "$work/$run.png"
	done
prove . "$work/cinn" eval -pictures -cache "$work"
for preset in superres inpaint edges colour attribute style text layers; do
	prove '^preset' "$work/cinn" preset "$preset" -cache "$work" -o "$work/$preset" && prove . cat "$work/$preset/$preset.txt"
done

git grep -n '^func Fuzz' -- '*_test.go' | sed 's/^\(.*\)\/[^/]*_test\.go:[0-9]*:func \(Fuzz[A-Za-z0-9]*\).*/\1 \2/' >"$work/targets"
while read -r folder target; do
	prove '^ok' go test -run '^$' -fuzz "^$target\$" -fuzztime 10s -fuzzminimizetime 1x "./$folder" </dev/null
done <"$work/targets"

echo "results are in $out"
exit $failed
