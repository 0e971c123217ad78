#!/bin/sh
# Makes every committed golden again, in its place, with the script that made it: ./build.sh golden. "git diff" then shows
# what has moved; checkpoints in PyTorch's legacy format hold addresses, so they always do. Needs a Python as for
# ./build.sh prove; the tokenizer's goldens need the checkpoint of all-MiniLM-L6-v2 too, the published flow's the paper's code.
set -eu
cd "$(dirname "$0")/.."

usage() {
	echo "usage: ./build.sh golden -python PROGRAM [-minilm FOLDER] [-net2net CHECKOUT]" >&2
	exit 2
}

python='' minilm='' net2net=''
while [ $# -gt 1 ]; do
	case $1 in
	-python) python=$2 ;;
	-minilm) minilm=$2 ;;
	-net2net) net2net=$2 ;;
	*) usage ;;
	esac
	shift 2
done
[ $# -eq 0 ] && [ -n "$python" ] || usage

run() {
	echo "+ $*"
	"$@"
}

run "$python" bench/golden/torchbin.py nn/torchbin/testdata
run "$python" bench/golden/bert_tiny.py experts/bert/testdata
run "$python" bench/golden/bert_unicode.py experts/bert/unicode.txt
if [ -n "$minilm" ]; then
	run "$python" bench/golden/tokenizer_parity.py "$minilm/tokenizer.json" experts/bert/testdata/tokens.jsonl.gz --small
	echo "+ gzip -9n <$minilm/vocab.txt >experts/bert/testdata/vocab.txt.gz"
	gzip -9n <"$minilm/vocab.txt" >experts/bert/testdata/vocab.txt.gz
fi
run "$python" bench/golden/biggan.py tiny experts/biggan/testdata
run "$python" bench/golden/autoencoder.py experts/autoencoder/testdata/tiny
[ -z "$net2net" ] || run "$python" bench/golden/net2net.py --net2net "$net2net" cinn/flow/testdata
run git --no-pager diff --stat -- cinn experts nn
