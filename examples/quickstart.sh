#!/bin/sh
# From raw files with holes to filled holes, on 2 CPU cores, in a quarter of an hour: handwritten digits, spoken digits and sentences,
# of which only (image, text) and (image, speech) occur together; then speech is imputed from text and text from speech.
#
#   sh examples/quickstart.sh [--out DIR] [--seed N] [--minutes M]     (default: .quickstart, 0, 4 per training)
#
# It makes its own environment, prints every command, and its last line is one JSON document with all results.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/.quickstart seed=0 minutes=4
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2 ;;
        --seed) seed=$2 ;;
        --minutes) minutes=$2 ;;
        *) echo "usage: sh examples/quickstart.sh [--out DIR] [--seed N] [--minutes M]" >&2; exit 2 ;;
    esac
    shift 2
done

. "$root/examples/steps.sh"

mkdir -p "$out"
if [ ! -x "$out/venv/bin/mmtool" ]; then
    say python3 -m venv "$out/venv"
    say "$out/venv/bin/pip" install --quiet "$root[quickstart]"
fi
PATH=$out/venv/bin:$PATH
cd "$out"
rm -rf raw tokens shards loretta cm3 filled report

say python "$root/examples/quickstart_data.py" raw --seed "$seed"
say mmtool tokenize image raw/digits --fit --label-from-folder digit --augment 9 \
    --codebook 64 --set depth=1 --set width=48 -o tokens/image.tar
say mmtool tokenize audio raw/speech --fit --name speech --label-pattern '^(?P<digit>[0-9])_' \
    --codebook 1024 --set patch=13 -o tokens/speech.tar
say mmtool tokenize text raw/sentences.tsv --fit --set algorithm=bpe --set vocabulary_size=640 --key-column key --text-column text \
    --label digit -o tokens/text.tar
say mmtool shard tokens/image.tar tokens/speech.tar tokens/text.tar \
    --align digit --pair image,text --pair image,speech --seed "$seed" -o shards
say mmtool info shards
say mmtool pretrain shards --method cm3 --set method.commutative=true --preset tiny --batch-tokens 2048 --minutes "$minutes" --seed "$seed" -o cm3
say mmtool pretrain shards --method loretta --preset tiny --batch-tokens 2048 --minutes "$minutes" --seed "$seed" -o loretta
say mmtool impute loretta shards --split test --have text --want speech --limit 20 --samples 4 --temperature 0.5 -o filled
say mmtool evaluate cm3 loretta shards/test --label digit --temperature 0.5 --seed "$seed" -o "$PWD/report" --json
