#!/bin/sh
# M3AE (arXiv 2205.14204) on MNIST: 28 x 28 pixels as 4 x 4 patches, each beside a sentence that names the digit. A linear probe reads the
# digit of held-out images from frozen features, beside scikit-learn's logistic regression on the pixels of the same images, beside a
# training on images alone (and one without `hide_share`, which hides a whole modality in a fifth of the samples), and, where 95 % or 99 % of
# the training samples lack image or sentence, beside a training on the others alone, and one that sees as many pairs in every step and as many
# tokens of lone samples besides (for half of the steps).
#
#   sh examples/m3ae_mnist/run.sh --data DIR --out DIR [--seeds 0,1,2,3,4] [--steps N] [--batch-tokens B] [--labelled N]
#                                 [--split validation|test] [--looks] [--smoke]
#
# --looks: instead of all that, sentences that say how an image looks (stroke, lean, width, height) and not which digit it is, beside images alone.
# DIR/mnist/train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz. --labelled: training images that probe and regression learn from.
# Finished stages and trainings are kept: the same command continues an interrupted one. The last line of standard output is one JSON
# document with all results.
set -eu
. "$(dirname "$0")/../steps.sh"

seeds=0,1,2,3,4 steps=3000 batch_tokens=4096 labelled=10000 limit=5000 split=test
parse 'data out' 'seeds steps batch_tokens labelled split' 'looks smoke' "$@"
[ -z "$smoke" ] || { seeds=0 steps=10 batch_tokens=1024 labelled=400 limit=200; }

# compare SHARDS NAME STEPS OPTIONS...: trainings of one question, judged alike; its JSON goes to NAME.json. Compiling would take as long as
# it saves; CLS, which tells lengths, is a better feature where it need not (length_weight=0)
compare() {
    shards=$1 name=$2 length=$3
    shift 3
    results "$out/$name" mmtool compare "$shards" --seeds "$seeds" --preset tiny --set shape.width=128 --set compile=off --steps "$length" \
        --batch-tokens "$batch_tokens" --set optimizer=muon --set validation_samples=0 --set checkpoint_every=0 --label digit --task probe \
        --limit "$limit" --train-limit "$labelled" --split "$split" --json -o "$out/$name" "$@"
}

here=$(dirname "$0") mnist=$data/mnist
make "$out/tokens/image.tar" mmtool tokenize image "$mnist/train-images-idx3-ubyte.gz" --fit --as patches --patch 4 --label digit=label \
    -o "$out/tokens/image.tar"
if [ -n "$looks" ]; then
    make "$out/looks.tsv" python3 "$here/looks.py" "$mnist/train-images-idx3-ubyte.gz" "$mnist/train-labels-idx1-ubyte.gz" "$out/looks.tsv"
    make "$out/tokens/looks.tar" mmtool tokenize text "$out/looks.tsv" --fit --text-column text --label digit \
        --set algorithm=bpe --vocabulary-size 400 -o "$out/tokens/looks.tar"
    make "$out/shards-looks" mmtool shard "$out/tokens/image.tar" "$out/tokens/looks.tar" -o "$out/shards-looks"
    compare "$out/shards-looks" looks "$steps" --variant multimodal:m3ae:length_weight=0 --variant image-only:m3ae:modalities=image
    exec python3 "$here/../m3ae_summary.py" --out "$out" looks --difference looks:multimodal:image-only
fi
make "$out/sentences.tsv" python3 "$here/sentences.py" "$mnist/train-labels-idx1-ubyte.gz" "$out/sentences.tsv"
make "$out/tokens/text.tar" mmtool tokenize text "$out/sentences.tsv" --fit --text-column text --label digit \
    --set algorithm=bpe --vocabulary-size 400 -o "$out/tokens/text.tar"
make "$out/shards" mmtool shard "$out/tokens/image.tar" "$out/tokens/text.tar" -o "$out/shards"
for share in 95 99; do
    make "$out/shards-holes-$share" mmtool shard "$out/tokens/image.tar" "$out/tokens/text.tar" --missing-rate "0.$share" -o "$out/shards-holes-$share"
done

compare "$out/shards" probe "$steps" --reconstructions --contact-samples 12 --variant multimodal:m3ae:length_weight=0 \
    --variant never-whole:m3ae:hide_share=0,length_weight=0 --variant image-only:m3ae:modalities=image
for share in 95 99; do
    compare "$out/shards-holes-$share" "unpaired-$share" $((steps / 2)) --variant paired-and-unpaired:m3ae:hide_share=0,length_weight=0 \
        --variant paired-alone:m3ae:hide_share=0,length_weight=0,least_modalities=2 \
        --variant "besides:m3ae:hide_share=0,length_weight=0,paired_share=0.33,batch_tokens=$((2 * batch_tokens))"
done
say python3 "$here/pixels.py" "$out/shards" --split "$split" --limit "$limit" --labelled "$labelled" --out "$out/pixels.json"
python3 "$here/../m3ae_summary.py" --out "$out" probe unpaired-95 unpaired-99 pixels --difference probe:multimodal:image-only \
    --difference probe:never-whole:image-only --difference unpaired-95:paired-and-unpaired:paired-alone \
    --difference unpaired-99:paired-and-unpaired:paired-alone --difference unpaired-95:besides:paired-alone \
    --difference unpaired-99:besides:paired-alone
