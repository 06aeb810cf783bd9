#!/bin/sh
# Four modalities in a chain: English sentences, images of MNIST, speech of the Free Spoken Digit Dataset and German sentences, aligned by
# digit. Training holds (english, image), (image, speech) and (speech, german), each from pools of its own: from the English sentence to the
# German one leads nothing but a chain of two links.
#
#   sh examples/four_modalities/run.sh --data DIR --out DIR [--seeds 0] [--steps N] [--methods commutative,loretta] [--split validation|test]
#                                      [--guidance G] [--jobs N] [--smoke]
#
# DIR/mnist/train-images-idx3-ubyte.gz (and -labels-idx1-), DIR/fsdd/*.wav. Finished stages and trainings are kept: the same command continues
# an interrupted one. --jobs: trainings side by side (2). The last line of standard output is one JSON document with all results.
set -eu
. "$(dirname "$0")/../steps.sh"

seeds=0 steps=2400 split=test methods=commutative,loretta guidance=1 jobs=2
parse 'data out' 'seeds steps methods split guidance jobs' smoke "$@"
codec='' limit=500
if [ -n "$smoke" ]; then
    steps=20 codec='--set steps=60' limit=60
fi

tokens=$out/tokens labels=$data/mnist/train-labels-idx1-ubyte.gz sentences=$(dirname "$0")/../m3ae_mnist/sentences.py
make "$tokens/image.tar" mmtool tokenize image "$data/mnist/train-images-idx3-ubyte.gz" --fit --label digit=label \
    --codebook 64 $codec -o "$tokens/image.tar"
make "$tokens/speech.tar" mmtool tokenize audio "$data/fsdd" --fit --name speech --augment 9 --codebook 1024 --set patch=13 \
    --label-pattern '^(?P<digit>[0-9])_(?P<speaker>[a-z]+)_' $codec -o "$tokens/speech.tar"
for language in english german; do
    make "$out/$language.tsv" python3 "$sentences" "$labels" "$out/$language.tsv" "$language"
    make "$tokens/$language.tar" mmtool tokenize text "$out/$language.tsv" --fit --name "$language" --text-column text --label digit \
        --set algorithm=bpe --vocabulary-size 400 -o "$tokens/$language.tar"
done
make "$out/shards" mmtool shard "$tokens/english.tar" "$tokens/image.tar" "$tokens/speech.tar" "$tokens/german.tar" --align digit \
    --pair english,image --pair image,speech --pair speech,german -o "$out/shards"

say mmtool compare "$out/shards" --methods "$methods" --seeds "$seeds" --jobs "$jobs" --preset tiny --set optimizer=muon --batch-tokens 2048 --steps "$steps" \
    --task impute --split "$split" --label digit --limit "$limit" --temperature 0.5 --guidance "$guidance" --json -o "$out/report"
