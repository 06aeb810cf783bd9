#!/bin/sh
# From raw files in which modalities are missing to imputed files, on 2 CPU cores, in a quarter of an hour: handwritten digits, spoken
# digits and sentences, of which only (image, text) and (image, speech) occur together; then speech is imputed from text and text from
# speech.
#
#   usage: sh examples/quickstart.sh [--out DIR] [--seed N] [--steps N] [--minutes M]     (default: .quickstart, 0, 1000, 30)
#
# --steps: of each of the two trainings; --minutes: after which a training ends even so. It makes its own environment, says what it will do
# and for how long, and prints every command. Interrupted, the same command continues where it was. Its last line is one JSON document
# with all results.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/examples/steps.sh"

out=$root/.quickstart seed=0 steps=1000 minutes=30
parse '' 'out seed steps minutes' '' "$@"

mkdir -p "$out"
cd "$out"
settings="--seed $seed --steps $steps --minutes $minutes"
if [ -f settings ] && [ "$(cat settings)" != "$settings" ]; then
    echo "error: $out was begun with $(cat settings). Continue with these, or choose another folder with --out." >&2
    exit 2
fi
echo "$settings" > settings

if [ ! -x venv/bin/mmtool ]; then
    echo 'An environment first: PyTorch and what else mmtool needs, a minute or two by the connection.'
    say python3 -m venv venv
    say venv/bin/pip install --quiet "$root[quickstart]"
fi
PATH=$out/venv/bin:$PATH
python "$root/examples/quickstart_plan.py" --steps "$steps"

make raw python "$root/examples/quickstart_data.py" raw --seed "$seed"
make tokens/image.tar mmtool tokenize image raw/digits --fit --label-from-folder digit --augment 4 --patch 4 --codebook 64 \
    --set depth=1 --set width=32 --set steps=600 --seed "$seed" -o tokens/image.tar
make tokens/speech.tar mmtool tokenize audio raw/speech --fit --name speech --label-pattern '^(?P<digit>[0-9])_' --patch 13 --codebook 256 \
    --set depth=2 --set width=96 --set steps=400 --seed "$seed" -o tokens/speech.tar
make tokens/text.tar mmtool tokenize text raw/sentences.tsv --fit --set algorithm=bpe --vocabulary-size 512 --label digit \
    --seed "$seed" -o tokens/text.tar
make shards mmtool shard tokens/image.tar tokens/speech.tar tokens/text.tar \
    --align digit --pair image,text --pair image,speech --seed "$seed" -o shards
say mmtool info shards
for method in commutative loretta; do
    say mmtool pretrain shards --method $method --preset tiny --set shape.depth=3 --set shape.width=128 --batch-tokens 1024 --row-length 64 \
        --no-compile --steps "$steps" --minutes "$minutes" --seed "$seed" -o $method
done
make imputed mmtool impute loretta shards --split test --have text --want speech --limit 20 --draws 4 --temperature 0.5 -o imputed
make report mmtool evaluate commutative loretta shards/test --label digit --limit 500 --chain commutative --temperature 0.5 \
    --seed "$seed" -o report
python "$root/examples/quickstart_table.py" "$PWD/report"
